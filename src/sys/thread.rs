//! Which cores the threads of this process run on, and before whom.

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

/// Lets the calling thread run before others, if it may: before all that are not in a hurry, or else a little more often
/// than they. Threads that it starts are not in a hurry. What came of it, for a log.
pub fn hasten() -> &'static str {
    // The lowest of these goes before everything that works.
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter lives until the call returns; 0 means the calling thread.
    let done = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const first)
    };
    if done == 0 {
        return "first (SCHED_FIFO)";
    }
    // SAFETY: the call takes three numbers; 0 means the calling thread.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -5) };
    if done == 0 { "often (nice -5)" } else { "as all threads" }
}

fn empty() -> libc::cpu_set_t {
    // SAFETY: a set is an array of numbers; no core is in one of zeros.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_in_a_hurry_goes_on() {
        let said = std::thread::spawn(|| {
            let said = hasten();
            (said, std::thread::spawn(cores).join().unwrap().len())
        });
        let (said, cores) = said.join().unwrap();
        assert!(!said.is_empty() && cores > 0);
    }

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
