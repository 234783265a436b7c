//! `routes` and `rules`: what is in force for a subnet or NIC.

use super::args::{RoutesArgs, RulesArgs};
use super::terminal::Terminal;
use super::{Exit, Refused, load};
use crate::model::Model;
use crate::observe::routes::{EffectiveRoutes, SubnetAt};
use crate::observe::rules::EffectiveRules;
use crate::observe::{find, json};

/// Shows the effective routes of a subnet.
pub fn routes(args: &RoutesArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let model = load(&args.config, terminal)?;
    let at = subnet(&model, &args.customer, &args.vnet, &args.subnet)?;
    let routes = EffectiveRoutes::of(at);
    if args.json {
        terminal.line(json::document(&routes));
    } else {
        terminal.print(routes.table(terminal.style));
    }
    Ok(Exit::Done)
}

/// Shows the effective security rules of a subnet or NIC.
pub fn rules(args: &RulesArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let model = load(&args.config, terminal)?;
    let rules = match (&args.subnet, &args.nic) {
        (Some(name), _) => EffectiveRules::of(subnet(&model, &args.customer, &args.vnet, name)?, None),
        (None, nic) => nic_rules(&model, &args.customer, &args.vnet, nic.as_deref().unwrap_or_default())?,
    };
    if args.json {
        terminal.line(json::document(&rules));
    } else {
        terminal.print(rules.table(terminal.style));
    }
    Ok(Exit::Done)
}

fn subnet<'a>(model: &'a Model, customer: &str, vnet: &str, name: &str) -> Result<SubnetAt<'a>, Refused> {
    let (customer, vnet) = find::customer_and_vnet(model, customer, vnet)?;
    let subnets = customer.vnets.get(vnet).map_or(&[][..], |v| &v.subnets);
    let of = format!("of VNet '{}'", find::vnet_name(customer, vnet));
    let index = find::one("subnet", name, &of, subnets.iter().map(|s| s.name.as_str()))?;
    let subnet = subnets.get(index).ok_or("the subnet is gone")?;
    Ok(SubnetAt { model, customer, vnet, subnet })
}

fn nic_rules<'a>(
    model: &'a Model,
    customer: &str,
    vnet: &str,
    name: &str,
) -> Result<EffectiveRules<'a>, Refused> {
    let (customer, vnet) = find::customer_and_vnet(model, customer, vnet)?;
    let nics: Vec<_> = customer.nics.iter().filter(|n| n.vnet == vnet).collect();
    let of = format!("in VNet '{}'", find::vnet_name(customer, vnet));
    let index = find::one("NIC", name, &of, nics.iter().map(|n| n.name.as_str()))?;
    let nic = *nics.get(index).ok_or("the NIC is gone")?;
    let subnets = customer.vnets.get(vnet).map_or(&[][..], |v| &v.subnets);
    let subnet = subnets.get(nic.subnet).ok_or("the NIC's subnet is gone")?;
    Ok(EffectiveRules::of(SubnetAt { model, customer, vnet, subnet }, Some(nic)))
}
