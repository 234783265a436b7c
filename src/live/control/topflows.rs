//! The flows that carry most: a capture of a sample, summed up.

use std::time::{Duration, Instant};

use super::Reply;
use crate::live::capture::{CaptureWanted, Next};
use crate::live::handle::Handle;
use crate::live::heaviest::Heaviest;

/// How long packets are looked at, at most.
const LONGEST: f64 = 10.0;

/// How long it is measured how many packets there are, to choose the sample. Workers publish counts every 50 ms.
const MEASURED: Duration = Duration::from_millis(150);

/// Packets that are looked at in a second, about; if there are no more, it is all.
const LOOKED_AT: f64 = 4000.0;

/// How often it is looked whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// One packet of how many is looked at, where so many come in a second.
fn one_in(per_second: f64) -> u32 {
    (per_second / LOOKED_AT).ceil().clamp(1.0, 1e6) as u32
}

/// Looks at packets for so long, or until it is to end.
pub(super) fn reply(seconds: f64, handle: &dyn Handle, is_over: impl Fn() -> bool) -> Reply {
    if !(seconds > 0.0 && seconds <= LONGEST) {
        return Reply::Error(format!("seconds: flows are looked at for more than 0 and at most {LONGEST} s"));
    }
    let before = handle.snapshot();
    std::thread::sleep(MEASURED);
    let now = handle.snapshot();
    let passed = now.uptime.saturating_sub(before.uptime).as_secs_f64().max(0.001);
    let packets = now.total.packets.saturating_sub(before.total.packets);
    let sample = Some(one_in(packets as f64 / passed));
    let time = Some(Duration::from_secs_f64(seconds));
    let began = Instant::now();
    let mut capturing = handle.capture(CaptureWanted { time, sample, ..CaptureWanted::default() });
    let mut heaviest = Heaviest::default();
    while !is_over() {
        match capturing.next(LOOK) {
            Next::Packet(packet) => heaviest.note(&packet),
            Next::Nothing => {}
            Next::Over => break,
        }
    }
    Reply::TopFlows(heaviest.told(capturing.seen(), began.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_packets_are_all_looked_at_and_of_many_a_few_thousand() {
        assert_eq!([0.0, 3999.0, 4000.0, 4001.0, 1e6].map(one_in), [1, 1, 1, 2, 250]);
    }
}
