//! Which corners of the contract a run came past, so that a test can say what generated traffic never reaches.

use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    static SEEN: RefCell<BTreeMap<&'static str, usize>> = const { RefCell::new(BTreeMap::new()) };
}

/// Every corner that is counted; a test fails when generated traffic misses one.
pub const CORNERS: &[&str] = &[
    "tunnel: down",
    "tunnel: peer of none of several",
    "tunnel: sequence passed",
    "tunnel: sequence jumped ahead",
    "inner: broadcast of an own subnet",
    "inner: broadcast of a peer's subnet",
    "inner: extension headers walked",
    "source: forwarding NIC by host",
    "source: forwarding NIC by MAC",
    "source: forwarding NIC by made MAC",
    "source: gateway, for a spoke",
    "source: spoofed from a gateway",
    "source: spoofed from the Internet",
    "source: platform from services",
    "fragment: later, with flow",
    "fragment: later, without flow",
    "fragment: forgotten after 30 seconds",
    "flow: related error inbound",
    "flow: related error outbound",
    "flow: unrelated error",
    "flow: SYN on a live record",
    "flow: ended record carries on",
    "flow: SYN on an ended record",
    "flow: untracked TCP",
    "flow: ended by RST",
    "flow: ended by FIN",
    "flow: idle and gone",
    "flow: ended and gone",
    "flow: full VNet",
    "flow: full NIC",
    "flow: two records of one packet",
    "swap: endpoint gone",
    "swap: endpoint without NSG",
    "swap: flushed, kept",
    "swap: flushed, under another rule",
    "swap: flushed, gone",
    "rules: platform allowed",
    "rules: platform denied",
    "rules: ASG matched",
    "rules: ASG not applied",
    "rules: tag matched",
    "rules: deny by the second NSG",
    "route: hasBgpOverride",
    "route: preferred system route",
    "route: by tag",
    "route: platform",
    "route: from GatewaySubnet, not VnetLocal",
    "next hop: forwarded into a peer",
    "next hop: gateway exempt from allowForwardedTraffic",
    "next hop: appliance",
    "next hop: appliance in a peer",
    "next hop: appliance with destination its own",
    "next hop: several equal ways",
    "next hop: VPN where a circuit has the prefix too",
    "next hop: user-defined, learned",
    "next hop: user-defined, default site",
    "next hop: Internet tunnel",
    "next hop: services",
    "next hop: services by the Internet",
    "egress: TTL left alone",
    "egress: fragments",
    "egress: fragments of a fragment",
    "egress: fragments with copied options",
    "egress: fragments lose options",
    "egress: sequence",
    "icmp: withheld by rate",
    "icmp: never about this",
    "icmp: no address of the family",
    "icmp: quote cut",
    "icmp: by nvgre",
    "icmp: plain",
    "icmp: by a circuit link",
    "icmp: about a packet for a public prefix",
    "circuit: to us by private peering",
    "circuit: to us by another peering",
    "circuit: to us, IPv6",
    "circuit: to a link's end, not ours to answer",
    "public: from Microsoft peering",
    "public: from public peering",
    "public: to Microsoft peering",
    "public: to public peering",
    "public: leaves by the Internet",
    "public: source learned on the other link",
    "public: spoofed from a link",
    "public: spoofed from outside",
    "public: before the VNet that holds the destination",
    "public: before a VNet whose range is longer",
    "public: several equal links",
    "public: a longer AS path",
    "public: answer",
    "public: related error",
    "public: unrelated error",
    "public: later fragment refreshes",
    "public: record idle and gone",
    "DSCP: rewritten",
    "DSCP: rewritten beside ECN",
    "DSCP: kept by Microsoft peering",
    "DSCP: kept by public peering",
    "bandwidth: over-rate inwards",
    "bandwidth: over-rate outwards",
    "bandwidth: used up by another peering",
    "bandwidth: a small packet passes where a large one did not",
    "bandwidth: fragments outwards",
    "swap: bandwidth raised while a bucket is short",
    "swap: bandwidth raised, what was in the bucket kept",
];

/// Notes a corner.
pub fn seen(corner: &'static str) {
    debug_assert!(CORNERS.contains(&corner), "{corner} is not in the list");
    SEEN.with_borrow_mut(|all| *all.entry(corner).or_default() += 1);
}

/// Notes a corner if this is it.
pub fn seen_if(it: bool, corner: &'static str) {
    if it {
        seen(corner);
    }
}

/// What was noted since the last call on this thread.
pub fn take() -> BTreeMap<&'static str, usize> {
    SEEN.take()
}
