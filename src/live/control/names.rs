//! Names in requests: what they stand for here, or a sentence about what there is not.

use crate::live::handle::Snapshot;
use crate::model::nearest_name;

/// A customer and a VNet, as far as they are named, as they are written here.
pub(super) fn customer_and_vnet(
    customer: &Option<String>,
    vnet: &Option<String>,
    here: &Snapshot,
) -> Result<(Option<String>, Option<String>), String> {
    let customers = here.vnets.iter().map(|(customer, _)| customer.as_str());
    let customer = customer.as_ref().map(|c| named("customer", c, customers)).transpose()?;
    let owned = |(of, _): &&(String, String)| customer.as_ref().is_none_or(|c| c == of);
    let vnets = here.vnets.iter().filter(owned).map(|(_, vnet)| vnet.as_str());
    let vnet = vnet.as_ref().map(|v| named("VNet", v, vnets)).transpose()?;
    Ok((customer, vnet))
}

/// The name as it is written here; Azure's names have no letter case.
pub(super) fn named<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Result<String, String> {
    let exact = known.clone().find(|k| *k == name);
    let found = exact.or_else(|| known.clone().find(|k| k.to_lowercase() == name.to_lowercase()));
    found.map(str::to_owned).ok_or_else(|| {
        let near = nearest_name(name, known).map_or_else(String::new, |n| format!("; did you mean '{n}'?"));
        format!("{what} '{name}': there is no such {what} here{near}")
    })
}
