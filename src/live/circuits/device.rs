//! The devices of links: for each link a TUN device with our end's addresses, in a network namespace for each customer.
//!
//! A namespace keeps customers apart whatever their addresses are. It holds the loopback device and the devices of the
//! customer's links. It has no default route and forwards nothing by these devices, and no device leads out of it but by
//! tunnels of the customer; so what a customer sends can reach our own ends of the customer's own links, and nothing else.
//! Workers write into a device only what comes from the peer's address to ours, and of what the kernel sends by it, only
//! what goes the other way may leave ([`may_leave`]).
//!
//! A namespace that an operator has made (`ip netns add`, to run a routing daemon there) is used and stays. One that is
//! made here is marked as ours, so that it is known again after this program was killed, and goes with its last link.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use super::spec::{Ends, LinkKey, LinkSpec};
use crate::live::kernel::Requests;
use crate::model::{Link, PeeringKind};
use crate::sys::{Namespace, Tun, index_of, set_mtu, set_up, within};
use crate::table::ecmp;
use crate::types::Prefix;

/// What the loopback device of a namespace says of it if it was made here.
const MARK: &str = "made by clearway";

/// What the names of namespaces begin with.
const NAMESPACES: &str = "clearway-";

/// The longest name of a namespace.
const NAMESPACE: usize = 64;

/// The longest name of a device that the kernel takes.
const DEVICE: usize = 15;

/// The smallest MTU of a device that has IPv6.
const LEAST_IPV6: u32 = 1280;

/// What stands before a hash in a name. No name has it that was taken as it is, so the two are never the same.
const HASHED: char = '~';

/// The devices of all links. Dropped, they go, and with them the namespaces that were made for them.
#[derive(Debug, Default)]
pub struct Devices {
    customers: BTreeMap<String, Place>,
    failed: BTreeMap<LinkKey, String>,
}

/// A customer's namespace and the devices in it.
#[derive(Debug)]
struct Place {
    namespace: Namespace,
    /// It says that this program made it, now or in an earlier run.
    marked: bool,
    devices: BTreeMap<LinkKey, Held>,
}

/// A device that we hold.
#[derive(Debug)]
struct Held {
    name: String,
    index: u32,
    tun: Arc<Tun>,
    /// It was not there before, and goes with this.
    made: bool,
}

/// The device of a link, for who works with it.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// The namespace that it is in. Sockets of the link are opened within it.
    pub namespace: &'a Namespace,
    /// Its name there.
    pub name: &'a str,
    /// Its number there: another one if it is made anew.
    pub index: u32,
    /// Our end of it.
    pub tun: &'a Arc<Tun>,
}

/// What a change of the configuration has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Links whose device is gone. Sockets on it are of no use any more, and neither are ends of it.
    pub closed: Vec<LinkKey>,
    /// Links that have a device which they did not have before. A link that is also closed has another one.
    pub opened: Vec<LinkKey>,
    /// Links that have no device, or one that is not as it should be, and why: a sentence.
    pub failed: Vec<(LinkKey, String)>,
}

impl Devices {
    /// None.
    pub fn new() -> Devices {
        Devices::default()
    }

    /// Sees to it that there are the devices of these links and no others. A device that is there stays, whatever changes of
    /// its link; one that was taken away is made again; what has failed is tried again. Links that are turned off have
    /// devices, too, as an operator's daemon may be bound to them.
    pub fn follow(&mut self, links: &[LinkSpec]) -> Followed {
        let mut followed = Followed::default();
        let mut wanted: BTreeMap<&str, Vec<&LinkSpec>> = BTreeMap::new();
        for link in links {
            wanted.entry(&link.key.customer).or_default().push(link);
        }
        let gone = self.customers.extract_if(.., |customer, _| !wanted.contains_key(customer.as_str()));
        for (_, place) in gone.collect::<Vec<_>>() {
            place.close(&mut followed);
        }
        for (customer, links) in wanted {
            let fail = |followed: &mut Followed, e: &io::Error| {
                followed.failed.extend(links.iter().map(|link| (link.key.clone(), e.to_string())));
            };
            let held = self.customers.remove(customer);
            let is_new = held.is_none();
            let mut place = match held.map_or_else(|| self.open(customer), Ok) {
                Ok(place) => place,
                Err(e) => {
                    fail(&mut followed, &e);
                    continue;
                }
            };
            let Place { namespace, devices, .. } = &mut place;
            if let Err(e) = within(&*namespace, || follow_within(devices, &links, &mut followed)) {
                fail(&mut followed, &e);
            }
            if place.devices.is_empty() {
                place.close(&mut followed);
            } else {
                if is_new {
                    place.begin(customer);
                }
                self.customers.insert(customer.to_owned(), place);
            }
        }
        self.failed = followed.failed.iter().cloned().collect();
        followed
    }

    /// Takes all away that there is time for. The rest goes with this process; only the names of namespaces would stay, and
    /// go in any case.
    pub fn close(mut self, until: Instant) {
        for place in std::mem::take(&mut self.customers).into_values() {
            if Instant::now() < until {
                place.close(&mut Followed::default());
            } else {
                forget(place.namespace);
            }
        }
    }

    /// The device of a link, or why it has none: a sentence.
    pub fn get(&self, link: &LinkKey) -> Result<Device<'_>, &str> {
        let place = self.customers.get(&link.customer);
        let held = place.and_then(|place| Some((&place.namespace, place.devices.get(link)?)));
        match held {
            Some((namespace, Held { name, index, tun, .. })) => {
                Ok(Device { namespace, name, index: *index, tun })
            }
            None => Err(self.failed.get(link).map_or("it has no device yet", String::as_str)),
        }
    }

    /// The namespace of a customer.
    fn open(&self, customer: &str) -> io::Result<Place> {
        let name = namespace_name(customer);
        // Two customers must not meet, however unlikely it is that their hashes do.
        if let Some(other) = self.customers.keys().find(|other| namespace_name(other) == name) {
            return Err(io::Error::other(format!(
                "its network namespace would be {name}, which is that of customer '{other}'; rename one of them"
            )));
        }
        let about = |e: io::Error| io::Error::new(e.kind(), format!("its network namespace {name}: {e}"));
        let namespace = Namespace::open(&name).map_err(about)?;
        let made = namespace.is_made();
        let marked = within(&namespace, || {
            let mut kernel = ask()?;
            let loopback = index_of("lo")?;
            if made {
                kernel.set_alias(loopback, MARK)?;
            }
            set_up("lo")?;
            Ok(kernel.alias(loopback)?.as_deref() == Some(MARK))
        });
        match marked {
            Ok(marked) => Ok(Place { namespace, marked, devices: BTreeMap::new() }),
            Err(e) => {
                forget(namespace);
                Err(about(e))
            }
        }
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.follow(&[]);
    }
}

impl Place {
    /// It has its first device.
    fn begin(&mut self, customer: &str) {
        let namespace = &mut self.namespace;
        let what = if namespace.is_made() { "network namespace made" } else { "network namespace taken" };
        let name = namespace.name();
        info!(customer, namespace = %name, "{what}");
        if let Some(why) = namespace.nameless() {
            warn!("customer '{customer}' has a network namespace that ip netns does not know: {why}");
        }
        // Not before: while another run of this program has the devices, it has the namespace.
        if self.marked {
            namespace.claim();
        }
    }

    /// Closes the devices that are left, and removes the namespace if it was made here.
    fn close(mut self, followed: &mut Followed) {
        if !self.devices.is_empty() {
            let done = within(&self.namespace, || follow_within(&mut self.devices, &[], followed));
            if let Err(e) = done {
                warn!("devices of {} may stay: {e}", self.namespace.name());
            }
        }
        followed.closed.extend(self.devices.into_keys());
        forget(self.namespace);
    }
}

fn forget(namespace: Namespace) {
    let name = namespace.name();
    if let Err(e) = namespace.remove() {
        warn!("the network namespace {name} cannot be removed: {e}");
    }
}

fn ask() -> io::Result<Requests> {
    Requests::open()
        .map_err(|e| io::Error::new(e.kind(), format!("the kernel cannot be asked for devices: {e}")))
}

/// Sees to it that there are these devices and no others in the namespace of this thread.
fn follow_within(
    devices: &mut BTreeMap<LinkKey, Held>,
    links: &[&LinkSpec],
    followed: &mut Followed,
) -> io::Result<()> {
    let mut kernel = ask()?;
    // Devices that are there come before others when two want the same.
    let (there, new): (Vec<&LinkSpec>, Vec<_>) =
        links.iter().copied().partition(|link| devices.contains_key(&link.key));
    let mut taken: Vec<(Prefix, &LinkKey)> = Vec::new();
    let mut wanted: Vec<&LinkSpec> = Vec::new();
    for link in there.into_iter().chain(new) {
        let prefixes = || link.ends.iter().flatten().map(|ends| ends.prefix);
        let clash = prefixes().find_map(|prefix| taken.iter().find(|(other, _)| other.overlaps(&prefix)));
        if let Some((prefix, other)) = clash {
            let LinkKey { circuit, peering, link: which, .. } = other;
            let which = which.name();
            let why = format!("its prefix overlaps {prefix} of the {which} link of {circuit}/{peering}");
            followed.failed.push((link.key.clone(), why));
            continue;
        }
        taken.extend(prefixes().map(|prefix| (prefix, &link.key)));
        wanted.push(link);
    }
    let is_wanted = |key: &LinkKey| wanted.iter().any(|link| link.key == *key);
    let gone =
        |key: &LinkKey, held: &mut Held| !is_wanted(key) || held.tun.name().as_ref() != Some(&held.name);
    for (key, held) in devices.extract_if(.., gone) {
        held.close(&mut kernel);
        followed.closed.push(key);
    }
    for link in wanted {
        let key = &link.key;
        if !devices.contains_key(key) {
            let names = (0..=u32::MAX).map(|attempt| device_name(key, link.kind, attempt));
            let name = names.into_iter().find(|name| devices.values().all(|held| held.name != *name));
            match Held::open(name.unwrap_or_default()) {
                Ok(held) => {
                    devices.insert(key.clone(), held);
                    followed.opened.push(key.clone());
                }
                Err(e) => followed.failed.push((key.clone(), e.to_string())),
            }
        }
        if let Some(Err(e)) = devices.get(key).map(|held| held.settle(link, &mut kernel)) {
            followed.failed.push((key.clone(), e.to_string()));
        }
    }
    Ok(())
}

impl Held {
    fn open(name: String) -> io::Result<Held> {
        let made = index_of(&name).is_err();
        let tun = Tun::open(&name)
            .map_err(|e| io::Error::new(e.kind(), format!("{name} cannot be had as a TUN device: {e}")))?;
        let index = index_of(&name)?;
        Ok(Held { name, index, tun: Arc::new(tun), made })
    }

    /// Makes the device what its link asks for. What is so already is left alone.
    fn settle(&self, link: &LinkSpec, kernel: &mut Requests) -> io::Result<()> {
        let Held { name, .. } = self;
        let about =
            |what: String| move |e: io::Error| io::Error::new(e.kind(), format!("{name} {what}: {e}"));
        let index = index_of(name).map_err(about("is not in its network namespace".to_owned()))?;
        set_mtu(name, link.mtu).map_err(about(format!("does not take an mtu of {}", link.mtu)))?;
        kernel.keep_quiet(index).map_err(about("does not take its settings".to_owned()))?;
        set_up(name).map_err(about("cannot be taken up".to_owned()))?;
        let wanted = || link.ends.iter().flatten().map(|ends| (ends.local, ends.prefix.len()));
        let there = kernel.addresses(index).map_err(about("does not say its addresses".to_owned()))?;
        // First those that go: another one of the same prefix would go with it.
        for (address, length) in there.iter().copied().filter(|there| wanted().all(|w| w != *there)) {
            let what = format!("keeps the address {address}");
            kernel.remove_address(index, (address, length)).map_err(about(what))?;
        }
        let there = kernel.addresses(index).map_err(about("does not say its addresses".to_owned()))?;
        for (address, length) in wanted().filter(|w| !there.contains(w)) {
            let mut what = format!("does not take the address {address}");
            if address.is_ipv6() {
                what += match link.mtu {
                    ..LEAST_IPV6 => ", as IPv6 needs an mtu of 1280",
                    _ => "; is net.ipv6.conf.all.disable_ipv6 set in its network namespace",
                };
            }
            kernel.add_address(index, (address, length)).map_err(about(what))?;
        }
        Ok(())
    }

    /// Takes the device away if it was made here, also from those who still have ends of it.
    fn close(self, kernel: &mut Requests) {
        if self.made
            && self.tun.name().as_ref() == Some(&self.name)
            && let Err(e) = index_of(&self.name).and_then(|index| kernel.remove_device(index))
        {
            warn!("{} is there for as long as somebody has its end: {e}", self.name);
        }
    }
}

/// True if a packet that the kernel sends by the device of a link with these ends may leave by the link: it goes from our
/// end to the peer's. What else the kernel sends there is its own, such as reports of multicast groups.
pub fn may_leave(ends: &[Option<Ends>; 2], packet: &[u8]) -> bool {
    let (source, destination) = match packet.first().map(|first| first >> 4) {
        Some(4) => (address::<4>(packet, 12), address::<4>(packet, 16)),
        Some(6) => (address::<16>(packet, 8), address::<16>(packet, 24)),
        _ => return false,
    };
    ends.iter().flatten().any(|ends| Some(ends.local) == source && Some(ends.peer) == destination)
}

fn address<const N: usize>(packet: &[u8], at: usize) -> Option<IpAddr>
where
    [u8; N]: Into<IpAddr>,
{
    packet.get(at..)?.first_chunk::<N>().map(|bytes| (*bytes).into())
}

/// The name of a customer's namespace: `clearway-` and the customer's name. Of a name that is long or has characters other
/// than letters, digits, `_`, `.` and `-` it is the beginning, with `_` for each such character, and a hash of the name.
pub fn namespace_name(customer: &str) -> String {
    let room = NAMESPACE - NAMESPACES.len();
    let name = if is_plain(customer, room) {
        customer.to_owned()
    } else {
        hashed(customer, room, 8, hash(&[customer], 0))
    };
    format!("{NAMESPACES}{name}")
}

/// The name of a link's device: circuit, kind of peering and link, for example `er1-priv-p`; where the circuit's name is long
/// or has other characters, its beginning and a hash. Another attempt gives another name, always with a hash.
fn device_name(key: &LinkKey, kind: PeeringKind, attempt: u32) -> String {
    let kind = match kind {
        PeeringKind::Private => "priv",
        PeeringKind::Microsoft => "ms",
        PeeringKind::Public => "pub",
    };
    let link = match key.link {
        Link::Primary => "p",
        Link::Secondary => "s",
    };
    let room = DEVICE - "--".len() - kind.len() - link.len();
    let circuit = if attempt == 0 && is_plain(&key.circuit, room) {
        key.circuit.clone()
    } else {
        hashed(&key.circuit, room, 4, hash(&[&key.circuit, &key.peering, link], attempt))
    };
    format!("{circuit}-{kind}-{link}")
}

fn is_plain_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

/// True if a name can stay as it is where there is so much room.
fn is_plain(name: &str, room: usize) -> bool {
    !name.is_empty() && name.len() <= room && name.chars().all(is_plain_character)
}

/// The beginning of a name and so many digits of a hash, of so many bytes at most.
fn hashed(name: &str, room: usize, digits: usize, hash: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let begins = name.chars().map(|c| if is_plain_character(c) { c } else { '_' });
    let begins: String = begins.take(room.saturating_sub(digits + 1)).collect();
    let digits = (0..digits).filter_map(|n| DIGITS.get((hash >> (5 * n)) as usize % DIGITS.len()));
    let digits: String = digits.map(|digit| char::from(*digit)).collect();
    format!("{begins}{HASHED}{digits}")
}

/// A number that is the same in every run.
fn hash(parts: &[&str], attempt: u32) -> u64 {
    parts.iter().fold(u64::from(attempt), |hash, part| ecmp::mix(hash ^ ecmp::way_id(part)))
}

#[cfg(test)]
mod tests;
