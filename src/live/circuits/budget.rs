//! How much of something there may be in time: so much at once, and then at a rate.

use crate::types::Nanos;

/// What is left of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::live) struct Budget {
    most: u64,
    /// In so much time there is one more.
    every: Nanos,
    left: u64,
    /// Up to when what has come since is in `left`.
    at: Nanos,
}

impl Budget {
    /// One that is full; one more comes in `every`, which is not 0.
    pub(in crate::live) fn new(most: u64, every: Nanos) -> Budget {
        Budget { most, every: every.max(1), left: most, at: 0 }
    }

    /// What may be spent now.
    pub(in crate::live) fn left(&mut self, now: Nanos) -> u64 {
        let more = now.saturating_sub(self.at) / self.every;
        self.left = self.left.saturating_add(more).min(self.most);
        self.at += more * self.every;
        self.left
    }

    /// Spends as much, or what is left.
    pub(in crate::live) fn spend(&mut self, amount: u64) {
        self.left = self.left.saturating_sub(amount);
    }

    /// When there will be as much.
    pub(in crate::live) fn ready_at(&self, amount: u64) -> Nanos {
        let lacks = amount.min(self.most).saturating_sub(self.left);
        self.at.saturating_add(lacks.saturating_mul(self.every))
    }
}

/// Whether something is worth a line in the log, where a peer can cause it as often as it likes.
#[derive(Clone, Copy, Debug)]
pub(in crate::live) struct Lines {
    budget: Budget,
    kept_back: u64,
}

impl Lines {
    /// Ten at once, and one more each ten seconds.
    pub(in crate::live) fn new() -> Lines {
        Lines { budget: Budget::new(10, 10 * crate::types::SECOND), kept_back: 0 }
    }

    /// Whether this line is to be written, and how many were kept back before it.
    pub(in crate::live) fn may(&mut self, now: Nanos) -> Option<u64> {
        if self.budget.left(now) == 0 {
            self.kept_back += 1;
            return None;
        }
        self.budget.spend(1);
        Some(std::mem::take(&mut self.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SECOND;

    #[test]
    fn what_is_spent_comes_back_in_time() {
        let mut budget = Budget::new(10, 5);
        assert_eq!((budget.left(0), budget.ready_at(10)), (10, 0));
        budget.spend(8);
        assert_eq!((budget.left(9), budget.ready_at(3), budget.ready_at(4)), (3, 5, 10));
        assert_eq!(budget.left(10), 4);
        // What has not come whole is not lost.
        assert_eq!((budget.left(14), budget.left(15)), (4, 5));
        budget.spend(99);
        assert_eq!((budget.left(16), budget.ready_at(100)), (0, 65));
        // Nor is there ever more than fits.
        assert_eq!(budget.left(u64::MAX), 10);
    }

    #[test]
    fn lines_that_were_kept_back_are_counted() {
        let mut lines = Lines::new();
        let written = (0..100).filter(|n| lines.may(n * SECOND / 100).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!((lines.may(11 * SECOND), lines.may(11 * SECOND)), (Some(90), None));
    }
}
