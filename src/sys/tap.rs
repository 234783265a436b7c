//! A TAP device: an Ethernet device of the kernel whose cable ends in this process.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};

use super::frames::Frames;
use super::tun::{Kind, attach, name_of, send};

/// Our end of a TAP device. What the kernel sends by the device is read here, and what is written here the kernel receives.
pub struct Tap {
    file: File,
    /// Where a frame is read to.
    buffer: Box<[u8]>,
}

impl Tap {
    /// Makes a TAP device of this name, which goes when all ends of it are dropped, or takes the end of a persistent one
    /// that is there. Errors are sentences.
    pub fn open(name: &str) -> io::Result<Tap> {
        Ok(Tap { file: attach(name, Kind::Tap)?, buffer: Box::default() })
    }

    /// The same end once more, for frames of up to so many bytes. A frame is read from one of them.
    pub fn another(&self, longest: usize) -> io::Result<Tap> {
        // One more byte, so that a longer frame is told from one that just fits.
        Ok(Tap { file: self.file.try_clone()?, buffer: vec![0; longest + 1].into() })
    }

    /// The name of the device; none if it is gone.
    pub fn name(&self) -> Option<String> {
        name_of(&self.file)
    }

    /// Appends frames that the kernel has sent, at most so many, to those that are there. Never waits. Of a longer frame
    /// than it was opened for, the end is lost, and its original length says that it is cut.
    pub fn receive(&mut self, into: &mut Frames, most: usize) {
        for _ in 0..most {
            let length = match self.file.read(&mut self.buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let longest = self.buffer.len().saturating_sub(1);
            let whole = self.buffer.get(..length.min(longest)).unwrap_or_default();
            if !into.append(whole, length as u32) {
                return;
            }
        }
    }

    /// Has the kernel receive a frame; false if it does not take it.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        send(&self.file, frame)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::bpf::tests::{Wire, has_taps, ip, own_namespace};
    use crate::sys::{index_of, poll, set_mtu, set_up};

    /// A frame that nobody knows, with a number.
    fn frame(number: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![number; length];
        frame[..14].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
        frame
    }

    #[test]
    fn frames_go_both_ways_and_a_device_has_one_user() {
        if !own_namespace() || !has_taps() {
            return;
        }
        _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        let tap = Tap::open("t0").unwrap();
        assert_eq!(tap.name().as_deref(), Some("t0"));
        set_mtu("t0", 1600).unwrap();
        let mut end = tap.another(1614).unwrap();
        assert!(!end.send(&frame(0, 60)), "it is down");
        set_up("t0").unwrap();

        let kernel = Wire::new("t0");
        assert!(end.send(&frame(1, 1614)) && !end.send(&[0; 3]));
        let got = std::iter::from_fn(|| kernel.receive()).find(|f| f[12..14] == [0x88, 0xb5]);
        assert_eq!(got, Some(frame(1, 1614)));

        let mut frames = Frames::new();
        let mut receive = |end: &mut Tap, count: usize| {
            frames.clear();
            for _ in 0..100 {
                end.receive(&mut frames, 8);
                frames.list.retain(|got| frames.bytes[got.start as usize + 12] == 0x88);
                if frames.list.len() >= count {
                    break;
                }
                poll(&[end.as_fd()], Some(Duration::from_millis(50))).unwrap();
            }
            frames.list.iter().map(|got| (frames.frame(*got).to_vec(), got.is_cut())).collect::<Vec<_>>()
        };
        assert!(kernel.send(&frame(2, 60)) && kernel.send(&frame(3, 1614)));
        assert_eq!(receive(&mut end, 2), [(frame(2, 60), false), (frame(3, 1614), false)]);
        let mut short = tap.another(100).unwrap();
        assert!(kernel.send(&frame(4, 101)) && kernel.send(&frame(5, 100)));
        assert_eq!(receive(&mut short, 2), [(frame(4, 100), true), (frame(5, 100), false)]);

        assert!(Tap::open("t0").err().unwrap().to_string().contains("another program"));
        ip("link add v0 type veth peer name v1");
        assert!(Tap::open("v0").err().unwrap().to_string().contains("no TAP device"));
        for name in ["", "t%d", "a-name-that-is-far-too-long"] {
            assert!(Tap::open(name).is_err(), "{name:?}");
        }
        ip("link del t0");
        assert_eq!((tap.name(), end.send(&frame(6, 60))), (None, false));
        drop((tap, end, short));

        ip("tuntap add dev t1 mode tap");
        let first = index_of("t1").unwrap();
        drop(Tap::open("t1").unwrap());
        drop(Tap::open("t1").unwrap());
        assert_eq!(index_of("t1").unwrap(), first, "a persistent one stays");
        drop(Tap::open("t2").unwrap());
        assert!(index_of("t2").is_err(), "others go");
    }
}
