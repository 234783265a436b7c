//! What flow logs count: shared by those who write, and read by whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted of both logs.
#[derive(Debug, Default)]
pub struct Counted {
    /// The NSG flow log.
    pub nsg: LogCounts,
    /// The VNet flow log.
    pub vnet: LogCounts,
    /// Events and denied packets that the writer had no room for, and of which no log says anything.
    pub missed: AtomicU64,
}

/// What is counted of one log.
#[derive(Debug, Default)]
pub struct LogCounts {
    /// Records written.
    pub records: AtomicU64,
    /// Flow tuples in them.
    pub tuples: AtomicU64,
    /// Flow tuples that could not be written: the disk was full, the folder gone, or the limit reached within an hour.
    pub unwritten: AtomicU64,
    /// Events and denied packets that belong to nothing in the configuration any more.
    pub unknown: AtomicU64,
    /// Bytes of files that were removed to keep to the limit.
    pub removed_bytes: AtomicU64,
    /// Bytes of the log now, as the limit counts them (this one does not only grow).
    pub bytes: AtomicU64,
}

/// [`Counted`] at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowLogFacts {
    /// The NSG flow log.
    pub nsg: LogFacts,
    /// The VNet flow log.
    pub vnet: LogFacts,
    /// Events and denied packets that the writer had no room for.
    pub missed: u64,
}

/// [`LogCounts`] at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFacts {
    /// Records written.
    pub records: u64,
    /// Flow tuples in them.
    pub tuples: u64,
    /// Flow tuples that could not be written.
    pub unwritten: u64,
    /// Events and denied packets that belong to nothing in the configuration any more.
    pub unknown: u64,
    /// Bytes of files that were removed to keep to the limit.
    pub removed_bytes: u64,
    /// Bytes of the log now.
    pub bytes: u64,
}

impl Counted {
    /// Events and denied packets found no room.
    pub fn miss(&self, events: u64) {
        add(&self.missed, events);
    }

    /// What it says now.
    pub fn facts(&self) -> FlowLogFacts {
        FlowLogFacts { nsg: self.nsg.facts(), vnet: self.vnet.facts(), missed: get(&self.missed) }
    }
}

impl LogCounts {
    fn facts(&self) -> LogFacts {
        LogFacts {
            records: get(&self.records),
            tuples: get(&self.tuples),
            unwritten: get(&self.unwritten),
            unknown: get(&self.unknown),
            removed_bytes: get(&self.removed_bytes),
            bytes: get(&self.bytes),
        }
    }
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// Adds to a count.
pub(super) fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}
