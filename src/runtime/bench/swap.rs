//! The program in force, for workers that look between two batches whether there is another one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::compile::Program;

/// The newest program and its number.
pub struct InForce {
    version: AtomicU64,
    program: Mutex<(u64, Arc<Program>)>,
}

impl InForce {
    /// The first program.
    pub fn new(program: Arc<Program>) -> InForce {
        InForce { version: AtomicU64::new(0), program: Mutex::new((0, program)) }
    }

    /// The number of the newest program.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// The newest program and its number.
    pub fn get(&self) -> (u64, Arc<Program>) {
        self.lock().clone()
    }

    /// Puts another program in force; the one before comes back.
    pub fn put(&self, program: Arc<Program>) -> Arc<Program> {
        let mut newest = self.lock();
        let before = std::mem::replace(&mut newest.1, program);
        newest.0 += 1;
        self.version.store(newest.0, Ordering::Relaxed);
        before
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Arc<Program>)> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
