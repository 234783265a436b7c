//! What the user may ask of a running appliance.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

pub const COUNTERS: &str = "\
Packets = forwarded + dropped + punted. The table leaves out reasons that have not occurred and
VNets beyond the fifty that have most packets; --json has all of them. The same counts are served
to Prometheus at /metrics.

Example:
  clearway counters
  clearway counters --json | jq .dropped

Exit status: 0 done, 2 no appliance runs here, or it is another user's.";

pub const FLOWS: &str = "\
The flow records that the running appliance holds: live ones, and those that ended less than ten
seconds ago. LOCAL is the endpoint in the VNet, REMOTE whom it talks with; BY is the direction of
the packet that opened the record, RULE the rule that allowed it.

Example:
  clearway flows --customer contoso --address 10.1.0.4

Exit status: 0 done, also when there is none, 2 no appliance runs here, or it is another user's.";

pub const RELOAD: &str = "\
Reads the configuration again, compiles it and puts it in force between two packets, or says why
not: then the old one stays in force. Flow records stay, but for those that the new configuration
takes their ground from. SIGHUP does the same, without an answer.

Example:
  clearway check /etc/clearway/config.yaml && clearway reload

Exit status: 0 in force, 1 refused with sentences on standard error, 2 no appliance runs here, or
it is another user's.";

pub const TOP: &str = "\
Rates of the running appliance, once a second: packets by verdict, drops and punts by reason,
ports, customers and VNets with most packets, workers. Keys: q ends it. Where standard output is
no terminal, or with --once, it prints one page of text and ends.

Example:
  clearway top
  clearway top --once
  clearway top --json | jq .packetsPerSecond

Exit status: 0 done, 2 no appliance runs here, or it is another user's.";

/// Where the running appliance is asked.
#[derive(Debug, Args)]
pub struct ControlArgs {
    /// The control socket of the running appliance, if it does not stand where it usually does
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `counters`.
#[derive(Debug, Args)]
pub struct CountersArgs {
    #[command(flatten)]
    pub at: ControlArgs,
}

/// `flows`.
#[derive(Debug, Args)]
pub struct FlowsArgs {
    /// Of this customer only
    #[arg(long, value_name = "NAME")]
    pub customer: Option<String>,
    /// Of VNets with this name only
    #[arg(long, value_name = "NAME")]
    pub vnet: Option<String>,
    /// With this address at either end only
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = limit())]
    pub limit: u32,
    #[command(flatten)]
    pub at: ControlArgs,
}

fn limit() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=crate::live::control::MOST_FLOWS as i64)
}

/// `reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    #[command(flatten)]
    pub at: ControlArgs,
}

/// `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Print one page of text and end
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub at: ControlArgs,
}
