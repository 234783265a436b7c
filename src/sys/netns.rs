//! Network namespaces that have a name, as `ip netns` knows them, and work that is done within one.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{panic, process, ptr, thread};

/// Where the names are: a namespace of that name is mounted over a file.
const NAMES: &str = "/run/netns";

/// A network namespace. It is there at least as long as this is, or a socket or device that was opened within it.
#[derive(Debug)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
    name: String,
    made: bool,
    nameless: Option<String>,
}

impl Namespace {
    /// The network namespace of this name; it is made if there is none. One that is made and cannot be given its name, as
    /// that takes writing to `/run/netns`, is of use all the same. Errors are sentences.
    pub fn open(name: &str) -> io::Result<Namespace> {
        let path = path_of(name)?;
        match File::open(&path) {
            // What is there may be the mere file of a namespace whose mount is gone, or was seen elsewhere only.
            Ok(file) if is_namespace(&file) => {
                let fd = Arc::new(file.into());
                return Ok(Namespace { fd, name: name.to_owned(), made: false, nameless: None });
            }
            Ok(_) => (),
            Err(e) if e.kind() == ErrorKind::NotFound => (),
            Err(e) => return Err(told(&e, &format!("{} cannot be opened: {e}", path.display()))),
        }
        let fd = make().map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied => told(&e, "making a network namespace takes CAP_SYS_ADMIN"),
            _ => told(&e, &format!("the kernel makes no network namespace: {e}")),
        })?;
        let nameless = give_name(&fd, &path).err().map(|e| format!("{} cannot be made: {e}", path.display()));
        Ok(Namespace { fd: Arc::new(fd), name: name.to_owned(), made: true, nameless })
    }

    /// It was not there before, and is to go when it is not needed any more.
    pub fn is_made(&self) -> bool {
        self.made
    }

    /// From now on it counts as made by us: an earlier run of this program made it and had no time to remove it.
    pub fn claim(&mut self) {
        self.made = true;
    }

    /// What others open sockets in it with: one for all, so that nobody lacks it where descriptors are scarce.
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }

    /// Why it has no name, if it has none.
    pub fn nameless(&self) -> Option<&str> {
        self.nameless.as_deref()
    }

    /// Its name, as `ip netns exec` takes it; of one without a name a path, as `nsenter --net=` takes it.
    pub fn name(&self) -> String {
        match self.nameless {
            None => self.name.clone(),
            Some(_) => format!("/proc/{}/fd/{}", process::id(), self.fd.as_raw_fd()),
        }
    }

    /// Takes its name away if it was made by us and still has it: it goes with the last socket or process in it.
    pub fn remove(self) -> io::Result<()> {
        let path = path_of(&self.name)?;
        let own = fs::metadata(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))?;
        let named =
            fs::metadata(&path).is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino()));
        if !self.made || !named {
            return Ok(());
        }
        let mount_point = c_path(&path)?;
        // SAFETY: the path ends with a zero.
        if unsafe { libc::umount2(mount_point.as_ptr(), libc::MNT_DETACH) } != 0 {
            return Err(io::Error::last_os_error());
        }
        fs::remove_file(path)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Works within a network namespace, on a thread of its own, so that no other thread leaves its namespace. Sockets and
/// devices that the work opens are in that namespace, and of use to any thread. Errors are sentences.
pub fn within<T: Send>(namespace: impl AsFd, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = namespace.as_fd();
    aside(move || {
        // SAFETY: only this thread joins another namespace; no memory is touched.
        if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            let e = io::Error::last_os_error();
            return Err(match e.kind() {
                ErrorKind::PermissionDenied => told(&e, "joining a network namespace takes CAP_SYS_ADMIN"),
                _ => told(&e, &format!("the network namespace cannot be joined: {e}")),
            });
        }
        work()
    })
}

/// Works on a thread of its own.
fn aside<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|why| panic::resume_unwind(why))
    })
}

/// A new network namespace.
fn make() -> io::Result<OwnedFd> {
    aside(|| {
        // SAFETY: only this thread leaves its network namespace; no memory is touched.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
    })
}

fn is_namespace(file: &File) -> bool {
    // SAFETY: the command takes nothing; files of other kinds do not know it.
    unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) == libc::CLONE_NEWNET }
}

/// Mounts a namespace where others look for it, as `ip netns add` does.
fn give_name(namespace: &OwnedFd, path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(NAMES) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
        _ => (),
    }
    let folder = File::open(NAMES)?;
    // `ip netns` waits likewise while another makes it a mount point.
    folder.lock()?;
    share_names()?;
    let new = OpenOptions::new().write(true).create_new(true).mode(0o444).open(path);
    let was_there = match new {
        Ok(_) => false,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => true,
        Err(e) => return Err(e),
    };
    let from = PathBuf::from(format!("/proc/self/fd/{}", namespace.as_raw_fd()));
    let done = mount(&from, path, libc::MS_BIND);
    if done.is_err() && !was_there {
        fs::remove_file(path)?;
    }
    done
}

/// Sees to it that what is mounted in the folder of names, and what is unmounted, is so for all mount namespaces that began
/// with this one; else a namespace would be held by services that have a copy of its mount.
fn share_names() -> io::Result<()> {
    let folder = Path::new(NAMES);
    let share = || mount(Path::new("none"), folder, libc::MS_SHARED | libc::MS_REC);
    match share() {
        // It is no mount point yet.
        Err(e) if e.kind() == ErrorKind::InvalidInput => {
            mount(folder, folder, libc::MS_BIND | libc::MS_REC)?;
            share()
        }
        done => done,
    }
}

fn mount(from: &Path, to: &Path, flags: libc::c_ulong) -> io::Result<()> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    // SAFETY: the paths end with a zero; these flags need neither a type nor data.
    let done = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), ptr::null(), flags, ptr::null()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn path_of(name: &str) -> io::Result<PathBuf> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) || name.len() > 255 {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not the name of a network namespace"));
    }
    Ok(Path::new(NAMES).join(name))
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| io::Error::new(ErrorKind::InvalidInput, "not a path"))
}

fn told(error: &io::Error, sentence: &str) -> io::Error {
    io::Error::new(error.kind(), sentence)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::sys::bpf::tests::own_namespace;
    use crate::sys::{index_of, set_up};

    /// Takes this thread, and what it starts, where no names of network namespaces are: what it makes of them goes with it,
    /// and those of the machine stay as they are. False, with a line that says so, where that is not allowed.
    pub(crate) fn own_names() -> bool {
        if !own_namespace() {
            return false;
        }
        // SAFETY: only this thread leaves its mount namespace; no memory is touched.
        let left = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
        let none = Path::new("none");
        let hidden = left
            && mount(none, Path::new("/"), libc::MS_PRIVATE | libc::MS_REC).is_ok()
            // SAFETY: the strings end with a zero; no data is given.
            && unsafe {
                let (to, kind) = (c"/run".as_ptr(), c"tmpfs".as_ptr());
                libc::mount(kind, to, kind, 0, ptr::null()) == 0
            };
        if !hidden {
            println!("skipped: no mount namespace of one's own: {}", io::Error::last_os_error());
        }
        hidden
    }

    #[test]
    fn a_namespace_is_made_found_and_removed_by_who_made_it() {
        if !own_names() {
            return;
        }
        let first = Namespace::open("a").unwrap();
        assert!(first.is_made() && first.nameless().is_none() && first.name() == "a");
        within(&first, || set_up("lo")).unwrap();
        let here = || fs::read_link("/proc/thread-self/ns/net");
        let before = here().unwrap();
        assert_ne!(within(&first, here).unwrap(), before);
        assert_eq!(here().unwrap(), before, "this thread is where it was");
        let socket = within(&first, || UdpSocket::bind("127.0.0.1:4000")).unwrap();
        socket.send_to(b"x", "127.0.0.1:4000").unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1, "of use to this thread, too");

        let mut second = Namespace::open("a").unwrap();
        assert!(!second.is_made());
        assert!(within(&second, || UdpSocket::bind("127.0.0.1:4000")).is_err(), "it is the same");
        let other = Namespace::open("b").unwrap();
        assert!(within(&other, || set_up("lo").and_then(|()| UdpSocket::bind("127.0.0.1:4000"))).is_ok());

        second.claim();
        second.remove().unwrap();
        assert!(!Path::new("/run/netns/a").exists() && Path::new("/run/netns/b").exists());
        let third = Namespace::open("a").unwrap();
        let free = within(&third, || UdpSocket::bind("127.0.0.1:4000")).is_ok();
        assert!(third.is_made() && free, "it is another");
        let found = Namespace::open("b").unwrap();
        found.remove().unwrap();
        assert!(Path::new("/run/netns/b").exists(), "it was there before");
        first.remove().unwrap();
        assert!(Path::new("/run/netns/a").exists(), "the name is that of another by now");
    }

    #[test]
    fn work_that_fails_says_so() {
        if !own_names() {
            return;
        }
        let namespace = Namespace::open("a").unwrap();
        assert!(within(&namespace, || index_of("no-such-device")).is_err());
        let why = within(File::open("/dev/null").unwrap(), || Ok(())).unwrap_err();
        assert!(why.to_string().starts_with("the network namespace cannot be joined"), "{why}");
        let panics = panic::catch_unwind(|| within(&namespace, || -> io::Result<()> { panic!("of a test") }));
        assert!(panics.is_err());
        for name in ["", ".", "..", "a/b", "a\0b", &"x".repeat(256)] {
            assert!(Namespace::open(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn who_may_not_is_told_what_it_takes() {
        if !own_names() {
            return;
        }
        let made = Namespace::open("a").unwrap();
        // SAFETY: only this thread becomes another user, as this is not the call of the C library; no memory is touched.
        let other = unsafe { libc::syscall(libc::SYS_setresuid, -1, 65534, -1) };
        assert_eq!(other, 0);
        let why =
            [Namespace::open("b").map(|_| ()), within(&made, || Ok(()))].map(|e| e.unwrap_err().to_string());
        // SAFETY: as above.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, -1, 0, -1) }, 0);
        assert_eq!(
            why,
            [
                "making a network namespace takes CAP_SYS_ADMIN",
                "joining a network namespace takes CAP_SYS_ADMIN"
            ]
        );
    }

    #[test]
    fn a_file_without_its_namespace_gets_one_and_who_may_not_write_has_none_with_a_name() {
        if !own_names() {
            return;
        }
        fs::create_dir("/run/netns").unwrap();
        fs::write("/run/netns/a", "").unwrap();
        let taken = Namespace::open("a").unwrap();
        assert!(taken.is_made() && taken.nameless().is_none());
        assert!(!Namespace::open("a").unwrap().is_made());
        taken.remove().unwrap();
        assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0);

        mount(Path::new("none"), Path::new("/run/netns"), libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY)
            .unwrap();
        let nameless = Namespace::open("a").unwrap();
        let why = nameless.nameless().unwrap().to_owned();
        assert!(why.starts_with("/run/netns/a cannot be made: Read-only file system"), "{why}");
        assert!(nameless.is_made() && within(&nameless, || set_up("lo")).is_ok());
        let path = nameless.name();
        assert!(is_namespace(&File::open(&path).unwrap()), "{path}");
        nameless.remove().unwrap();
    }
}
