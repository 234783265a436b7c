//! The kernel of this machine, in network namespaces of our own: `ours`, and a `peer` at the other end of a cable.

use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicUsize};

use super::*;
use crate::live::neighbours::Neighbour;

/// Names the two namespaces to a test that runs inside.
const INSIDE: &str = "CLEARWAY_TEST_NAMESPACES";

/// Removed when the test ends, however it does.
struct Namespace(String);

impl Namespace {
    fn new(what: &str) -> Namespace {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("clearway-test-{}-{number}-{what}", std::process::id());
        run(&format!("ip netns add {name}"));
        Namespace(name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().expect("a command")).args(words).status().expect("it runs");
    assert!(status.success(), "{line}: {status}");
}

/// Runs many commands of `ip` at once, here or in another namespace.
fn batch(namespace: &str, lines: impl Iterator<Item = String>) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), lines.map(|line| line + "\n").collect::<String>()).expect("written");
    run(&format!("ip{namespace} -force -batch {}", file.path().display()));
}

/// Runs a test in a namespace of its own that has a cable, `d0`, to `p0` of a peer.
fn inside(test: &str, body: fn(&Lab)) {
    if let Ok(peer) = std::env::var(INSIDE) {
        return body(&Lab::new(peer));
    }
    let probe = format!("clearway-test-{}-probe", std::process::id());
    let can = Command::new("ip").args(["netns", "add", &probe]).output();
    let _ = Command::new("ip").args(["netns", "del", &probe]).output();
    if !can
        .is_ok_and(|said| said.status.success() || String::from_utf8_lossy(&said.stderr).contains("exists"))
    {
        println!("{test}: skipped, no network namespaces can be made here");
        return;
    }
    let (ours, peer) = (Namespace::new("ours"), Namespace::new("peer"));
    for (end, at, mac) in [(&ours, 1, "02:00:00:00:00:01"), (&peer, 2, "02:00:00:00:00:02")] {
        if at == 1 {
            run(&format!("ip -n {} link add d0 type veth peer name p0 netns {}", ours.0, peer.0));
        }
        let device = if at == 1 { "d0" } else { "p0" };
        run(&format!("ip -n {} link set lo up", end.0));
        // Else IPv6 waits for two seconds until it is sure of its own addresses.
        run(&format!("ip netns exec {} sysctl -qw net.ipv6.conf.{device}.accept_dad=0", end.0));
        run(&format!("ip -n {} link set {device} address {mac} up", end.0));
        run(&format!("ip -n {} address add 10.1.0.{at}/16 broadcast + dev {device}", end.0));
        run(&format!("ip -n {} address add fd00:1::{at}/64 dev {device} nodad", end.0));
    }
    let name = format!("live::kernel::tests::{test}");
    let this = std::env::current_exe().expect("this test");
    let status = Command::new("ip")
        .args(["netns", "exec", &ours.0])
        .arg(this)
        .args(["--exact", &name, "--nocapture"])
        .env(INSIDE, &peer.0)
        .status();
    assert!(status.expect("it runs").success(), "{test} failed inside its namespace");
}

struct Lab {
    peer: String,
    kernel: Kernel,
    neighbours: Arc<Neighbours>,
    changes: Arc<AtomicUsize>,
}

const PEER: Option<Neighbour> = Some(Neighbour::At([2, 0, 0, 0, 0, 2]));
const UNREACHABLE: Option<Neighbour> = Some(Neighbour::Unreachable);

impl Lab {
    fn new(peer: String) -> Lab {
        Lab::with_room(peer, None)
    }

    fn with_room(peer: String, room: Option<i32>) -> Lab {
        let (neighbours, asked) = Neighbours::new();
        let changes = Arc::new(AtomicUsize::new(0));
        let count = changes.clone();
        let changed = Box::new(move |_| _ = count.fetch_add(1, Ordering::Relaxed));
        let kernel = start_with(neighbours.clone(), asked, changed, room).expect("a kernel");
        Lab { peer, kernel, neighbours, changes }
    }

    fn at_peer(&self, line: &str) {
        run(&format!("ip -n {} {line}", self.peer));
    }

    fn device(&self, name: &str) -> Option<Device> {
        self.kernel.devices().snapshot().1.by_name.get(name).cloned()
    }

    fn index(&self) -> u32 {
        self.device("d0").expect("d0").index
    }

    fn answer(&self, device: u32, to: &str) -> Option<Neighbour> {
        let to = to.parse().expect("an address");
        let (_, table) = self.neighbours.snapshot();
        let answer = table.get(&(device, to)).copied();
        if answer.is_none() {
            self.neighbours.miss(device, to);
        }
        answer
    }

    fn expect(&self, device: u32, to: &str, wanted: Option<Neighbour>, limit: f64) {
        let what = format!("{to} out of {device}: {wanted:?}");
        let took = wait(&what, limit, || self.answer(device, to) == wanted);
        println!("{what} after {took:?}");
    }
}

fn wait(what: &str, limit: f64, mut until: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !until() {
        assert!(began.elapsed().as_secs_f64() < limit, "not within {limit} s: {what}");
        thread::sleep(Duration::from_millis(1));
    }
    began.elapsed()
}

#[test]
fn neighbours_are_found_on_the_link_and_behind_gateways() {
    inside("neighbours_are_found_on_the_link_and_behind_gateways", |lab| {
        let device = lab.index();
        lab.expect(device, "10.1.0.2", PEER, 2.0);
        lab.expect(device, "fd00:1::2", PEER, 2.0);
        run("ip route add 10.9.0.0/16 via 10.1.0.2");
        run("ip route add 10.8.0.0/16 via inet6 fd00:1::2 dev d0");
        run("ip -6 route add fd00:9::/32 via fd00:1::2");
        run("ip route add default via 10.1.0.2");
        for behind in ["10.9.1.1", "10.8.1.1", "fd00:9::1", "192.0.2.1"] {
            lab.expect(device, behind, PEER, 2.0);
        }
        // Routes that go take effect, and so do those that come.
        run("ip route del default");
        lab.expect(device, "192.0.2.1", UNREACHABLE, 2.0);
        run("ip route add 192.0.2.0/24 via 10.1.0.2");
        lab.expect(device, "192.0.2.1", PEER, 2.0);
        run("ip route add blackhole 192.0.2.1/32");
        lab.expect(device, "192.0.2.1", UNREACHABLE, 2.0);
        let changes = lab.changes.load(Ordering::Relaxed);
        assert!(changes >= 2, "{changes} changes");
    });
}

#[test]
fn who_is_nowhere_is_unreachable() {
    inside("who_is_nowhere_is_unreachable", |lab| {
        let device = lab.index();
        run("ip link add d1 address 02:00:00:00:00:03 type veth peer name d2");
        run("ip link set d1 up");
        run("ip link set d2 up");
        run("ip address add 10.2.0.1/24 dev d1");
        lab.expect(device, "198.51.100.1", UNREACHABLE, 2.0);
        lab.expect(device, "2001:db8::1", UNREACHABLE, 2.0);
        lab.expect(device, "10.2.0.9", UNREACHABLE, 2.0);
        lab.expect(99_999, "10.1.0.2", UNREACHABLE, 2.0);
        for nobody in ["10.1.0.1", "10.1.255.255", "224.0.0.5", "ff02::5", "fd00:1::1"] {
            lab.expect(device, nobody, UNREACHABLE, 2.0);
        }
        lab.expect(device, "10.1.0.77", Some(Neighbour::Pending), 2.0);
        lab.expect(device, "10.1.0.77", UNREACHABLE, 6.0);
        lab.at_peer("address add 10.1.0.77/16 dev p0");
        // The next question may be a second off, and one of them may be under way.
        lab.expect(device, "10.1.0.77", PEER, 6.0);
        // Without ARP frames go to the device's own address, as the kernel sends them; unless it is told better.
        wait("d1", 2.0, || lab.device("d1").is_some());
        run("ip link set d1 arp off");
        let silent = lab.device("d1").expect("d1").index;
        lab.expect(silent, "10.2.0.9", Some(Neighbour::At([2, 0, 0, 0, 0, 3])), 2.0);
        run("ip neigh add 10.2.0.8 lladdr 02:00:00:00:00:08 dev d1");
        lab.expect(silent, "10.2.0.8", Some(Neighbour::At([2, 0, 0, 0, 0, 8])), 2.0);
    });
}

#[test]
fn devices_and_peers_are_followed() {
    inside("devices_and_peers_are_followed", |lab| {
        let device = lab.index();
        let addresses = lab.kernel.devices().snapshot().1.addresses.clone();
        assert!(addresses.contains(&(device, IpAddr::from([10, 1, 0, 1]))), "{addresses:?}");
        wait("carrier", 4.0, || lab.device("d0").is_some_and(|d| d.up));
        lab.expect(device, "10.1.0.2", PEER, 2.0);

        run("ip link set d0 mtu 1400");
        wait("MTU", 1.0, || lab.device("d0").is_some_and(|d| d.mtu == 1400));
        run("ip address add 10.3.0.1/24 dev d0");
        let new = (device, IpAddr::from([10, 3, 0, 1]));
        wait("address", 1.0, || lab.kernel.devices().snapshot().1.addresses.contains(&new));
        run("ip address del 10.3.0.1/24 dev d0");
        wait("no address", 1.0, || !lab.kernel.devices().snapshot().1.addresses.contains(&new));

        // The kernel takes a new address of a neighbour no sooner than a second after the last.
        thread::sleep(Duration::from_millis(1100));
        run(&format!("ip netns exec {} sysctl -qw net.ipv4.conf.p0.arp_notify=1", lab.peer));
        lab.at_peer("link set p0 address 02:00:00:00:00:22");
        lab.expect(device, "10.1.0.2", Some(Neighbour::At([2, 0, 0, 0, 0, 0x22])), 2.0);

        lab.at_peer("link set p0 down");
        wait("no carrier", 2.0, || lab.device("d0").is_some_and(|d| !d.up));
        lab.at_peer("link set p0 up");
        wait("carrier", 2.0, || lab.device("d0").is_some_and(|d| d.up));
        run("ip link set d0 down");
        wait("down", 1.0, || lab.device("d0").is_some_and(|d| !d.up));
        lab.expect(device, "10.1.0.2", UNREACHABLE, 2.0);
        run("ip link set d0 up");
        lab.expect(device, "10.1.0.2", Some(Neighbour::At([2, 0, 0, 0, 0, 0x22])), 6.0);

        run("ip link set d0 down");
        run("ip link set d0 name other");
        wait("renamed", 1.0, || lab.device("d0").is_none() && lab.device("other").is_some());
        run("ip link del other");
        wait("gone", 1.0, || lab.device("other").is_none());
        let addresses = lab.kernel.devices().snapshot().1.addresses.clone();
        assert!(addresses.iter().all(|(index, _)| *index != device), "{addresses:?}");
        run(&format!("ip link add d0 type veth peer name p0 netns {}", lab.peer));
        run("ip address add 10.1.0.1/16 dev d0");
        run("ip link set d0 up");
        lab.at_peer("link set p0 address 02:00:00:00:00:02 up");
        lab.at_peer("address add 10.1.0.2/16 dev p0");
        wait("again", 4.0, || lab.device("d0").is_some_and(|d| d.up && d.index != device));
        lab.expect(lab.index(), "10.1.0.2", PEER, 6.0);
        lab.expect(device, "10.1.0.2", UNREACHABLE, 2.0);
    });
}

#[test]
fn a_flood_of_misses_keeps_nobody_waiting() {
    inside("a_flood_of_misses_keeps_nobody_waiting", |lab| {
        let device = lab.index();
        let bogus = |n: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a01_1000 + n));
        for n in 0..5000 {
            lab.neighbours.miss(device, bogus(n));
        }
        lab.expect(device, "10.1.0.2", PEER, 2.0);
        for n in 5000..10_000 {
            lab.neighbours.miss(device, bogus(n));
            if n % 500 == 0 {
                thread::sleep(Duration::from_millis(5));
            }
        }
        lab.expect(device, "fd00:1::2", PEER, 2.0);
        run("ip route add 10.9.0.0/16 via 10.1.0.2");
        lab.expect(device, "10.9.0.1", PEER, 2.0);
        let held = lab.neighbours.snapshot().1.len();
        println!("{held} destinations are held");
        lab.at_peer("address add 10.1.0.50/16 dev p0");
        lab.expect(device, "10.1.0.50", PEER, 2.0);
    });
}

#[test]
fn what_was_not_told_is_asked_for() {
    inside("what_was_not_told_is_asked_for", |lab| {
        let lab = Lab::with_room(lab.peer.clone(), Some(1));
        let device = lab.index();
        lab.expect(device, "10.1.0.2", PEER, 2.0);
        run("ip route add default via 10.1.0.2");
        lab.expect(device, "192.0.2.1", PEER, 2.0);
        for round in 0..20 {
            let address = |n| format!("10.4.{}.{}/32 dev d0", n / 250, n % 250 + 1);
            batch("", (0..500).map(|n| format!("address add {}", address(n))));
            batch("", (0..500).filter(|n| n % 5 != 0).map(|n| format!("address del {}", address(n))));
            let mtu = 1400 + round;
            batch("", [format!("link set d0 mtu {mtu}"), "route del default".to_owned()].into_iter());
            let told = || {
                let devices = lab.kernel.devices().snapshot().1;
                let ours =
                    devices.addresses.iter().filter(|(_, a)| a.to_string().starts_with("10.4.")).count();
                ours == 100 && devices.by_name.get("d0").is_some_and(|d| d.mtu == mtu)
            };
            wait("all that there is", 3.0, told);
            lab.expect(device, "192.0.2.1", UNREACHABLE, 3.0);
            batch("", (0..500).filter(|n| n % 5 == 0).map(|n| format!("address del {}", address(n))));
            run("ip route add default via 10.1.0.2");
            lab.expect(device, "192.0.2.1", PEER, 3.0);
            if lab.kernel.overruns() > 2 {
                break;
            }
        }
        println!("{} overruns", lab.kernel.overruns());
        assert!(lab.kernel.overruns() > 0, "the kernel could tell everything");
    });
}

#[test]
fn it_costs_nothing_idle_and_stops_at_once() {
    inside("it_costs_nothing_idle_and_stops_at_once", |lab| {
        let ticks = || {
            let text = std::fs::read_to_string("/proc/self/stat").expect("stat");
            let after = text.rsplit(") ").next().expect("fields").to_owned();
            after.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().expect("ticks")).sum::<u64>()
        };
        let (neighbours, asked) = Neighbours::new();
        let kernel = start(neighbours.clone(), asked, Box::new(|_| {})).expect("a kernel");
        lab.expect(lab.index(), "10.1.0.2", PEER, 2.0);
        neighbours.miss(lab.index(), IpAddr::from([10, 1, 0, 2]));
        thread::sleep(Duration::from_millis(200));
        assert_eq!(kernel.ended(), None);
        let before = ticks();
        thread::sleep(Duration::from_secs(2));
        let used = ticks() - before;
        assert!(used <= 2, "{used} hundredths of a second in two seconds");
        let began = Instant::now();
        drop(kernel);
        assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
    });
}

#[test]
fn who_has_ended_is_named() {
    inside("who_has_ended_is_named", |_| {
        let (neighbours, asked) = Neighbours::new();
        // It is told of the devices first, by this thread.
        let calls = AtomicUsize::new(0);
        let changed = Box::new(move |_| {
            assert_eq!(calls.fetch_add(1, Ordering::Relaxed), 0, "this test ends the thread so");
        });
        let kernel = start(neighbours.clone(), asked, changed).expect("a kernel");
        neighbours.miss(99_999, IpAddr::from([10, 1, 0, 2]));
        wait("its end", 5.0, || kernel.ended().is_some());
    });
}
