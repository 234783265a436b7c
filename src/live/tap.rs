//! A port whose device is a TAP: its cable ends here, and the kernel of this machine is the only neighbour.
//!
//! The MAC address of the device is the kernel's; Clearway's end has another, and answers for it when the kernel asks who
//! has the port's address. What the kernel sends besides tunnels and what is to be routed (its multicast, mostly) is left
//! alone and counted.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::{io, str};

use tracing::{info, warn};

use crate::sys::bpf::Ours;
use crate::sys::{Frames, Tap, index_of, set_mtu, set_up};
use crate::wire::{ethernet, neighbour};

/// A TAP device that we hold, so that it stays while workers come and go.
pub(super) struct Held {
    end: Tap,
    /// The device was not there before, and goes with this.
    made: bool,
    /// What it was told to carry.
    mtu: u32,
}

impl Held {
    /// Holds the device of this name and mtu that is wanted, and no other; it is made if it is not there.
    pub fn keep(held: &mut Option<Held>, wanted: Option<(&str, u32)>) -> Result<(), String> {
        let name = held.as_ref().and_then(|held| held.end.name());
        let Some((device, mtu)) = wanted else {
            *held = None;
            return Ok(());
        };
        if name.as_deref() != Some(device) {
            // Before another is made: it may have the same name.
            *held = None;
            let made = index_of(device).is_err();
            let end =
                Tap::open(device).map_err(|e| format!("{device} cannot be had as a TAP device: {e}"))?;
            let what = if made { "TAP device made" } else { "TAP device taken" };
            info!(device, "{what}");
            *held = Some(Held { end, made, mtu: 0 });
        }
        if let Some(held) = held.as_mut().filter(|held| held.made && held.mtu != mtu) {
            held.mtu = mtu;
            if let Err(e) = set_mtu(device, mtu) {
                warn!("{device} does not take an mtu of {mtu}: {e}");
            }
            if let Err(e) = set_up(device) {
                warn!("{device} cannot be taken up: {e}");
            }
        }
        Ok(())
    }

    /// True if the device is ours alone.
    pub fn is_made(&self) -> bool {
        self.made
    }

    /// The end that a worker has, for frames of up to so many bytes.
    pub fn end(&self, name: &str, index: u32, longest: usize, ours: &Ours) -> io::Result<End> {
        let lost = about(name, index).and_then(|about| File::open(about.join("statistics/tx_dropped")).ok());
        let mut end = End { tap: self.end.another(longest)?, ours: ours.clone(), lost, before: 0 };
        end.before = end.dropped();
        Ok(end)
    }
}

/// Where sysfs tells of a device, if it does: it may be that of another network namespace.
fn about(name: &str, index: u32) -> Option<PathBuf> {
    let about = Path::new("/sys/class/net").join(name);
    let said = fs::read_to_string(about.join("ifindex")).ok()?;
    (said.trim().parse() == Ok(index)).then_some(about)
}

/// False if a device is known to be something else than a TAP.
pub(super) fn may_be_tap(name: &str, index: u32) -> bool {
    const TAP: u32 = 2;
    let Some(about) = about(name, index) else { return true };
    let flags = fs::read_to_string(about.join("tun_flags")).unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16);
    flags.is_ok_and(|flags| flags & TAP != 0)
}

/// The MAC address of Clearway's end: made of the port's address, so that it is the same after a restart, and not that of
/// the kernel's end.
pub(super) fn own_mac(address: IpAddr, kernel: [u8; 6]) -> [u8; 6] {
    let mut mac = ethernet::mac_of(address);
    if mac == kernel {
        mac[1] ^= 1;
    }
    mac
}

/// A worker's end of a TAP device.
pub(super) struct End {
    tap: Tap,
    ours: Ours,
    /// How many frames the kernel has dropped as nobody had read those before.
    lost: Option<File>,
    before: u64,
}

impl End {
    /// Appends received frames that are ours, and answers who asks for our MAC address; how many others there were. At
    /// most so many are read.
    pub fn receive(&mut self, into: &mut Frames, most: usize, mac: [u8; 6]) -> usize {
        let first = into.list.len();
        self.tap.receive(into, most);
        let (mut number, mut others) = (0, 0);
        let Frames { bytes, list } = into;
        list.retain(|got| {
            number += 1;
            if number <= first {
                return true;
            }
            let frame = bytes.get(got.start as usize..got.end as usize).unwrap_or_default();
            if let Some(answer) = neighbour::answer(frame, self.ours.address, mac) {
                // One that is lost is asked for again.
                self.tap.send(&answer);
                return false;
            }
            let is_ours = self.ours.is_ours(frame);
            others += usize::from(!is_ours);
            is_ours
        });
        others
    }

    /// Has the kernel receive a frame; false if it does not take it.
    #[inline]
    pub fn send(&mut self, frame: &[u8]) -> bool {
        self.tap.send(frame)
    }

    /// Frames that were lost since it was opened, because too many waited to be read.
    pub fn losses(&self) -> u64 {
        self.dropped().saturating_sub(self.before)
    }

    fn dropped(&self) -> u64 {
        let mut text = [0; 24];
        let read = self.lost.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let text = text.get(..read).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::bpf::tests::{WIRE, Wire, ethernet, has_taps, ip, ipv4, own_namespace};
    use crate::sys::poll;

    const OURS: [u8; 6] = [2, 0, 198, 51, 100, 2];

    #[test]
    fn our_end_has_another_mac_address_than_the_kernels() {
        let address = IpAddr::from([198, 51, 100, 2]);
        assert_eq!(own_mac(address, [2; 6]), OURS);
        assert_eq!(own_mac(address, OURS), [2, 1, 198, 51, 100, 2]);
    }

    #[test]
    fn the_device_that_is_wanted_is_held_and_no_other() {
        if !own_namespace() || !has_taps() {
            return;
        }
        let is_there = |name| index_of(name).ok();
        let mut held = None;
        Held::keep(&mut held, Some(("t0", 1600))).unwrap();
        let first = is_there("t0").unwrap();
        Held::keep(&mut held, Some(("t0", 1700))).unwrap();
        assert_eq!(is_there("t0"), Some(first), "another mtu makes no other device");
        let mut other = None;
        let why = Held::keep(&mut other, Some(("t0", 1500))).unwrap_err();
        assert!(why.starts_with("t0 cannot be had as a TAP device: another program"), "{why}");
        assert!(held.as_ref().is_some_and(Held::is_made) && other.is_none());
        ip("link del t0");
        Held::keep(&mut held, Some(("t0", 1700))).unwrap();
        assert!(is_there("t0").is_some_and(|second| second != first), "made anew");
        Held::keep(&mut held, Some(("t1", 1700))).unwrap();
        assert_eq!((is_there("t0"), is_there("t1").is_some()), (None, true));
        Held::keep(&mut held, None).unwrap();
        assert!(is_there("t1").is_none() && held.is_none());
        ip("tuntap add dev t2 mode tap");
        Held::keep(&mut held, Some(("t2", 1700))).unwrap();
        assert!(held.as_ref().is_some_and(|held| !held.is_made()));
        Held::keep(&mut held, None).unwrap();
        assert!(is_there("t2").is_some(), "it was there before");
    }

    #[test]
    fn what_is_ours_comes_who_asks_is_answered_and_the_rest_is_counted() {
        if !own_namespace() || !has_taps() {
            return;
        }
        _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        let mut held = None;
        Held::keep(&mut held, Some(("t0", 1600))).unwrap();
        let address = [198, 51, 100, 2].into();
        let ours = Ours { address: IpAddr::V4(address), plain: false, local: Vec::new() };
        let index = index_of("t0").unwrap();
        let mut end = held.as_ref().unwrap().end("t0", index, 1622, &ours).unwrap();
        let kernel = Wire::new("t0");
        let sender = [2, 0, 0, 0, 0, 9];
        let frame =
            |protocol| ethernet(OURS, sender, 0x0800, &ipv4(WIRE, address, protocol, 0, &[protocol; 40]));
        let mut asks = vec![0, 1, 8, 0, 6, 4, 0, 1];
        asks.extend([&sender[..], &WIRE.octets(), &[0; 6], &address.octets()].concat());
        let asks = ethernet([0xff; 6], sender, 0x0806, &asks);

        let mut frames = Frames::new();
        frames.append(&[17; 60], 60);
        for sent in [frame(6), frame(47), asks, frame(17), frame(47)] {
            assert!(kernel.send(&sent));
        }
        let mut others = 0;
        for _ in 0..100 {
            others += end.receive(&mut frames, 2, OURS);
            if frames.list.len() == 3 {
                break;
            }
            poll(&[end.as_fd()], Some(Duration::from_millis(50))).unwrap();
        }
        let got: Vec<&[u8]> = frames.list.iter().map(|got| frames.frame(*got)).collect();
        assert_eq!(got, [&[17; 60][..], &frame(47), &frame(47)], "behind what was there");
        assert_eq!(others, 2);
        let answer = kernel.wait(Duration::from_secs(5), |f| f[12..14] == [8, 6]).unwrap();
        assert_eq!((&answer[..6], &answer[6..12], answer[21]), (&sender[..], &OURS[..], 2));
    }
}
