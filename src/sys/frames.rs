//! Frames that a device gave, copied out of what the kernel writes.

/// A frame's first byte stands this far before a multiple of [`LINE`], so that what is behind the outer headers of a GRE
/// frame (14 of Ethernet, 20 of IPv4, 8 of GRE) begins a line.
const BEFORE: usize = 42;
const LINE: usize = 64;
/// Bytes behind the last frame that can be read, whatever they are.
pub const SLACK: usize = 128;

/// Where a frame lies in [`Frames::bytes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Got {
    /// Its first byte.
    pub start: u32,
    /// Behind its last byte.
    pub end: u32,
    /// Bytes that it had on the wire: more than there are here if it was cut.
    pub original: u32,
}

/// Frames in the order in which they came. Receiving adds to them; they stay until they are cleared.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// The frames' bytes, [`SLACK`] more behind the last frame, and perhaps others that frames may be put into.
    pub bytes: Vec<u8>,
    /// Where each frame is.
    pub list: Vec<Got>,
}

impl Frames {
    /// No frames; the memory is kept.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// The bytes of one of the list.
    pub fn frame(&self, got: Got) -> &[u8] {
        self.bytes.get(got.start as usize..got.end as usize).unwrap_or_default()
    }

    /// Room for one frame more, of this many bytes; it is in the list, and what it holds is still to be written.
    pub fn add(&mut self, length: u32, original: u32) -> &mut [u8] {
        let last = self.list.last().map_or(0, |got| got.end as usize);
        let start = (last + BEFORE).next_multiple_of(LINE) - BEFORE;
        let end = start + length as usize;
        if self.bytes.len() < end + SLACK {
            self.bytes.resize((end + SLACK).next_power_of_two(), 0);
        }
        self.list.push(Got { start: start as u32, end: end as u32, original });
        &mut self.bytes[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_stand_in_order_aligned_and_with_slack() {
        let mut frames = Frames::default();
        for _ in 0..2 {
            frames.clear();
            for length in [60, 0, 1, 22, 64, 1514, 9000] {
                frames.add(length, length + 1).fill(length as u8);
            }
            let mut last = 0;
            for (got, length) in frames.list.iter().zip([60, 0, 1, 22, 64, 1514, 9000_u32]) {
                assert!((got.start + 42).is_multiple_of(64) && got.start >= last && got.start < last + 64);
                assert_eq!((got.end - got.start, got.original), (length, length + 1));
                assert_eq!(frames.frame(*got), vec![length as u8; length as usize]);
                last = got.end;
            }
            assert!(frames.bytes.len() >= last as usize + SLACK);
        }
    }
}
