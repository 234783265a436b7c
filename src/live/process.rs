//! What the kernel says of this process, in `/proc/self`.

use std::fs;

/// Bytes of memory that the process holds.
pub fn resident_bytes() -> Option<u64> {
    let kib: u64 = status("VmRSS:")?.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Files, sockets and the like that it has open.
pub fn open_files() -> Option<u64> {
    // One more is open while the folder is read.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

/// True if it runs as root. The owner of `/proc/self` would not say so: it is root too for programs with capabilities.
pub fn is_root() -> bool {
    status("Uid:").is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
}

fn status(field: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(field))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_held() {
        assert!(resident_bytes().is_some_and(|b| b > 100_000));
        let before = open_files().unwrap();
        let _files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Tests beside this one open and close files too.
        assert!(before >= 3 && open_files().unwrap() > before);
    }
}
