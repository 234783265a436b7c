//! The compiler: from a valid model to a program, and from a program and a changed model to the next program.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::customer::Work;
use super::earlier::Earlier;
use super::names::Names;
use super::nested::Nested;
use super::origins::Origins;
use super::program::*;
use crate::model::{Customer, Model, Role};
use crate::table::lpm::Lpm;
use crate::types::Prefix;

/// Compiles a model. Names keep the numbers they have in `names`; new ones are added.
pub fn compile(model: &Model, names: &mut Names) -> Program {
    let nothing = Program {
        ports: Vec::new(),
        tunnels: Arc::default(),
        by_key: Arc::default(),
        vnets: Vec::new(),
        entries: Arc::default(),
        plain: Arc::default(),
        public: Arc::default(),
        bandwidths: Arc::default(),
        origins: Arc::default(),
        broadcast_bits: u32::MAX,
        internet_port: None,
        services_port: None,
        generations: Vec::new(),
        generation: 0,
        parts: Arc::default(),
        order: Vec::new(),
        names: Arc::default(),
    };
    recompile(&nothing, &Model::default(), model, names)
}

/// Compiles what is not in `after` as it was in `before`, and shares the rest with the program that `before` was
/// compiled to with the same `names`. What the models share did not change, and costs next to nothing.
pub fn recompile(previous: &Program, before: &Model, after: &Model, names: &mut Names) -> Program {
    let mut next = Next::new(previous, before, after);
    for (index, customer) in after.customers.iter().enumerate() {
        next.customer(index, customer, names);
    }
    next.finish(names)
}

/// The next program while it is made: what is borrowed is as it was.
struct Next<'a> {
    previous: &'a Program,
    before: &'a Model,
    after: &'a Model,
    /// The ports are the same.
    ports: bool,
    /// The same ports have the same indices.
    port_names: bool,
    /// No tag that both models use holds other prefixes.
    tags: bool,
    generation: u32,
    /// Customers of the model before, by name; made when one does not stand where it stood.
    by_name: Option<HashMap<&'a str, usize>>,
    tunnels: Cow<'a, [TunnelEnd]>,
    entries: Cow<'a, [Arc<Entry>]>,
    public: Cow<'a, [PublicPrefix]>,
    bandwidths: Cow<'a, [u32]>,
    vnets: Vec<Arc<Vnet>>,
    /// Ranges or subnets of some VNet changed.
    spaces: bool,
    parts: Arc<Vec<Arc<Part>>>,
    generations: Vec<u32>,
    /// Customers of which nothing but routes changed, and the prefixes that these moved.
    moved: HashMap<u32, Vec<Prefix>>,
    /// The numbers of the customers that are in the model, in its order.
    order: Vec<u32>,
    vacant: Vacant,
}

/// What stands where nothing is.
#[derive(Default)]
struct Vacant {
    vnet: Option<Arc<Vnet>>,
    entry: Option<Arc<Entry>>,
    part: Arc<Part>,
}

impl Vacant {
    fn vnet(&mut self) -> Arc<Vnet> {
        self.vnet.get_or_insert_with(|| Arc::new(Vnet::vacant())).clone()
    }

    fn entry(&mut self) -> Arc<Entry> {
        self.entry.get_or_insert_with(Arc::default).clone()
    }
}

impl<'a> Next<'a> {
    fn new(previous: &'a Program, before: &'a Model, after: &'a Model) -> Next<'a> {
        let port_names = before.ports.iter().map(|p| &p.name).eq(after.ports.iter().map(|p| &p.name));
        let mut shared =
            before.tags.by_name.iter().filter_map(|(n, t)| Some((t, after.tags.by_name.get(n)?)));
        let tags = shared.all(|(a, b)| a == b);
        let generation = previous.generation + 1;
        // Everything depends on the ports.
        let ports = before.ports == after.ports;
        let generations = previous.generations.iter().map(|g| if ports { *g } else { generation }).collect();
        Next {
            previous,
            before,
            after,
            ports,
            port_names,
            tags,
            generation,
            by_name: None,
            tunnels: Cow::Borrowed(&previous.tunnels),
            entries: Cow::Borrowed(&previous.entries),
            public: Cow::Borrowed(&previous.public),
            bandwidths: Cow::Borrowed(&previous.bandwidths),
            vnets: previous.vnets.clone(),
            spaces: false,
            parts: previous.parts.clone(),
            generations,
            moved: HashMap::new(),
            order: Vec::with_capacity(after.customers.len()),
            vacant: Vacant::default(),
        }
    }

    /// A customer as it was before; mostly it stands where it stood.
    fn earlier(&mut self, index: usize, name: &str) -> Option<&'a Arc<Customer>> {
        let customers = &self.before.customers;
        if let Some(same) = customers.get(index).filter(|c| c.name == name) {
            return Some(same);
        }
        let make = || customers.iter().enumerate().map(|(i, c)| (c.name.as_str(), i)).collect();
        let by_name = self.by_name.get_or_insert_with(make);
        customers.get(*by_name.get(name)?)
    }

    fn customer(&mut self, index: usize, customer: &'a Arc<Customer>, names: &mut Names) {
        // What the models share needs no look inside.
        let shared = self.before.customers.get(index).is_some_and(|c| Arc::ptr_eq(c, customer));
        if let Some(&number) =
            self.previous.order.get(index).filter(|_| shared && self.port_names && self.tags)
        {
            self.order.push(number);
            return;
        }
        let earlier = self.earlier(index, &customer.name);
        let before = earlier.map(|e| &**e);
        let (previous, tags) = (self.previous, &self.before.tags);
        let earlier = earlier.map(|e| Earlier::new(previous, e, tags, customer, self.port_names, self.tags));
        if earlier.as_ref().is_some_and(|e| e.is_whole(customer)) {
            self.order.push(names.customer(&customer.name));
            return;
        }
        let work = Work::new(self.after, customer, earlier, names);
        self.order.push(work.id);

        let other = self.part(&work);
        let mut changed = other;
        let public = work.public(names);
        if !public.iter().eq(self.public.iter().filter(|p| p.customer == work.id)) {
            let all = self.public.to_mut();
            all.retain(|p| p.customer != work.id);
            all.extend(public);
        }
        for (number, mbps) in work.bandwidths(before, names) {
            self.limit(number, mbps);
        }
        for end in work.ends(names) {
            if self.tunnels.get(end.id as usize) != Some(&end) {
                set(self.tunnels.to_mut(), end.id, end, TunnelEnd::vacant);
                changed = true;
            }
        }
        for (number, entry) in work.entries(names) {
            let vacant = &mut self.vacant;
            set(self.entries.to_mut(), number, entry, || vacant.entry());
            changed = true;
        }
        for index in 0..customer.vnets.len() {
            let vnet = work.vnet(index, names);
            let number = vnet.id;
            let before = self.vnets.get(number as usize);
            if before.is_some_and(|b| Arc::ptr_eq(b, &vnet)) {
                continue;
            }
            self.spaces |= before.is_none_or(|b| !has_same_spaces(b, &vnet));
            changed |= !work.ways_hold(index);
            let vacant = &mut self.vacant;
            set(&mut self.vnets, number, vnet, || vacant.vnet());
        }
        if changed {
            set(&mut self.generations, work.id, self.generation, || 0);
            let earlier = work.earlier.as_ref().filter(|_| self.ports && !other);
            let moved = earlier.and_then(|e| e.moved(customer));
            self.moved.extend(moved.map(|moved| (work.id, moved)));
        }
    }

    /// The bandwidth of a circuit's link.
    fn limit(&mut self, number: u32, mbps: u32) {
        if self.bandwidths.get(number as usize).copied().unwrap_or(0) != mbps {
            set(self.bandwidths.to_mut(), number, mbps, || 0);
        }
    }

    /// Notes what belongs to a customer, and vacates what does no longer; true if that is something else than before.
    fn part(&mut self, work: &Work<'_>) -> bool {
        let part = Part { vnets: work.vnets.clone(), tunnels: work.tunnels.clone() };
        let before = self.parts.get(work.id as usize).cloned().unwrap_or_default();
        if *before == part {
            return false;
        }
        self.vacate(&before, &part);
        let vacant = self.vacant.part.clone();
        set(Arc::make_mut(&mut self.parts), work.id, Arc::new(part), || vacant.clone());
        true
    }

    fn vacate(&mut self, before: &Part, now: &Part) {
        for &vnet in before.vnets.iter().filter(|v| !now.vnets.contains(v)) {
            self.vnets[vnet as usize] = self.vacant.vnet();
            self.spaces = true;
        }
        for &tunnel in before.tunnels.iter().filter(|t| !now.tunnels.contains(t)) {
            self.tunnels.to_mut()[tunnel as usize] = TunnelEnd::vacant();
            self.entries.to_mut()[tunnel as usize] = self.vacant.entry();
        }
    }

    fn finish(mut self, names: &mut Names) -> Program {
        if self.order != self.previous.order {
            self.vacate_absent(names);
        }
        self.make_room(names);
        let Next { previous, .. } = self;
        let (tunnels, by_key) = match self.tunnels {
            Cow::Borrowed(_) => (previous.tunnels.clone(), previous.by_key.clone()),
            Cow::Owned(tunnels) => {
                let by_key = Arc::new(by_key(&tunnels));
                (tunnels.into(), by_key)
            }
        };
        let broadcast_bits = if self.spaces { broadcast_bits(&self.vnets) } else { previous.broadcast_bits };
        let (public, plain) = match self.public {
            Cow::Borrowed(_) if !self.spaces => (previous.public.clone(), previous.plain.clone()),
            public => {
                let plain = Arc::new(plain_owners(&self.vnets, &public));
                (public.into_owned().into(), plain)
            }
        };
        let ports: Vec<Port> = self.after.ports.iter().map(port).collect();
        let with_role = |role| ports.iter().position(|p| p.role == role).map(|i| i as u16);
        let mut program = Program {
            internet_port: with_role(Role::Internet),
            services_port: with_role(Role::Services),
            plain,
            public,
            bandwidths: match self.bandwidths {
                Cow::Borrowed(_) => previous.bandwidths.clone(),
                Cow::Owned(bandwidths) => bandwidths.into(),
            },
            origins: previous.origins.clone(),
            broadcast_bits,
            by_key,
            ports,
            tunnels,
            entries: match self.entries {
                Cow::Borrowed(_) => previous.entries.clone(),
                Cow::Owned(entries) => entries.into(),
            },
            vnets: self.vnets,
            generations: self.generations,
            generation: self.generation,
            parts: self.parts,
            order: self.order,
            names: match names.is_as(&previous.names) {
                true => previous.names.clone(),
                false => Arc::new(names.clone()),
            },
        };
        if program.generations != previous.generations {
            program.origins = Arc::new(Origins::new(&previous.origins, &program, &self.moved));
        }
        program
    }

    /// Vacates what belonged to customers that are not in the model.
    fn vacate_absent(&mut self, names: &Names) {
        let mut present = vec![false; self.parts.len()];
        for &number in &self.order {
            set(&mut present, number, true, || false);
        }
        for number in (0..self.parts.len()).filter(|n| !present[*n]) {
            if *self.parts[number] == Part::default() {
                continue;
            }
            let vacant = self.vacant.part.clone();
            let gone = std::mem::replace(&mut Arc::make_mut(&mut self.parts)[number], vacant);
            self.vacate(&gone, &Part::default());
            self.generations[number] = 0;
            self.public.to_mut().retain(|p| p.customer != number as u32);
            let links = (0..).zip(names.links()).filter(|(_, l)| l.customer == number as u32);
            let links: Vec<u32> = links.map(|(n, _)| n).collect();
            links.into_iter().for_each(|n| self.limit(n, 0));
        }
    }

    /// Every number has its place in every table, vacant or not.
    fn make_room(&mut self, names: &Names) {
        if self.tunnels.len() < names.tunnel_count() {
            self.tunnels.to_mut().resize_with(names.tunnel_count(), TunnelEnd::vacant);
        }
        if self.entries.len() < names.tunnel_count() {
            self.entries.to_mut().resize(names.tunnel_count(), self.vacant.entry());
        }
        if self.vnets.len() < names.vnet_count() {
            self.vnets.resize(names.vnet_count(), self.vacant.vnet());
        }
        self.generations.resize(names.customer_count().max(self.generations.len()), 0);
        if self.parts.len() < names.customer_count() {
            Arc::make_mut(&mut self.parts).resize(names.customer_count(), self.vacant.part.clone());
        }
    }
}

/// Puts something at its number; what is between is vacant.
fn set<T>(list: &mut Vec<T>, number: u32, item: T, vacant: impl FnMut() -> T) {
    let number = number as usize;
    if list.len() <= number {
        list.resize_with(number + 1, vacant);
    }
    list[number] = item;
}

fn has_same_spaces(a: &Vnet, b: &Vnet) -> bool {
    a.space == b.space && a.subnets.iter().map(|s| &s.prefixes).eq(b.subnets.iter().map(|s| &s.prefixes))
}

fn port(port: &crate::model::Port) -> Port {
    Port {
        name: port.name.clone(),
        role: port.role,
        address: port.address,
        mtu: port.mtu,
        next_hop: port.next_hop,
    }
}

fn by_key(tunnels: &[TunnelEnd]) -> TunnelsByKey {
    let mut by_key = TunnelsByKey::default();
    for tunnel in tunnels.iter().filter(|t| !t.is_vacant()) {
        let key = if tunnel.nvgre { tunnel.wire_key >> 8 } else { tunnel.wire_key };
        by_key.entry((tunnel.port, tunnel.nvgre, key)).or_default().push(tunnel.id);
    }
    by_key
}

/// The host bits of the smallest IPv4 subnet.
fn broadcast_bits(vnets: &[Arc<Vnet>]) -> u32 {
    let prefixes = vnets.iter().flat_map(|v| &v.subnets).flat_map(|s| &s.prefixes).filter(|p| p.is_ipv4());
    let longest = prefixes.map(Prefix::len).max().unwrap_or(0);
    u32::MAX.checked_shr(u32::from(longest)).unwrap_or(0)
}

/// For every range of every VNet, whose the addresses are whose longest match it is. What Microsoft and public peerings
/// have learned comes before all VNets, however long their prefixes.
fn plain_owners(vnets: &[Arc<Vnet>], public: &[PublicPrefix]) -> Lpm<PlainOwner> {
    let ranges = vnets.iter().flat_map(|vnet| vnet.space.iter().map(|r| (*r, PlainOwner::One(vnet.id))));
    let learned = (0..).zip(public).map(|(n, public)| (public.prefix, PlainOwner::Peering(n)));
    let all = learned.chain(ranges).collect();
    let owners = Nested::new(all).inherit(|above, _, own| match (above, own) {
        (_, PlainOwner::Peering(_)) | (None, _) => own,
        (Some(peering @ PlainOwner::Peering(_)), _) => peering,
        (Some(owner), _) if owner == own => owner,
        (Some(_), _) => PlainOwner::Several,
    });
    owners.items().iter().copied().collect()
}
