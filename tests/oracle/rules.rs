//! "Rules": which rules an endpoint has, what they match, and what they say.

use std::net::IpAddr;

use clearway::model::{
    Access, AddressItem, AddressMatch, Customer, GATEWAY_SUBNET, Model, Nsg, Rule, RuleProtocol,
};
use clearway::packet::Direction;
use clearway::types::Prefix;

use super::routes::{self, EffectiveRoute, Hop, Source};
use super::seen::seen_if;

/// "endpoint | where an NSG is enforced: a NIC, or, for an address of a subnet with no NIC resource, that (VNet,
/// address)".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub customer: usize,
    pub vnet: usize,
    pub subnet: usize,
    pub nic: Option<usize>,
    /// The address by which it was found.
    pub address: IpAddr,
}

/// The subnet of a VNet that holds the address.
pub fn subnet_of(customer: &Customer, vnet: usize, address: IpAddr) -> Option<usize> {
    customer.vnets[vnet].subnets.iter().position(|s| s.prefixes.iter().any(|p| p.contains(address)))
}

/// The endpoint of an address, if it lies in a subnet.
pub fn endpoint_at(model: &Model, customer: usize, vnet: usize, address: IpAddr) -> Option<Endpoint> {
    let owner = &model.customers[customer];
    let subnet = subnet_of(owner, vnet, address)?;
    let nic = owner.nics.iter().position(|n| n.vnet == vnet && n.addresses.contains(&address));
    let subnet = nic.map_or(subnet, |n| owner.nics[n].subnet);
    Some(Endpoint { customer, vnet, subnet, nic, address })
}

/// The NSGs of an endpoint in the order in which they are asked. "inbound = subnet NSG, then NIC NSG; outbound = NIC
/// NSG, then subnet NSG"; "An NSG on GatewaySubnet has no effect."
pub fn nsgs<'a>(model: &'a Model, endpoint: &Endpoint, direction: Direction) -> Vec<&'a Nsg> {
    let owner = &model.customers[endpoint.customer];
    let subnet = &owner.vnets[endpoint.vnet].subnets[endpoint.subnet];
    let of_subnet = if subnet.name.eq_ignore_ascii_case(GATEWAY_SUBNET) { None } else { subnet.nsg };
    let of_nic = endpoint.nic.and_then(|n| owner.nics[n].nsg);
    let order = match direction {
        Direction::Inbound => [of_subnet, of_nic],
        Direction::Outbound => [of_nic, of_subnet],
    };
    order.into_iter().flatten().map(|n| &*owner.nsgs[n]).collect()
}

/// What rules are asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub direction: Direction,
    pub protocol: u8,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Of TCP and UDP.
    pub ports: Option<(u16, u16)>,
}

/// What the NSGs of an endpoint say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The rule of the last NSG asked.
    Allowed(String),
    Denied(String),
}

/// One NSG after the other, each ends with a default rule; `None` if the endpoint has no NSG.
pub fn judge(
    model: &Model,
    routes: &[EffectiveRoute],
    endpoint: &Endpoint,
    question: &Question,
) -> Option<Answer> {
    let asker = Asker { model, routes, endpoint, question };
    let mut answer = None;
    for nsg in nsgs(model, endpoint, question.direction) {
        let (access, rule) = asker.first_match(nsg);
        match access {
            Access::Deny => {
                seen_if(answer.is_some(), "rules: deny by the second NSG");
                return Some(Answer::Denied(rule));
            }
            Access::Allow => answer = Some(Answer::Allowed(rule)),
        }
    }
    answer
}

/// "For a packet from or to a platform address only rules that name AzurePlatformDNS, AzurePlatformIMDS or
/// AzurePlatformLKM on that address's side are asked, each NSG in its order: in each the first of them that matches
/// decides, a deny is nsg-deny under its name, an allow goes on to the next NSG; otherwise it passes, rule null".
pub fn judge_platform(
    model: &Model,
    routes: &[EffectiveRoute],
    endpoint: &Endpoint,
    question: &Question,
) -> Option<Answer> {
    let asker = Asker { model, routes, endpoint, question };
    let mut answer = None;
    for nsg in nsgs(model, endpoint, question.direction) {
        let decides = sorted(nsg, question.direction).into_iter().find(|rule| {
            let side = if routes::is_platform(question.source) { &rule.source } else { &rule.destination };
            names_platform(side) && asker.rule_matches(rule)
        });
        match decides {
            Some(rule) if rule.access == Access::Deny => return Some(Answer::Denied(user_rule(rule))),
            Some(rule) => answer = Some(Answer::Allowed(user_rule(rule))),
            None => {}
        }
    }
    answer
}

fn names_platform(side: &AddressMatch) -> bool {
    let platform = ["AzurePlatformDNS", "AzurePlatformIMDS", "AzurePlatformLKM"];
    side.items.iter().any(|item| match item {
        AddressItem::Tag(tag) => platform.iter().any(|p| p.eq_ignore_ascii_case(tag)),
        _ => false,
    })
}

fn user_rule(rule: &Rule) -> String {
    format!("UserRule_{}", rule.name)
}

/// "Ascending priority"
fn sorted(nsg: &Nsg, direction: Direction) -> Vec<&Rule> {
    let mut rules: Vec<&Rule> = nsg.rules.iter().filter(|r| r.direction == direction).collect();
    rules.sort_by_key(|r| r.priority);
    rules
}

/// A question to the rules of an endpoint, with what tags and groups mean there.
struct Asker<'a> {
    model: &'a Model,
    routes: &'a [EffectiveRoute],
    endpoint: &'a Endpoint,
    question: &'a Question,
}

impl Asker<'_> {
    /// "Ascending priority, first match, Azure's six default rules at the end of every NSG".
    fn first_match(&self, nsg: &Nsg) -> (Access, String) {
        for rule in sorted(nsg, self.question.direction) {
            if self.rule_matches(rule) {
                return (rule.access, user_rule(rule));
            }
        }
        let (source, destination) = (self.question.source, self.question.destination);
        let (access, name) = match self.question.direction {
            Direction::Inbound => {
                if self.in_virtual_network(source) && self.in_virtual_network(destination) {
                    (Access::Allow, "AllowVnetInBound")
                } else if source == IpAddr::from([168, 63, 129, 16]) {
                    (Access::Allow, "AllowAzureLoadBalancerInBound")
                } else {
                    (Access::Deny, "DenyAllInBound")
                }
            }
            Direction::Outbound => {
                if self.in_virtual_network(source) && self.in_virtual_network(destination) {
                    (Access::Allow, "AllowVnetOutBound")
                } else if self.in_internet(destination) {
                    (Access::Allow, "AllowInternetOutBound")
                } else {
                    (Access::Deny, "DenyAllOutBound")
                }
            }
        };
        (access, format!("DefaultRule_{name}"))
    }

    fn rule_matches(&self, rule: &Rule) -> bool {
        let q = self.question;
        let protocol = match rule.protocol {
            RuleProtocol::Any => true,
            RuleProtocol::Tcp => q.protocol == 6,
            RuleProtocol::Udp => q.protocol == 17,
            RuleProtocol::Icmp => q.protocol == 1 || q.protocol == 58,
            RuleProtocol::Esp => q.protocol == 50,
            RuleProtocol::Ah => q.protocol == 51,
        };
        protocol
            && self.applies(rule)
            && self.side_matches(&rule.source, q.source)
            && self.side_matches(&rule.destination, q.destination)
            && port_matches(&rule.source_ports, q.ports.map(|p| p.0))
            && port_matches(&rule.destination_ports, q.ports.map(|p| p.1))
    }

    /// "ASG: rule applies only to member NICs; [...] non-member: rule not applied."
    fn applies(&self, rule: &Rule) -> bool {
        let mut named = rule.source.asgs.iter().chain(&rule.destination.asgs).peekable();
        if named.peek().is_none() {
            return true;
        }
        let nics = &self.model.customers[self.endpoint.customer].nics;
        let member = self.endpoint.nic.is_some_and(|nic| named.any(|asg| nics[nic].asgs.contains(asg)));
        seen_if(!member, "rules: ASG not applied");
        member
    }

    fn side_matches(&self, side: &AddressMatch, address: IpAddr) -> bool {
        side.items.iter().any(|item| match item {
            AddressItem::Any => true,
            AddressItem::Prefix(prefix) => prefix.contains(address),
            AddressItem::VirtualNetwork => self.in_virtual_network(address),
            AddressItem::Internet => self.in_internet(address),
            AddressItem::AzureLoadBalancer => address == IpAddr::from([168, 63, 129, 16]),
            AddressItem::Tag(tag) => {
                let tag = self.model.tags.find(tag);
                let holds = tag.is_some_and(|t| t.prefixes.iter().any(|p| p.contains(address)));
                seen_if(holds, "rules: tag matched");
                holds
            }
        }) || side.asgs.iter().any(|asg| self.in_asg(*asg, address))
    }

    /// "An ASG matches an address if a member NIC of the endpoint's own VNet has it".
    fn in_asg(&self, asg: usize, address: IpAddr) -> bool {
        let member = |n: &clearway::model::Nic| {
            n.vnet == self.endpoint.vnet && n.asgs.contains(&asg) && n.addresses.contains(&address)
        };
        let holds = self.model.customers[self.endpoint.customer].nics.iter().any(member);
        seen_if(holds, "rules: ASG matched");
        holds
    }

    /// "`VirtualNetwork` of an endpoint: its VNet's ranges, 168.63.129.16/32, and the prefixes of all routes in its
    /// subnet's effective routes, Active or Invalid, that are peering, learned or user-defined".
    fn in_virtual_network(&self, address: IpAddr) -> bool {
        let customer = &self.model.customers[self.endpoint.customer];
        routes::in_space(customer, self.endpoint.vnet, address)
            || address == IpAddr::from([168, 63, 129, 16])
            || self.routes.iter().any(|r| {
                (r.source != Source::System || matches!(r.hop, Hop::Peering(_))) && r.prefix.contains(address)
            })
    }

    /// "`Internet`: everything outside 0/8, 10/8, 100.64/10, 127/8, 169.254/16, 172.16/12, 192.168/16,
    /// 168.63.129.16/32, 224/3 and the VNet's own ranges [...]; IPv6: 2000::/3 without the VNet's own ranges."
    fn in_internet(&self, address: IpAddr) -> bool {
        let outside = [
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
        let reachable = match address {
            IpAddr::V4(_) => !outside.iter().any(|p| p.contains(address)),
            IpAddr::V6(a) => a.octets()[0] >> 5 == 1,
        };
        let customer = &self.model.customers[self.endpoint.customer];
        reachable && !routes::in_space(customer, self.endpoint.vnet, address)
    }
}

/// "Ports match only TCP and UDP; `*` and 0-65535 match any protocol."
fn port_matches(ranges: &[(u16, u16)], port: Option<u16>) -> bool {
    ranges.iter().any(|&(low, high)| {
        (low, high) == (0, 65_535) || port.is_some_and(|port| (low..=high).contains(&port))
    })
}
