//! A walk told step by step, for `explain`. Costs one branch per step when nobody listens.

use std::net::IpAddr;

use crate::packet::Direction;
use crate::table::records::Owner;

/// One thing that was found or decided on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The step of the contract's section 3.
    pub number: u8,
    /// What the step looks at, in a word or two.
    pub name: &'static str,
    /// What was found, for a person.
    pub text: String,
}

/// What is noted of an endpoint without any network security group.
pub const NO_GROUP: &str = "no NSG here: allowed";

/// What a walk came by, for whoever explains it further. VNets are told by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// On the fabric: the source lives on the host that sent it, so the packet is its own, whoever sent it.
    pub own: bool,
    /// The VNet and subnet whose routes were asked.
    pub routed_in: Option<(u32, String)>,
    /// The route that won is user-defined.
    pub user_defined: bool,
    /// The appliance that the route names.
    pub next_hop_ip: Option<IpAddr>,
    /// The VNet and address that the packet was delivered to, on the fabric.
    pub delivered: Option<(u32, IpAddr)>,
    /// The tunnel that the packet left by.
    pub tunnel: Option<u32>,
    /// Where rules denied it.
    pub denied: Option<Denied>,
}

/// The network security group that denied a packet, and at which endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The group.
    pub group: String,
    /// The way the packet crossed the endpoint.
    pub direction: Direction,
    /// The endpoint's VNet.
    pub vnet: u32,
    /// The endpoint's subnet.
    pub subnet: String,
    /// Whose records the endpoint's are.
    pub owner: Owner,
    /// The packet goes to or comes from a platform address, for which only rules are asked that name it.
    pub platform: bool,
}

/// Where a walk is written down, if anywhere.
#[derive(Debug, Default)]
pub struct Trace {
    told: Option<(Vec<Step>, Facts)>,
}

impl Trace {
    /// Nobody listens.
    pub fn off() -> Trace {
        Trace { told: None }
    }

    /// Everything is written down.
    pub fn on() -> Trace {
        Trace { told: Some((Vec::new(), Facts::default())) }
    }

    /// Notes a step; the text is made only when somebody listens.
    #[inline]
    pub fn note(&mut self, number: u8, name: &'static str, text: impl FnOnce() -> String) {
        if let Some((steps, _)) = &mut self.told {
            steps.push(Step { number, name, text: text() });
        }
    }

    /// Keeps a fact, when somebody listens.
    #[inline]
    pub fn keep(&mut self, fact: impl FnOnce(&mut Facts)) {
        if let Some((_, facts)) = &mut self.told {
            fact(facts);
        }
    }

    /// What was noted and kept.
    pub fn into_parts(self) -> (Vec<Step>, Facts) {
        self.told.unwrap_or_default()
    }
}
