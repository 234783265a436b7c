//! The resolver against a kernel that is made up, and a clock that is set by hand.

use super::*;

/// Routes by destination; entries; who was asked.
#[derive(Default)]
struct Fake {
    routes: BTreeMap<Key, IpAddr>,
    entries: BTreeMap<Key, Entry>,
    asked: Vec<Key>,
    lookups: usize,
    refuse: bool,
}

impl Ask for Fake {
    fn route(&mut self, device: u32, destination: IpAddr) -> Option<IpAddr> {
        self.lookups += 1;
        self.routes.get(&(device, destination)).copied()
    }

    fn entry(&mut self, device: u32, hop: IpAddr) -> Entry {
        self.entries.get(&(device, hop)).copied().unwrap_or(Entry::Nothing)
    }

    fn solicit(&mut self, device: u32, hop: IpAddr) -> io::Result<()> {
        self.asked.push((device, hop));
        if self.refuse { Err(io::Error::other("the table is full")) } else { Ok(()) }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn numbered(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
}

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const FRESH: Entry = Entry::Usable { mac: MAC, stale: false };
const STALE: Entry = Entry::Usable { mac: MAC, stale: true };

struct Bench {
    resolver: Resolver,
    kernel: Fake,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        Bench { resolver: Resolver::new(200), kernel: Fake::default(), now: Instant::now() }
    }

    fn want(&mut self, destination: IpAddr) {
        self.resolver.want(self.now, (1, destination));
        self.run();
    }

    fn run(&mut self) {
        while self.resolver.work(self.now, &mut self.kernel) {}
    }

    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        self.run();
    }

    fn answer(&self, destination: IpAddr) -> Option<Neighbour> {
        self.resolver.table().get(&(1, destination)).copied()
    }

    fn hear(&mut self, hop: IpAddr, entry: Entry) {
        self.kernel.entries.insert((1, hop), entry);
        self.resolver.neighbour(self.now, (1, hop), entry);
        self.run();
    }
}

#[test]
fn destinations_share_a_next_hop_that_is_asked_once() {
    let mut bench = Bench::new();
    let hop = ip("10.0.0.1");
    for n in 0..100 {
        bench.kernel.routes.insert((1, numbered(1000 + n)), hop);
        bench.want(numbered(1000 + n));
    }
    assert_eq!(bench.answer(numbered(1000)), Some(Neighbour::Pending));
    assert_eq!(bench.kernel.asked, [(1, hop)]);
    bench.hear(hop, FRESH);
    assert_eq!(bench.answer(numbered(1099)), Some(Neighbour::At(MAC)));
    assert!(bench.resolver.take_changed() && !bench.resolver.take_changed());
}

#[test]
fn who_fails_is_asked_again_and_who_was_lost_is_looked_at() {
    let mut bench = Bench::new();
    let to = ip("10.0.0.7");
    bench.kernel.routes.insert((1, to), to);
    // What failed before anybody wanted it says nothing of now.
    bench.kernel.entries.insert((1, to), Entry::Failed);
    bench.want(to);
    assert_eq!((bench.answer(to), bench.kernel.asked.len()), (Some(Neighbour::Pending), 1));
    bench.hear(to, Entry::Failed);
    assert_eq!(bench.answer(to), Some(Neighbour::Unreachable));
    bench.pass(0.9);
    assert_eq!(bench.kernel.asked.len(), 1);
    bench.pass(0.2);
    assert_eq!(bench.kernel.asked.len(), 2);
    // The kernel asks without saying so; it stays unreachable, not pending.
    bench.hear(to, Entry::Nothing);
    assert_eq!(bench.answer(to), Some(Neighbour::Unreachable));
    bench.hear(to, FRESH);
    assert_eq!(bench.answer(to), Some(Neighbour::At(MAC)));
    bench.hear(to, Entry::Nothing);
    assert_eq!((bench.answer(to), bench.kernel.asked.len()), (Some(Neighbour::Pending), 3));
    // Its answer was lost.
    bench.kernel.entries.insert((1, to), FRESH);
    bench.pass(5.1);
    assert_eq!(bench.answer(to), Some(Neighbour::At(MAC)));
    // Somebody takes its entry away: it is asked at once, and lost only if it does not answer then.
    bench.kernel.entries.insert((1, to), Entry::Failed);
    bench.hear(to, Entry::Failed);
    assert_eq!((bench.answer(to), bench.kernel.asked.len()), (Some(Neighbour::Pending), 4));
    bench.hear(to, Entry::Failed);
    assert_eq!(bench.answer(to), Some(Neighbour::Unreachable));
    // The device comes back: no need to wait for the next turn.
    bench.resolver.device_changed(1);
    bench.run();
    assert_eq!((bench.answer(to), bench.kernel.asked.len()), (Some(Neighbour::Pending), 5));
}

#[test]
fn who_has_gone_stale_is_asked_every_ten_seconds() {
    let mut bench = Bench::new();
    let to = ip("10.0.0.7");
    bench.kernel.routes.insert((1, to), to);
    bench.kernel.entries.insert((1, to), STALE);
    bench.want(to);
    assert_eq!((bench.answer(to), bench.kernel.asked.len()), (Some(Neighbour::At(MAC)), 1));
    bench.pass(9.0);
    assert_eq!(bench.kernel.asked.len(), 1);
    bench.pass(1.1);
    assert_eq!(bench.kernel.asked.len(), 2);
    bench.hear(to, FRESH);
    bench.pass(30.0);
    assert_eq!(bench.kernel.asked.len(), 2);
}

#[test]
fn only_what_a_route_is_for_is_looked_up_again() {
    let mut bench = Bench::new();
    let (one, other) = (ip("10.1.0.1"), ip("10.2.0.1"));
    bench.want(one);
    bench.want(other);
    assert_eq!(bench.answer(one), Some(Neighbour::Unreachable));
    let before = bench.kernel.lookups;
    bench.kernel.routes.insert((1, one), one);
    bench.resolver.route_changed(bench.now, Prefix::of(ip("10.1.0.0"), 16));
    bench.run();
    assert_eq!((bench.kernel.lookups, bench.answer(one)), (before + 1, Some(Neighbour::Pending)));
    for n in 0..10_000 {
        bench.resolver.route_changed(bench.now, Prefix::of(numbered(n), 32));
    }
    bench.run();
    assert_eq!(bench.kernel.lookups, before + 3);
    bench.kernel.routes.clear();
    bench.resolver.device_changed(1);
    bench.run();
    assert_eq!(bench.answer(one), Some(Neighbour::Unreachable));
    assert!(bench.resolver.hops.is_empty() && bench.resolver.timers.is_empty());
}

#[test]
fn what_nobody_asks_for_goes_and_so_does_what_is_too_much() {
    let mut bench = Bench::new();
    let kept = ip("192.0.2.1");
    bench.want(kept);
    bench.want(numbered(0));
    bench.pass(400.0);
    bench.want(kept);
    bench.pass(300.0);
    assert_eq!((bench.answer(kept), bench.answer(numbered(0))), (Some(Neighbour::Unreachable), None));
    for n in 0..70_000 {
        bench.resolver.want(bench.now, (1, numbered(n)));
        if n % 50 == 0 {
            bench.resolver.want(bench.now, (1, kept));
            bench.run();
        }
    }
    bench.run();
    assert_eq!(bench.resolver.table().len(), MOST);
    assert_eq!((bench.resolver.order.len(), bench.answer(numbered(0))), (MOST, None));
    assert!(bench.answer(kept).is_some() && bench.answer(numbered(69_999)).is_some());
}

#[test]
fn a_flood_of_silent_neighbours_does_not_keep_a_new_one_waiting() {
    let mut bench = Bench::new();
    for n in 0..10_000 {
        bench.kernel.routes.insert((1, numbered(n)), numbered(n));
        bench.want(numbered(n));
    }
    assert_eq!(bench.kernel.asked.len(), 200);
    bench.kernel.routes.insert((1, ip("10.200.0.1")), ip("10.200.0.1"));
    bench.want(ip("10.200.0.1"));
    bench.pass(0.02);
    assert!(bench.kernel.asked.contains(&(1, ip("10.200.0.1"))), "{}", bench.kernel.asked.len());
    assert!(bench.resolver.deadline(bench.now).is_some_and(|at| at < bench.now + Duration::from_millis(10)));
    // One in the middle of a flood comes to the front if it is wanted again, and it is not said to be pending before.
    let middle = numbered(5000);
    assert_eq!(bench.answer(middle), None);
    bench.want(middle);
    bench.pass(0.02);
    assert_eq!(bench.answer(middle), Some(Neighbour::Pending));
    assert!(bench.kernel.asked.contains(&(1, middle)));
    for n in 0..100 {
        bench.pass(f64::from(n % 7));
    }
    assert!(bench.resolver.calls.len() < 10_000);
}

#[test]
fn a_full_table_makes_unreachable_and_is_tried_again() {
    let mut bench = Bench::new();
    let to = ip("10.0.0.7");
    bench.kernel.routes.insert((1, to), to);
    bench.kernel.refuse = true;
    bench.want(to);
    assert_eq!(bench.answer(to), Some(Neighbour::Unreachable));
    bench.kernel.refuse = false;
    bench.kernel.entries.insert((1, to), FRESH);
    bench.pass(1.1);
    assert_eq!((bench.answer(to), bench.kernel.asked.len()), (Some(Neighbour::At(MAC)), 2));
}

#[test]
fn where_nobody_is_asked_frames_go_to_the_device_itself() {
    let mut bench = Bench::new();
    let to = ip("10.0.0.7");
    bench.resolver.set_silent(1, Some(MAC));
    bench.kernel.routes.insert((1, to), to);
    bench.want(to);
    assert_eq!((bench.answer(to), bench.kernel.asked.len()), (Some(Neighbour::At(MAC)), 0));
    for nobody in ["224.0.0.5", "ff02::1", "255.255.255.255", "127.0.0.1", "0.0.0.0"] {
        bench.want(ip(nobody));
        assert_eq!(bench.answer(ip(nobody)), Some(Neighbour::Unreachable));
    }
}
