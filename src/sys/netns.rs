//! Network namespaces: a device and a socket belong to one from the beginning.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

/// Does something inside a network namespace, on a thread of its own, and waits for it: sockets and devices that are made
/// there stay there.
pub fn within<T: Send>(namespace: &OwnedFd, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = move || {
            // SAFETY: only this thread changes its namespace; no memory is touched.
            let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
            if entered == 0 { work() } else { Err(io::Error::last_os_error()) }
        };
        let thread = thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace has failed")))
    })
}
