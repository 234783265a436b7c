//! A story: a configuration, the packets that arrive, and what must become of each, stated by hand.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use clearway::model::{self, Model};
use clearway::packet::{FlowState, Generated, NextHopType, Reason};

use crate::frame::{Frame, INNER_ROUTER, Outer, mac_of};
use crate::packet::{self, Packet, address};

/// When the first packet of every story arrives: 2018-11-13 12:00:02, in nanoseconds.
const BEGIN: u64 = 1_542_110_402_000_000_000;
/// Time between packets: a millisecond.
const STEP: u64 = 1_000_000;
/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;

/// What a capture file looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Classic pcap, little-endian, microseconds.
    Pcap,
    /// Classic pcap, little-endian, nanoseconds.
    Nanoseconds,
    /// Classic pcap, big-endian, microseconds.
    BigEndian,
    /// pcapng with nanoseconds.
    Pcapng,
}

/// A story and the folder it becomes.
pub struct Story {
    /// The folder.
    pub name: &'static str,
    /// What it shows, in one sentence.
    pub sentence: &'static str,
    /// The files of its configuration, by their paths in the folder.
    pub files: Vec<(&'static str, String)>,
    /// The configuration that is in force at first.
    pub model: Model,
    /// Those that replace it: nanoseconds after the first packet, file, model.
    pub swaps: Vec<(u64, &'static str, Model)>,
    /// Formats of input captures that are not plain pcap.
    pub formats: Vec<(&'static str, Format)>,
    /// Everything that arrives, in order.
    pub arrivals: Vec<Arrival>,
    /// Flow records opened, and live at the end.
    pub flows: (u64, u64),
    scene: &'static str,
    clock: u64,
}

/// One frame that arrives, and what must become of it.
pub struct Arrival {
    /// The sentence of the story that it belongs to.
    pub scene: &'static str,
    /// When, in nanoseconds since 1970, as its capture says.
    pub time: u64,
    /// The frame.
    pub frame: Frame,
    /// Where it comes from.
    pub from: Place,
    /// What must become of it.
    pub fate: Fate,
    /// The customer's packet in it.
    packet: Option<Packet>,
}

/// What must become of a packet.
#[derive(Default)]
pub struct Fate {
    /// Why it is not forwarded.
    pub reason: Option<Reason>,
    /// Where it goes.
    pub to: Option<Place>,
    /// What the flow records say.
    pub flow: FlowState,
    /// The rule.
    pub rule: Option<&'static str>,
    /// Next hop type and prefix of the route.
    pub route: Option<(NextHopType, &'static str)>,
    /// Customer and VNet where they are not what the place it comes from says.
    pub owner: Option<(Option<&'static str>, Option<&'static str>)>,
    /// What leaves, where it is not the packet one hop further.
    pub becomes: Option<Vec<Packet>>,
    /// The ICMP error that answers it.
    pub answer: Option<(Generated, Packet)>,
}

/// What stands at the other end of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A host of the fabric.
    Host,
    /// A customer's router, or a VPN connection.
    Site,
    /// The other end of a VNet's Internet tunnel.
    Internet,
    /// A plain network.
    Plain,
}

/// Where frames come from and go to.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The port.
    pub port: &'static str,
    /// The other end of the tunnel, and the key as on the wire.
    pub tunnel: Option<(IpAddr, u32)>,
    kind: Kind,
    customer: &'static str,
    vnet: &'static str,
    local: IpAddr,
    next_hop: Option<IpAddr>,
    nvgre: bool,
    numbered: bool,
    mac: Option<[u8; 6]>,
}

impl Story {
    /// A story with one configuration file.
    pub fn new(name: &'static str, sentence: &'static str, config: &'static str) -> Story {
        Story::with_files(name, sentence, &[("config.yaml", config)])
    }

    /// A story whose configuration is the first of these files and names the others.
    pub fn with_files(
        name: &'static str,
        sentence: &'static str,
        files: &[(&'static str, &'static str)],
    ) -> Story {
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.trim_start().to_owned())).collect();
        let model = load(name, &files, files[0].0);
        Story {
            name,
            sentence,
            files,
            model,
            swaps: Vec::new(),
            formats: Vec::new(),
            arrivals: Vec::new(),
            flows: (0, 0),
            scene: "",
            clock: BEGIN,
        }
    }

    /// A host of the fabric behind which addresses of a VNet live; `vnet` is `customer/name`.
    pub fn host(&self, vnet: &'static str, port: &'static str, remote: &str, key: u32) -> Place {
        self.place(Kind::Host, vnet, port, Some((address(remote), key)))
    }

    /// The same for a VNet whose tunnel is NVGRE.
    pub fn nvgre_host(&self, vnet: &'static str, port: &'static str, remote: &str, subnet: u32) -> Place {
        let tunnel = Some((address(remote), subnet << 8));
        Place { nvgre: true, ..self.place(Kind::Host, vnet, port, tunnel) }
    }

    /// A customer's router at the end of a circuit link, or of a VPN connection; `customer/` where that leads to no VNet.
    pub fn site(&self, vnet: &'static str, port: &'static str, remote: &str, key: u32) -> Place {
        self.place(Kind::Site, vnet, port, Some((address(remote), key)))
    }

    /// The other end of a VNet's Internet tunnel.
    pub fn internet_tunnel(&self, vnet: &'static str, port: &'static str, remote: &str, key: u32) -> Place {
        self.place(Kind::Internet, vnet, port, Some((address(remote), key)))
    }

    /// A network without tunnels; what comes from it goes to this VNet, or as `customer/` to a peering of that customer
    /// that has no VNets.
    pub fn plain(&self, vnet: &'static str, port: &'static str) -> Place {
        self.place(Kind::Plain, vnet, port, None)
    }

    fn place(
        &self,
        kind: Kind,
        vnet: &'static str,
        port: &'static str,
        tunnel: Option<(IpAddr, u32)>,
    ) -> Place {
        let found = self.model.ports.iter().find(|p| p.name == port);
        let found = found.unwrap_or_else(|| panic!("{}: there is no port {port}", self.name));
        let (customer, vnet) = vnet.split_once('/').expect("customer/vnet");
        let (local, next_hop) = (found.address, found.next_hop);
        let (nvgre, numbered, mac) = (false, false, None);
        Place { port, tunnel, kind, customer, vnet, local, next_hop, nvgre, numbered, mac }
    }

    /// What the next packets are about.
    pub fn scene(&mut self, sentence: &'static str) {
        self.scene = sentence;
    }

    /// Nothing happens for so many seconds.
    pub fn wait(&mut self, seconds: f64) {
        self.clock += (seconds * 1e6) as u64 * 1000;
    }

    /// The next packet arrives at the same time as the one before, on the same port or one that stands behind it.
    pub fn at_once(&mut self) {
        self.clock -= STEP;
    }

    /// Time passes until so many seconds after the first packet.
    pub fn until(&mut self, seconds: u64) {
        let then = BEGIN + seconds * SECOND;
        assert!(then >= self.clock, "{}: {seconds} s are over", self.name);
        self.clock = then;
    }

    /// So many seconds after the first packet another configuration comes into force.
    pub fn swap(&mut self, seconds: u64, file: &'static str, text: String) {
        self.until(seconds);
        self.files.push((file, text.trim_start().to_owned()));
        let model = load(self.name, &self.files, file);
        self.swaps.push((seconds * SECOND, file, model));
    }

    /// The input capture of a port has this format.
    pub fn format(&mut self, port: &'static str, format: Format) {
        self.formats.push((port, format));
    }

    /// A customer's packet arrives from a place.
    pub fn send(&mut self, from: Place, packet: Packet) -> &mut Arrival {
        let frame = from.wrap(&packet);
        let arrival = self.frame(from, frame);
        arrival.packet = Some(packet);
        arrival
    }

    /// A frame arrives from a place.
    pub fn frame(&mut self, from: Place, frame: Frame) -> &mut Arrival {
        let (time, scene) = (self.clock, self.scene);
        self.clock += STEP;
        let order = |port: &str| self.model.ports.iter().position(|p| p.name == port);
        let before = self.arrivals.last().filter(|last| last.time == time);
        assert!(
            before.is_none_or(|last| order(last.from.port) <= order(from.port)),
            "{}: packets of one time come in the order of their ports",
            self.name
        );
        let fate = Fate::default();
        self.arrivals.push(Arrival { scene, time, frame, from, fate, packet: None });
        self.arrivals.last_mut().expect("one was pushed")
    }

    /// How many flow records the story opened, and how many are live at its end.
    pub fn flows(mut self, opened: u64, live: u64) -> Story {
        self.flows = (opened, live);
        self
    }
}

/// A configuration with one thing changed.
pub fn with(config: &str, from: &str, to: &str) -> String {
    assert!(config.matches(from).count() == 1, "'{from}' does not stand in the configuration exactly once");
    config.replace(from, to)
}

/// Reads a configuration from a folder that holds these files.
fn load(story: &str, files: &[(&str, String)], config: &str) -> Model {
    let folder = tempfile::tempdir().expect("a folder for the configuration");
    write_files(folder.path(), files);
    let path = folder.path().join(config);
    model::load(&path).unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(|f| f.to_string()).collect();
        panic!("{story}: {config} is refused:\n{}", faults.join("\n"))
    })
}

fn write_files(folder: &Path, files: &[(&str, String)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder)).expect("a folder for the configuration");
        fs::write(&path, text).expect("a file of the configuration");
    }
}

impl Place {
    /// The frame in which a packet comes from here.
    pub fn wrap(&self, packet: &Packet) -> Frame {
        let to = mac_of(self.local);
        match self.tunnel {
            None => Frame::plain(to, mac_of(self.next_hop.unwrap_or(packet.source())), packet),
            Some((remote, key)) => {
                let mac = self.mac.unwrap_or_else(|| mac_of(packet.source()));
                let inner_macs = self.nvgre.then_some((INNER_ROUTER, mac));
                let outer = Outer { from: remote, to: self.local, tos: 0, key, sequence: None, inner_macs };
                Frame::tunnelled(to, mac_of(remote), outer, packet)
            }
        }
    }

    /// The frame in which a packet goes there.
    pub fn deliver(&self, packet: &Packet, sequence: u32) -> Frame {
        let from = mac_of(self.local);
        match self.tunnel {
            None => Frame::plain(mac_of(self.next_hop.unwrap_or(packet.destination())), from, packet),
            Some((remote, key)) => {
                let mac = self.mac.unwrap_or_else(|| mac_of(packet.destination()));
                let inner_macs = self.nvgre.then_some((mac, INNER_ROUTER));
                let sequence = self.numbered.then_some(sequence);
                let outer =
                    Outer { from: self.local, to: remote, tos: packet.tos_now(), key, sequence, inner_macs };
                Frame::tunnelled(mac_of(remote), from, outer, packet)
            }
        }
    }

    /// The same place, reached with sequence numbers.
    pub fn numbered(self) -> Place {
        Place { numbered: true, ..self }
    }

    /// The endpoint behind it that has this MAC address in inner frames.
    pub fn mac(self, text: &str) -> Place {
        let bytes = text.split('-').map(|b| u8::from_str_radix(b, 16).expect("a MAC address"));
        let mac: Vec<u8> = bytes.collect();
        Place { mac: Some(mac.try_into().expect("a MAC address of six bytes")), ..self }
    }

    /// The owner that a verdict names: what is known when the step that ends the packet begins (contract, section 5).
    fn owner(&self, reason: Option<Reason>) -> (Option<&'static str>, Option<&'static str>) {
        let (customer, vnet) = (Some(self.customer), Some(self.vnet).filter(|vnet| !vnet.is_empty()));
        let step = reason.map_or(13, Reason::step);
        match self.kind {
            _ if step < 4 || reason == Some(Reason::UnknownTunnel) => (None, None),
            Kind::Plain if step < 6 => (None, None),
            Kind::Site if step < 6 => (customer, None),
            _ => (customer, vnet),
        }
    }
}

impl Arrival {
    /// Its capture says that it came so many nanoseconds later, or if below zero earlier, than the story would have it.
    pub fn stamped(&mut self, later: i64) -> &mut Arrival {
        self.time = self.time.wrapping_add_signed(later);
        self
    }

    /// It is forwarded to this place.
    pub fn to(&mut self, place: Place) -> &mut Arrival {
        self.fate.to = Some(place);
        self
    }

    /// It is dropped or handed to the host.
    pub fn ends(&mut self, reason: Reason) -> &mut Arrival {
        self.fate.reason = Some(reason);
        self
    }

    /// It opened a flow record; the rule that allowed it.
    pub fn opens(&mut self, rule: &'static str) -> &mut Arrival {
        self.fate.flow = FlowState::New;
        self.rule(rule)
    }

    /// It belongs to a flow record; the rule that opened it.
    pub fn established(&mut self, rule: &'static str) -> &mut Arrival {
        self.fate.flow = FlowState::Established;
        self.rule(rule)
    }

    /// The rule, where no flow record matters.
    pub fn rule(&mut self, rule: &'static str) -> &mut Arrival {
        self.fate.rule = Some(rule);
        self
    }

    /// The route that won.
    pub fn via(&mut self, route: (NextHopType, &'static str)) -> &mut Arrival {
        self.fate.route = Some(route);
        self
    }

    /// Whose it is, where that is not what the place it comes from says; an empty word is nobody.
    pub fn owned_by(&mut self, customer: &'static str, vnet: &'static str) -> &mut Arrival {
        let known = |name: &'static str| Some(name).filter(|n| !n.is_empty());
        self.fate.owner = Some((known(customer), known(vnet)));
        self
    }

    /// What leaves instead of the packet one hop further.
    pub fn becomes(&mut self, packets: impl IntoIterator<Item = Packet>) -> &mut Arrival {
        self.fate.becomes = Some(packets.into_iter().collect());
        self
    }

    /// It is answered with time exceeded, from this address.
    pub fn time_exceeded(&mut self, from: &str) -> &mut Arrival {
        let about = self.packet.clone().expect("an answer is about a packet");
        let kind = if about.is_v4() { (11, 0) } else { (3, 0) };
        self.answer(Generated::TimeExceeded, from, kind, 0, &about)
    }

    /// It is answered with fragmentation needed or packet too big, from this address, carrying the room.
    pub fn needs_room(&mut self, from: &str, room: u32) -> &mut Arrival {
        let about = self.packet.clone().expect("an answer is about a packet");
        let (generated, kind) = if about.is_v4() {
            (Generated::FragmentationNeeded, (3, 4))
        } else {
            (Generated::PacketTooBig, (2, 0))
        };
        self.answer(generated, from, kind, room, &about)
    }

    fn answer(
        &mut self,
        generated: Generated,
        from: &str,
        kind: (u8, u8),
        word: u32,
        about: &Packet,
    ) -> &mut Arrival {
        let mut answer = packet::error(from, &about.source().to_string(), kind, word, about);
        if answer.is_v4() {
            answer = answer.dont_fragment();
        }
        self.fate.answer = Some((generated, answer));
        self
    }

    /// Says that it carries this packet, for a frame that was given whole.
    pub fn carries(&mut self, packet: Packet) -> &mut Arrival {
        self.packet = Some(packet);
        self
    }

    /// The customer's packet in it, if that is known.
    pub fn carried(&self) -> Option<&Packet> {
        self.packet.as_ref()
    }

    /// Customer and VNet of its verdict.
    pub fn owner(&self) -> (Option<&'static str>, Option<&'static str>) {
        self.fate.owner.unwrap_or_else(|| self.from.owner(self.fate.reason))
    }

    /// The packets that leave because of it, and where to.
    pub fn leaving(&self) -> Vec<(Place, Packet)> {
        if let Some((_, answer)) = &self.fate.answer {
            let mac = self.from.mac.or_else(|| Some(mac_of(self.packet.as_ref()?.source())));
            return vec![(Place { mac, ..self.from }, answer.clone())];
        }
        let Some(to) = self.fate.to else { return Vec::new() };
        let packets = self.fate.becomes.clone().unwrap_or_else(|| {
            let packet = self.packet.clone().expect("a frame that is forwarded carries a packet");
            vec![packet.aged()]
        });
        packets.into_iter().map(|packet| (to, packet)).collect()
    }
}
