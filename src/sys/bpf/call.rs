//! The system call bpf(2): loading, attaching and trying out programs, and maps of sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::asm::Instruction;

/// Commands of `enum bpf_cmd`.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;

const MAP_OF_XDP_SOCKETS: u32 = 17;

/// Room for what the verifier says of a program that it refuses; of more, newer kernels keep the end.
const LOG: usize = 1 << 20;

/// A kind of program: what it is called in sentences, `enum bpf_prog_type`, and where it will be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub name: &'static str,
    pub number: u32,
    pub attach: u32,
}

/// Of a packet socket.
pub const FILTER: Kind = Kind { name: "filter", number: 1, attach: 0 };
/// At the ingress of a device, before the stack.
pub const INGRESS: Kind = Kind { name: "ingress", number: 3, attach: 0 };
/// Where `INGRESS` is attached.
pub const TCX_INGRESS: u32 = 46;
/// In the driver.
pub const XDP: Kind = Kind { name: "XDP", number: 6, attach: 37 };

// The parts of `union bpf_attr`, each without padding; the kernel takes what is not there as zero.

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map: i32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    attach: u32,
}

#[repr(C)]
struct TestRun {
    program: i32,
    result: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

#[repr(C)]
struct LinkCreate {
    program: i32,
    device: u32,
    attach: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    revision: u64,
}

#[repr(C)]
struct LinkUpdate {
    link: i32,
    program: i32,
    flags: u32,
    old: u32,
}

/// One call. What a command's pointers lead to must live until it is over, and be as long as the command says.
fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes as many bytes as `attr` has; all commands here are made below, where what they
    // point to is alive and as long as they say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A call that gives a descriptor.
fn descriptor<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel has just opened it for us, and nothing else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address<T: ?Sized>(of: &T) -> u64 {
    (&raw const *of).cast::<u8>().expose_provenance() as u64
}

/// Loads a program. The error is a sentence that ends with what the verifier said last.
pub fn load(kind: Kind, code: &[Instruction]) -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    name[..8].copy_from_slice(b"clearway");
    let mut attr = ProgLoad {
        kind: kind.number,
        instructions: u32::try_from(code.len()).unwrap_or(u32::MAX),
        code: address(code),
        license: address(c"MIT OR Apache-2.0".to_bytes_with_nul()),
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name,
        device: 0,
        attach: kind.attach,
    };
    let first = match descriptor(PROG_LOAD, &mut attr) {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    // Once more, for the verifier's reasons.
    let mut log = vec![0_u8; LOG];
    (attr.log_level, attr.log_size, attr.log) = (1, LOG as u32, log.as_mut_ptr().expose_provenance() as u64);
    match descriptor(PROG_LOAD, &mut attr) {
        Ok(program) => Ok(program),
        Err(_) => Err(refused(kind, &first, &log)),
    }
}

/// The sentence for a program that was not loaded.
fn refused(kind: Kind, error: &io::Error, log: &[u8]) -> io::Error {
    let log = String::from_utf8_lossy(log.split(|b| *b == 0).next().unwrap_or_default());
    // Behind the reason stand only figures of the verifier's own work.
    let lines: Vec<&str> =
        log.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("processed ")).collect();
    let last = lines[lines.len().saturating_sub(3)..].join("; ");
    let verifier = if last.is_empty() { String::new() } else { format!("; its verifier says: {last}") };
    let sentence = format!("the kernel does not load the {} program: {error}{verifier}", kind.name);
    io::Error::new(error.kind(), sentence)
}

/// Runs a program once on these bytes; what it returned.
pub fn test_run(program: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<u32> {
    let mut attr = TestRun {
        program: program.as_raw_fd(),
        result: 0,
        size_in: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        size_out: 0,
        data_in: address(bytes),
        data_out: 0,
        repeat: 1,
        duration: 0,
    };
    bpf(PROG_TEST_RUN, &mut attr)?;
    Ok(attr.result)
}

/// Attaches a program to a device for as long as the descriptor is open.
pub fn attach(program: BorrowedFd<'_>, device: u32, attach: u32, flags: u32) -> io::Result<OwnedFd> {
    let program = program.as_raw_fd();
    descriptor(
        LINK_CREATE,
        &mut LinkCreate { program, device, attach, flags, relative: 0, pad: 0, revision: 0 },
    )
}

/// Puts another program in the place of an attached one; no frame sees neither.
pub fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let (link, program) = (link.as_raw_fd(), program.as_raw_fd());
    bpf(LINK_UPDATE, &mut LinkUpdate { link, program, flags: 0, old: 0 }).map(drop)
}

/// A map of XDP sockets by queue.
pub fn socket_map(queues: u32) -> io::Result<OwnedFd> {
    let kind = MAP_OF_XDP_SOCKETS;
    descriptor(MAP_CREATE, &mut MapCreate { kind, key_size: 4, value_size: 4, entries: queues, flags: 0 })
}

/// The map has this socket for a queue from now on.
pub fn set_socket(map: BorrowedFd<'_>, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    let (map, value) = (map.as_raw_fd(), socket.as_raw_fd());
    let (key, value) = (address(&queue), address(&value));
    bpf(MAP_UPDATE, &mut MapUpdate { map, pad: 0, key, value, flags: 0 }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_sentence_with_the_verifiers_last_words() {
        let error = io::Error::from_raw_os_error(libc::EACCES);
        let log = b"0: (85) call 51\n1: (95) exit\n\nR0 !read_ok\nprocessed 2 insns (limit 1000000)\n\0\0\0";
        let sentence = refused(XDP, &error, log).to_string();
        assert!(
            sentence.starts_with("the kernel does not load the XDP program: Permission denied"),
            "{sentence}"
        );
        assert!(sentence.ends_with("says: 0: (85) call 51; 1: (95) exit; R0 !read_ok"), "{sentence}");
        assert!(!refused(XDP, &error, &[0; 4]).to_string().contains("verifier"));
    }
}
