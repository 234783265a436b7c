//! A queue whose elements have numbers and never move: it grows by a block, so that no step takes longer the more it
//! holds.

use std::collections::VecDeque;

/// Elements of a block.
const BLOCK: usize = 128;

/// Numbers are below this one and begin again at 0 behind it; as many as an index has slots.
const NUMBERS: u32 = 1 << 30;

/// A queue. What it held at most it keeps for what comes.
pub struct Queue<T> {
    /// Each but the last has [`BLOCK`] elements.
    blocks: VecDeque<Vec<T>>,
    /// Blocks that are empty again.
    spare: Vec<Vec<T>>,
    /// Number of the first element of the first block.
    base: u32,
    /// Elements of the first block that were taken.
    taken: usize,
    len: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { blocks: VecDeque::new(), spare: Vec::new(), base: 0, taken: 0, len: 0 }
    }
}

impl<T> Queue<T> {
    /// The number that the next element gets.
    #[inline]
    pub fn next(&self) -> u32 {
        self.base.wrapping_add((self.taken + self.len) as u32) % NUMBERS
    }

    /// Appends an element.
    pub fn push(&mut self, value: T) {
        if (self.taken + self.len).is_multiple_of(BLOCK) {
            let block = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK));
            self.blocks.push_back(block);
        }
        if let Some(last) = self.blocks.back_mut() {
            last.push(value);
            self.len += 1;
        }
    }

    /// Where an element is that is so many behind the first of the first block.
    fn place(&self, behind: usize) -> Option<(usize, usize)> {
        let there = (self.taken..self.taken + self.len).contains(&behind);
        there.then_some((behind / BLOCK, behind % BLOCK))
    }

    fn place_of(&self, number: u32) -> Option<(usize, usize)> {
        self.place((number.wrapping_sub(self.base) % NUMBERS) as usize)
    }

    /// The element of a number, if it is there.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        let (block, n) = self.place_of(number)?;
        self.blocks.get(block)?.get(n)
    }

    /// The element of a number, to change.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (block, n) = self.place_of(number)?;
        self.blocks.get_mut(block)?.get_mut(n)
    }

    /// The `n`th element from the front.
    #[inline]
    pub fn nth(&self, n: usize) -> Option<&T> {
        let (block, n) = self.place(self.taken + n)?;
        self.blocks.get(block)?.get(n)
    }

    /// How many from the front on satisfy a condition that no element behind them does.
    pub fn partition_point(&self, is_before: impl Fn(&T) -> bool) -> usize {
        let (mut from, mut to) = (0, self.len);
        while from < to {
            let middle = usize::midpoint(from, to);
            if self.nth(middle).is_some_and(&is_before) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T: Copy> Queue<T> {
    /// Takes the first element, with its number.
    pub fn pop(&mut self) -> Option<(u32, T)> {
        let value = *self.nth(0)?;
        let number = self.base.wrapping_add(self.taken as u32) % NUMBERS;
        self.taken += 1;
        self.len -= 1;
        if self.taken == BLOCK {
            self.taken = 0;
            self.base = self.base.wrapping_add(BLOCK as u32) % NUMBERS;
            // Given back, they would go to the system all at once.
            if let Some(mut block) = self.blocks.pop_front() {
                block.clear();
                self.spare.push(block);
            }
        }
        Some((number, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_numbers_while_others_come_and_go() {
        // Numbers begin again on the way.
        let base = NUMBERS - 40 * BLOCK as u32;
        let mut queue: Queue<u32> = Queue { base, ..Queue::default() };
        let mut model: VecDeque<(u32, u32)> = VecDeque::new();
        let (mut state, mut number) = (7_u64, base);
        for turn in 0..60_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let dice = (state >> 33) as u32;
            if dice % 100 < if turn % 20_000 < 10_000 { 60 } else { 40 } {
                assert_eq!(queue.next(), number);
                queue.push(turn);
                model.push_back((number, turn));
                number = (number + 1) % NUMBERS;
            } else {
                let was = model.pop_front();
                assert_eq!(queue.pop(), was);
                assert!(was.is_none_or(|(number, _)| queue.get(number).is_none()));
            }
            assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
            assert!(queue.get(number).is_none() && queue.nth(model.len()).is_none());
            if !model.is_empty() {
                let n = dice as usize / 100 % model.len();
                let (number, value) = model[n];
                assert_eq!((queue.get(number), queue.nth(n)), (Some(&value), Some(&value)));
                assert_eq!(queue.partition_point(|v| *v < value), n);
                *queue.get_mut(number).unwrap() += 0;
            }
        }
        assert!(number < base, "numbers began again");
        let blocks = queue.blocks.len() + queue.spare.len();
        assert!(blocks <= 2000 / BLOCK + 10, "{blocks} blocks");
    }
}
