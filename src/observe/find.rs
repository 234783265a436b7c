//! What a name that somebody gives stands for, and sentences for names that stand for nothing.

use crate::model::{Customer, Model, nearest_name};

/// A customer, and the index of one of its VNets.
pub fn customer_and_vnet<'a>(
    model: &'a Model,
    customer: &str,
    vnet: &str,
) -> Result<(&'a Customer, usize), String> {
    let names = model.customers.iter().map(|c| c.name.as_str());
    let index = one("customer", customer, "in this configuration", names)?;
    let customer = model.customers.get(index).ok_or("the customer is gone")?;
    let of = format!("of customer '{}'", customer.name);
    let vnet = one("VNet", vnet, &of, customer.vnets.iter().map(|v| v.name.as_str()))?;
    Ok((customer, vnet))
}

/// The name of a VNet.
pub fn vnet_name(customer: &Customer, vnet: usize) -> &str {
    customer.vnets.get(vnet).map_or("", |v| &v.name)
}

/// The index of what has this name; Azure's names have no letter case.
pub fn one<'a>(
    what: &str,
    name: &str,
    of: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Result<usize, String> {
    let exact = known.clone().position(|k| k == name);
    let found = exact.or_else(|| known.clone().position(|k| k.to_lowercase() == name.to_lowercase()));
    found.ok_or_else(|| missing(what, name, of, known))
}

/// How many names a sentence lists at most.
const LISTED: usize = 12;

/// There is none of this name; what there is instead.
pub fn missing<'a>(what: &str, name: &str, of: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let count = known.clone().count();
    let mut sentence = format!("{what} '{name}': there is no such {what} {of}");
    match nearest_name(name, known.clone()) {
        Some(near) => sentence.push_str(&format!("; did you mean '{near}'?")),
        None if count == 0 => sentence.push_str("; it has none"),
        None => {
            let listed: Vec<&str> = known.take(LISTED).collect();
            let more = if count > LISTED { format!(" and {} more", count - LISTED) } else { String::new() };
            sentence.push_str(&format!("; there is {}{more}", listed.join(", ")));
        }
    }
    sentence
}
