//! From the hash of a key to the slots of records: extendible hashing.
//!
//! ```text
//!  hash  31 .............. 16 | 15 ........ 8 | 7 ......... 0
//!        segment, by the first  with the bucket  first bucket
//!        bits of the directory  the second one
//!
//!  directory ─► segment: 256 buckets ─► bucket: 8 hashes, 8 slots, one cache line
//! ```
//!
//! An entry stands in its first bucket if that has room, else in its second. A segment that is too full is split in two
//! by the next bit of the hashes, in place and without a look at the records, so growing never takes longer than that.
//! The highest bits of a bucket's slots count the entries that went to their second bucket from here: while there are
//! none, a miss costs one cache line.

use std::hash::Hash;

use ahash::RandomState;

use crate::sys::{Arena, Base, Wide};

/// No record. As a slot it is that of a record that matches nothing.
pub const NONE: u32 = u32::MAX;

/// Slots are below this number: two bits of an entry's slot are taken.
pub const SLOTS: u32 = 1 << 30;

/// The entry is a second one of its record, found by other hashes.
pub const REVERSED: u32 = 1 << 30;

/// One entry went from this bucket to its second one.
const AWAY: u32 = 1 << 31;

const BUCKETS: usize = 256;

/// Entries a segment may have before it is split: seven eighths.
const FULL: u16 = (BUCKETS * 8 / 8 * 7) as u16;

/// Entries a segment must have to be split because one more found no room. With fewer, hashes do not fall like dice:
/// someone knows the seed, and memory for splits would be wasted on them.
const HALF: u16 = (BUCKETS * 8 / 2) as u16;

/// The directory's highest depth: the bits of a hash above those that choose buckets.
const DEEPEST: u8 = 16;

/// That of a small index: at most 32 MB, for some three million entries.
const DEEPEST_OF_SMALL: u8 = 11;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    /// Hashes; 0: no entry.
    tags: [u32; 8],
    slots: [u32; 8],
}

const EMPTY: Bucket = Bucket { tags: [0; 8], slots: [0; 8] };

/// The buckets of a segment.
struct Segment<'a> {
    buckets: &'a mut [Bucket; BUCKETS],
}

/// What is known of a segment besides its entries.
#[derive(Clone, Copy)]
struct About {
    entries: u16,
    /// How many bits of a hash lead here.
    depth: u8,
}

/// The index. Hashes are never 0.
pub struct Index {
    /// The first buckets of segments by the first bits of a hash; as many entries as those bits can say.
    directory: Vec<u32>,
    /// What a hash is shifted by for its place in the directory.
    shift: u32,
    buckets: Arena<Bucket>,
    about: Vec<About>,
    /// How deep the directory may become.
    deepest: u8,
}

/// The hash of a key as the index takes it, never 0. Keys come from strangers, so the hasher must be random.
#[inline]
pub fn hash_of(hasher: &RandomState, key: &impl Hash) -> u32 {
    finish(hasher.hash_one(key))
}

/// The 32 bits that the index takes, never 0.
#[inline(always)]
pub(super) fn finish(hash: u64) -> u32 {
    let hash = (hash >> 32) as u32 ^ hash as u32;
    hash + u32::from(hash == 0)
}

#[inline(always)]
fn first(hash: u32) -> usize {
    (hash & 0xff) as usize
}

/// The other bucket of a hash that may stand in `bucket`.
#[inline(always)]
fn other(hash: u32, bucket: usize) -> usize {
    (bucket ^ (hash >> 8 | 1) as usize) & 0xff
}

impl Bucket {
    /// The slot of the first entry of this hash, reversed or not, for which `is_it` holds.
    #[inline(always)]
    fn find<W: Wide>(&self, wide: W, hash: u32, reversed: bool, is_it: &mut impl FnMut(u32) -> bool) -> u32 {
        let mut mask = wide.equal8(&self.tags, hash);
        while mask != 0 {
            let value = self.slots[(mask.trailing_zeros() & 7) as usize];
            let slot = value & (SLOTS - 1);
            if (value & REVERSED != 0) == reversed && is_it(slot) {
                return slot;
            }
            mask &= mask - 1;
        }
        NONE
    }

    /// One bit for each entry that went away from here; at eight they are no longer counted.
    #[inline(always)]
    fn away<W: Wide>(&self, wide: W) -> u32 {
        wide.high8(&self.slots)
    }

    fn note_away(&mut self) {
        let free = (!self.away(Base)).trailing_zeros() as usize;
        if let Some(slot) = self.slots.get_mut(free) {
            *slot |= AWAY;
        }
    }

    fn note_return(&mut self) {
        let away = self.away(Base);
        if away != 0xff
            && let Some(slot) = self.slots.get_mut(away.trailing_zeros() as usize)
        {
            *slot &= !AWAY;
        }
    }

    /// One bit for each entry whose first bucket is not this one, the `b`th.
    fn strays(&self, b: usize) -> u32 {
        let stray = |tag: u32| u32::from(tag != 0) & u32::from(first(tag) != b);
        (0..8).fold(0, |mask, n| mask | stray(self.tags[n]) << n)
    }

    #[inline(always)]
    fn put(&mut self, n: usize, tag: u32, value: u32) {
        let n = n & 7;
        self.tags[n] = tag;
        self.slots[n] = self.slots[n] & AWAY | value;
    }

    /// Where there is room.
    #[inline(always)]
    fn free<W: Wide>(&self, wide: W) -> Option<usize> {
        let mask = wide.equal8(&self.tags, 0);
        (mask != 0).then_some(mask.trailing_zeros() as usize)
    }

    /// Takes this very entry away; false if it is not here. What is left of its slot means nothing without a tag.
    #[inline(always)]
    fn take<W: Wide>(&mut self, wide: W, tag: u32, value: u32) -> bool {
        let mut mask = wide.equal8(&self.tags, tag);
        while mask != 0 {
            let n = mask.trailing_zeros() as usize & 7;
            if self.slots[n] & !AWAY == value {
                self.tags[n] = 0;
                return true;
            }
            mask &= mask - 1;
        }
        false
    }
}

impl Segment<'_> {
    /// Puts an entry into one of its buckets, moving at most one other.
    fn insert(&mut self, tag: u32, value: u32) -> bool {
        let home = first(tag);
        if let Some(n) = self.buckets[home].free(Base) {
            self.buckets[home].put(n, tag, value);
            return true;
        }
        let second = other(tag, home);
        let free = match self.buckets[second].free(Base) {
            Some(n) => Some((second, n)),
            None => self.make_room(home).or_else(|| self.make_room(second)),
        };
        let Some((bucket, n)) = free else { return false };
        self.buckets[bucket].put(n, tag, value);
        if bucket == second {
            self.buckets[home].note_away();
        }
        true
    }

    /// Moves one entry of a full bucket to the other bucket it may stand in.
    fn make_room(&mut self, bucket: usize) -> Option<(usize, usize)> {
        for n in 0..8 {
            let (tag, value) = self.entry(bucket, n);
            let to = other(tag, bucket);
            if let Some(free) = self.buckets[to & 0xff].free(Base) {
                self.buckets[to & 0xff].put(free, tag, value);
                self.moved(tag, to);
                return Some((bucket, n));
            }
        }
        None
    }

    fn entry(&self, bucket: usize, n: usize) -> (u32, u32) {
        let bucket = &self.buckets[bucket & 0xff];
        (bucket.tags[n & 7], bucket.slots[n & 7] & !AWAY)
    }

    /// Tells an entry's first bucket that it has moved to `to`.
    fn moved(&mut self, tag: u32, to: usize) {
        let home = &mut self.buckets[first(tag)];
        if to == first(tag) {
            home.note_return();
        } else {
            home.note_away();
        }
    }

    /// Removes an entry that is not in its first bucket; false if it is not in its second one either.
    fn remove_away(&mut self, tag: u32, value: u32) -> bool {
        let home = first(tag);
        let taken = self.buckets[other(tag, home)].take(Base, tag, value);
        if taken {
            self.buckets[home].note_return();
        }
        taken
    }

    /// Keeps the entries whose hash has `bit` or lacks it; how many those are.
    fn keep(&mut self, bit: u32, set: bool) -> u16 {
        let mut entries = 0;
        for bucket in self.buckets.iter_mut() {
            for n in 0..8 {
                // Half of them stay, as dice fall: a branch would be guessed wrong as often.
                let tag = bucket.tags[n];
                let stays = u32::from(tag != 0) & u32::from((tag & bit != 0) == set);
                let mask = stays.wrapping_neg();
                bucket.tags[n] &= mask;
                bucket.slots[n] &= mask & !AWAY;
                entries += stays as u16;
            }
        }
        self.go_home();
        entries
    }

    /// Moves entries into their first buckets where there is room, and counts those that stay away.
    fn go_home(&mut self) {
        for b in 0..BUCKETS {
            let mut strays = self.buckets[b].strays(b);
            while strays != 0 {
                let n = strays.trailing_zeros() as usize & 7;
                strays &= strays - 1;
                let (tag, value) = self.entry(b, n);
                let home = &mut self.buckets[first(tag)];
                match home.free(Base) {
                    Some(free) => {
                        home.put(free, tag, value);
                        self.buckets[b].put(n, 0, 0);
                    }
                    None => home.note_away(),
                }
            }
        }
    }
}

impl Index {
    /// An empty index.
    pub fn new() -> Index {
        Index::with(Arena::new(EMPTY, BUCKETS << DEEPEST), DEEPEST)
    }

    /// An empty index for less than a million entries, on small pages: a split, at most 35 us, is the longest step.
    pub fn small() -> Index {
        Index::with(Arena::on_small_pages(EMPTY, BUCKETS << DEEPEST_OF_SMALL), DEEPEST_OF_SMALL)
    }

    fn with(mut buckets: Arena<Bucket>, deepest: u8) -> Index {
        (1..BUCKETS).for_each(|_| _ = buckets.push(EMPTY));
        Index { directory: vec![0], shift: 32, buckets, about: vec![About { entries: 0, depth: 0 }], deepest }
    }

    /// Where the first bucket of a hash is, until the next entry is added.
    #[inline(always)]
    pub fn place(&self, hash: u32) -> u32 {
        let entry = u64::from(hash) >> (self.shift & 63);
        self.directory.get(entry as usize).copied().unwrap_or(0) + first(hash) as u32
    }

    /// The number of the segment that a place is in.
    #[inline(always)]
    fn number(place: u32) -> usize {
        place as usize / BUCKETS
    }

    /// Asks for the bucket at a place.
    #[inline(always)]
    pub fn prefetch(&self, place: u32) {
        self.buckets.prefetch(place as usize);
    }

    /// The slot of the first entry of this hash, reversed or not, for which `is_it` holds; [`NONE`] if there is none.
    #[inline(always)]
    pub fn find<W: Wide>(
        &self,
        wide: W,
        hash: u32,
        reversed: bool,
        mut is_it: impl FnMut(u32) -> bool,
    ) -> u32 {
        let place = self.place(hash) as usize;
        let home = self.buckets.get(place);
        let slot = home.find(wide, hash, reversed, &mut is_it);
        if slot != NONE || home.away(wide) == 0 {
            return slot;
        }
        let second = place / BUCKETS * BUCKETS + other(hash, first(hash));
        self.buckets.get(second).find(wide, hash, reversed, &mut is_it)
    }

    /// The slot of an entry of this hash in its first bucket, at its place; [`NONE`] if it is not the first of that hash
    /// there: then [`Index::find`] knows. `reversed` is 0 or [`REVERSED`].
    #[inline(always)]
    pub fn probe<W: Wide>(&self, wide: W, place: u32, hash: u32, reversed: u32) -> u32 {
        let home = self.buckets.get(place as usize);
        let mask = wide.equal8(&home.tags, hash);
        let slot = (home.slots[(mask.trailing_zeros() & 7) as usize] ^ reversed) & !AWAY;
        if mask != 0 && slot < SLOTS { slot } else { NONE }
    }

    /// Asks for the second bucket of a hash that has its place there.
    #[inline(always)]
    pub fn prefetch_second(&self, place: u32, hash: u32) {
        self.prefetch(place / BUCKETS as u32 * BUCKETS as u32 + other(hash, first(hash)) as u32);
    }

    /// Adds an entry; `value` is a slot, perhaps [`REVERSED`]. False: there is no room for it within bounded work.
    #[inline(always)]
    pub fn insert<W: Wide>(&mut self, wide: W, hash: u32, value: u32) -> bool {
        let place = self.place(hash);
        let home = self.buckets.get_mut(place as usize);
        if let Some(n) = home.free(wide)
            && let Some(about) = self.about.get_mut(Index::number(place))
        {
            home.put(n, hash, value);
            about.entries += 1;
            return true;
        }
        self.insert_slowly(hash, value)
    }

    /// Adds an entry whose first bucket is full.
    #[inline(never)]
    fn insert_slowly(&mut self, hash: u32, value: u32) -> bool {
        for last in [false, false, true] {
            let number = Index::number(self.place(hash));
            let Some(about) = self.about.get_mut(number) else { return false };
            let Some(buckets) = self.buckets.run_mut(number) else { return false };
            // What could not be split is filled to its last place.
            if (last || about.entries < FULL) && (Segment { buckets }).insert(hash, value) {
                about.entries += 1;
                return true;
            }
            if !last && about.entries >= HALF {
                self.split(number, hash);
            }
        }
        false
    }

    /// Removes an entry.
    #[inline(always)]
    pub fn remove<W: Wide>(&mut self, wide: W, hash: u32, value: u32) {
        self.remove_at(wide, self.place(hash), hash, value);
    }

    /// As [`Index::remove`], for who knows the place of its hash.
    #[inline(always)]
    pub fn remove_at<W: Wide>(&mut self, wide: W, place: u32, hash: u32, value: u32) {
        let number = Index::number(place);
        if (self.buckets.get_mut(place as usize).take(wide, hash, value)
            || self.remove_away(number, hash, value))
            && let Some(about) = self.about.get_mut(number)
        {
            about.entries -= 1;
        }
    }

    /// Removes an entry that is not in its first bucket; false if it is not in its second one either.
    #[inline(never)]
    fn remove_away(&mut self, number: usize, hash: u32, value: u32) -> bool {
        self.buckets.run_mut(number).is_some_and(|buckets| (Segment { buckets }).remove_away(hash, value))
    }

    /// Splits the segment of a hash in two, unless it is as deep as can be.
    #[cold]
    fn split(&mut self, number: usize, hash: u32) {
        let Some(&About { depth, .. }) = self.about.get(number) else { return };
        if depth >= self.deepest {
            return;
        }
        if 32 - self.shift == u32::from(depth) {
            self.directory = self.directory.iter().flat_map(|&n| [n, n]).collect();
            self.shift -= 1;
        }
        let bit = 1 << (31 - depth);
        let sibling = self.buckets.len();
        for n in number * BUCKETS..(number + 1) * BUCKETS {
            let bucket = *self.buckets.get(n);
            self.buckets.push(bucket);
        }
        let mut keep = |number, set| match self.buckets.run_mut(number) {
            Some(buckets) => Segment { buckets }.keep(bit, set),
            None => 0,
        };
        let (kept, moved) = (keep(number, false), keep(sibling / BUCKETS, true));
        self.about.push(About { entries: moved, depth: depth + 1 });
        if let Some(about) = self.about.get_mut(number) {
            *about = About { entries: kept, depth: depth + 1 };
        }
        // The directory's entries for hashes that begin with these bits, of which the second half has `bit`.
        let span = 1_usize << (32 - self.shift - u32::from(depth));
        let start = (u64::from(hash) >> self.shift) as usize / span * span;
        for n in self.directory.iter_mut().skip(start + span / 2).take(span / 2) {
            *n = sibling as u32;
        }
    }

    /// Bytes held from the system.
    pub fn bytes(&self) -> usize {
        self.buckets.bytes()
            + self.directory.capacity() * size_of::<u32>()
            + self.about.capacity() * size_of::<About>()
    }

    /// True if huge pages back it.
    pub fn on_huge_pages(&self) -> bool {
        self.buckets.on_huge_pages()
    }

    /// How many segments there are.
    #[cfg(test)]
    pub fn segments(&self) -> usize {
        self.about.len()
    }
}
