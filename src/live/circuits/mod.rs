//! The control side of circuit links: what a customer's router meets at our end of a link.
//!
//! ```text
//!  worker ─ to-us ─► device (TUN, in the customer's namespace) ─► kernel: ping, TCP, UDP ─► bgp, bfd
//!  worker ◄─ reader ─ device ◄──────────────────────────────────── kernel ◄───────────────── bgp, bfd
//!                          bgp, bfd, mirror ─► told ─► learned: the model in force ─► recompile
//! ```

pub mod bfd;
pub mod bgp;
mod budget;
mod device;
pub mod ends;
pub mod learned;
mod mirror;
mod reader;
pub mod spec;
pub mod status;
pub mod told;
mod wanted;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, never};
use tracing::{info, warn};

use self::bfd::Bfd;
use self::bgp::Bgp;
use self::device::Devices;
use self::ends::{FromLink, LinkEnds};
use self::learned::Learned;
use self::mirror::{Mirror, Mirrored};
use self::reader::Reader;
use self::spec::{LinkKey, LinkSpec};
use self::status::{LinkStatus, SessionRoutes};
use self::told::Told;
use super::worker::lock;
use crate::bgp::Family;
use crate::compile::Program;
use crate::compile::names::Names;
use crate::model::Model;
use crate::sys::Wake;

/// After routes have changed, how long more of them are waited for: a session that comes up has thousands.
const TOGETHER: Duration = Duration::from_millis(20);

/// What there is once a configuration has had a link.
struct Running {
    devices: Devices,
    reader: Reader,
    bgp: Bgp,
    bfd: Bfd,
    /// By customer.
    mirrors: BTreeMap<String, (Vec<Mirrored>, Mirror)>,
    links: Vec<LinkSpec>,
}

/// The control side of all links.
pub struct Circuits {
    told: Arc<Told>,
    rings: Receiver<()>,
    learned: Mutex<Learned>,
    /// What was last said of routes that are not taken, so that it is said once.
    refused: Mutex<Vec<String>>,
    running: Mutex<Option<Running>>,
    reader: Mutex<Option<Reader>>,
}
