//! Received frames, one behind the other in memory that is used again.

/// Bytes behind the last frame that can be read, so that who reads in strides need not look where it ends.
const SLACK: usize = 128;

/// Frames begin where a multiple of a cache line plus this many bytes ends: behind Ethernet, IPv4 and GRE headers begins
/// a line.
const HEADERS: usize = 14 + 20 + 8;

/// The size of a cache line.
const LINE: usize = 64;

/// What is held at the least once a frame is.
const LEAST: usize = 64 << 10;

/// Where the tag of a VLAN stands: behind two MAC addresses.
const ADDRESSES: usize = 12;

/// Frames that were received, and the bytes that they lie in.
#[derive(Debug, Default)]
pub struct Frames {
    /// What the frames lie in; bytes between and behind them mean nothing.
    pub bytes: Vec<u8>,
    /// The frames, in the order they came in.
    pub list: Vec<Got>,
}

/// One received frame: its bytes lie in [`Frames::bytes`] from `start` to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Got {
    /// Its first byte.
    pub start: u32,
    /// The byte behind its last.
    pub end: u32,
    /// How long it was on the link; if that is more than lies here, the rest is lost.
    pub original: u32,
}

impl Got {
    /// True if not all of the frame was received.
    pub fn is_cut(&self) -> bool {
        self.original > self.end - self.start
    }
}

impl Frames {
    /// No frames.
    pub fn new() -> Frames {
        Frames::default()
    }

    /// Forgets the frames and keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// The bytes of a frame.
    pub fn frame(&self, got: Got) -> &[u8] {
        self.bytes.get(got.start as usize..got.end as usize).unwrap_or_default()
    }

    /// Appends a copy of a frame that was `original` bytes long; false if no more fit.
    #[inline]
    pub fn append(&mut self, frame: &[u8], original: u32) -> bool {
        self.add(frame.len(), original).map(|room| room.copy_from_slice(frame)).is_some()
    }

    /// Appends a frame of `length` bytes that was `original` bytes long, and behind its MAC addresses a VLAN tag that was
    /// taken out of it. `copy` gives its bytes from an offset on. `None` if no more fit.
    #[inline]
    pub(super) fn push(
        &mut self,
        length: usize,
        original: u32,
        tag: Option<[u8; 4]>,
        mut copy: impl FnMut(usize, &mut [u8]),
    ) -> Option<&mut [u8]> {
        let tag = tag.filter(|_| length >= ADDRESSES);
        let added = tag.map_or(0, |t| t.len());
        let before = self.list.last().map_or(0, |last| last.end as usize);
        let most = before + LINE + length + added + SLACK;
        if u32::try_from(most).is_err() {
            return None;
        }
        if most > self.bytes.len() {
            self.grow(most);
        }
        let address = self.bytes.as_ptr().addr().wrapping_add(before + HEADERS);
        let start = before + address.wrapping_neg() % LINE;
        let end = start + length + added;
        let frame = self.bytes.get_mut(start..end)?;
        match tag {
            None => copy(0, frame),
            Some(tag) => {
                let (addresses, rest) = frame.split_at_mut(ADDRESSES);
                copy(0, addresses);
                let (there, rest) = rest.split_at_mut(tag.len());
                there.copy_from_slice(&tag);
                copy(ADDRESSES, rest);
            }
        }
        let original = original.saturating_add(added as u32);
        self.list.push(Got { start: start as u32, end: end as u32, original });
        Some(frame)
    }

    /// Appends a frame of so many bytes, which are still to be written. `None` if no more fit.
    #[inline]
    pub(super) fn add(&mut self, length: usize, original: u32) -> Option<&mut [u8]> {
        self.push(length, original, None, |_, _| ())
    }

    /// Doubles the memory, and more if that is not enough.
    #[cold]
    fn grow(&mut self, to: usize) {
        let to = to.max(2 * self.bytes.len()).max(LEAST);
        self.bytes.resize(to, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends `frame` as the ring would.
    fn push(frames: &mut Frames, frame: &[u8], tag: Option<[u8; 4]>) -> Got {
        let copy = |from: usize, into: &mut [u8]| into.copy_from_slice(&frame[from..from + into.len()]);
        frames.push(frame.len(), frame.len() as u32, tag, copy).unwrap();
        *frames.list.last().unwrap()
    }

    #[test]
    fn frames_are_kept_in_order_aligned_and_with_slack_behind() {
        let mut frames = Frames::new();
        for round in 0..3 {
            frames.clear();
            let all: Vec<Vec<u8>> =
                (0..500).map(|n: usize| (0..n * 7 % 1515).map(|b| (b + n + round) as u8).collect()).collect();
            for frame in &all {
                push(&mut frames, frame, None);
                assert!(frames.bytes.len() >= frames.list.last().unwrap().end as usize + SLACK);
            }
            assert_eq!(frames.list.len(), all.len());
            assert!(frames.list.iter().zip(&all).all(|(got, frame)| frames.frame(*got) == frame));
            assert!(frames.list.windows(2).all(|two| two[0].end <= two[1].start));
        }
        // Nothing has moved in the last round.
        let base = frames.bytes.as_ptr().addr();
        assert!(frames.list.iter().all(|got| (base + got.start as usize + HEADERS).is_multiple_of(LINE)));
        assert!(frames.frame(Got { start: 5, end: u32::MAX, original: 0 }).is_empty());
    }

    #[test]
    fn a_vlan_tag_is_put_back_behind_the_addresses() {
        let mut frames = Frames::new();
        let frame: Vec<u8> = (0..60).collect();
        let got = push(&mut frames, &frame, Some([0x81, 0, 0x60, 100]));
        let whole = frames.frame(got);
        assert_eq!((whole.len(), got.original, got.is_cut()), (64, 64, false));
        assert_eq!(
            (&whole[..12], &whole[12..16], &whole[16..]),
            (&frame[..12], &[0x81, 0, 0x60, 100][..], &frame[12..])
        );
        // What has no room for one stays as it is.
        let got = push(&mut frames, &frame[..11], Some([1; 4]));
        assert_eq!((frames.frame(got), got.original), (&frame[..11], 11));
    }

    #[test]
    fn what_was_lost_of_a_frame_is_told() {
        let mut frames = Frames::new();
        frames.push(100, 4000, Some([0x88, 0xa8, 0, 1]), |_, into| into.fill(1)).unwrap();
        let got = frames.list[0];
        assert_eq!((got.end - got.start, got.original, got.is_cut()), (104, 4004, true));
        assert!(frames.push(u32::MAX as usize, 0, None, |_, _| ()).is_none() && frames.list.len() == 1);
    }
}
