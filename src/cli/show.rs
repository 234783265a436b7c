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
    let Some(config) = &args.config else { return routes_of_appliance(args, terminal) };
    let model = load(config, terminal)?;
    let routes = EffectiveRoutes::of(SubnetAt::find(&model, &args.customer, &args.vnet, &args.subnet)?);
    if args.json {
        terminal.line(json::document(&routes));
    } else {
        terminal.print(routes.table(terminal.style));
    }
    Ok(Exit::Done)
}

#[cfg(target_os = "linux")]
fn routes_of_appliance(args: &RoutesArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    use super::running::{astray, path};
    use crate::live::control::{Reply, Request, ask};

    let (customer, vnet, subnet) = (args.customer.clone(), args.vnet.clone(), args.subnet.clone());
    let request = Request::Routes { customer, vnet, subnet, color: terminal.style.on };
    let Reply::Routes(routes) = ask(&path(args.control.as_ref()), &request)? else {
        return Err(astray());
    };
    if args.json {
        terminal.line(json::document(&routes.document));
    } else {
        terminal.print(routes.text);
    }
    Ok(Exit::Done)
}

#[cfg(not(target_os = "linux"))]
fn routes_of_appliance(_: &RoutesArgs, _: &mut Terminal) -> Result<Exit, Refused> {
    Err("clearway runs live on Linux only".into())
}

/// Shows the effective security rules of a subnet or NIC.
pub fn rules(args: &RulesArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let model = load(&args.config, terminal)?;
    let rules = match (&args.subnet, &args.nic) {
        (Some(name), _) => {
            EffectiveRules::of(SubnetAt::find(&model, &args.customer, &args.vnet, name)?, None)
        }
        (None, nic) => nic_rules(&model, &args.customer, &args.vnet, nic.as_deref().unwrap_or_default())?,
    };
    if args.json {
        terminal.line(json::document(&rules));
    } else {
        terminal.print(rules.table(terminal.style));
    }
    Ok(Exit::Done)
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
