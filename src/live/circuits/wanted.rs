//! The sessions that a configuration wants: of each link and family with ends and an AS number one of BGP and one of BFD.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::spec::{BgpSpec, Ends, LinkKey, LinkSpec};
use crate::bgp::Family;

/// Names a session.
pub(super) type Key = (LinkKey, Family);

/// Links that are wanted, each with the network namespace that has its addresses; without one it has no sessions that
/// could come up.
pub type Links = Vec<(LinkSpec, Option<Arc<OwnedFd>>)>;

/// A session that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) ends: Ends,
    pub(super) bgp: BgpSpec,
    /// Our BGP identifier.
    pub(super) identifier: Ipv4Addr,
    /// The link is not turned off.
    pub(super) enabled: bool,
    pub(super) namespace: Option<Arc<OwnedFd>>,
}

impl Wanted {
    /// True if both have the same ends in the same place.
    pub(super) fn same_place(&self, other: &Wanted) -> bool {
        let same_namespace = match (&self.namespace, &other.namespace) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || file(a).is_some_and(|a| Some(a) == file(b)),
            (a, b) => a.is_none() && b.is_none(),
        };
        self.ends == other.ends && same_namespace
    }

    /// True if a BGP session of the one can become that of the other as it is.
    pub(super) fn same_session(&self, other: &Wanted) -> bool {
        let said = |w: &Wanted| (w.identifier, w.bgp.asn, w.bgp.peer_asn, w.bgp.shared_key.clone());
        self.same_place(other) && said(self) == said(other)
    }
}

/// What tells namespaces apart, whatever descriptor names them.
fn file(namespace: &OwnedFd) -> Option<(u64, u64)> {
    let metadata = File::from(namespace.try_clone().ok()?).metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// The sessions of these links; of a link that is named twice the last counts.
pub(super) fn sessions(links: Links) -> BTreeMap<Key, Wanted> {
    let mut all = BTreeMap::new();
    for (spec, namespace) in links {
        let Some(bgp) = spec.bgp else { continue };
        let Some(identifier) = spec.ends.iter().flatten().map(|ends| identifier(ends.local)).next() else {
            continue;
        };
        for (family, ends) in [Family::V4, Family::V6].into_iter().zip(spec.ends) {
            let Some(ends) = ends else { continue };
            let (bgp, namespace, enabled) = (bgp.clone(), namespace.clone(), spec.enabled);
            let wanted = Wanted { ends, bgp, identifier, enabled, namespace };
            all.insert((spec.key.clone(), family), wanted);
        }
    }
    all
}

/// A BGP identifier for one of our addresses: an IPv4 address itself; of an IPv6 address a number that stays the same and is
/// hardly another's, and looks like an address of a host.
fn identifier(local: IpAddr) -> Ipv4Addr {
    match local {
        IpAddr::V4(addr) => addr,
        IpAddr::V6(addr) => {
            // FNV-1a: it may not change with the version of a library.
            let hash = addr
                .octets()
                .iter()
                .fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193));
            let [first, b, c, d] = hash.to_be_bytes();
            Ipv4Addr::new(1 + first % 223, b, c, d)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::Policy;
    use crate::model::{Link, PeeringKind};

    #[test]
    fn each_family_with_ends_has_a_session() {
        let v4 = Ends {
            peer: "192.0.2.1".parse().unwrap(),
            local: "192.0.2.2".parse().unwrap(),
            prefix: "192.0.2.0/30".parse().unwrap(),
        };
        let v6 = Ends {
            peer: "2001:db8::1".parse().unwrap(),
            local: "2001:db8::2".parse().unwrap(),
            prefix: "2001:db8::/126".parse().unwrap(),
        };
        let key =
            LinkKey { customer: "a".into(), circuit: "b".into(), peering: "c".into(), link: Link::Primary };
        let bgp = BgpSpec {
            asn: 12076,
            peer_asn: 65010,
            shared_key: None,
            policies: [Policy::private(Family::V4, false), Policy::private(Family::V6, false)],
            advertised: Vec::new(),
            held_down: None,
        };
        let spec = LinkSpec {
            key: key.clone(),
            kind: PeeringKind::Private,
            ends: [Some(v4), Some(v6)],
            mtu: 1400,
            enabled: true,
            bgp: Some(bgp),
            kernel: None,
        };
        let of = |spec: &LinkSpec| sessions(vec![(spec.clone(), None)]);
        let both = of(&spec);
        assert_eq!(both.len(), 2);
        let local = Ipv4Addr::new(192, 0, 2, 2);
        assert!(both.values().all(|wanted| wanted.identifier == local));
        let only = of(&LinkSpec { ends: [None, Some(v6)], ..spec.clone() });
        let wanted = &only[&(key, Family::V6)];
        assert_eq!((only.len(), wanted.identifier), (1, identifier(v6.local)));
        assert!(wanted.identifier.octets()[0] < 224 && wanted.identifier != identifier(v6.peer));
        assert!(of(&LinkSpec { ends: [None, None], ..spec.clone() }).is_empty());
        assert!(of(&LinkSpec { bgp: None, ..spec }).is_empty());
        // Two descriptors of one namespace, and of something else.
        let open = |path: &str| Some(Arc::new(OwnedFd::from(File::open(path).unwrap())));
        let at = |path: &str| Wanted { namespace: open(path), ..wanted.clone() };
        let own = "/proc/self/ns/net";
        assert!(
            at(own).same_session(&at(own)) && !at(own).same_place(&at("/")) && !at(own).same_place(wanted)
        );
    }
}
