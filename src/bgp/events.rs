//! What a session is to be, what goes into it and what comes out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::advertise::Advertised;
use super::message::Restart;
use super::rib::Route;
use super::update::Fault;
use super::{Cease, Notification, Policy};
use crate::types::Prefix;

/// What a session is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our address on the link, also the next hop that we advertise. It says the family.
    pub local: IpAddr,
    /// The customer's address on the link: the only one that connections are taken from.
    pub peer: IpAddr,
    /// The link's prefix.
    pub link: Prefix,
    /// Our AS number, `azureASN`: usually [`super::AZURE_ASN`].
    pub asn: u32,
    /// The customer's AS number.
    pub peer_asn: u32,
    /// Our BGP identifier; not 0.0.0.0.
    pub identifier: Ipv4Addr,
    /// Connections are also made, not only taken.
    pub dials: bool,
    /// Which prefixes are taken, and how many.
    pub policy: Policy,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// The session shall be up. A new one waits for this.
    Start,
    /// It shall be down until the next [`Input::Start`]. Waits after errors are over then, but with [`Cease::BfdDown`] go on.
    Stop {
        /// What the peer is told.
        cease: Cease,
        /// What its people are told, with a shutdown or a reset.
        text: &'a str,
    },
    /// There is a TCP connection with the peer.
    Connected {
        /// A number for it, never used twice.
        connection: u32,
        /// It is the one that [`Output::Dial`] asked for; else it came from the peer.
        dialled: bool,
    },
    /// What [`Output::Dial`] asked for cannot be had.
    DialFailed,
    /// Bytes came.
    Received {
        /// On which connection.
        connection: u32,
        /// Any number of them.
        bytes: &'a [u8],
    },
    /// The connection is closed or broken.
    Closed {
        /// Which.
        connection: u32,
    },
    /// From now on exactly this is advertised; of other families nothing.
    Advertise(&'a [Advertised]),
    /// Another policy. The peer is asked to send its routes again, or if it cannot, the session begins anew.
    Policy(Policy),
    /// Time has passed: due at [`super::Session::deadline`].
    Time,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to the peer, from our address, to port 179. An attempt that is still under way is given up.
    Dial,
    /// Send these bytes behind those before. Who cannot get rid of them in the hold time should close the connection.
    Send {
        /// On which connection.
        connection: u32,
        /// Whole messages.
        bytes: Vec<u8>,
    },
    /// Close the connection when its bytes are sent. It is not to be named any more.
    Close {
        /// Which.
        connection: u32,
    },
    /// Something to know.
    Event(Event),
}

/// What users of the session's routes, and people, are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The session is up.
    Established(Peer),
    /// Routes were learned or have changed, and were withdrawn; each prefix is in one of the two. Also before
    /// [`Event::Down`]: whoever applies these has always what [`super::Session::routes`] says.
    Routes {
        /// In their order.
        learned: Vec<Route>,
        /// In their order.
        withdrawn: Vec<Prefix>,
    },
    /// The peer has sent all it has.
    EndOfRib,
    /// Four fifths of the limit are reached. Told again only after there were fewer.
    Warning {
        /// Routes that the peer announces.
        prefixes: u32,
        /// How many it may.
        limit: u32,
    },
    /// An UPDATE had a fault that the session survives.
    Malformed(Fault),
    /// A session, or an attempt at one, has ended.
    Down {
        /// Why.
        why: Down,
        /// It was established.
        established: bool,
        /// So many of its routes stay, stale, because the peer restarts.
        stale: usize,
    },
}

/// Why a session is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// We ended it.
    Sent(Notification),
    /// The peer ended it.
    Received(Notification),
    /// The connection broke.
    Closed,
    /// The peer restarted and has another connection (RFC 4724 section 4.2).
    Replaced,
    /// The peer could not be reached.
    Unreachable,
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Down::Sent(notification) => write!(f, "ended by us: {notification}"),
            Down::Received(notification) => write!(f, "ended by the peer: {notification}"),
            Down::Closed => f.write_str("the connection was closed"),
            Down::Replaced => f.write_str("the peer restarted"),
            Down::Unreachable => f.write_str("the peer cannot be reached"),
        }
    }
}

/// What is known of a peer from its OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its BGP identifier.
    pub identifier: Ipv4Addr,
    /// The hold time of both, in seconds; 0: none.
    pub hold_time: u16,
    /// It knows AS numbers of four octets.
    pub four_octet: bool,
    /// It takes ROUTE-REFRESH.
    pub route_refresh: bool,
    /// How it restarts, if gracefully.
    pub restart: Option<Restart>,
}

/// Where a session stands (RFC 4271 section 8.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Stopped, or waiting after an error: no connections are taken.
    Idle,
    /// Connections are taken.
    Active,
    /// A connection is being made.
    Connect,
    /// Our OPEN is sent.
    OpenSent,
    /// The peer's OPEN was taken.
    OpenConfirm,
    /// Up.
    Established,
}

impl State {
    /// Its name, as RFC 4271 writes it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Idle => "Idle",
            State::Active => "Active",
            State::Connect => "Connect",
            State::OpenSent => "OpenSent",
            State::OpenConfirm => "OpenConfirm",
            State::Established => "Established",
        }
    }
}
