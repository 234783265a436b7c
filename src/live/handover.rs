//! Frames of other workers' flows: copied, and handed over by bounded queues.
//!
//! At most 8,192 frames wait for a worker, and each of the others keeps some 2,048 for when there is room; what finds no
//! room there is dropped, and counted. The order of frames from one port to one worker stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, never};

use super::count::Counts;
use crate::dataplane::Input;
use crate::sys::Wake;

/// Batches that may wait for a worker.
const QUEUE: usize = 64;
/// Frames that may wait for a worker.
const WAITING: usize = 8192;
/// Bytes that an emptied list keeps for the next frames.
const ROOM: usize = 1 << 20;
/// Frames for another worker that are kept for when it has room for a batch. Where few frames come at a time a batch holds
/// few, and a worker that was away for a moment finds its room full.
const KEPT: usize = 2048;

/// Frames for another worker, copied: they lie in its bytes. The port of an input is the port's number, because the
/// program of who receives it may be another one.
#[derive(Default)]
pub(super) struct Handed {
    pub bytes: Vec<u8>,
    pub inputs: Vec<Input>,
    from: usize,
}

/// How a worker is reached.
#[derive(Clone)]
struct Peer {
    frames: Sender<Handed>,
    /// Emptied lists come back to who made them.
    back: Sender<Handed>,
    /// Frames that wait for it.
    waiting: Arc<AtomicUsize>,
    wake: Wake,
}

/// One worker's ends of the queues between all of them.
pub(super) struct HandOver {
    number: usize,
    peers: Vec<Peer>,
    incoming: Receiver<Handed>,
    emptied: Receiver<Handed>,
    /// By worker: frames for it that it had no room for.
    kept: Vec<Option<Handed>>,
}

/// The queues between workers, which are woken by these: for each worker its ends.
pub(super) fn connect(wakes: &[Wake]) -> Vec<HandOver> {
    let queues = || wakes.iter().map(|_| bounded::<Handed>(QUEUE)).unzip::<_, _, Vec<_>, Vec<_>>();
    let ((frames, incoming), (back, emptied)) = (queues(), queues());
    let ends = frames.into_iter().zip(back).zip(wakes);
    let peers: Vec<Peer> = ends
        .map(|((frames, back), wake)| Peer { frames, back, waiting: Arc::default(), wake: wake.clone() })
        .collect();
    let own = incoming.into_iter().zip(emptied).enumerate();
    own.map(|(number, (incoming, emptied))| HandOver {
        number,
        peers: peers.clone(),
        incoming,
        emptied,
        kept: peers.iter().map(|_| None).collect(),
    })
    .collect()
}

impl HandOver {
    /// The number of the worker.
    pub fn number(&self) -> usize {
        self.number
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.peers.len()
    }

    /// Gives frames to a worker; `from_program` says the number of each port by its index in the program.
    pub fn give(
        &mut self,
        whose: usize,
        bytes: &[u8],
        inputs: &[Input],
        from_program: &[u16],
        counts: &mut Counts,
    ) {
        let Some(kept) = self.kept.get_mut(whose) else { return };
        if kept.as_ref().is_some_and(|kept| kept.inputs.len() + inputs.len() > KEPT) {
            counts.queue_full += inputs.len() as u64;
            return;
        }
        // Behind what is kept, so that the order stays.
        let mut handed = kept.take().unwrap_or_else(|| self.emptied.try_recv().unwrap_or_default());
        handed.from = self.number;
        for input in inputs {
            let frame = bytes.get(input.start as usize..input.end as usize).unwrap_or_default();
            // The inner packet begins a cache line if the bytes do.
            let start = handed.bytes.len().next_multiple_of(64) + 64 - 42;
            handed.bytes.resize(start, 0);
            handed.bytes.extend_from_slice(frame);
            let end = (start + frame.len()) as u32;
            let port = from_program.get(usize::from(input.port)).copied().unwrap_or(u16::MAX);
            handed.inputs.push(Input { start: start as u32, end, port, ..*input });
        }
        let slack = handed.bytes.len() + 128;
        handed.bytes.resize(slack, 0);
        self.pass_on(whose, handed, counts);
    }

    /// Gives a batch to a worker, or keeps it.
    fn pass_on(&mut self, whose: usize, handed: Handed, counts: &mut Counts) {
        let (Some(peer), Some(kept)) = (self.peers.get(whose), self.kept.get_mut(whose)) else { return };
        let count = handed.inputs.len();
        // Counted before it can be taken.
        let waiting = peer.waiting.fetch_add(count, Ordering::Relaxed) + count;
        let sent = match waiting > WAITING {
            true => Err(TrySendError::Full(handed)),
            false => peer.frames.try_send(handed),
        };
        if let Err(error) = sent {
            peer.waiting.fetch_sub(count, Ordering::Relaxed);
            match error {
                TrySendError::Full(handed) => *kept = Some(handed),
                TrySendError::Disconnected(_) => counts.queue_full += count as u64,
            }
            return;
        }
        counts.handed_over += count as u64;
        peer.wake.wake();
    }

    /// Tries again to give what is kept; true if there was something.
    pub fn give_kept(&mut self, counts: &mut Counts) -> bool {
        let mut some = false;
        for whose in 0..self.kept.len() {
            if let Some(handed) = self.kept.get_mut(whose).and_then(Option::take) {
                some = true;
                self.pass_on(whose, handed, counts);
            }
        }
        some
    }

    /// True if something is kept.
    pub fn keeps(&self) -> bool {
        self.kept.iter().any(Option::is_some)
    }

    /// Drops and counts what is kept, and what others have given since it was last taken; nobody gives any more.
    pub fn give_up(&mut self, counts: &mut Counts) {
        let kept = self.kept.iter_mut().filter_map(Option::take);
        let frames = |handed: Handed| handed.inputs.len() as u64;
        let incoming = std::mem::replace(&mut self.incoming, never());
        counts.queue_full += kept.chain(incoming.try_iter()).map(frames).sum::<u64>();
    }

    /// The next batch that another worker has given.
    pub fn take(&self) -> Option<Handed> {
        let handed = self.incoming.try_recv().ok()?;
        if let Some(own) = self.peers.get(self.number) {
            own.waiting.fetch_sub(handed.inputs.len(), Ordering::Relaxed);
        }
        Some(handed)
    }

    /// Empties a batch and gives it back to who made it.
    pub fn give_back(&self, mut handed: Handed) {
        handed.bytes.clear();
        handed.bytes.shrink_to(ROOM);
        handed.inputs.clear();
        if let Some(peer) = self.peers.get(handed.from) {
            // A list that does not go back is made anew.
            let _ = peer.back.try_send(handed);
        }
    }
}
