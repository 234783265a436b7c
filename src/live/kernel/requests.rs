//! What we ask of the kernel, one question at a time.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REPLACE, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NetlinkHeader, NetlinkMessage, parse_i32,
};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::messages::{self, Entry, Event, Link};
use super::resolve::{Ask, Key};
use crate::sys::{receive_patience, receive_room};
use crate::types;

/// The kernel answers at once; so long only if an answer was lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// A dump is begun again if the kernel's tables changed under it; so often.
const DUMPS: usize = 5;

/// A socket for questions.
pub struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// The questions that have one answer name the family of an address.
fn family(address: IpAddr) -> (AddressFamily, u8) {
    match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    }
}

fn about(device: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address).0;
    message.header.ifindex = device;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

impl Requests {
    /// A socket in the network namespace of this thread.
    pub fn open() -> io::Result<Requests> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        receive_room(socket.as_fd(), 1 << 20)?;
        receive_patience(socket.as_fd(), PATIENCE)?;
        Ok(Requests { socket, sequence: 0, buffer: Vec::with_capacity(1 << 16) })
    }

    /// All devices, and all addresses of this machine with their devices.
    pub fn everything(&mut self) -> io::Result<(Vec<Link>, Vec<Key>)> {
        let links = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        let addresses = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        let links = links.into_iter().filter_map(|event| match event {
            Event::Link(link) => Some(link),
            _ => None,
        });
        let addresses = addresses.into_iter().filter_map(|event| match event {
            Event::Address(device, address) => Some((device, address)),
            _ => None,
        });
        Ok((links.collect(), addresses.collect()))
    }

    /// The devices and prefixes of all routes of the main table that somebody has put there: not those that addresses
    /// bring with them.
    pub fn routes(&mut self) -> io::Result<Vec<(u32, types::Prefix)>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            let found = self.dump_of(RouteNetlinkMessage::GetRoute(question), |_, message, found| {
                found.extend(messages::routes(message));
            })?;
            routes.extend(found);
        }
        Ok(routes)
    }

    fn dump(&mut self, question: RouteNetlinkMessage) -> io::Result<Vec<Event>> {
        self.dump_of(question, |kind, message, found| found.extend(messages::event(kind, message)))
    }

    fn dump_of<T>(
        &mut self,
        question: RouteNetlinkMessage,
        each: impl Fn(u16, &[u8], &mut Vec<T>),
    ) -> io::Result<Vec<T>> {
        let mut answers = Vec::new();
        for _ in 0..DUMPS {
            answers.clear();
            let whole =
                self.ask(question.clone(), NLM_F_DUMP, |kind, message| each(kind, message, &mut answers))?;
            if whole {
                return Ok(answers);
            }
        }
        Err(io::Error::other(format!("its tables changed under all of {DUMPS} questions for them")))
    }

    /// Asks and hands over the answers; false if the answer to a dump was not from one instant.
    pub(super) fn ask(
        &mut self,
        question: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut question = NetlinkMessage::new(header, question.into());
        question.finalize();
        self.buffer.clear();
        self.buffer.resize(question.buffer_len(), 0);
        question.serialize(&mut self.buffer);
        self.socket.send(&self.buffer, 0)?;
        let mut whole = true;
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            for (kind, said, sequence, message) in messages::messages(&self.buffer) {
                if sequence != self.sequence {
                    continue;
                }
                whole &= said & NLM_F_DUMP_INTR == 0;
                match kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        let code = message.get(..4).and_then(|code| parse_i32(code).ok()).unwrap_or(0);
                        let failed = || io::Error::from_raw_os_error(code.saturating_neg());
                        return if code < 0 { Err(failed()) } else { Ok(whole) };
                    }
                    _ => each(kind, message),
                }
                if said & NLM_F_MULTIPART == 0 && flags & NLM_F_ACK == 0 {
                    return Ok(whole);
                }
            }
        }
    }
}

impl Ask for Requests {
    fn route(&mut self, device: u32, destination: IpAddr) -> Option<IpAddr> {
        let mut question = RouteMessage::default();
        (question.header.address_family, question.header.destination_prefix_length) = family(destination);
        if destination.is_ipv4() {
            question.header.flags = RouteFlags::LookupTable;
        }
        question.attributes =
            vec![RouteAttribute::Destination(destination.into()), RouteAttribute::Oif(device)];
        let mut hop = None;
        let answer = self.ask(RouteNetlinkMessage::GetRoute(question), 0, |_, message| {
            hop = messages::next_hop(message, device, destination);
        });
        // Errors are answers: no route, or one that says that there is none.
        match answer {
            Ok(_) => hop,
            Err(error) => {
                tracing::debug!(device, %destination, %error, "no route");
                None
            }
        }
    }

    fn entry(&mut self, device: u32, hop: IpAddr) -> Entry {
        let mut entry = Entry::Nothing;
        let question = RouteNetlinkMessage::GetNeighbour(about(device, hop));
        let answer = self.ask(question, 0, |_, message| {
            if let Some((_, address, said)) = messages::neighbour(message)
                && address == hop
            {
                entry = said;
            }
        });
        if let Err(error) = answer
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(device, %hop, %error, "no neighbour");
        }
        entry
    }

    fn solicit(&mut self, device: u32, hop: IpAddr) -> io::Result<()> {
        let mut question = about(device, hop);
        question.header.flags = NeighbourFlags::Use;
        let flags = NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK;
        self.ask(RouteNetlinkMessage::NewNeighbour(question), flags, |_, _| {}).map(|_| ())
    }
}
