//! Frames of a network device by way of `pnet_datalink`: two system calls for each frame, for where nothing else works.
//!
//! The socket is made here and handed to pnet, so that what pnet has no words for is as on the other sockets: the filter,
//! the room for received frames, the count of those lost, and that what we send is not received again. What pnet does not
//! pass on is lost: a VLAN tag that the card or the kernel took out of a frame, and whether a checksum is still to be made.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::time::Duration;

use pnet_datalink::{
    Channel, ChannelType, Config, DataLinkReceiver, DataLinkSender, MacAddr, NetworkInterface, channel,
};

use crate::sys::{Filter, Frames, PlainSocket};

/// A device's frames, in and out. What itself sends it does not receive.
pub struct PnetSocket {
    /// The same socket as pnet's.
    socket: PlainSocket,
    sender: Box<dyn DataLinkSender>,
    receiver: Box<dyn DataLinkReceiver>,
    /// The longest frame that is received whole.
    longest: usize,
}

impl PnetSocket {
    /// Opens a device, given by its name, number and MAC address. Frames of up to `longest` bytes, Ethernet header and VLAN
    /// tags included, in a buffer of about `receive_bytes`. Nothing is received that the filter does not let through.
    pub fn open(
        name: &str,
        device: u32,
        mac: [u8; 6],
        longest: usize,
        filter: Filter<'_>,
        receive_bytes: usize,
    ) -> io::Result<PnetSocket> {
        let socket = PlainSocket::new(filter, receive_bytes)?;
        let interface = NetworkInterface {
            name: name.to_owned(),
            description: String::new(),
            index: device,
            mac: Some(MacAddr::from(mac)),
            ips: Vec::new(),
            flags: 0,
        };
        let config = Config {
            // One more byte, so that a longer frame is told from one that just fits.
            read_buffer_size: longest + 1,
            write_buffer_size: 0,
            // Neither waits: pnet asks with these times before each call.
            read_timeout: Some(Duration::ZERO),
            write_timeout: Some(Duration::ZERO),
            channel_type: ChannelType::Layer2,
            promiscuous: false,
            // It is pnet's to close, whatever happens.
            socket_fd: Some(socket.another()?.into_raw_fd()),
            ..Config::default()
        };
        match channel(&interface, config)? {
            Channel::Ethernet(sender, receiver) => Ok(PnetSocket { socket, sender, receiver, longest }),
            _ => Err(io::Error::new(io::ErrorKind::Unsupported, "pnet has no Ethernet here")),
        }
    }

    /// Appends received frames, at most so many, to those that are there. Never waits. Of a longer frame than it was opened
    /// for, the end is lost, and its original length says that it is cut.
    pub fn receive(&mut self, into: &mut Frames, most: usize) {
        for _ in 0..most {
            let read = match self.receiver.next() {
                Ok(read) => read,
                Err(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => return,
                // A device that went down has left an error behind, which would end every wait and read.
                Err(_) => return self.forget_error(),
            };
            let whole = read.get(..self.longest).unwrap_or(read);
            if !into.append(whole, read.len() as u32) {
                return;
            }
        }
    }

    /// Sends a frame at once; false if the kernel or the device does not take it.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        self.sender.send_to(frame, None).is_some_and(|sent| sent.is_ok())
    }

    /// Frames that were lost since it was opened, because there was no room.
    pub fn losses(&mut self) -> u64 {
        self.socket.losses()
    }

    /// Forgets what has gone wrong with the device. Until then, a wait for the socket ends at once, and nothing is read.
    pub fn forget_error(&mut self) {
        let _ = self.socket.take_error();
    }
}

impl AsFd for PnetSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::sys::bpf::tests::{Wire, index, ip, own_namespace, pair};
    use crate::sys::poll;

    const LONGEST: usize = 1614;
    /// Lets through nothing.
    const NOTHING: Filter<'_> = Filter::Classic(&[(0x06, 0, 0, 0)]);

    /// A frame that nobody knows.
    fn frame(number: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![number; length];
        frame[..14].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
        frame
    }

    fn open(filter: Filter<'_>, receive_bytes: usize) -> PnetSocket {
        let mac = [2, 0, 0, 0, 0, 1];
        PnetSocket::open("a", index("a"), mac, LONGEST, filter, receive_bytes).unwrap()
    }

    /// What comes until so many are there or nothing does for a while, each with whether it is cut.
    fn receive(socket: &mut PnetSocket, count: usize) -> Vec<(Vec<u8>, bool)> {
        let mut frames = Frames::new();
        loop {
            let more = count - frames.list.len();
            socket.receive(&mut frames, more);
            if frames.list.len() == count
                || poll(&[socket.as_fd()], Some(Duration::from_millis(200))).unwrap() == 0
            {
                return frames.list.iter().map(|got| (frames.frame(*got).to_vec(), got.is_cut())).collect();
            }
        }
    }

    #[test]
    fn frames_go_both_ways_and_what_is_sent_or_filtered_does_not_come() {
        if !own_namespace() {
            return;
        }
        pair();
        ip("link set dev a mtu 2000");
        ip("link set dev b mtu 2000");
        let (mut socket, wire) = (open(Filter::All, 1 << 20), Wire::new("b"));
        let mut deaf = open(NOTHING, 1 << 16);
        let before = Instant::now();
        assert_eq!(receive(&mut socket, 0), []);
        socket.receive(&mut Frames::new(), 8);
        assert!(before.elapsed() < Duration::from_secs(10), "it does not wait");

        assert!(socket.send(&frame(1, LONGEST)) && deaf.send(&frame(2, 60)));
        for expected in [frame(1, LONGEST), frame(2, 60)] {
            assert_eq!(wire.wait(Duration::from_secs(5), |_| true), Some(expected));
        }
        assert!(
            wire.send(&frame(3, LONGEST)) && wire.send(&frame(4, LONGEST + 1)) && wire.send(&frame(5, 60))
        );
        let mut cut = frame(4, LONGEST + 1);
        cut.pop();
        // Neither what it has sent itself nor what the other has.
        assert_eq!(receive(&mut socket, 4), [(frame(3, LONGEST), false), (cut, true), (frame(5, 60), false)]);
        assert_eq!(receive(&mut deaf, 1), []);
        assert_eq!(socket.losses(), 0);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_a_device_may_go_down_and_come_back() {
        if !own_namespace() {
            return;
        }
        pair();
        let (mut socket, wire) = (open(Filter::All, 1 << 16), Wire::new("b"));
        let sent = (0..500).filter(|_| wire.send(&frame(7, 1000))).count() as u64;
        let got = receive(&mut socket, 500).len() as u64;
        assert!(got > 0 && got < sent, "{got} of {sent}");
        assert_eq!(socket.losses(), sent - got);
        assert_eq!(socket.losses(), sent - got, "it only grows");

        ip("link set dev a down");
        assert!(!socket.send(&frame(8, 60)));
        ip("link set dev a up");
        // The error ends one wait.
        socket.receive(&mut Frames::new(), 1);
        assert_eq!(poll(&[socket.as_fd()], Some(Duration::from_millis(10))).unwrap(), 0);
        assert!(wire.send(&frame(9, 60)));
        assert_eq!(receive(&mut socket, 1), [(frame(9, 60), false)]);
        assert!(socket.send(&frame(10, 60)));
        assert!(wire.wait(Duration::from_secs(5), |f| *f == frame(10, 60)).is_some());
    }
}
