//! `circuits`: the links of circuits, with their BGP, BFD and rates.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::args::CircuitsArgs;
use super::rates::short;
use super::running::{astray, brief, duration};
use super::terminal::Terminal;
use super::{Exit, Refused};
use crate::live::control::{self, Reply, Request};
use crate::live::report::{BfdSession, BgpSession, CircuitLink, Circuits, LinkCounts};
use crate::observe::{Style, Table, json};

/// How far the two readings lie apart that rates are made of.
const EVERY: Duration = Duration::from_secs(1);

/// The families of sessions, as reports and as tables name them.
const FAMILIES: [(&str, &str); 2] = [("ipv4", "v4"), ("ipv6", "v6")];

/// Shows how links are and what they carry.
pub fn run(args: &CircuitsArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let CircuitsArgs { customer, circuit, detail, at } = args;
    let path = at.path();
    let (customer, circuit) = (customer.as_deref(), circuit.as_deref());
    let first = read(&path, customer, circuit)?;
    if at.json {
        terminal.line(json::document(&first));
        return Ok(Exit::Done);
    }
    if first.links.is_empty() {
        terminal.line("there is no circuit link with a tunnel and a prefix");
        return Ok(Exit::Done);
    }
    thread::sleep(EVERY);
    let now = read(&path, customer, circuit)?;
    let text = match *detail || circuit.is_some() {
        true => paragraphs(&first, &now, terminal.style),
        false => overview(&first, &now, terminal.style),
    };
    terminal.print(text);
    Ok(Exit::Done)
}

/// The links of this customer and of circuits with this name.
pub fn read(path: &Path, customer: Option<&str>, circuit: Option<&str>) -> Result<Circuits, Refused> {
    let request =
        Request::Circuits { customer: customer.map(str::to_owned), circuit: circuit.map(str::to_owned) };
    match control::ask(path, &request)? {
        Reply::Circuits(circuits) => Ok(circuits),
        _ => Err(astray()),
    }
}

/// Every link now, with the bits in a second that it has carried inwards and outwards since the earlier reading.
fn rated<'a>(earlier: &'a Circuits, now: &'a Circuits) -> impl Iterator<Item = (&'a CircuitLink, [f64; 2])> {
    // By the appliance's own clock, as in `top`.
    let seconds = now.uptime_seconds - earlier.uptime_seconds;
    let per = if seconds > 0.001 { seconds } else { f64::INFINITY };
    let names = |l: &'a CircuitLink| [&l.customer, &l.circuit, &l.peering, &l.link];
    now.links.iter().map(move |link| {
        let before = earlier.links.iter().find(|l| names(l) == names(link));
        let rate = |now: LinkCounts, before: Option<LinkCounts>| {
            // One that was not there has no rate yet; one that began anew has none, either.
            let bytes = before.map_or(0, |b| now.bytes.saturating_sub(b.bytes));
            bytes as f64 * 8.0 / per
        };
        let rates =
            [rate(link.inwards, before.map(|l| l.inwards)), rate(link.outwards, before.map(|l| l.outwards))];
        (link, rates)
    })
}

/// A row for each link, and below why links are down.
fn overview(earlier: &Circuits, now: &Circuits, style: Style) -> String {
    let heads =
        ["CUSTOMER", "CIRCUIT", "PEERING", "LINK", "STATE", "BGP", "BFD", ">IN", ">OUT", ">OF", ">DROPS"];
    let mut table = Table::new(style, &heads);
    for (link, [r#in, out]) in rated(earlier, now) {
        let (bgp, bfd) = sessions(link, style);
        table.row([
            link.customer.clone(),
            link.circuit.clone(),
            peering(link).to_owned(),
            link.link.clone(),
            if link.up { style.good("up") } else { style.bad("down") },
            bgp,
            bfd,
            short(r#in),
            short(out),
            link.bandwidth_in_mbps.map_or_else(|| "-".to_owned(), bandwidth),
            count(link.inwards.over_rate + link.outwards.over_rate),
        ]);
    }
    let mut notes = String::new();
    for link in &now.links {
        let who = name(link);
        if let Some(why) = &link.down_because {
            notes.push_str(&format!("{who} is down: {why}\n"));
        }
        if let Some(why) = &link.no_device_because {
            notes.push_str(&format!("{who} has no device: {why}\n"));
        }
    }
    if notes.is_empty() { table.to_string() } else { format!("{table}\n{notes}") }
}

/// `contoso er1 AzurePrivatePeering primary`.
pub fn name(link: &CircuitLink) -> String {
    let CircuitLink { customer, circuit, peering, link, .. } = link;
    format!("{customer} {circuit} {peering} {link}")
}

/// A peering's name, shorter if it is one of Azure's: `Private`.
pub fn peering(link: &CircuitLink) -> &str {
    match link.peering.eq_ignore_ascii_case(&link.peering_type) {
        true => link.peering_type.trim_start_matches("Azure").trim_end_matches("Peering"),
        false => &link.peering,
    }
}

/// BGP and BFD of a link, a line for each family that has a session.
fn sessions(link: &CircuitLink, style: Style) -> (String, String) {
    let (mut bgp, mut bfd) = (Vec::new(), Vec::new());
    for (family, short) in FAMILIES {
        let session = link.bgp.iter().find(|s| s.family == family);
        let liveness = link.bfd.iter().find(|s| s.family == family);
        if session.is_none() && liveness.is_none() {
            continue;
        }
        bgp.push(session.map_or_else(
            || format!("{short} -"),
            |s| painted(s, format_args!("{short} {} {}", standing(s), brief(s.since_seconds)), style),
        ));
        bfd.push(match liveness.filter(|s| s.heard) {
            Some(s) if s.state == "Down" || s.state == "Init" => style.bad(&s.state),
            Some(s) => s.state.clone(),
            None => "-".to_owned(),
        });
    }
    let lines = |lines: Vec<String>| if lines.is_empty() { "-".to_owned() } else { lines.join("\n") };
    (lines(bgp), lines(bfd))
}

/// `120/4000` of a session that is up, the state of any other.
pub fn standing(session: &BgpSession) -> String {
    if session.up { format!("{}/{}", session.received, session.limit) } else { session.state.clone() }
}

/// True from four fifths of the limit on, where the appliance warns, too.
pub fn is_near_limit(session: &BgpSession) -> bool {
    session.received * 5 >= u64::from(session.limit) * 4
}

/// What is said of a session, in the colour of how it is.
pub fn painted(session: &BgpSession, text: impl std::fmt::Display, style: Style) -> String {
    match session.up {
        false => style.bad(text),
        true if is_near_limit(session) => style.odd(text),
        true => text.to_string(),
    }
}

/// `50 M`, `10 G`.
fn bandwidth(mbps: u32) -> String {
    if mbps.is_multiple_of(1000) { format!("{} G", mbps / 1000) } else { format!("{mbps} M") }
}

/// A count, with three digits from a thousand on.
fn count(n: u64) -> String {
    if n < 1000 { n.to_string() } else { short(n as f64) }
}

/// A paragraph for each link.
fn paragraphs(earlier: &Circuits, now: &Circuits, style: Style) -> String {
    let all: Vec<String> = rated(earlier, now).map(|(link, rates)| paragraph(link, rates, style)).collect();
    all.join("\n")
}

fn paragraph(link: &CircuitLink, rates: [f64; 2], style: Style) -> String {
    let state = match &link.down_because {
        None => style.good("up"),
        Some(why) => format!("{}, {why}", style.bad("down")),
    };
    let device = match (&link.device, &link.no_device_because) {
        (Some(device), _) => format!("{} in network namespace {}", device.name, device.namespace),
        (None, Some(why)) => format!("none: {why}"),
        (None, None) => "none".to_owned(),
    };
    let mut table = Table::new(style, &["", ""]).indent(2);
    table.row(["device".to_owned(), device]);
    for (way, counts, rate) in [("in", link.inwards, rates[0]), ("out", link.outwards, rates[1])] {
        let of = link.bandwidth_in_mbps.map(|mbps| format!(" of {}bit/s", bandwidth(mbps)));
        let carried = format!(
            "{}{}; {} packets, {} bytes; {} packets over the bandwidth",
            bits(rate),
            of.unwrap_or_default(),
            counts.packets,
            counts.bytes,
            counts.over_rate
        );
        table.row([way.to_owned(), carried]);
    }
    for (family, short) in FAMILIES {
        for session in link.bgp.iter().filter(|s| s.family == family) {
            table.row([format!("BGP {short}"), bgp_lines(session, style)]);
        }
        for session in link.bfd.iter().filter(|s| s.family == family) {
            table.row([format!("BFD {short}"), bfd_line(session, style)]);
        }
    }
    format!("{}: {state}\n{table}", style.strong(name(link)))
}

fn bgp_lines(session: &BgpSession, style: Style) -> String {
    let BgpSession { local_address, peer_address, local_asn, peer_asn, state, .. } = session;
    let md5 = if session.md5 { ", with MD5" } else { ", without MD5" };
    let mut lines =
        vec![format!("peer {peer_address} AS {peer_asn}, we are {local_address} AS {local_asn}{md5}")];
    let mut standing = painted(session, state, style);
    standing.push_str(&format!(" for {}", duration(session.since_seconds)));
    if let (Some(identifier), Some(hold_time)) = (session.peer_identifier, session.hold_time_seconds) {
        standing.push_str(&format!(", identifier {identifier}, hold time {hold_time} s"));
    }
    standing.push_str(&format!("; came up {}, went down {}", times(session.ups), times(session.downs)));
    lines.push(standing);
    let stale = if session.stale > 0 { format!(" ({} stale)", session.stale) } else { String::new() };
    lines.push(format!(
        "{} prefixes received{stale} of {} at most, {} refused; {} advertised",
        session.received, session.limit, session.refused, session.advertised
    ));
    if let Some(why) = &session.last_down {
        lines.push(format!("last down: {why}"));
    }
    lines.join("\n")
}

fn bfd_line(session: &BfdSession, style: Style) -> String {
    let BfdSession { peer_address, state, .. } = session;
    if !session.heard {
        return format!("peer {peer_address} has not spoken it");
    }
    let painted = if matches!(state.as_str(), "Down" | "Init") { style.bad(state) } else { state.clone() };
    format!(
        "peer {peer_address}, {painted} for {}; sent every {} ms, down after {} ms of silence; went down {}",
        duration(session.since_seconds),
        session.interval_microseconds / 1000,
        session.detection_time_microseconds / 1000,
        times(session.downs)
    )
}

fn times(n: u64) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

/// `345 bit/s`, `6.78 Mbit/s`.
fn bits(rate: f64) -> String {
    let number = short(rate);
    let unit = if number.ends_with(char::is_alphabetic) { "bit/s" } else { " bit/s" };
    number + unit
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::live::report::LinkDevice;

    /// A link with both families, one that is held down, and one without BGP.
    pub fn three_links() -> Circuits {
        let session = BgpSession {
            family: "ipv4".into(),
            local_address: [192, 0, 2, 2].into(),
            peer_address: [192, 0, 2, 1].into(),
            local_asn: 12076,
            peer_asn: 65010,
            md5: true,
            state: "Established".into(),
            up: true,
            since_seconds: 15_120.0,
            peer_identifier: Some([192, 0, 2, 1].into()),
            hold_time_seconds: Some(180),
            received: 120,
            stale: 2,
            limit: 4000,
            refused: 3,
            advertised: 4,
            last_down: None,
            ups: 1,
            downs: 0,
        };
        let down = |family: &str, state: &str, last_down: Option<&str>| BgpSession {
            family: family.into(),
            state: state.into(),
            up: false,
            since_seconds: 185.0,
            peer_identifier: None,
            hold_time_seconds: None,
            received: 0,
            stale: 0,
            refused: 0,
            advertised: 0,
            last_down: last_down.map(str::to_owned),
            ..session.clone()
        };
        let v6 = BgpSession {
            local_address: "2001:db8::2".parse().unwrap(),
            peer_address: "2001:db8::1".parse().unwrap(),
            md5: false,
            limit: 100,
            ..down("ipv6", "Connect", None)
        };
        let bfd = |family: &str, state: &str, heard| BfdSession {
            family: family.into(),
            peer_address: if family == "ipv4" { session.peer_address } else { v6.peer_address },
            state: state.into(),
            heard,
            since_seconds: 7.84,
            interval_microseconds: 300_000,
            detection_time_microseconds: 900_000,
            downs: 1,
        };
        let primary = CircuitLink {
            customer: "contoso".into(),
            circuit: "er1".into(),
            peering: "AzurePrivatePeering".into(),
            link: "primary".into(),
            peering_type: "AzurePrivatePeering".into(),
            up: true,
            device: Some(LinkDevice { namespace: "clearway-contoso".into(), name: "er1-p".into() }),
            bandwidth_in_mbps: Some(1000),
            inwards: LinkCounts { packets: 11, bytes: 1100, over_rate: 4821 },
            outwards: LinkCounts { packets: 12, bytes: 1300, over_rate: 0 },
            bgp: vec![session.clone(), v6.clone()],
            bfd: vec![bfd("ipv4", "Up", true), bfd("ipv6", "Down", false)],
            ..CircuitLink::default()
        };
        let administrative = Some("ended by the peer: Cease, administrative shutdown");
        let secondary = CircuitLink {
            link: "secondary".into(),
            up: false,
            down_because: Some("BFD is down since 3 s".into()),
            device: None,
            no_device_because: Some("Operation not permitted".into()),
            bgp: vec![down("ipv4", "Idle", administrative)],
            bfd: vec![bfd("ipv4", "Down", true)],
            inwards: LinkCounts::default(),
            outwards: LinkCounts::default(),
            ..primary.clone()
        };
        let other = CircuitLink {
            customer: "fabrikam".into(),
            circuit: "er-west".into(),
            peering: "MicrosoftPeering".into(),
            peering_type: "MicrosoftPeering".into(),
            bandwidth_in_mbps: None,
            bgp: Vec::new(),
            bfd: Vec::new(),
            ..primary.clone()
        };
        Circuits { uptime_seconds: 10.0, links: vec![primary, secondary, other] }
    }

    /// The same a second later.
    fn later() -> Circuits {
        let mut circuits = three_links();
        circuits.uptime_seconds = 11.0;
        circuits.links[0].inwards.bytes += 123_375_000;
        circuits.links[0].outwards.bytes += 43;
        circuits
    }

    #[test]
    fn a_row_for_each_link_and_why_it_is_down() {
        let text = overview(&three_links(), &later(), Style::PLAIN);
        let expected = "\
CUSTOMER  CIRCUIT  PEERING    LINK       STATE  BGP                BFD      IN  OUT   OF   DROPS
contoso   er1      Private    primary    up     v4 120/4000 4h12m  Up    987 M  344  1 G  4.82 k
                                                v6 Connect 3m05s   -
contoso   er1      Private    secondary  down   v4 Idle 3m05s      Down      0    0  1 G       0
fabrikam  er-west  Microsoft  primary    up     -                  -         0    0    -  4.82 k

contoso er1 AzurePrivatePeering secondary is down: BFD is down since 3 s
contoso er1 AzurePrivatePeering secondary has no device: Operation not permitted
";
        assert_eq!(text, expected, "\n{text}");
        assert!(text.lines().take(5).all(|l| l.chars().count() <= 100));
    }

    #[test]
    fn colours_do_not_move_columns() {
        let text = overview(&three_links(), &later(), Style { on: true });
        assert!(text.contains("\x1b[32;1mup\x1b[0m     v4 120/4000"), "{text}");
        assert!(
            text.contains("\x1b[31;1mdown\x1b[0m   \x1b[31;1mv4 Idle 3m05s\x1b[0m      \x1b[31;1mDown"),
            "{text}"
        );
        let plain = overview(&three_links(), &later(), Style::PLAIN);
        let mut bare = text;
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[31;1m", "\x1b[32;1m", "\x1b[33;1m"] {
            bare = bare.replace(code, "");
        }
        assert_eq!(bare, plain);
    }

    #[test]
    fn a_paragraph_for_each_link() {
        let text = paragraphs(&three_links(), &later(), Style::PLAIN);
        let expected = "\
contoso er1 AzurePrivatePeering primary: up
  device  er1-p in network namespace clearway-contoso
  in      987 Mbit/s of 1 Gbit/s; 11 packets, 123376100 bytes; 4821 packets over the bandwidth
  out     344 bit/s of 1 Gbit/s; 12 packets, 1343 bytes; 0 packets over the bandwidth
  BGP v4  peer 192.0.2.1 AS 65010, we are 192.0.2.2 AS 12076, with MD5
          Established for 4 h 12 min, identifier 192.0.2.1, hold time 180 s; came up once, went down 0 times
          120 prefixes received (2 stale) of 4000 at most, 3 refused; 4 advertised
  BFD v4  peer 192.0.2.1, Up for 7.8 s; sent every 300 ms, down after 900 ms of silence; went down once
  BGP v6  peer 2001:db8::1 AS 65010, we are 2001:db8::2 AS 12076, without MD5
          Connect for 3 min 5 s; came up once, went down 0 times
          0 prefixes received of 100 at most, 0 refused; 0 advertised
  BFD v6  peer 2001:db8::1 has not spoken it

contoso er1 AzurePrivatePeering secondary: down, BFD is down since 3 s
  device  none: Operation not permitted
  in      0 bit/s of 1 Gbit/s; 0 packets, 0 bytes; 0 packets over the bandwidth
  out     0 bit/s of 1 Gbit/s; 0 packets, 0 bytes; 0 packets over the bandwidth
  BGP v4  peer 192.0.2.1 AS 65010, we are 192.0.2.2 AS 12076, with MD5
          Idle for 3 min 5 s; came up once, went down 0 times
          0 prefixes received of 4000 at most, 0 refused; 0 advertised
          last down: ended by the peer: Cease, administrative shutdown
  BFD v4  peer 192.0.2.1, Down for 7.8 s; sent every 300 ms, down after 900 ms of silence; went down once
";
        assert!(text.starts_with(expected), "\n{text}");
        assert!(text.contains("\n  in      0 bit/s; 11 packets, 1100 bytes; "), "{text}");
    }

    #[test]
    fn a_link_that_began_anew_has_no_negative_rate() {
        let rates = |earlier: &Circuits, now: &Circuits| -> Vec<[f64; 2]> {
            rated(earlier, now).map(|(_, rates)| rates).collect()
        };
        assert_eq!(rates(&later(), &three_links())[0], [0.0, 0.0]);
        assert_eq!(rates(&Circuits::default(), &later())[0], [0.0, 0.0]);
    }

    #[test]
    fn names_of_peerings_are_short_if_they_are_azures() {
        let mut link = three_links().links[0].clone();
        link.peering = "azureprivatepeering".into();
        assert_eq!(peering(&link), "Private");
        link.peering = "to-the-office".into();
        assert_eq!(peering(&link), "to-the-office");
    }
}
