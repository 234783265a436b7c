//! What is kept of what is told, while links come and go.

use super::property::Random;
use super::*;
use crate::live::circuits::kept::Kept;
use crate::live::circuits::told::Told;

/// What is known of a family of a link: its routes, its session and its BFD.
fn known(kept: &Kept, link: &LinkKey, family: Family) -> (Vec<Prefix>, Bgp, Bfd) {
    let of = kept.learned.link(link).map(|of| &of.families[usize::from(family == Family::V6)]);
    of.map_or((Vec::new(), Bgp::Never, Bfd::Unused), |of| {
        (of.routes.keys().copied().collect(), of.bgp, of.bfd)
    })
}

fn route(prefix: &str) -> Route {
    Route { prefix: p(prefix), attributes: attributes(&[65001]) }
}

/// The links of private peering of one customer.
fn links() -> Vec<LinkSpec> {
    let mut specs = specs(&base(&[("a", "")]));
    specs.retain(|spec| spec.key.peering == PRIVATE);
    specs
}

#[test]
fn a_link_that_comes_back_at_once_has_its_routes() {
    let told = Told::new().unwrap().0;
    let (mut kept, links) = (Kept::default(), links());
    let key = (links[0].key.clone(), Family::V4);
    let up = |told: &Told| told.session(&key, Standing::Up, vec![route("10.0.0.0/8")], &[]);
    let down = |told: &Told| told.session(&key, Standing::Down, Vec::new(), &[p("10.0.0.0/8")]);
    let all = (vec![p("10.0.0.0/8")], Bgp::Up, Bfd::Unused);
    kept.follow(&links, &told);
    up(&told);
    kept.take(&told);
    assert_eq!(known(&kept, &key.0, key.1), all);
    // Both configurations are in force before anybody has taken anything.
    kept.follow(&links[1..], &told);
    down(&told);
    kept.follow(&links, &told);
    up(&told);
    kept.take(&told);
    assert_eq!(known(&kept, &key.0, key.1), all);
    // Or somebody takes what is told of the link while it is gone.
    for off in [&links[1..], &[LinkSpec { enabled: false, ..links[0].clone() }]] {
        kept.follow(off, &told);
        kept.take(&told);
        kept.follow(&links, &told);
        down(&told);
        up(&told);
        kept.take(&told);
        assert_eq!(known(&kept, &key.0, key.1), all);
    }
}

#[test]
fn nothing_is_kept_of_links_that_are_not_configured() {
    let told = Told::new().unwrap().0;
    let (mut kept, links) = (Kept::default(), links());
    let key = (links[0].key.clone(), Family::V4);
    kept.follow(&links, &told);
    told.session(&key, Standing::Up, vec![route("10.0.0.0/8")], &[]);
    told.say(&key, Bfd::Up);
    kept.take(&told);
    kept.follow(&links[1..], &told);
    // This comes later.
    told.say(&key, Bfd::Down);
    told.session(&key, Standing::Down, vec![route("10.1.0.0/16")], &[p("10.0.0.0/8")]);
    assert!(kept.take(&told).any);
    told.say(&key, Bfd::Unused);
    kept.take(&told);
    assert!(kept.learned.customers.is_empty());
    assert_eq!(kept.learned.down(&key.0), None);
}

#[test]
fn a_session_that_is_up_as_soon_as_it_is_wanted_is_known_as_one() {
    let told = Told::new().unwrap().0;
    let (mut kept, mut links) = (Kept::default(), links());
    let key = (links[0].key.clone(), Family::V4);
    let bgp = std::mem::take(&mut links[0].bgp);
    links[0].kernel = bgp.as_ref().map(|bgp| bgp.policies.clone());
    kept.follow(&links, &told);
    (links[0].bgp, links[0].kernel) = (bgp, None);
    kept.follow(&links, &told);
    told.session(&key, Standing::Up, Vec::new(), &[]);
    kept.take(&told);
    told.session(&key, Standing::Down, Vec::new(), &[]);
    kept.take(&told);
    assert_eq!(kept.learned.down(&key.0), Some(Cause::Bgp));
}

/// Whoever comes and goes in whatever order: what is known is what was told last.
#[test]
fn what_is_known_is_what_there_is() {
    let texts = ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"];
    let links = links();
    for seed in 0..300 {
        let random = &mut Random(seed);
        let (told, mut kept) = (Told::new().unwrap().0, Kept::default());
        let (mut there, mut on) = ([(); 2].map(|()| BTreeSet::new()), [false; 2]);
        let (mut stands, mut bfd) = ([Standing::Down; 2], [Bfd::Unused; 2]);
        for step in 0..60 {
            let link = random.below(2);
            let key = (links[link].key.clone(), Family::V4);
            match random.below(5) {
                0 => {
                    on[link] = !on[link];
                    let wanted = links.iter().zip(on).filter(|(_, on)| *on).map(|(spec, _)| spec.clone());
                    kept.follow(&wanted.collect::<Vec<_>>(), &told);
                }
                1 => {
                    bfd[link] = random.pick(&[Bfd::Unused, Bfd::Up, Bfd::Down, Bfd::Silent]);
                    told.say(&key, bfd[link]);
                }
                2 => _ = kept.take(&told),
                3 => {
                    let gone: Vec<Prefix> = std::mem::take(&mut there[link]).into_iter().collect();
                    stands[link] = Standing::Down;
                    told.session(&key, Standing::Down, Vec::new(), &gone);
                }
                _ => {
                    let text = random.pick(&texts);
                    there[link].insert(p(text));
                    stands[link] = Standing::Up;
                    told.session(&key, Standing::Up, vec![route(text)], &[]);
                }
            }
            if random.below(3) > 0 {
                continue;
            }
            kept.take(&told);
            for link in 0..2 {
                let (routes, bgp, says) = known(&kept, &links[link].key, Family::V4);
                let is: Vec<Prefix> = there[link].iter().copied().filter(|_| on[link]).collect();
                let says_now = if on[link] { bfd[link] } else { Bfd::Unused };
                assert_eq!((routes, says), (is, says_now), "seed {seed}, step {step}, link {link}");
                // One that ended before it was known to be up has never been.
                let up = on[link] && stands[link] == Standing::Up;
                assert_eq!(bgp == Bgp::Up, up, "seed {seed}, step {step}, link {link}");
            }
        }
    }
}
