//! How long bursts took, as counts: their median stays what it is when something else interrupts a few of them.

use std::time::Duration;

/// Buckets of one doubling.
const STEPS: usize = 128;
/// Doublings that are told apart, from 1 nanosecond per packet on.
const DOUBLINGS: usize = 20;

/// Counts of bursts by their nanoseconds per packet.
pub struct Bursts {
    counts: Vec<u32>,
    all: u64,
}

impl Bursts {
    /// No burst yet.
    pub fn new() -> Bursts {
        Bursts { counts: vec![0; STEPS * DOUBLINGS], all: 0 }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.all = 0;
    }

    /// Counts a burst of so many packets.
    pub fn add(&mut self, packets: usize, took: Duration) {
        let each = took.as_nanos() as f64 / packets.max(1) as f64;
        let place = (each.max(1.0).log2() * STEPS as f64) as usize;
        self.counts[place.min(STEPS * DOUBLINGS - 1)] += 1;
        self.all += 1;
    }

    /// The median, in nanoseconds per packet, to half a percent; 0 without any.
    pub fn median(&self) -> f64 {
        let mut below = 0;
        for (place, count) in self.counts.iter().enumerate() {
            below += u64::from(*count);
            if below * 2 >= self.all && self.all > 0 {
                return ((place as f64 + 0.5) / STEPS as f64).exp2();
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_see_a_few_long_bursts() {
        let mut bursts = Bursts::new();
        assert_eq!(bursts.median(), 0.0);
        for n in 0..100 {
            bursts.add(256, Duration::from_nanos(if n % 10 == 0 { 1 << 40 } else { 256 * 20 }));
        }
        assert!((bursts.median() - 20.0).abs() < 0.1, "{}", bursts.median());
        bursts.clear();
        bursts.add(1, Duration::ZERO);
        assert!(bursts.median() < 1.01);
    }
}
