//! What a worker tells of its flows: what their records say, and the packets that rules denied. It never waits for who
//! writes the logs: what finds no room is lost, and counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::{Counted, DeniedPacket, Told};
use crate::compile::Program;
use crate::dataplane::ingress::ingress;
use crate::dataplane::{Input, Results, Shard};
use crate::packet::{Reason, Verdict};
use crate::table::ecmp::{flow_hash, mix};
use crate::table::records::MOST_EVENTS;
use crate::types::{Nanos, SECOND};

/// How often a flow that goes on is told of.
const EVERY: Nanos = 300 * SECOND;
/// Slots that are looked at between two batches for flows that go on.
const PART: u32 = 4096;
/// Events that are told of at once, if there are so many.
const MANY: usize = 4096;
/// Denied packets that are kept between two tellings.
const MOST_DENIED: usize = 1024;
/// Bytes of these at most.
const MOST_BYTES: usize = 2 << 20;
/// How long the last lines may wait for room.
const LAST: Duration = Duration::from_millis(800);
/// Denied packets that are remembered, so that the next ones of the same flow are not told of within a minute.
const REMEMBERED: usize = 1 << 14;

/// Where workers tell of flows, and what was lost on the way.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Who writes.
    pub queue: Sender<Told>,
    /// What is counted, also of what found no room.
    pub counted: Arc<Counted>,
}

/// One worker's part.
pub(in crate::live) struct Teller {
    to: Listener,
    denied: Vec<DeniedPacket>,
    denied_bytes: usize,
    /// By the hash of the flow: that hash and the minute.
    remembered: Vec<(u32, u32)>,
    next: u32,
    lost: u64,
}

impl Teller {
    pub fn new(to: Listener) -> Teller {
        Teller {
            to,
            denied: Vec::new(),
            denied_bytes: 0,
            remembered: vec![(0, 0); REMEMBERED],
            next: 1,
            lost: 0,
        }
    }

    /// Looks at what became of a batch.
    pub fn look(&mut self, program: &Program, bytes: &[u8], inputs: &[Input], results: &Results) {
        for (brief, input) in results.done.iter().zip(inputs) {
            if brief.verdict == Verdict::Drop(Reason::NsgDeny) {
                let frame = bytes.get(input.start as usize..input.end as usize).unwrap_or_default();
                self.note_denied(program, frame, input);
            }
        }
    }

    fn note_denied(&mut self, program: &Program, frame: &[u8], input: &Input) {
        let Ok(arrival) = ingress(program, None, input.port, frame, input.original) else { return };
        let inner = &arrival.inner;
        let flow = flow_hash(inner.source, inner.destination, inner.protocol, inner.ports_as_number());
        let hash = mix(flow ^ u64::from(arrival.vnet.unwrap_or(0))) as u32;
        let minute = (input.now / (60 * SECOND)) as u32;
        let Some(place) = self.remembered.get_mut(hash as usize % REMEMBERED) else { return };
        if *place == (hash, minute) {
            return;
        }
        if self.denied.len() >= MOST_DENIED || self.denied_bytes >= MOST_BYTES {
            self.lost += 1;
            return;
        }
        *place = (hash, minute);
        let Input { original, port, now, .. } = *input;
        self.denied_bytes += frame.len();
        self.denied.push(DeniedPacket { frame: frame.to_vec(), original, port, at: now });
    }

    /// True if so much has come up that it should be told of now. Denied packets wait: a flood of them must not take the room
    /// of what becomes of flows.
    pub fn has_much(&self, shard: &Shard) -> bool {
        shard.flows.events() >= MANY && !self.to.queue.is_full()
    }

    /// Tells what has come up; what finds no room waits for the next time.
    pub fn tell(&mut self, shard: &mut Shard, program: &Arc<Program>, now: Nanos, wall_clock: Nanos) {
        self.next = shard.flows.tell_going_on(self.next, PART, now, EVERY);
        self.give(shard, program, now, wall_clock, None);
    }

    /// Tells what has come up until now, before another program is in force.
    pub fn tell_before_change(
        &mut self,
        shard: &mut Shard,
        program: &Arc<Program>,
        now: Nanos,
        wall_clock: Nanos,
    ) {
        self.give(shard, program, now, wall_clock, Some(Instant::now()));
    }

    /// Tells all there is of all flows: nothing comes after it, and no packet waits, so this may.
    pub fn tell_all(&mut self, shard: &mut Shard, program: &Arc<Program>, now: Nanos, wall_clock: Nanos) {
        let (mut next, until) = (1, Instant::now() + LAST);
        loop {
            let end = shard.flows.tell_going_on(next, MOST_EVENTS as u32 / 2, now, 0);
            self.give(shard, program, now, wall_clock, Some(until));
            if end <= next {
                break;
            }
            next = end;
        }
    }

    fn give(
        &mut self,
        shard: &mut Shard,
        program: &Arc<Program>,
        now: Nanos,
        wall_clock: Nanos,
        until: Option<Instant>,
    ) {
        if until.is_none() && self.to.queue.is_full() {
            return;
        }
        let (events, lost) = shard.flows.take_events();
        self.lost += lost;
        let denied = std::mem::take(&mut self.denied);
        self.denied_bytes = 0;
        if !events.is_empty() || !denied.is_empty() {
            let wall_clock = wall_clock.saturating_sub(now);
            let told = Told { program: program.clone(), wall_clock, events, denied };
            let lines = (told.events.len() + told.denied.len()) as u64;
            let taken = match until {
                None => self.to.queue.try_send(told).is_ok(),
                Some(until) => self.to.queue.send_deadline(told, until).is_ok(),
            };
            self.lost += if taken { 0 } else { lines };
        }
        if self.lost > 0 {
            self.to.counted.miss(std::mem::take(&mut self.lost));
        }
    }
}
