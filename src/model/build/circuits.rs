//! Circuits and their peerings.

use std::collections::HashMap;

use super::Cx;
use super::fields::Fields;
use super::names::{self, Everyone, Slot};
use super::report::{Read, Report, Reported, place};
use super::sources::Item;
use super::vnets::VnetDraft;
use crate::model::azure;
use crate::model::node::Node;
use crate::model::{Circuit, CircuitPeering, CircuitTier, Link, PeeringKind, SharedKey};
use crate::types::Prefix;

/// The bandwidths that circuits are sold with, in Mbps (semantics 4.1).
const BANDWIDTHS: [u64; 8] = [50, 100, 200, 500, 1000, 2000, 5000, 10_000];

/// Our AS number when unsaid (contract section 7).
const AZURE_ASN: u32 = 12_076;

/// AS numbers that no peer may have (semantics 4.4).
const RESERVED: std::ops::RangeInclusive<u64> = 65_515..=65_520;

const KINDS: [(&str, PeeringKind); 3] = [
    ("AzurePrivatePeering", PeeringKind::Private),
    ("MicrosoftPeering", PeeringKind::Microsoft),
    ("AzurePublicPeering", PeeringKind::Public),
];

/// The names of the two links' prefixes, in the order of the model.
const LINK_FIELDS: [&str; 2] = ["primaryPeerAddressPrefix", "secondaryPeerAddressPrefix"];

/// A circuit as far as it could be read.
pub struct CircuitDraft<'a> {
    /// Its map.
    pub node: &'a Node,
    /// The circuit.
    pub circuit: Circuit,
    /// It carries traffic: it is provisioned and enabled.
    pub up: bool,
    /// What is known of each peering beyond the model.
    pub peerings: Vec<PeeringFacts<'a>>,
}

/// What the model does not keep of a circuit's peering.
pub struct PeeringFacts<'a> {
    /// It carries traffic.
    pub up: bool,
    /// Its link prefixes, each with where it stands.
    links: Vec<(Prefix, &'a Node)>,
    /// `advertisedPublicPrefixes` of Microsoft and public peering, if said.
    pub advertised: Option<Vec<Prefix>>,
    /// The route filters that it names, each with where that is.
    pub filters: Vec<(usize, &'a Node)>,
}

impl CircuitDraft<'_> {
    /// The peering of this name or kind.
    pub fn find_peering(&self, name: &str) -> Option<usize> {
        let named = |p: &CircuitPeering| p.name.eq_ignore_ascii_case(name);
        let kind = KINDS.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|&(_, kind)| kind);
        let peerings = &self.circuit.peerings;
        peerings.iter().position(named).or_else(|| peerings.iter().position(|p| Some(p.kind) == kind))
    }

    /// Prefixes that may be learned on each link: IPv4 and IPv6 (semantics 4.3).
    pub fn route_limits(&self, peering: usize) -> [usize; 2] {
        match (self.circuit.peerings.get(peering).map(|p| p.kind), self.circuit.tier) {
            (Some(PeeringKind::Private) | None, CircuitTier::Premium) => [10_000, 100],
            (Some(PeeringKind::Private) | None, _) => [4000, 100],
            (Some(_), _) => [200, 200],
        }
    }

    /// Virtual networks that may be connected to it (semantics 4.8).
    pub fn link_limit(&self) -> usize {
        match (self.circuit.tier, self.circuit.bandwidth_mbps.unwrap_or(10_000)) {
            (CircuitTier::Local | CircuitTier::Standard, _) => 10,
            (_, ..=50) => 20,
            (_, ..=200) => 25,
            (_, ..=500) => 40,
            (_, ..=1000) => 50,
            (_, ..=2000) => 60,
            (_, ..=5000) => 75,
            (_, _) => 100,
        }
    }
}

/// The kind of a peering in Azure's words.
pub fn kind_name(kind: PeeringKind) -> &'static str {
    KINDS.iter().find(|(_, k)| *k == kind).map_or("", |(name, _)| name)
}

/// Reads one circuit.
pub fn read<'a>(cx: &mut Cx<'_, 'a>, item: &'a Item) -> CircuitDraft<'a> {
    let (report, everyone) = (&mut *cx.report, cx.everyone);
    let fields = Fields::azure(&item.body, "circuit", &item.name);
    let mut draft = CircuitDraft {
        node: &item.body,
        circuit: Circuit {
            name: item.name.clone(),
            tier: read_tier(report, &fields),
            unlimited_data: read_family(report, &fields),
            bandwidth_mbps: read_bandwidth(report, &fields).ok().flatten(),
            peerings: Vec::new(),
        },
        up: is(report, &fields, "serviceProviderProvisioningState", "Provisioned")
            && is(report, &fields, "circuitProvisioningState", "Enabled"),
        peerings: Vec::new(),
    };
    let mut seen: HashMap<PeeringKind, &Node> = HashMap::new();
    let mut vlans: HashMap<u16, &Node> = HashMap::new();
    for node in fields.list(report, "peerings").unwrap_or_default() {
        let Ok((peering, facts)) = read_peering(report, everyone, &fields, node) else { continue };
        if let Some(first) = seen.insert(peering.kind, node) {
            let at = node.get_ci("peeringType").or_else(|| node.get_ci("name")).unwrap_or(node);
            let place = place(&first.mark, &at.mark);
            let kind = kind_name(peering.kind);
            report.fault(
                at,
                format!("{fields} has its {kind} at {place} already; a circuit has one of each kind"),
            );
        }
        if let (Some(vlan), Some(at)) = (peering.vlan, node.get_ci("vlanId"))
            && let Some(first) = vlans.insert(vlan, at)
        {
            let place = place(&first.mark, &at.mark);
            report.fault(
                at,
                format!("is the vlanId of a peering of {fields} at {place} already; each has its own"),
            );
        }
        draft.circuit.peerings.push(peering);
        draft.peerings.push(facts);
    }
    draft
}

fn read_tier(report: &mut Report, fields: &Fields) -> CircuitTier {
    let tiers = [
        ("Local", CircuitTier::Local),
        ("Standard", CircuitTier::Standard),
        ("Premium", CircuitTier::Premium),
        ("Basic", CircuitTier::Standard),
    ];
    let sku = fields.map(report, "sku").ok().flatten();
    let tier = sku.and_then(|sku| sku.word(report, "tier", &tiers).ok().flatten());
    tier.unwrap_or(CircuitTier::Standard)
}

/// True of UnlimitedData; MeteredData when unsaid.
fn read_family(report: &mut Report, fields: &Fields) -> bool {
    let families = [("MeteredData", false), ("UnlimitedData", true)];
    let sku = fields.map(report, "sku").ok().flatten();
    sku.and_then(|sku| sku.word(report, "family", &families).ok().flatten()).unwrap_or(false)
}

/// The bandwidth; circuits on a port of the customer's own say it in Gbps.
fn read_bandwidth(report: &mut Report, fields: &Fields) -> Read<Option<u32>> {
    let provider = fields.map(report, "serviceProviderProperties")?;
    let Some(provider) = provider.filter(|p| p.get("bandwidthInMbps").is_some()) else {
        let gbps = fields.number(report, "bandwidthInGbps", 1..=400)?;
        return Ok(gbps.and_then(|g| u32::try_from(g * 1000).ok()));
    };
    let mbps = provider.number(report, "bandwidthInMbps", 1..=u64::from(u32::MAX))?;
    match (mbps, provider.get("bandwidthInMbps")) {
        (Some(n), Some(node)) if !BANDWIDTHS.contains(&n) => {
            let known: Vec<String> = BANDWIDTHS.iter().map(u64::to_string).collect();
            let right = super::report::alternatives(known.iter().map(String::as_str));
            Err(report.fault(node, format!("bandwidthInMbps of {fields} must be {right}")))
        }
        (mbps, _) => Ok(mbps.and_then(|n| u32::try_from(n).ok())),
    }
}

/// True if a state is as it must be for traffic, or unsaid.
fn is(report: &mut Report, fields: &Fields, key: &str, good: &str) -> bool {
    let Ok(Some(state)) = fields.text(report, key) else { return true };
    let up = state.eq_ignore_ascii_case(good);
    if let (false, Some(node)) = (up, fields.get(key)) {
        report.warn(node, format!("{fields} carries nothing while its {key} is not {good}"));
    }
    up
}

/// True unless a state is the one in which nothing is carried.
fn is_not(report: &mut Report, fields: &Fields, key: &str, bad: &str) -> bool {
    let Ok(Some(state)) = fields.text(report, key) else { return true };
    let up = !state.eq_ignore_ascii_case(bad);
    if let (false, Some(node)) = (up, fields.get(key)) {
        report.warn(node, format!("{fields} carries nothing while its {key} is {bad}"));
    }
    up
}

fn read_peering<'a>(
    report: &mut Report,
    everyone: Everyone<'_, 'a>,
    circuit: &Fields,
    node: &'a Node,
) -> Read<(CircuitPeering, PeeringFacts<'a>)> {
    if node.as_map().is_none() {
        return Err(report.fault(node, format!("a peering of {circuit} must be a map with a peeringType")));
    }
    let name = node.get_ci("name").and_then(Node::as_text).unwrap_or_default();
    let fields = Fields::azure(node, "peering", name);
    // Exports leave the type to the name at times.
    let key = if fields.get("peeringType").is_some() { "peeringType" } else { "name" };
    let Some(kind) = fields.word(report, key, &KINDS)? else {
        let right = "AzurePrivatePeering, MicrosoftPeering or AzurePublicPeering is needed";
        return Err(fields.lacks(report, "peeringType", right));
    };
    let mut links = Vec::new();
    let v6 = fields.map(report, "ipv6PeeringConfig").ok().flatten();
    let config = fields.map(report, "microsoftPeeringConfig").ok().flatten();
    let advertised = read_advertised(report, config, v6);
    let filters = read_filters(report, everyone, &fields, v6, kind);
    let peering = CircuitPeering {
        name: if name.is_empty() { kind_name(kind).to_string() } else { name.to_string() },
        kind,
        azure_asn: read_asn(report, &fields, "azureASN").unwrap_or(AZURE_ASN),
        peer_asn: read_peer_asn(report, &fields),
        shared_key: read_shared_key(report, &fields),
        vlan: fields.number(report, "vlanId", 1..=4094).ok().flatten().and_then(|n| u16::try_from(n).ok()),
        link_prefixes: LINK_FIELDS.map(|key| read_link(report, &fields, key, true, &mut links)),
        link_prefixes_v6: LINK_FIELDS
            .map(|key| v6.as_ref().and_then(|v6| read_link(report, v6, key, false, &mut links))),
        advertised_public_prefixes: advertised.clone().unwrap_or_default(),
        route_filters: filters.map(|f| f.map(|(index, _)| index)),
        kernel_routes: fields
            .word(report, "routes", &[("bgp", false), ("kernel", true)])
            .ok()
            .flatten()
            .unwrap_or(false),
    };
    if let Some(at) = fields.get("peerASN").filter(|_| peering.peer_asn == Some(peering.azure_asn)) {
        let message = format!(
            "peerASN of {fields} is its azureASN, too; a session is between two systems (eBGP), so there is none"
        );
        report.warn(at, message);
    }
    let configured = kind != PeeringKind::Microsoft
        || config.is_none_or(|c| is(report, &c, "advertisedPublicPrefixesState", "Configured"));
    let up = is_not(report, &fields, "state", "Disabled") && configured;
    let filters = match filters {
        [Some(v4), Some(v6)] if v4.0 == v6.0 => vec![v4],
        filters => filters.into_iter().flatten().collect(),
    };
    Ok((peering, PeeringFacts { up, links, advertised, filters }))
}

fn read_asn(report: &mut Report, fields: &Fields, key: &str) -> Option<u32> {
    let asn = fields.number(report, key, 1..=u64::from(u32::MAX)).ok().flatten();
    asn.and_then(|n| u32::try_from(n).ok())
}

fn read_peer_asn(report: &mut Report, fields: &Fields) -> Option<u32> {
    let asn = read_asn(report, fields, "peerASN")?;
    if let Some(at) = fields.get("peerASN").filter(|_| RESERVED.contains(&u64::from(asn))) {
        let range = format!("{} to {}", RESERVED.start(), RESERVED.end());
        report.fault(
            at,
            format!("peerASN of {fields} must not be one of {range}, which Azure keeps for itself"),
        );
    }
    Some(asn)
}

/// The key of TCP-MD5; null in exports. No fault says what it is.
fn read_shared_key(report: &mut Report, fields: &Fields) -> Option<SharedKey> {
    let node = fields.get("sharedKey")?;
    let text = node.as_text().unwrap_or_default();
    let message = if azure::unresolved(text).is_some() {
        format!("sharedKey of {fields} is an ARM expression whose value is not known; give it one")
    } else if let Some(key) = SharedKey::new(text) {
        return Some(key);
    } else {
        format!("sharedKey of {fields} must be a text of at most {} bytes", SharedKey::LONGEST)
    };
    report.fault_at(&node.mark, "", message);
    None
}

/// What Microsoft and public peering may learn: what the peering says, and what its part for IPv6 says of its own. An empty
/// list says so, too: nothing.
fn read_advertised(report: &mut Report, config: Option<Fields>, v6: Option<Fields>) -> Option<Vec<Prefix>> {
    let of_v6 = v6.and_then(|v6| v6.map(report, "microsoftPeeringConfig").ok().flatten());
    let mut advertised: Option<Vec<Prefix>> = None;
    for config in [config, of_v6].into_iter().flatten() {
        let (prefixes, _) = config.prefixes(report, "advertisedPublicPrefixes");
        if config.node.get_ci("advertisedPublicPrefixes").is_some_and(|node| node.as_list().is_some()) {
            advertised.get_or_insert_default().extend(prefixes.into_iter().map(|(p, _)| p));
        }
    }
    advertised
}

/// The route filters for IPv4 and IPv6: that of the peering, unless its part for IPv6 names one of its own.
fn read_filters<'a>(
    report: &mut Report,
    everyone: Everyone<'_, 'a>,
    fields: &Fields<'a>,
    v6: Option<Fields<'a>>,
    kind: PeeringKind,
) -> [Option<(usize, &'a Node)>; 2] {
    let mut read = |fields: &Fields<'a>| {
        let node = fields.get("routeFilter")?;
        if kind == PeeringKind::Private {
            let message = format!(
                "routeFilter is of Microsoft and public peering only; {fields} advertises its virtual networks"
            );
            report.fault(names::named(node), message);
            return None;
        }
        let filter = everyone.optional(report, fields, "routeFilter", Slot::RouteFilter).ok()?;
        filter.map(|index| (index, names::named(node)))
    };
    let v4 = read(fields);
    let of_v6 = v6.as_ref().and_then(read);
    [v4, of_v6.or(v4)]
}

/// The prefix of one link: a /30, of IPv6 a /126, so that each end has one address.
fn read_link<'a>(
    report: &mut Report,
    fields: &Fields<'a>,
    key: &str,
    ipv4: bool,
    links: &mut Vec<(Prefix, &'a Node)>,
) -> Option<Prefix> {
    let prefix = fields.prefix(report, key).ok().flatten()?;
    let node = fields.get(key)?;
    let (len, family) = if ipv4 { (30, "IPv4") } else { (126, "IPv6") };
    if prefix.is_ipv4() != ipv4 || prefix.len() != len {
        report.fault(node, format!("{} must be an {family} prefix of length {len}", fields.of(key)));
        return None;
    }
    if let Some((other, at)) = links.iter().find(|(p, _)| p.overlaps(&prefix)) {
        let place = place(&at.mark, &node.mark);
        report.fault(
            node,
            format!("overlaps the link prefix {other} at {place}; the two links need prefixes of their own"),
        );
    }
    links.push((prefix, node));
    Some(prefix)
}

/// The link that a tunnel or learned route names.
pub fn read_link_name(report: &mut Report, fields: &Fields) -> Read<Option<Link>> {
    fields.word(report, "link", &[("primary", Link::Primary), ("secondary", Link::Secondary)])
}

/// The circuit's peering that a tunnel or learned route names; private peering when unsaid.
pub fn read_peering_name(report: &mut Report, fields: &Fields, circuit: &CircuitDraft) -> Read<usize> {
    let name = fields.text(report, "peering")?.unwrap_or("AzurePrivatePeering");
    if let Some(index) = circuit.find_peering(name) {
        return Ok(index);
    }
    let known: Vec<&str> = circuit.circuit.peerings.iter().map(|p| p.name.as_str()).collect();
    let listed = circuit.node.get_ci("peerings").and_then(Node::as_list).unwrap_or_default();
    if listed.len() > known.len() {
        // A peering of this circuit could not be read; its fault is told.
        return Err(Reported);
    }
    let right =
        if known.is_empty() { "it has none".to_string() } else { format!("it has {}", known.join(", ")) };
    let at = fields.get("peering").or_else(|| fields.get("circuit")).unwrap_or(fields.node);
    Err(report.fault(at, format!("circuit '{}' has no peering {name}; {right}", circuit.circuit.name)))
}

/// Link prefixes must not lie in virtual networks of the customer.
pub fn check_link_prefixes(report: &mut Report, circuits: &[CircuitDraft], vnets: &[VnetDraft]) {
    for (prefix, node) in circuits.iter().flat_map(|c| &c.peerings).flat_map(|p| &p.links) {
        let holds = |v: &&VnetDraft| v.ranges.iter().any(|(r, _)| r.overlaps(prefix));
        if let Some(vnet) = vnets.iter().find(holds) {
            let message = format!(
                "overlaps virtual network '{}'; link prefixes need addresses of their own",
                vnet.name
            );
            report.fault(node, message);
        }
    }
}
