//! Which MAC address is a packet for that destination sent to: what was asked for, what is known, what to do next.
//!
//! A destination that is wanted goes over a next hop, by the kernel's routes; several may go over the same one. What the
//! kernel knows of a next hop is read once and then followed by its messages. This file has no clock and no socket: it is
//! told the time and asks through [`Ask`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::messages::{Entry, Prefix};
use crate::live::neighbours::{Neighbour, Table};

/// Destinations that are wanted at most; the one that was asked for least recently goes.
const MOST: usize = 1 << 16;
/// One that nobody has asked for in so long goes.
const FORGOTTEN: Duration = Duration::from_mins(10);
/// An answer of the kernel should take no longer than its three questions, a second apart.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who did not answer is asked again after this time, and after the longer one once it has been [`SHY`] times.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
const SHY: u32 = 10;
/// Who has not been heard of is asked so often whether it is still there.
const STILL_THERE: Duration = Duration::from_secs(10);
/// Destinations looked up in one turn, and timers that are run.
const TURN: usize = 128;
/// Destinations that may wait to be looked up for the first time.
const WAITING: usize = 1024;
/// Prefixes that changed; if there are more, any destination may have another way.
const PREFIXES: usize = 4096;

/// A device by its index, and an address.
pub type Key = (u32, IpAddr);

/// What the kernel is asked.
pub trait Ask {
    /// The next hop to this destination out of this device.
    fn route(&mut self, device: u32, destination: IpAddr) -> Option<IpAddr>;
    /// What is known of this next hop.
    fn entry(&mut self, device: u32, hop: IpAddr) -> Entry;
    /// This next hop is to be asked for its MAC address, or whether it still has it.
    fn solicit(&mut self, device: u32, hop: IpAddr) -> io::Result<()>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Unknown,
    None,
    By(IpAddr),
}

struct Want {
    /// Its place in the order in which they were last asked for, and when that was.
    order: u64,
    asked: Instant,
    way: Way,
    /// It waits to be looked up.
    queued: bool,
}

struct Hop {
    /// Destinations that go over it.
    users: u32,
    answer: Neighbour,
    /// It has an answer that nobody has confirmed lately.
    stale: bool,
    /// When the newest of them was asked for, in the order of wants.
    order: u64,
    /// Its place among the calls, until it has been asked; and that it has one among the recalls.
    place: Option<u64>,
    queued: bool,
    /// So often in a row it did not answer.
    failures: u32,
    /// When the kernel last was told to ask it.
    asked: Option<Instant>,
    /// When to look at it again.
    due: Option<Instant>,
    /// What was read of it in an earlier epoch may be out of date.
    epoch: u64,
}

/// How many questions may go out on the wire: the kernel's table of neighbours is small, and what we ask for fills it
/// until it fails.
struct Tokens {
    rate: f64,
    have: f64,
    at: Option<Instant>,
}

impl Tokens {
    fn take(&mut self, now: Instant) -> bool {
        let passed = self.at.map_or(1.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.have = (self.have + passed * self.rate).min(self.rate);
        self.at = Some(now);
        let any = self.have >= 1.0;
        self.have -= if any { 1.0 } else { 0.0 };
        any
    }

    fn next(&self, now: Instant) -> Instant {
        now + Duration::from_secs_f64(((1.0 - self.have) / self.rate).max(0.0))
    }
}

/// What waits, taken from the newest end and from the oldest in turn: whoever floods us with destinations makes neither
/// who came before wait, nor who comes after. Who is wanted again comes to the newest end, and packets that go somewhere
/// want it again until it has been asked.
#[derive(Default)]
struct Queue {
    keys: VecDeque<Key>,
}

impl Queue {
    /// Drops the places of those that no longer wait, if there are many.
    fn tidy(&mut self, waits: impl Fn(&Key) -> bool) {
        if self.keys.len() > 2 * MOST {
            let mut seen = BTreeSet::new();
            self.keys.retain(|key| waits(key) && seen.insert(*key));
        }
    }

    fn take(&mut self, newest: bool) -> Option<Key> {
        if newest { self.keys.pop_back() } else { self.keys.pop_front() }
    }
}

/// All that is wanted.
pub struct Resolver {
    wants: BTreeMap<Key, Want>,
    /// Wants by the order in which they were last asked for.
    order: BTreeMap<u64, Key>,
    orders: u64,
    hops: BTreeMap<Key, Hop>,
    /// Devices on which nobody is asked, with their own MAC addresses.
    silent: BTreeMap<u32, [u8; 6]>,
    /// Destinations to look up: for the first time, and again.
    fresh: Queue,
    again: Queue,
    /// Next hops to ask: for the first time, and again.
    calls: BTreeSet<(u64, Key)>,
    recalls: Queue,
    timers: BTreeSet<(Instant, Key)>,
    /// Prefixes whose routes changed, and when to see what that means: not too often.
    prefixes: BTreeSet<Prefix>,
    prefixes_due: Option<Instant>,
    tokens: Tokens,
    turn: u64,
    epoch: u64,
    changed: bool,
}

impl Resolver {
    /// Nothing is wanted; `rate`: next hops that may be asked in a second.
    pub fn new(rate: u32) -> Resolver {
        let rate = f64::from(rate.max(1));
        Resolver {
            wants: BTreeMap::new(),
            order: BTreeMap::new(),
            orders: 0,
            hops: BTreeMap::new(),
            silent: BTreeMap::new(),
            fresh: Queue::default(),
            again: Queue::default(),
            calls: BTreeSet::new(),
            recalls: Queue::default(),
            timers: BTreeSet::new(),
            prefixes: BTreeSet::new(),
            prefixes_due: None,
            tokens: Tokens { rate, have: rate, at: None },
            turn: 0,
            epoch: 0,
            changed: false,
        }
    }

    /// True if nothing is wanted.
    pub fn is_idle(&self) -> bool {
        self.wants.is_empty()
    }

    /// True if answers have changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// All answers.
    pub fn table(&self) -> Table {
        let mut table = Table::with_capacity_and_hasher(self.wants.len(), Default::default());
        table.extend(self.wants.iter().filter_map(|(key, want)| {
            let answer = match want.way {
                Way::Unknown => return None,
                Way::None => Neighbour::Unreachable,
                Way::By(hop) => {
                    let hop = self.hops.get(&(key.0, hop))?;
                    if hop.answer == Neighbour::Pending && hop.place.is_some() {
                        return None;
                    }
                    hop.answer
                }
            };
            Some((*key, answer))
        }));
        table
    }

    /// So many new destinations can be taken now without falling behind.
    pub fn room(&self) -> usize {
        WAITING.saturating_sub(self.fresh.keys.len())
    }

    /// A worker wants this destination.
    pub fn want(&mut self, now: Instant, key: Key) {
        self.orders += 1;
        if let Some(want) = self.wants.get_mut(&key) {
            self.order.remove(&want.order);
            (want.order, want.asked) = (self.orders, now);
            self.order.insert(self.orders, key);
            if let Way::By(address) = want.way
                && let Some(hop) = self.hops.get_mut(&(key.0, address))
            {
                hop.order = self.orders;
                if let Some(place) = &mut hop.place {
                    self.calls.remove(&(*place, (key.0, address)));
                    *place = self.orders;
                    self.calls.insert((*place, (key.0, address)));
                }
            }
            return;
        }
        if self.wants.len() >= MOST
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.forget(oldest);
        }
        let hopeless = has_no_neighbour(key.1);
        let way = if hopeless { Way::None } else { Way::Unknown };
        self.wants.insert(key, Want { order: self.orders, asked: now, way, queued: !hopeless });
        self.order.insert(self.orders, key);
        if hopeless {
            self.changed = true;
        } else {
            self.fresh.keys.push_back(key);
        }
    }

    fn forget(&mut self, key: Key) {
        if let Some(want) = self.wants.remove(&key) {
            self.order.remove(&want.order);
            if let Way::By(hop) = want.way {
                self.leave((key.0, hop));
            }
            self.changed = true;
        }
    }

    /// One destination less goes over this next hop.
    fn leave(&mut self, key: Key) {
        if let Some(hop) = self.hops.get_mut(&key) {
            hop.users = hop.users.saturating_sub(1);
            if hop.users == 0 {
                if let Some(due) = hop.due {
                    self.timers.remove(&(due, key));
                }
                if let Some(place) = hop.place {
                    self.calls.remove(&(place, key));
                }
                self.hops.remove(&key);
            }
        }
    }

    /// Where nobody is asked, frames go to the device's own address, as the kernel does it.
    pub fn set_silent(&mut self, device: u32, mac: Option<[u8; 6]>) {
        match mac {
            Some(mac) => self.silent.insert(device, mac),
            None => self.silent.remove(&device),
        };
    }

    /// All destinations of a device may have another way now.
    pub fn device_changed(&mut self, device: u32) {
        let first = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let after = device.checked_add(1).map(|next| (next, first));
        for (key, want) in self.wants.range_mut((device, first)..) {
            if after.is_some_and(|after| *key >= after) {
                break;
            }
            queue_again(&mut self.again, *key, want);
        }
        let hops = self.hops.range_mut((device, first)..).take_while(|(key, _)| key.0 == device);
        hops.for_each(|(_, hop)| {
            hop.epoch = u64::MAX;
            // Who could not be asked while it was down is asked now.
            if hop.answer == Neighbour::Unreachable {
                (hop.answer, hop.asked, self.changed) = (Neighbour::Pending, None, true);
            }
        });
    }

    /// Destinations with this prefix may have another way now.
    pub fn route_changed(&mut self, now: Instant, prefix: Prefix) {
        if self.wants.is_empty() {
            return;
        }
        if self.prefixes.len() < PREFIXES {
            self.prefixes.insert(prefix);
            self.prefixes_due.get_or_insert(now);
        } else {
            self.any_route_changed(now);
        }
    }

    /// All destinations may have another way now.
    pub fn any_route_changed(&mut self, now: Instant) {
        self.prefixes.clear();
        self.prefixes.insert(Prefix::of(IpAddr::from([0; 4]), 0));
        self.prefixes.insert(Prefix::of(IpAddr::from([0; 16]), 0));
        self.prefixes_due.get_or_insert(now);
    }

    /// Nothing that the kernel has said is certain any more.
    pub fn doubt_everything(&mut self, now: Instant) {
        self.epoch += 1;
        self.any_route_changed(now);
    }

    /// The kernel says something about a neighbour.
    pub fn neighbour(&mut self, now: Instant, key: Key, entry: Entry) {
        if self.hops.contains_key(&key) {
            self.learn(now, key, entry);
        }
    }

    /// Does some of what there is to do; true if more can be done right away.
    pub fn work(&mut self, now: Instant, ask: &mut impl Ask) -> bool {
        while let Some(entry) = self.order.first_entry() {
            let key = *entry.get();
            if self.wants.get(&key).is_some_and(|w| now.saturating_duration_since(w.asked) < FORGOTTEN) {
                break;
            }
            entry.remove();
            self.forget(key);
        }
        if self.prefixes_due.is_some_and(|due| due <= now) {
            self.see_prefixes(now);
        }
        for _ in 0..TURN {
            let Some(key) = self.next_lookup() else { break };
            self.look_up(now, key, ask);
        }
        for _ in 0..TURN {
            let Some((_, key)) = self.timers.first().copied().filter(|(due, _)| *due <= now) else { break };
            self.ring(now, key, ask);
        }
        while self.has_calls() && self.tokens.take(now) {
            match self.next_call() {
                Some(key) => self.call(now, key, ask),
                // A place in the queue without a hop costs nothing.
                None => self.tokens.have += 1.0,
            }
        }
        self.again.tidy(|key| self.wants.get(key).is_some_and(|want| want.queued));
        self.recalls.tidy(|key| self.hops.get(key).is_some_and(|hop| hop.queued));
        let timer = self.timers.first().is_some_and(|(due, _)| *due <= now);
        timer || !self.fresh.keys.is_empty() || !self.again.keys.is_empty()
    }

    /// When there will be something to do without anybody asking for it.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let call = self.has_calls().then(|| self.tokens.next(now));
        let oldest = self.order.first_key_value().and_then(|(_, key)| self.wants.get(key));
        let forget = oldest.map(|want| want.asked + FORGOTTEN);
        let timer = self.timers.first().map(|(due, _)| *due);
        [call, forget, timer, self.prefixes_due].into_iter().flatten().min()
    }

    /// Marks the destinations whose routes changed.
    fn see_prefixes(&mut self, now: Instant) {
        let prefixes = std::mem::take(&mut self.prefixes);
        let lengths: BTreeSet<u8> = prefixes.iter().map(Prefix::length).collect();
        for (key, want) in &mut self.wants {
            if lengths.iter().any(|length| prefixes.contains(&Prefix::of(key.1, *length))) {
                queue_again(&mut self.again, *key, want);
            }
        }
        // Where there is much to compare, the next pass is later: for a tenth of the time at most we do this.
        let compared = self.wants.len() * lengths.len();
        let pause = Duration::from_micros(u64::try_from(compared).unwrap_or(u64::MAX));
        self.prefixes_due = (compared > 1000).then(|| now + pause);
    }

    fn next_lookup(&mut self) -> Option<Key> {
        loop {
            self.turn += 1;
            let first = match self.turn % 3 {
                0 => self.again.take(false),
                turn => self.fresh.take(turn == 1),
            };
            let key = first.or_else(|| self.fresh.take(true)).or_else(|| self.again.take(false))?;
            if let Some(want) = self.wants.get_mut(&key)
                && std::mem::take(&mut want.queued)
            {
                return Some(key);
            }
        }
    }

    fn look_up(&mut self, now: Instant, key: Key, ask: &mut impl Ask) {
        let way = ask.route(key.0, key.1).map_or(Way::None, Way::By);
        let Some(want) = self.wants.get_mut(&key) else { return };
        let before = std::mem::replace(&mut want.way, way);
        self.changed |= before != way;
        let order = want.order;
        let mut unread = false;
        if let Way::By(hop) = way {
            let epoch = self.epoch;
            let hop = self.hops.entry((key.0, hop)).or_insert_with(|| {
                unread = true;
                Hop {
                    users: 0,
                    answer: Neighbour::Pending,
                    stale: false,
                    order: 0,
                    place: None,
                    queued: false,
                    failures: 0,
                    asked: None,
                    due: None,
                    epoch,
                }
            });
            hop.users += 1;
            hop.order = hop.order.max(order);
            unread |= hop.epoch != epoch;
            hop.epoch = epoch;
        }
        // After the new way was taken, so that a hop that stays is not dropped in between.
        if let Way::By(hop) = before {
            self.leave((key.0, hop));
        }
        if let Way::By(hop) = way
            && unread
        {
            let entry = ask.entry(key.0, hop);
            self.learn(now, (key.0, hop), entry);
        }
    }

    /// The kernel's entry for a next hop that is in use.
    fn learn(&mut self, now: Instant, key: Key, entry: Entry) {
        let silent = self.silent.get(&key.0).copied();
        let Some(hop) = self.hops.get_mut(&key) else { return };
        let before = hop.answer;
        let due = match (entry, silent) {
            (Entry::Usable { mac, stale }, _) => {
                (hop.answer, hop.failures, hop.stale) = (Neighbour::At(mac), 0, stale);
                stale.then(|| hop.asked.map_or(now, |asked| now.max(asked + STILL_THERE)))
            }
            (_, Some(mac)) => {
                (hop.answer, hop.stale) = (Neighbour::At(mac), false);
                None
            }
            // It failed before we wanted it, perhaps long ago; or it was there, and somebody has taken its entry away.
            (Entry::Failed, None) if hop.asked.is_none() || matches!(before, Neighbour::At(_)) => {
                hop.answer = Neighbour::Pending;
                call(&mut self.calls, key, hop)
            }
            (Entry::Failed, None) => {
                hop.answer = Neighbour::Unreachable;
                hop.failures = hop.failures.saturating_add(1);
                Some(now + if hop.failures < SHY { AGAIN.0 } else { AGAIN.1 })
            }
            // The kernel drops those that failed, and asks them again without a word.
            (Entry::Incomplete | Entry::Nothing, None) if hop.answer == Neighbour::Unreachable => {
                hop.due.or(Some(now + AGAIN.0))
            }
            (Entry::Incomplete, None) => {
                hop.answer = Neighbour::Pending;
                hop.asked.get_or_insert(now);
                Some(now + PATIENCE)
            }
            (Entry::Nothing, None) => {
                hop.answer = Neighbour::Pending;
                call(&mut self.calls, key, hop)
            }
        };
        self.changed |= hop.answer != before;
        set_timer(&mut self.timers, key, hop, due);
    }

    fn has_calls(&self) -> bool {
        !self.calls.is_empty() || !self.recalls.keys.is_empty()
    }

    fn next_call(&mut self) -> Option<Key> {
        self.turn += 1;
        let recall = (self.turn.is_multiple_of(3) || self.calls.is_empty())
            .then(|| self.recalls.take(false))
            .flatten();
        let key = match recall {
            Some(key) => {
                self.hops.get_mut(&key)?.queued = false;
                key
            }
            None => {
                let newest = self.turn % 3 == 1;
                let (_, key) = if newest { self.calls.pop_last() } else { self.calls.pop_first() }?;
                self.hops.get_mut(&key)?.place = None;
                key
            }
        };
        // One that has answered in the meantime need not be asked.
        let answered = |hop: &Hop| matches!(hop.answer, Neighbour::At(_));
        (!self.hops.get(&key).is_none_or(answered)).then_some(key)
    }

    fn call(&mut self, now: Instant, key: Key, ask: &mut impl Ask) {
        let asked = ask.solicit(key.0, key.1);
        let Some(hop) = self.hops.get_mut(&key) else { return };
        let first = hop.asked.replace(now).is_none();
        // It is pending from here on, and was not in the table before.
        self.changed |= hop.answer == Neighbour::Pending;
        match asked {
            Ok(()) => set_timer(&mut self.timers, key, hop, Some(now + PATIENCE)),
            Err(error) => {
                if first {
                    tracing::debug!(device = key.0, hop = %key.1, %error, "cannot ask for a neighbour");
                }
                hop.answer = Neighbour::Unreachable;
                set_timer(&mut self.timers, key, hop, Some(now + AGAIN.0));
            }
        }
        // Some need not be asked and are there at once, without a message.
        if let entry @ Entry::Usable { .. } = ask.entry(key.0, key.1) {
            self.learn(now, key, entry);
        }
    }

    /// A timer of a next hop has run out.
    fn ring(&mut self, now: Instant, key: Key, ask: &mut impl Ask) {
        self.timers.pop_first();
        let Some(hop) = self.hops.get_mut(&key) else { return };
        hop.due = None;
        match hop.answer {
            Neighbour::At(_) if hop.stale => {
                hop.asked = Some(now);
                set_timer(&mut self.timers, key, hop, Some(now + STILL_THERE));
                if let Err(error) = ask.solicit(key.0, key.1) {
                    tracing::debug!(device = key.0, hop = %key.1, %error, "cannot ask whether a neighbour is there");
                }
            }
            Neighbour::At(_) => {}
            Neighbour::Pending => {
                let entry = ask.entry(key.0, key.1);
                self.learn(now, key, entry);
            }
            Neighbour::Unreachable => {
                if !std::mem::replace(&mut hop.queued, true) {
                    self.recalls.keys.push_back(key);
                }
            }
        }
    }
}

/// Queues a next hop to be asked; it needs no timer until it was.
fn call(calls: &mut BTreeSet<(u64, Key)>, key: Key, hop: &mut Hop) -> Option<Instant> {
    let place = *hop.place.get_or_insert(hop.order);
    calls.insert((place, key));
    None
}

fn queue_again(again: &mut Queue, key: Key, want: &mut Want) {
    if !want.queued && !has_no_neighbour(key.1) {
        want.queued = true;
        again.keys.push_back(key);
    }
}

fn set_timer(timers: &mut BTreeSet<(Instant, Key)>, key: Key, hop: &mut Hop, due: Option<Instant>) {
    if let Some(before) = hop.due {
        timers.remove(&(before, key));
    }
    if let Some(due) = due {
        timers.insert((due, key));
    }
    hop.due = due;
}

/// Addresses that no single neighbour has, whatever the routes say.
fn has_no_neighbour(address: IpAddr) -> bool {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    broadcast || address.is_multicast() || address.is_unspecified() || address.is_loopback()
}

#[cfg(test)]
mod tests;
