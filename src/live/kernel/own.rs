//! What we set of devices of our own, and of the network namespaces that they are in.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::messages;
use super::requests::Requests;

/// Attributes of IPv4 in a message about a device, and settings in the second of them.
const AF_INET: u16 = 2;
const IFLA_INET_CONF: u16 = 1;
const FORWARDING: u16 = 1;
const RP_FILTER: u16 = 8;
const ACCEPT_SOURCE_ROUTE: u16 = 9;

/// A kernel without IPv6 says so.
const EAFNOSUPPORT: i32 = 97;

fn device(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    message
}

fn address(device: u32, (address, length): (IpAddr, u8)) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.index = device;
    message.header.prefix_len = length;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

fn attribute(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; inner.buffer_len()];
    inner.emit(&mut bytes);
    DefaultNla::new(kind, bytes)
}

impl Requests {
    /// Has the kernel give a device no IPv6 addresses by itself and ask nobody for them, take packets from it wherever
    /// their sources are, and forward no IPv4 packet that comes by it, not even where its options would have it go.
    pub fn keep_quiet(&mut self, index: u32) -> io::Result<()> {
        let off = [FORWARDING, RP_FILTER, ACCEPT_SOURCE_ROUTE]
            .map(|setting| DefaultNla::new(setting, 0_u32.to_ne_bytes().to_vec()));
        let inet = attribute(AF_INET, &[attribute(IFLA_INET_CONF, &off)]);
        self.set(device(index, vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Other(inet)])]))?;
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let inet6 = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]);
        match self.set(device(index, vec![inet6])) {
            Err(e) if e.raw_os_error() == Some(EAFNOSUPPORT) => Ok(()),
            done => done,
        }
    }

    /// What is said of a device that people may read.
    pub fn alias(&mut self, index: u32) -> io::Result<Option<String>> {
        let mut alias = None;
        self.ask(RouteNetlinkMessage::GetLink(device(index, Vec::new())), 0, |_, message| {
            alias = messages::alias(message);
        })?;
        Ok(alias)
    }

    /// Says something of a device that people may read.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> io::Result<()> {
        self.set(device(index, vec![LinkAttribute::IfAlias(alias.to_owned())]))
    }

    fn set(&mut self, message: LinkMessage) -> io::Result<()> {
        self.ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK, |_, _| {}).map(|_| ())
    }

    /// Takes a device away, whoever has its other end.
    pub fn remove_device(&mut self, index: u32) -> io::Result<()> {
        let message = device(index, Vec::new());
        self.ask(RouteNetlinkMessage::DelLink(message), NLM_F_ACK, |_, _| {}).map(|_| ())
    }

    /// The addresses of a device, with the lengths of their prefixes.
    pub fn addresses(&mut self, index: u32) -> io::Result<Vec<(IpAddr, u8)>> {
        let mut all = Vec::new();
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        // What changes meanwhile is no address of a device of ours.
        self.ask(question, NLM_F_DUMP, |_, message| {
            if let (Some((device, address)), Ok(header)) =
                (messages::address(message), AddressHeader::parse(message))
                && device == index
            {
                all.push((address, header.prefix_len));
            }
        })?;
        Ok(all)
    }

    /// Gives a device an address, which is of use at once.
    pub fn add_address(&mut self, index: u32, added: (IpAddr, u8)) -> io::Result<()> {
        let mut message = address(index, added);
        if added.0.is_ipv6() {
            // Nobody else can have it: there is only the peer.
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
        self.ask(RouteNetlinkMessage::NewAddress(message), flags, |_, _| {}).map(|_| ())
    }

    /// Takes an address of a device away.
    pub fn remove_address(&mut self, index: u32, removed: (IpAddr, u8)) -> io::Result<()> {
        let message = address(index, removed);
        self.ask(RouteNetlinkMessage::DelAddress(message), NLM_F_ACK, |_, _| {}).map(|_| ())
    }
}
