//! Several captures as one: their packets in the order of the replay.

use super::capture::{Capture, CaptureError, Packet};

/// Captures that are read together, by time; equal times in the order of the captures.
///
/// A capture's own order is kept: a packet that goes back in time follows its predecessor at once and has the
/// predecessor's time on the clock.
pub struct Merge {
    captures: Vec<Capture>,
    /// For each capture the clock at its next packet; none once it has ended.
    heads: Vec<Option<u64>>,
    /// The capture whose packet was handed out last; its next packet has not been read.
    last: Option<usize>,
    clock: u64,
    /// The damage that ends it all, once the packets before it are out.
    damage: Option<CaptureError>,
}

/// A packet and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged<'a> {
    /// The capture, in the order that they were given.
    pub capture: usize,
    /// The time of the replay: never goes back.
    pub clock: u64,
    /// The packet, with its own time.
    pub packet: Packet<'a>,
}

impl Merge {
    /// Reads the first packet of every capture. Damage is reported by [`next`](Merge::next).
    pub fn new(captures: Vec<Capture>) -> Merge {
        let heads = vec![None; captures.len()];
        let mut merge = Merge { captures, heads, last: None, clock: 0, damage: None };
        for index in 0..merge.captures.len() {
            if let Err(damage) = merge.read(index) {
                merge.damage = Some(damage);
                break;
            }
        }
        merge
    }

    /// The next packet; none at the end. Damage in one capture ends them all: what came later would be judged without
    /// the packets that cannot be read.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend out its buffer")]
    pub fn next(&mut self) -> Result<Option<Merged<'_>>, CaptureError> {
        if let Some(index) = self.last.take()
            && let Err(damage) = self.read(index)
        {
            self.damage = Some(damage);
        }
        if let Some(damage) = self.damage.take() {
            self.heads.fill(None);
            return Err(damage);
        }
        let first = self.heads.iter().enumerate().filter_map(|(i, head)| Some(((*head)?, i))).min();
        let Some((clock, capture)) = first else { return Ok(None) };
        self.last = Some(capture);
        self.clock = clock;
        let packet = self.captures.get(capture).and_then(Capture::packet);
        Ok(packet.map(|packet| Merged { capture, clock, packet }))
    }

    /// Whether any times are finer than microseconds, as far as the captures have been read.
    pub fn nanosecond(&self) -> bool {
        self.captures.iter().any(Capture::nanosecond)
    }

    /// The captures, for their names, counts, progress and warnings.
    pub fn captures(&self) -> &[Capture] {
        &self.captures
    }

    fn read(&mut self, index: usize) -> Result<(), CaptureError> {
        let (Some(capture), Some(head)) = (self.captures.get_mut(index), self.heads.get_mut(index)) else {
            return Ok(());
        };
        *head = None;
        if capture.advance()? {
            // The packet before was the last that was handed out, so the clock is its own.
            *head = capture.packet().map(|packet| packet.time.max(self.clock));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::write::{file_header, record_header};

    /// A capture whose packets have these times; the first byte of each is its number.
    fn capture(name: &str, nanosecond: bool, times: &[u64]) -> Vec<u8> {
        let mut bytes = file_header(nanosecond).to_vec();
        for (number, time) in times.iter().enumerate() {
            bytes.extend(record_header(*time, nanosecond, 1, 1));
            bytes.push(number as u8);
        }
        assert!(Capture::from_bytes(name, bytes.clone()).is_ok());
        bytes
    }

    fn merge(captures: &[Vec<u8>]) -> Merge {
        Merge::new(captures.iter().map(|bytes| Capture::from_bytes("x", bytes.clone()).unwrap()).collect())
    }

    fn order(merge: &mut Merge) -> Vec<(usize, u8, u64, u64)> {
        let mut order = Vec::new();
        while let Some(m) = merge.next().unwrap() {
            order.push((m.capture, m.packet.captured[0], m.clock, m.packet.time));
        }
        order
    }

    #[test]
    fn by_time_then_by_capture_and_never_back() {
        let captures = [capture("a", true, &[10, 30, 20, 40]), capture("b", true, &[5, 10, 25, 30, 30])];
        let expected = [
            (1, 0, 5, 5),
            (0, 0, 10, 10),
            (1, 1, 10, 10),
            (1, 2, 25, 25),
            (0, 1, 30, 30),
            (0, 2, 30, 20),
            (1, 3, 30, 30),
            (1, 4, 30, 30),
            (0, 3, 40, 40),
        ];
        assert_eq!(order(&mut merge(&captures)), expected);
    }

    #[test]
    fn nothing_and_one_and_empty_captures() {
        assert!(merge(&[]).next().unwrap().is_none());
        let one = [capture("a", false, &[3_000, 1_000])];
        assert_eq!(order(&mut merge(&one)), [(0, 0, 3_000, 3_000), (0, 1, 3_000, 1_000)]);
        let mut merged = merge(&[capture("a", false, &[]), capture("b", true, &[]), one[0].clone()]);
        assert!(merged.nanosecond());
        assert_eq!(order(&mut merged).len(), 2);
        assert_eq!(merged.captures()[2].packets(), 2);
    }

    #[test]
    fn damage_ends_the_merge_where_it_is() {
        let mut damaged = capture("a", true, &[1, 2]);
        damaged.extend([0xff; 16]);
        let mut merged = merge(&[damaged.clone(), capture("b", true, &[1, 2, 3])]);
        let mut seen = 0;
        let error = loop {
            match merged.next() {
                Ok(Some(_)) => seen += 1,
                Ok(None) => panic!("no error"),
                Err(error) => break error,
            }
        };
        assert_eq!((seen, error.offset), (3, Some(24 + 34)));
        assert!(merged.next().unwrap().is_none());
        damaged.drain(24..58);
        assert!(merge(&[capture("b", true, &[1]), damaged]).next().is_err());
        // A cut is no damage: the others go on.
        let mut cut = capture("a", true, &[1, 2]);
        cut.pop();
        let mut merged = merge(&[cut, capture("b", true, &[1, 2, 3])]);
        assert_eq!(order(&mut merged).len(), 4);
        assert!(merged.captures()[0].warning().is_some() && merged.captures()[1].warning().is_none());
    }
}
