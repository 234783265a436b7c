//! Which cores the threads of this process run on.

use std::io;
use std::num::NonZero;

/// Keeps the calling thread on one core.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no core {core}")));
    }
    let mut set = empty();
    // SAFETY: the set has a bit for every core below its size.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is as long as it is said to be; 0 means the calling thread.
    let done = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The cores that the calling thread may use, at least one.
pub fn cores() -> Vec<usize> {
    let mut set = empty();
    // SAFETY: the set is as long as it is said to be; 0 means the calling thread.
    let done = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if done != 0 {
        // More cores than the set has bits for.
        return (0..std::thread::available_parallelism().map_or(1, NonZero::get)).collect();
    }
    // SAFETY: the set has a bit for every core below its size.
    (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect()
}

fn empty() -> libc::cpu_set_t {
    // SAFETY: a set is an array of numbers; no core is in one of zeros.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_where_it_is_put() {
        let all = cores();
        assert!(!all.is_empty());
        let put = std::thread::spawn(|| {
            let last = *cores().last().unwrap();
            pin(last).unwrap();
            assert_eq!(cores(), [last]);
            assert!(pin(1 << 20).is_err() && pin(1023).is_err());
            assert_eq!(cores(), [last]);
        });
        put.join().unwrap();
        assert_eq!(cores(), all);
    }
}
