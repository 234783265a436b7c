//! What the user may ask of a running appliance.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::{ProtocolName, Socket};

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
the packet that opened the record, RULE the rule that allowed it. A worker that has too much to do
to answer within two seconds is left out, which is said (with --json by .complete).

Example:
  clearway flows --customer contoso --address 10.1.0.4

Exit status: 0 done, also when there is none, 2 no appliance runs here, it is another user's, or
there is no such customer or VNet.";

pub const METERS: &str = "\
Of every link of every peering of a circuit: packets, and the bytes of the customer's IP packets.
IN came from the customer and passed the circuit's bandwidth; OUT was sent to the customer, which
is what MeteredData pays for. ICMP errors of the appliance's own do not count. The meters go on over
reloads and, with `run --meters FILE`, over restarts; circuits that are gone stay. The same counts
are served to Prometheus at /metrics.

Whether links are up, and their rates now: `clearway circuits`.

Example:
  clearway meters --customer contoso
  clearway meters --json | jq .contoso.er1

Exit status: 0 done, 2 no appliance runs here, it is another user's, or there is no such customer.";

pub const CAPTURE: &str = "\
Copies packets as they come in, each with its verdict line as the packet's comment, as
`replay --annotate` writes it, and one interface for each port. With several conditions, packets
are captured that meet all. Without --count and --seconds it goes on until Ctrl-C. The file is
whole at any time. Packets are never held up for a capture: those that it takes too slowly are
missed, and counted. The times are the appliance's, when it ran the packet.

Example:
  clearway capture --reason nsg-deny --seconds 10 --out denied.pcapng
  clearway capture --customer contoso --address 10.1.0.4 --out - | wireshark -k -i -
  clearway capture --protocol tcp --between 10.1.0.4 10.1.0.5:443 --count 100 --out flow.pcapng
  tshark -r denied.pcapng -T fields -e frame.comment

Exit status: 0 done, also when there was none or the appliance was stopped, 2 no appliance runs
here, it is another user's or has died, there is no such customer, VNet, port or reason, or the file cannot be written.";

pub const RELOAD: &str = "\
Reads the configuration again, compiles it and puts it in force between two packets, or says why
not: then the old one stays in force. Flow records stay, but for those of endpoints that are gone or
have no NSG any more, and those that an NSG with flushConnection now denies. SIGHUP does the same, without an answer.

Example:
  clearway check /etc/clearway/config.yaml && clearway reload

Exit status: 0 in force, 1 refused with sentences on standard error, 2 no appliance runs here, or
it is another user's.";

pub const TOP: &str = "\
Rates of the running appliance, once a second: packets by verdict, how many circuit links and BGP
sessions are down, drops and punts by reason, ports, flows that carry most, customers and VNets with
most packets, workers. Flows are those of the packets of one second, each direction by itself, in
bits of the customer's IP packets: of up to 4000 packets a second all are looked at, of more a
sample of about so many, and the rates are estimated from it (--json says of how many packets how
many were looked at). Keys: q ends it. Where standard output is no terminal, or with --once, it
prints one page of text and ends.

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
    /// Of all VNets, those of this customer only
    #[arg(long, value_name = "NAME")]
    pub customer: Option<String>,
    #[command(flatten)]
    pub at: ControlArgs,
}

/// `meters`.
#[derive(Debug, Args)]
pub struct MetersArgs {
    /// Of this customer only
    #[arg(long, value_name = "NAME")]
    pub customer: Option<String>,
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

/// `capture`.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// Of this customer only
    #[arg(long, value_name = "NAME")]
    pub customer: Option<String>,
    /// Of VNets with this name only
    #[arg(long, value_name = "NAME")]
    pub vnet: Option<String>,
    /// Dropped or punted for this reason only, such as nsg-deny
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// With this verdict only
    #[arg(long, value_name = "VERDICT", value_parser = ["forward", "drop", "punt"])]
    pub verdict: Option<String>,
    /// With this address at either end only, of the packet or of the GRE packet around it
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Of this protocol only: tcp, udp, icmp (of both families) or its number
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<ProtocolName>,
    /// Packets of customers between these two only, either way: a flow, if both have ports
    #[arg(long, num_args = 2, value_names = ["IP[:PORT]", "IP[:PORT]"])]
    pub between: Option<Vec<Socket>>,
    /// That came in by this port only
    #[arg(long, value_name = "NAME")]
    pub port: Option<String>,
    /// So many packets at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// For so many seconds at most
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// The pcapng file; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The control socket of the running appliance, if it does not stand where it usually does
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// At the end one JSON document: how many packets were captured and missed
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|s| *s > 0.0 && *s <= 1e9);
    seconds.ok_or_else(|| "is no number of seconds, such as 10 or 2.5".to_owned())
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
