//! Who has which frame of a socket's memory: every frame is free, with the kernel to be filled, or with the kernel to be
//! sent.

/// Who has a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Free,
    Filling,
    Sending,
}

/// The owner of every frame. A frame that the kernel gives back although it does not have it stays where it is, so that no
/// frame is in two hands whatever the kernel says.
#[derive(Debug)]
pub struct Ledger {
    owner: Vec<Owner>,
    /// The last that was given back is used first: it is the likeliest to be in a cache.
    free: Vec<u32>,
    filling: u32,
    sending: u32,
}

impl Ledger {
    /// All frames are free.
    pub fn new(frames: u32) -> Ledger {
        let owner = vec![Owner::Free; frames as usize];
        Ledger { owner, free: (0..frames).rev().collect(), filling: 0, sending: 0 }
    }

    /// Frames that the kernel has, or has had, to fill: in the fill ring, in the driver, in the receive ring.
    pub fn filling(&self) -> u32 {
        self.filling
    }

    /// Frames that the kernel has to send: in the transmit ring, in the driver, in the completion ring.
    pub fn sending(&self) -> u32 {
        self.sending
    }

    /// A free frame that is to be filled.
    pub fn fill(&mut self) -> Option<u32> {
        let frame = self.take(Owner::Filling)?;
        self.filling += 1;
        Some(frame)
    }

    /// A free frame that is to be sent.
    pub fn send(&mut self) -> Option<u32> {
        let frame = self.take(Owner::Sending)?;
        self.sending += 1;
        Some(frame)
    }

    fn take(&mut self, owner: Owner) -> Option<u32> {
        let frame = self.free.pop()?;
        self.owner[frame as usize] = owner;
        Some(frame)
    }

    /// A frame was received and is free again. False if it was not there to be filled.
    pub fn received(&mut self, frame: u64) -> bool {
        let given = self.give(frame, Owner::Filling);
        self.filling -= u32::from(given);
        given
    }

    /// A frame was sent and is free again. False if it was not there to be sent.
    pub fn sent(&mut self, frame: u64) -> bool {
        let given = self.give(frame, Owner::Sending);
        self.sending -= u32::from(given);
        given
    }

    fn give(&mut self, frame: u64, from: Owner) -> bool {
        let owner = usize::try_from(frame).ok().and_then(|f| self.owner.get_mut(f));
        let Some(owner) = owner.filter(|owner| **owner == from) else {
            debug_assert!(false, "the kernel gives back frame {frame}, which it does not have ({from:?})");
            return false;
        };
        *owner = Owner::Free;
        self.free.push(frame as u32);
        true
    }

    /// True if every frame is in one hand: free + filling + sending = total.
    pub fn closes(&self) -> bool {
        self.free.len() + self.filling as usize + self.sending as usize == self.owner.len()
    }

    /// As [`Self::closes`], frame by frame.
    #[cfg(test)]
    pub fn closes_frame_by_frame(&self) -> bool {
        let count = |wanted| self.owner.iter().filter(|o| **o == wanted).count();
        let free: std::collections::HashSet<u32> = self.free.iter().copied().collect();
        self.closes()
            && free.len() == self.free.len()
            && free.iter().all(|f| self.owner[*f as usize] == Owner::Free)
            && count(Owner::Free) == free.len()
            && count(Owner::Filling) == self.filling as usize
            && count(Owner::Sending) == self.sending as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_in_one_hand() {
        let mut ledger = Ledger::new(4);
        let filled: Vec<u32> = (0..3).filter_map(|_| ledger.fill()).collect();
        let sent = ledger.send().unwrap();
        assert!(ledger.closes_frame_by_frame() && ledger.send().is_none() && ledger.fill().is_none());
        assert_eq!((ledger.filling(), ledger.sending()), (3, 1));
        assert!(ledger.sent(u64::from(sent)) && ledger.received(u64::from(filled[1])));
        assert!(ledger.closes_frame_by_frame());
        assert_eq!((ledger.filling(), ledger.sending()), (2, 0));
        assert_eq!(ledger.send(), Some(filled[1]));
    }
}
