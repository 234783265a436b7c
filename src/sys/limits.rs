//! What the machine lets this process have.

use std::io;

/// Lets this process have as many files, sockets and the like open as it may have at most; how many that are.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes a limit, which lives until it returns.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the call reads a limit, which lives until it returns.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_may_be_open_as_the_machine_allows() {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the calls write and read a limit, which lives until they return. Fewer would be too few for other tests.
        let lowered = unsafe {
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            limit.rlim_cur = limit.rlim_max.min(1000);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
        };
        assert_eq!(lowered, 0);
        let most = limit.rlim_max;
        assert_eq!(raise_open_files().unwrap(), most);
        // SAFETY: the call writes a limit, which lives until it returns.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
        assert_eq!((limit.rlim_cur, raise_open_files().unwrap()), (most, most));
    }
}
