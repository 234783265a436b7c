//! Network security groups compiled for the endpoints of one subnet: user rules by priority, then Azure's six default
//! rules, with every tag and application security group turned into prefixes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ahash::RandomState;

use super::names::Names;
use crate::model::{Access, AddressItem, AddressMatch, Customer, Nsg, Rule, RuleProtocol, ServiceTags};
use crate::packet::Direction;
use crate::sys::{Wide, prefetch};
use crate::table::classify::{Bits, Classifier, Fields, Found, bits_where};
use crate::types::Prefix;
use crate::wire::protocol;

/// The platform addresses: 168.63.129.16 and 169.254.169.254.
#[inline]
pub fn is_platform(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V4(a) if matches!(a.octets(), [168, 63, 129, 16] | [169, 254, 169, 254]))
}

/// The tags that rules for platform addresses name.
const PLATFORM_TAGS: [&str; 3] = ["AzurePlatformDNS", "AzurePlatformIMDS", "AzurePlatformLKM"];

/// The load balancer's probes come from here.
fn load_balancer() -> Prefix {
    Prefix::v4(168, 63, 129, 16, 32)
}

/// What the tags VirtualNetwork and Internet, and application security groups, stand for at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// VirtualNetwork.
    pub virtual_network: Arc<[Prefix]>,
    /// Internet.
    pub internet: Arc<[Prefix]>,
    /// The VNet whose NICs are members of application security groups.
    pub vnet: usize,
}

/// A rule in the order it is asked.
#[derive(Clone, Debug)]
pub struct RankedRule<'a> {
    /// The rule; of a default rule made from the table below.
    pub rule: std::borrow::Cow<'a, Rule>,
    /// One of Azure's six.
    pub is_default: bool,
}

impl RankedRule<'_> {
    /// As flow logs write it: `UserRule_NAME` or `DefaultRule_NAME`.
    pub fn log_name(&self) -> String {
        let mut name = String::new();
        self.write_log_name(&mut name);
        name
    }

    fn write_log_name(&self, name: &mut String) {
        name.push_str(if self.is_default { "DefaultRule_" } else { "UserRule_" });
        name.push_str(&self.rule.name);
    }
}

/// The rules of one direction, ascending priority, default rules last.
pub fn ranked(nsg: &Nsg, direction: Direction) -> Vec<RankedRule<'_>> {
    use std::borrow::Cow;
    let user = nsg.rules.iter().filter(|r| r.direction == direction);
    let mut rules: Vec<_> =
        user.map(|rule| RankedRule { rule: Cow::Borrowed(rule), is_default: false }).collect();
    rules.sort_by_key(|r| r.rule.priority);
    let defaults = default_rules().into_iter().filter(|r| r.direction == direction);
    rules.extend(defaults.map(|rule| RankedRule { rule: Cow::Owned(rule), is_default: true }));
    rules
}

/// Azure's default rules (network security groups overview, "Default security rules").
pub fn default_rules() -> [Rule; 6] {
    use AddressItem::{Any, AzureLoadBalancer, Internet, VirtualNetwork};
    use Direction::{Inbound, Outbound};
    let rule = |priority, direction, name: &str, source, destination, access| {
        let side = |item| AddressMatch { items: vec![item], asgs: vec![] };
        Rule {
            name: name.to_owned(),
            priority,
            direction,
            access,
            protocol: RuleProtocol::Any,
            source: side(source),
            destination: side(destination),
            source_ports: vec![(0, u16::MAX)],
            destination_ports: vec![(0, u16::MAX)],
        }
    };
    [
        rule(65000, Inbound, "AllowVnetInBound", VirtualNetwork, VirtualNetwork, Access::Allow),
        rule(65001, Inbound, "AllowAzureLoadBalancerInBound", AzureLoadBalancer, Any, Access::Allow),
        rule(65500, Inbound, "DenyAllInBound", Any, Any, Access::Deny),
        rule(65000, Outbound, "AllowVnetOutBound", VirtualNetwork, VirtualNetwork, Access::Allow),
        rule(65001, Outbound, "AllowInternetOutBound", Any, Internet, Access::Allow),
        rule(65500, Outbound, "DenyAllOutBound", Any, Any, Access::Deny),
    ]
}

/// The tag Internet of a VNet: the IPv4 space without private, shared, loopback, link-local, multicast and reserved
/// ranges, 168.63.129.16 and the VNet's own ranges; of IPv6, 2000::/3 without the VNet's own ranges.
pub fn internet_tag(space: &[Prefix]) -> Vec<Prefix> {
    let mut without = vec![
        Prefix::v4(0, 0, 0, 0, 8),
        Prefix::v4(10, 0, 0, 0, 8),
        Prefix::v4(100, 64, 0, 0, 10),
        Prefix::v4(127, 0, 0, 0, 8),
        Prefix::v4(169, 254, 0, 0, 16),
        Prefix::v4(172, 16, 0, 0, 12),
        Prefix::v4(192, 168, 0, 0, 16),
        Prefix::v4(168, 63, 129, 16, 32),
        Prefix::v4(224, 0, 0, 0, 3),
    ];
    without.extend_from_slice(space);
    let global_v6 = Prefix::new(IpAddr::from([0x2000, 0, 0, 0, 0, 0, 0, 0]), 3);
    let mut out = Vec::new();
    for whole in [Prefix::ALL_V4, global_v6] {
        subtract(whole, &without, &mut out);
    }
    out
}

/// Appends what is left of `prefix` without the others, in order, in as few prefixes as possible.
fn subtract(prefix: Prefix, without: &[Prefix], out: &mut Vec<Prefix>) {
    if without.iter().any(|w| w.covers(&prefix)) {
        return;
    }
    let inside: Vec<Prefix> = without.iter().copied().filter(|w| prefix.covers(w)).collect();
    if inside.is_empty() {
        out.push(prefix);
        return;
    }
    let low = Prefix::new(prefix.first(), prefix.len() + 1);
    let high = Prefix::new(prefix.last(), prefix.len() + 1);
    subtract(low, &inside, out);
    subtract(high, &inside, out);
}

/// The addresses of the NICs of a VNet that are members of any of these application security groups.
pub fn asg_addresses(customer: &Customer, vnet: usize, asgs: &[usize]) -> Vec<Prefix> {
    if asgs.is_empty() {
        return Vec::new();
    }
    let members = customer.nics.iter().filter(|n| n.vnet == vnet && n.asgs.iter().any(|a| asgs.contains(a)));
    members.flat_map(|n| n.addresses.iter().map(|a| Prefix::host(*a))).collect()
}

/// The prefixes that one side of a rule stands for; `None` is every address of both families.
pub fn expand(
    side: &AddressMatch,
    customer: &Customer,
    tags: &ServiceTags,
    scope: &Scope,
) -> Option<Vec<Prefix>> {
    let mut prefixes = asg_addresses(customer, scope.vnet, &side.asgs);
    for item in &side.items {
        match item {
            AddressItem::Any => return None,
            AddressItem::Prefix(p) => prefixes.push(*p),
            AddressItem::VirtualNetwork => prefixes.extend_from_slice(&scope.virtual_network),
            AddressItem::Internet => prefixes.extend_from_slice(&scope.internet),
            AddressItem::AzureLoadBalancer => prefixes.push(load_balancer()),
            AddressItem::Tag(name) => {
                prefixes.extend(tags.find(name).map_or(&[][..], |t| &t.prefixes).iter().copied());
            }
        }
    }
    Some(prefixes)
}

/// What the sides of a group's rules stand for. Those that stand for the same refer to one list, because a tag may hold
/// thousands.
struct Sides<'a> {
    customer: &'a Customer,
    tags: &'a ServiceTags,
    scope: &'a Scope,
    load_balancer: [Prefix; 1],
    /// Lists that stand nowhere else.
    made: Vec<Vec<Prefix>>,
    of_asgs: HashMap<&'a [usize], usize, RandomState>,
}

/// The addresses of one side of a rule.
#[derive(Clone, Copy)]
enum Side<'a> {
    Any,
    LoadBalancer,
    List(&'a [Prefix]),
    /// One of [`Sides::made`].
    Made(usize),
}

impl<'a> Sides<'a> {
    fn side(&mut self, side: &'a AddressMatch) -> Side<'a> {
        match (side.items.as_slice(), side.asgs.as_slice()) {
            ([AddressItem::Any], _) => Side::Any,
            ([AddressItem::Prefix(prefix)], []) => Side::List(std::slice::from_ref(prefix)),
            ([AddressItem::VirtualNetwork], []) => Side::List(&self.scope.virtual_network),
            ([AddressItem::Internet], []) => Side::List(&self.scope.internet),
            ([AddressItem::AzureLoadBalancer], []) => Side::LoadBalancer,
            ([AddressItem::Tag(name)], []) => {
                Side::List(self.tags.find(name).map_or(&[], |tag| &tag.prefixes))
            }
            ([], asgs) => match self.of_asgs.get(asgs) {
                Some(list) => Side::Made(*list),
                None => {
                    self.of_asgs.insert(asgs, self.made.len());
                    self.make(side)
                }
            },
            _ => self.make(side),
        }
    }

    fn make(&mut self, side: &AddressMatch) -> Side<'a> {
        match expand(side, self.customer, self.tags, self.scope) {
            None => Side::Any,
            Some(prefixes) => {
                self.made.push(prefixes);
                Side::Made(self.made.len() - 1)
            }
        }
    }

    /// The prefixes of a side; `None` for every address.
    fn prefixes(&self, side: Side<'a>) -> Option<&[Prefix]> {
        match side {
            Side::Any => None,
            Side::LoadBalancer => Some(&self.load_balancer),
            Side::List(prefixes) => Some(prefixes),
            Side::Made(list) => self.made.get(list).map(Vec::as_slice),
        }
    }
}

/// What a compiled rule says.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    /// Its name as flow logs write it.
    pub name: u32,
    /// Its priority.
    pub priority: u16,
    /// Allow or deny.
    pub access: Access,
}

/// One direction of a compiled group.
#[derive(Debug)]
pub struct Rules {
    classifier: Classifier,
    decisions: Vec<Decision>,
    /// The rules that name a platform tag on the platform's side: source of inbound, destination of outbound rules.
    platform: Option<Bits>,
    /// The rules that name application security groups, on either side: such a rule applies to NICs that are members of
    /// one it names, and to no other endpoint (Azure, application security groups).
    of_members: Vec<(usize, Vec<usize>)>,
    /// The rules that apply to endpoints that are in no application security group; absent when all do.
    of_all: Option<Bits>,
}

impl Rules {
    fn new<'a>(
        ranked: &'a [RankedRule<'a>],
        direction: Direction,
        sides: &mut Sides<'a>,
        names: &mut Names,
    ) -> Rules {
        let pairs: Vec<_> =
            ranked.iter().map(|r| (sides.side(&r.rule.source), sides.side(&r.rule.destination))).collect();
        let fields: Vec<Fields<'_>> = ranked
            .iter()
            .zip(&pairs)
            .map(|(r, (source, destination))| Fields {
                protocols: protocols(r.rule.protocol),
                source: sides.prefixes(*source),
                destination: sides.prefixes(*destination),
                source_ports: &r.rule.source_ports,
                destination_ports: &r.rule.destination_ports,
            })
            .collect();
        let mut name = String::new();
        let decisions = ranked
            .iter()
            .map(|r| {
                name.clear();
                r.write_log_name(&mut name);
                Decision { name: names.rule(&name), priority: r.rule.priority, access: r.rule.access }
            })
            .collect();
        fn remote_side(r: &Rule, direction: Direction) -> &AddressMatch {
            if direction == Direction::Inbound { &r.source } else { &r.destination }
        }
        let platform = bits_where(ranked, |r| {
            remote_side(&r.rule, direction).items.iter().any(
                |i| matches!(i, AddressItem::Tag(t) if PLATFORM_TAGS.iter().any(|p| p.eq_ignore_ascii_case(t))),
            )
        });
        let of_members: Vec<(usize, Vec<usize>)> = ranked
            .iter()
            .enumerate()
            .filter(|(_, r)| r.rule.names_asgs())
            .map(|(i, r)| (i, [&r.rule.source.asgs[..], &r.rule.destination.asgs[..]].concat()))
            .collect();
        let of_all = (!of_members.is_empty()).then(|| bits_where(ranked, |r| !r.rule.names_asgs()));
        Rules {
            classifier: Classifier::of(&fields),
            decisions,
            platform: platform.iter().any(|w| *w != 0).then_some(platform),
            of_members,
            of_all,
        }
    }

    /// The rules that apply to a NIC with these memberships; absent when all do.
    pub fn for_members_of(&self, asgs: &[usize]) -> Option<Bits> {
        let mut bits = self.of_all.clone()?;
        for (rule, named) in &self.of_members {
            if named.iter().any(|a| asgs.contains(a)) {
                bits[rule / 64] |= 1 << (rule % 64);
            }
        }
        Some(bits)
    }

    /// The rules that apply to an endpoint without NIC resource; absent when all do.
    pub fn for_no_member(&self) -> Option<&[u64]> {
        self.of_all.as_deref()
    }

    /// What the first matching rule says; the default rules match everything.
    #[inline]
    pub fn ask(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        ports: (u16, u16),
        applying: Option<&[u64]>,
    ) -> Option<Decision> {
        let rule = self.classifier.first_match(source, destination, protocol, ports, applying)?;
        self.decisions.get(rule).copied()
    }

    /// The first half of [`Rules::ask`] for IPv4, compiled for a token: where in each field the packet is.
    #[inline(always)]
    pub fn find_v4<W: Wide>(
        &self,
        wide: W,
        source: u32,
        destination: u32,
        protocol: u8,
        ports: (u16, u16),
    ) -> Found {
        self.classifier.find_v4(wide, source, destination, protocol, ports)
    }

    /// The second half: what the first rule says that matches there.
    #[inline(always)]
    pub fn decide<W: Wide>(&self, wide: W, found: &Found, applying: Option<&[u64]>) -> Option<Decision> {
        let rule = self.classifier.first_of(wide, found, applying)?;
        self.decisions.get(rule).copied()
    }

    /// Asks for the header: what a decision about a TCP or UDP packet reads first.
    #[inline(always)]
    pub fn prefetch_header(&self, protocol: u8) {
        self.classifier.prefetch_header(protocol);
        prefetch(&self.decisions);
    }

    /// Asks for what [`Rules::decide`] reads first.
    #[inline(always)]
    pub fn prefetch_found(&self, found: &Found) {
        self.classifier.prefetch_found(found);
    }

    /// What the first matching rule that names a platform tag says.
    pub fn ask_platform(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        ports: (u16, u16),
    ) -> Option<Decision> {
        let rules = self.platform.as_deref()?;
        let rule = self.classifier.first_match(source, destination, protocol, ports, Some(rules))?;
        self.decisions.get(rule).copied()
    }

    /// How many rules, the default rules counted.
    pub fn len(&self) -> usize {
        self.decisions.len()
    }

    /// Never: the default rules are always there.
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty()
    }

    /// Bytes it holds.
    pub fn memory(&self) -> usize {
        self.classifier.memory() + self.decisions.len() * size_of::<Decision>()
    }
}

/// A network security group, compiled for the endpoints of one subnet.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its id in Azure, if the configuration says it.
    pub resource: Option<Box<str>>,
    /// `flushConnection`.
    pub flush: bool,
    inbound: Rules,
    outbound: Rules,
}

impl Group {
    /// Compiles a group; cannot fail, because the model is valid.
    pub fn new(
        nsg: &Nsg,
        customer: &Customer,
        tags: &ServiceTags,
        scope: &Scope,
        names: &mut Names,
    ) -> Group {
        let [inbound, outbound] = [Direction::Inbound, Direction::Outbound].map(|d| (ranked(nsg, d), d));
        let (made, of_asgs) = (Vec::new(), HashMap::default());
        let load_balancer = [load_balancer()];
        let mut sides = Sides { customer, tags, scope, load_balancer, made, of_asgs };
        Group {
            name: nsg.name.clone(),
            resource: nsg.id.as_deref().map(Into::into),
            flush: nsg.flush_connection,
            inbound: Rules::new(&inbound.0, inbound.1, &mut sides, names),
            outbound: Rules::new(&outbound.0, outbound.1, &mut sides, names),
        }
    }

    /// The rules of one direction.
    #[inline]
    pub fn rules(&self, direction: Direction) -> &Rules {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }
}

/// The numbers of the protocols that a rule names; `None` for all.
fn protocols(named: RuleProtocol) -> Option<&'static [u8]> {
    Some(match named {
        RuleProtocol::Any => return None,
        RuleProtocol::Tcp => &[protocol::TCP],
        RuleProtocol::Udp => &[protocol::UDP],
        RuleProtocol::Icmp => &[protocol::ICMP, protocol::ICMPV6],
        RuleProtocol::Esp => &[protocol::ESP],
        RuleProtocol::Ah => &[protocol::AH],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internet_begins_as_azure_expands_it() {
        let shown: Vec<String> = internet_tag(&[]).iter().map(Prefix::to_string).collect();
        let azure = ["1.0.0.0/8", "2.0.0.0/7", "4.0.0.0/6", "8.0.0.0/7", "11.0.0.0/8", "12.0.0.0/6"];
        assert_eq!(shown[..6], azure);
        assert!(shown.contains(&"32.0.0.0/3".to_owned()) && shown.contains(&"2000::/3".to_owned()));
        let own = internet_tag(&["20.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
        let holds = |a: &str| own.iter().any(|p| p.contains(a.parse().unwrap()));
        assert!(holds("21.0.0.1") && holds("2001:db9::1"));
        for outside in [
            "20.1.1.1",
            "2001:db8::1",
            "10.1.1.1",
            "168.63.129.16",
            "224.0.0.1",
            "240.0.0.1",
            "fd00::1",
            "100.127.0.1",
        ] {
            assert!(!holds(outside), "{outside}");
        }
    }
}
