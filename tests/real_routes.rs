//! The routes of the whole Internet, looked up in both tables of prefixes: at both ends of every prefix, and beside it.

#[path = "real_data/mod.rs"]
mod real_data;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clearway::table::lpm::Lpm;
use clearway::table::prefix_map::PrefixMap;
use clearway::types::Prefix;

#[test]
fn all_routes_of_the_internet_are_found() {
    let Some(folder) = real_data::folder("routes") else { return };
    let mut entries: Vec<(Prefix, u32)> = Vec::new();
    for path in real_data::files_below(&folder) {
        if real_data::name(&path).ends_with(".txt.gz") {
            let text = real_data::text(&path);
            let prefixes = text.lines().map(|l| l.parse().expect("a prefix"));
            entries.extend(prefixes.enumerate().map(|(n, p)| (p, n as u32 % 300)));
        }
    }
    let lpm: Lpm<u32> = entries.iter().copied().collect();
    let mut map = PrefixMap::default();
    for (prefix, value) in &entries {
        map.insert(*prefix, *value);
    }
    for (prefix, _) in &entries {
        for addr in [prefix.first(), prefix.last(), after(prefix.last())] {
            assert_eq!(lpm.lookup(addr), map.lookup(addr), "{addr}");
        }
    }
    println!("{} routes: {} bytes compiled, {} as a map", entries.len(), lpm.memory(), map.memory());
}

fn after(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits().wrapping_add(1)).into(),
    }
}
