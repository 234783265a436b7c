//! What the user may ask of a running appliance about circuits and their BGP.

use clap::{Args, Subcommand};

use super::running::ControlArgs;
use crate::types::Prefix;

pub const CIRCUITS: &str = "\
A row for each link of a peering that has a tunnel and a link prefix. STATE is down while BGP or BFD
holds the link down, or the configuration; below the table is why. BGP: for each family (v4, v6) the
prefixes received and how many there may be, or the state until it is Established, and for how long.
BFD is - while the peer does not speak it. IN (from the customer), OUT (to the customer) and OF, the
circuit's bandwidth each way over all its peerings, are in bit/s, measured for one second; DROPS
are the packets over the bandwidth, both ways. With --detail, or with --circuit, a paragraph for
each link: its device and network namespace, addresses, AS numbers, times and counts.

Example:
  clearway circuits
  clearway circuits --customer contoso --circuit er1
  clearway circuits --json | jq '.links[] | select(.up | not) | .downBecause'

Exit status: 0 done, also when links are down, 2 no appliance runs here, it is another user's, or
there is no such customer or circuit.";

pub const BGP: &str = "\
A row for each session of a link, IPv4 and IPv6. PEER and AS are the customer's. STATE/PREFIXES:
while the session is Established the prefixes that are taken and how many the peer may announce,
else the state; FOR is how long it has been up or down. REFUSED are prefixes that are announced and
not taken, SENT those that we advertise. Below the table is why a session is down (with --circuit
also why one was down that is up), and who is near the limit: beyond it the session goes down.

Example:
  clearway bgp
  clearway bgp --customer contoso --json | jq '.sessions[] | select(.up | not)'
  clearway bgp routes --customer contoso --circuit er1 --refused

Exit status: 0 done, also when sessions are down, 2 no appliance runs here, it is another user's, or
there is no such customer or circuit.";

pub const BGP_ROUTES: &str = "\
For each session of the circuit what the peer announces, with next hop, AS path and communities, and
what it is told. A prefix that is not taken says why; a stale one is kept because the peer restarts
(graceful restart). --prefix shows the prefixes that lie in the given one or cover it: of an address
all that it could be routed by.

Example:
  clearway bgp routes --customer contoso --circuit er1
  clearway bgp routes --customer contoso --circuit er1 --link primary --prefix 10.20.3.4
  clearway bgp routes --customer contoso --circuit er1 --peering microsoft --advertised

Exit status: 0 done, also when there is none, 2 no appliance runs here, it is another user's, or
there is no such customer, circuit or peering.";

/// `circuits`.
#[derive(Debug, Args)]
pub struct CircuitsArgs {
    /// Of this customer only
    #[arg(long, value_name = "NAME")]
    pub customer: Option<String>,
    /// Of circuits with this name only, in detail
    #[arg(long, value_name = "NAME")]
    pub circuit: Option<String>,
    /// A paragraph for each link instead of a row
    #[arg(long)]
    pub detail: bool,
    #[command(flatten)]
    pub at: ControlArgs,
}

/// `bgp`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct BgpArgs {
    #[command(subcommand)]
    pub more: Option<BgpCommand>,
    /// Of this customer only
    #[arg(long, value_name = "NAME")]
    pub customer: Option<String>,
    /// Of circuits with this name only
    #[arg(long, value_name = "NAME")]
    pub circuit: Option<String>,
    #[command(flatten)]
    pub at: ControlArgs,
}

/// What else `bgp` shows than sessions.
#[derive(Debug, Subcommand)]
pub enum BgpCommand {
    /// The prefixes that the sessions of a circuit receive, refuse and advertise
    #[command(after_long_help = BGP_ROUTES)]
    Routes(BgpRoutesArgs),
}

/// `bgp routes`.
#[derive(Debug, Args)]
pub struct BgpRoutesArgs {
    /// The customer
    #[arg(long, value_name = "NAME")]
    pub customer: String,
    /// The circuit
    #[arg(long, value_name = "NAME")]
    pub circuit: String,
    /// Of this peering only: its name, or private, microsoft or public
    #[arg(long, value_name = "PEERING")]
    pub peering: Option<String>,
    /// Of this link only
    #[arg(long, value_name = "LINK", value_parser = ["primary", "secondary"])]
    pub link: Option<String>,
    /// Only what is advertised to the peer
    #[arg(long, conflicts_with = "refused")]
    pub advertised: bool,
    /// Only what the peer announces and is not taken
    #[arg(long)]
    pub refused: bool,
    /// Only prefixes that lie in this one or cover it; an address alone will do
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<Prefix>,
    #[command(flatten)]
    pub at: ControlArgs,
}
