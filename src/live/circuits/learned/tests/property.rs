//! Nothing that one customer does reaches another's part of the model in force, and that is always a model which a
//! configuration could have said.

use super::*;

/// A small generator of random numbers (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % n as u64) as usize
    }

    pub(super) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const PREFIXES: [&str; 14] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.9.0.0/16",
    "20.0.0.0/8",
    "20.0.0.0/16",
    "20.0.0.0/24",
    "20.0.0.0/25",
    "20.0.0.128/25",
    "20.0.1.0/24",
    "20.9.0.0/16",
    "21.0.0.0/16",
    "127.0.0.0/8",
    "2001:db8::/32",
    "fd00::/8",
];

/// Something that happens on a link of a customer.
#[derive(Clone, Debug)]
enum Happens {
    Learn(&'static str, Vec<u32>),
    Withdraw(&'static str),
    Session(Family, Event),
    Bfd(Family, Bfd),
    Forget(Family),
}

fn happens(random: &mut Random) -> (LinkKey, Happens) {
    let link = random.pick(&[Link::Primary, Link::Secondary]);
    let link = key(random.pick(&NAMES), random.pick(&[PRIVATE, MICROSOFT, PUBLIC]), link);
    let family = random.pick(&[Family::V4, Family::V6]);
    let happens = match random.below(12) {
        0..=5 => Happens::Learn(random.pick(&PREFIXES), vec![65001; random.below(3)]),
        6..=7 => Happens::Withdraw(random.pick(&PREFIXES)),
        8 => Happens::Session(family, up()),
        9 => {
            let stale = random.below(2);
            Happens::Session(family, ended(random.below(3) > 0, stale))
        }
        10 => Happens::Bfd(family, random.pick(&[Bfd::Unused, Bfd::Up, Bfd::Down, Bfd::Silent])),
        _ => Happens::Forget(family),
    };
    (link, happens)
}

fn apply(learned: &mut Learned, link: &LinkKey, happens: &Happens) {
    match happens {
        Happens::Learn(prefix, path) => learn(learned, link, prefix, path),
        Happens::Withdraw(prefix) => withdraw(learned, link, prefix),
        Happens::Session(family, event) => learned.session(link, *family, event),
        Happens::Bfd(family, bfd) => learned.bfd(link, *family, *bfd),
        Happens::Forget(family) => learned.forget(link, *family),
    }
}

/// The routes of a customer in the model in force: those of private peering, and the others.
fn parts(customer: &Customer) -> [BTreeSet<String>; 2] {
    let mut parts = [BTreeSet::new(), BTreeSet::new()];
    for route in &customer.learned_routes {
        let LearnedFrom::Peering { peering, .. } = route.from else { panic!("{route:?}") };
        let part = usize::from(customer.circuits[0].peerings[peering].name != PRIVATE);
        parts[part].insert(format!("{} {:?} {:?}", route.prefix, route.from, route.as_path));
    }
    parts
}

/// What a customer's configuration says of learned routes, at random.
fn fixed(random: &mut Random, customer: usize) -> String {
    let mut text = String::new();
    let own = format!("20.{}.0.0/16", 100 + customer);
    let choices =
        [("10.0.0.0/8", PRIVATE), ("10.9.0.0/16", PRIVATE), ("fd00::/8", PRIVATE), (&own, MICROSOFT)];
    for (prefix, peering) in choices {
        if random.below(3) == 0 {
            let link = random.pick(&["", ", link: primary", ", link: secondary"]);
            text.push_str(&format!(
                "      - {{prefix: '{prefix}', circuit: er, peering: {peering}{link}}}\n"
            ));
        }
    }
    // Of what others learn too.
    if customer == 3 && random.below(2) == 0 {
        text.push_str(&format!("      - {{prefix: 20.0.0.0/25, circuit: er, peering: {MICROSOFT}}}\n"));
    }
    if text.is_empty() { text } else { format!("    learnedRoutes:\n{text}") }
}

/// The model is one that a configuration could have said: here that configuration is.
fn could_be_said(model: &Model) {
    let texts: Vec<String> = model
        .customers
        .iter()
        .map(|customer| {
            let lines = customer.learned_routes.iter().map(|route| {
                let LearnedFrom::Peering { peering, link, .. } = route.from else { panic!("{route:?}") };
                let name = &customer.circuits[0].peerings[peering].name;
                let link = link.map_or(String::new(), |l| format!(", link: {}", l.name()));
                let path: Vec<String> = route.as_path.iter().map(u32::to_string).collect();
                let path = path.join(", ");
                format!(
                    "      - {{prefix: '{}', circuit: er, peering: {name}{link}, asPath: [{path}]}}\n",
                    route.prefix
                )
            });
            let lines: String = lines.collect();
            if lines.is_empty() { lines } else { format!("    learnedRoutes:\n{lines}") }
        })
        .collect();
    let customers: Vec<(&str, &str)> = NAMES.into_iter().zip(texts.iter().map(String::as_str)).collect();
    let said = base(&customers);
    for (said, made) in said.customers.iter().zip(&model.customers) {
        assert_eq!(said.learned_routes, made.learned_routes);
    }
}

#[test]
fn customers_do_not_reach_each_other() {
    let (mut refusals, mut downs) = (0, 0);
    for seed in 0..40 {
        let random = &mut Random(seed);
        let texts: Vec<String> = (0..NAMES.len()).map(|n| fixed(random, n)).collect();
        let customers: Vec<(&str, &str)> = NAMES.into_iter().zip(texts.iter().map(String::as_str)).collect();
        let base = base(&customers);
        let mut together = Learned::default();
        let mut alone: Vec<Learned> = NAMES.iter().map(|_| Learned::default()).collect();
        let alone_base: Vec<Model> = base
            .customers
            .iter()
            .map(|customer| Model { customers: vec![customer.clone()], ..base.clone() })
            .collect();
        let (mut before, _) = together.in_force(&base, None);
        for step in 0..60 {
            let (link, what) = happens(random);
            let who = NAMES.iter().position(|n| *n == link.customer).unwrap();
            apply(&mut together, &link, &what);
            apply(&mut alone[who], &link, &what);
            let (model, refused) = together.in_force(&base, Some(&before));
            refusals += refused.len();
            downs += usize::from(together.down(&link).is_some());
            for (n, customer) in model.customers.iter().enumerate() {
                let context = format!("seed {seed}, step {step}: {link:?} {what:?}, of {}", NAMES[n]);
                let (own, _) = alone[n].in_force(&alone_base[n], None);
                let [private, public] = parts(customer);
                let [own_private, own_public] = parts(&own.customers[0]);
                assert_eq!(
                    (private, &customer.tunnels),
                    (own_private, &own.customers[0].tunnels),
                    "{context}"
                );
                assert!(public.is_subset(&own_public), "{context}");
                // What is not in force overlaps what another has; that is what the refusal says.
                for route in own_public.difference(&public) {
                    let prefix = p(route.split(' ').next().unwrap());
                    let others = model.customers.iter().enumerate().filter(|(other, _)| *other != n);
                    let mut routes = others.flat_map(|(_, c)| {
                        c.learned_routes
                            .iter()
                            .filter(|r| matches!(r.from, LearnedFrom::Peering { peering, .. } if peering > 0))
                    });
                    // Or what another holds on a link that is down.
                    let down =
                        together.customers.values().any(|c| c.links.values().any(|l| l.down().is_some()));
                    assert!(down || routes.any(|r| r.prefix.overlaps(&prefix)), "{context}: {route}");
                    let told = |r: &Refused| r.link.customer == NAMES[n] && r.prefixes.contains(&prefix);
                    assert!(refused.iter().any(told), "{context}: {route}");
                }
                // Nobody loses anything by what another does.
                let [_, had] = parts(&before.customers[n]);
                assert!(n == who || had.is_subset(&public), "{context}");
                let unchanged = **customer == *before.customers[n];
                assert_eq!(Arc::ptr_eq(customer, &before.customers[n]), unchanged, "{context}");
            }
            if step % 5 == 0 {
                could_be_said(&model);
            }
            before = model;
        }
        could_be_said(&before);
    }
    println!("{refusals} refusals, {downs} times down");
    assert!(refusals > 1000 && downs > 100);
}
