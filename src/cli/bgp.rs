//! `bgp`: the BGP sessions of circuit links, and their routes.

use serde::Serialize;

use super::args::{BgpArgs, BgpCommand, BgpRoutesArgs};
use super::circuits::{is_near_limit, name, painted, peering, read, standing};
use super::running::{astray, brief};
use super::terminal::Terminal;
use super::{Exit, Refused};
use crate::live::control::{self, BgpRequest, Reply, Request, Which};
use crate::live::report::{BgpRoute, BgpRoutes, BgpSession, CircuitLink, Circuits, SessionRoutes};
use crate::observe::{Style, Table, json};

/// The sessions as a document: each with the link that it is of.
#[derive(Debug, Serialize)]
struct Sessions<'a> {
    sessions: Vec<OfLink<'a>>,
}

#[derive(Debug, Serialize)]
struct OfLink<'a> {
    customer: &'a str,
    circuit: &'a str,
    peering: &'a str,
    link: &'a str,
    #[serde(flatten)]
    session: &'a BgpSession,
}

/// Shows sessions, or their routes.
pub fn run(args: &BgpArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    if let Some(BgpCommand::Routes(args)) = &args.more {
        return routes(args, terminal);
    }
    let circuits = read(&args.at.path(), args.customer.as_deref(), args.circuit.as_deref())?;
    if args.at.json {
        terminal.line(json::document(&Sessions { sessions: sessions(&circuits).map(of_link).collect() }));
    } else if sessions(&circuits).next().is_none() {
        terminal.line("there is no BGP session");
    } else {
        terminal.print(summary(&circuits, args.circuit.is_some(), terminal.style));
    }
    Ok(Exit::Done)
}

fn sessions(circuits: &Circuits) -> impl Iterator<Item = (&CircuitLink, &BgpSession)> {
    circuits.links.iter().flat_map(|link| link.bgp.iter().map(move |session| (link, session)))
}

fn of_link<'a>((link, session): (&'a CircuitLink, &'a BgpSession)) -> OfLink<'a> {
    let CircuitLink { customer, circuit, peering, link, .. } = link;
    OfLink { customer, circuit, peering, link, session }
}

/// A row for each session, and below why those are down that are, or of all why they last were.
fn summary(circuits: &Circuits, of_all: bool, style: Style) -> String {
    let heads = [
        "CUSTOMER",
        "CIRCUIT",
        "PEERING",
        "LINK",
        "PEER",
        ">AS",
        "MD5",
        "STATE/PREFIXES",
        "FOR",
        ">REFUSED",
        ">SENT",
    ];
    let mut table = Table::new(style, &heads);
    let mut notes = String::new();
    for (link, session) in sessions(circuits) {
        table.row([
            link.customer.clone(),
            link.circuit.clone(),
            peering(link).to_owned(),
            link.link.clone(),
            session.peer_address.to_string(),
            session.peer_asn.to_string(),
            if session.md5 { "yes" } else { "no" }.to_owned(),
            painted(session, standing(session), style),
            brief(session.since_seconds),
            session.refused.to_string(),
            session.advertised.to_string(),
        ]);
        let who = format!("{} with {}", name(link), session.peer_address);
        if let Some(why) = session.last_down.as_ref().filter(|_| of_all || !session.up) {
            let down = if session.up { "was last down" } else { "is down" };
            notes.push_str(&format!("{who} {down}: {why}\n"));
        }
        if session.up && is_near_limit(session) {
            let BgpSession { received, limit, .. } = session;
            notes.push_str(&format!("{who} receives {received} prefixes; beyond {limit} it goes down\n"));
        }
    }
    if notes.is_empty() { table.to_string() } else { format!("{table}\n{notes}") }
}

fn routes(args: &BgpRoutesArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let BgpRoutesArgs { customer, circuit, peering, link, advertised, refused, prefix, at } = args;
    let which = match (advertised, refused) {
        (true, _) => Some(Which::Advertised),
        (_, true) => Some(Which::Refused),
        _ => None,
    };
    let request = BgpRequest {
        customer: customer.clone(),
        circuit: circuit.clone(),
        peering: peering.clone(),
        link: link.clone(),
        which,
        prefix: prefix.map(|p| p.to_string()),
    };
    let Reply::Bgp(routes) = control::ask(&at.path(), &Request::Bgp(request))? else { return Err(astray()) };
    if at.json {
        terminal.line(json::document(&routes));
        return Ok(Exit::Done);
    }
    terminal.print(listed(&routes, *refused, terminal.style));
    Ok(Exit::Done)
}

/// Routes session by session.
fn listed(routes: &BgpRoutes, refused: bool, style: Style) -> String {
    let mut text = String::new();
    for session in &routes.sessions {
        let SessionRoutes { customer, circuit, peering, link, family, received, advertised } = session;
        let family = if family == "ipv4" { "IPv4" } else { "IPv6" };
        let who = style.strong(format_args!("{customer} {circuit} {peering} {link}, {family}"));
        text.push_str(&format!("{}{who}\n", if text.is_empty() { "" } else { "\n" }));
        if let Some(received) = received {
            text.push_str(&list(received, if refused { "REFUSED" } else { "RECEIVED" }, true, style));
        }
        if let Some(advertised) = advertised {
            text.push_str(&list(advertised, "ADVERTISED", false, style));
        }
    }
    if text.is_empty() && routes.complete {
        text.push_str("there is no BGP session\n");
    }
    if !routes.complete {
        text.push_str("and perhaps more: a session did not answer in time\n");
    }
    text
}

/// Routes of one direction; columns of which nothing is known are left out.
fn list(routes: &[BgpRoute], head: &'static str, received: bool, style: Style) -> String {
    if routes.is_empty() {
        return format!("  no prefix {}\n", head.to_lowercase());
    }
    let communities = routes.iter().any(|r| !r.communities.is_empty());
    let columns: Vec<&'static str> = [
        Some(head),
        received.then_some("NEXT HOP"),
        Some("AS PATH"),
        communities.then_some("COMMUNITIES"),
        received.then_some(""),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut table = Table::new(style, &columns).indent(2);
    for route in routes {
        let next_hop = || route.next_hop.map(|n| n.to_string()).unwrap_or_default();
        let path: Vec<String> = route.as_path.iter().map(u32::to_string).collect();
        let note = || match (&route.refused, route.stale) {
            (Some(why), _) => style.odd(format_args!("refused: {why}")),
            (None, true) => style.odd("stale"),
            (None, false) => String::new(),
        };
        let cells = [
            Some(route.prefix.clone()),
            received.then(next_hop),
            Some(path.join(" ")),
            communities.then(|| route.communities.join(" ")),
            received.then(note),
        ];
        table.row(cells.into_iter().flatten());
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::circuits::tests::three_links;
    use super::*;

    #[test]
    fn a_row_for_each_session_and_why_it_is_down() {
        let text = summary(&three_links(), false, Style::PLAIN);
        let expected = "\
CUSTOMER  CIRCUIT  PEERING  LINK       PEER            AS  MD5  STATE/PREFIXES  FOR    REFUSED  SENT
contoso   er1      Private  primary    192.0.2.1    65010  yes  120/4000        4h12m        3     4
contoso   er1      Private  primary    2001:db8::1  65010  no   Connect         3m05s        0     0
contoso   er1      Private  secondary  192.0.2.1    65010  yes  Idle            3m05s        0     0

contoso er1 AzurePrivatePeering secondary with 192.0.2.1 is down: ended by the peer: Cease, administrative shutdown
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn who_is_near_the_limit_is_told_and_of_one_circuit_why_sessions_last_were_down() {
        let mut circuits = three_links();
        circuits.links.truncate(1);
        circuits.links[0].bgp.truncate(1);
        let session = &mut circuits.links[0].bgp[0];
        session.last_down = Some("the peer restarted".into());
        session.received = 3199;
        let notes = |circuits: &Circuits, of_all| {
            summary(circuits, of_all, Style::PLAIN).lines().skip(3).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(notes(&circuits, false).is_empty());
        let who = "contoso er1 AzurePrivatePeering primary with 192.0.2.1";
        assert_eq!(notes(&circuits, true), [format!("{who} was last down: the peer restarted")]);
        circuits.links[0].bgp[0].received = 3200;
        let expected = [format!("{who} receives 3200 prefixes; beyond 4000 it goes down")];
        assert_eq!(notes(&circuits, false), expected);
    }

    #[test]
    fn routes_with_what_is_said_of_them() {
        let route = |prefix: &str, as_path: &[u32]| BgpRoute {
            prefix: prefix.into(),
            as_path: as_path.to_vec(),
            next_hop: Some([192, 0, 2, 1].into()),
            ..BgpRoute::default()
        };
        let refused =
            |route: BgpRoute| BgpRoute { refused: Some("our AS number is in its path".into()), ..route };
        let told = |prefix: &str, community: &str| BgpRoute {
            prefix: prefix.into(),
            as_path: vec![12076],
            communities: vec![community.into()],
            ..BgpRoute::default()
        };
        let session = SessionRoutes {
            customer: "contoso".into(),
            circuit: "er1".into(),
            peering: "MicrosoftPeering".into(),
            link: "primary".into(),
            family: "ipv4".into(),
            received: Some(vec![
                route("203.0.113.0/24", &[65010]),
                BgpRoute { stale: true, ..route("203.0.113.128/25", &[65010, 65020]) },
                refused(route("198.51.100.0/24", &[65010, 12076])),
            ]),
            advertised: Some(vec![told("13.107.6.0/24", "12076:5010"), told("40.96.0.0/13", "12076:5010")]),
        };
        let v6 = SessionRoutes {
            family: "ipv6".into(),
            received: Some(Vec::new()),
            advertised: None,
            ..session.clone()
        };
        let routes = BgpRoutes { sessions: vec![session, v6], complete: false };
        let text = listed(&routes, false, Style::PLAIN);
        let expected = "\
contoso er1 MicrosoftPeering primary, IPv4
  RECEIVED          NEXT HOP   AS PATH
  203.0.113.0/24    192.0.2.1  65010
  203.0.113.128/25  192.0.2.1  65010 65020  stale
  198.51.100.0/24   192.0.2.1  65010 12076  refused: our AS number is in its path
  ADVERTISED     AS PATH  COMMUNITIES
  13.107.6.0/24  12076    12076:5010
  40.96.0.0/13   12076    12076:5010

contoso er1 MicrosoftPeering primary, IPv6
  no prefix received
and perhaps more: a session did not answer in time
";
        assert_eq!(text, expected, "\n{text}");
        let none = BgpRoutes { sessions: Vec::new(), complete: true };
        assert_eq!(listed(&none, true, Style::PLAIN), "there is no BGP session\n");
    }
}
