//! What the user typed. Only this, `args/` and `manual` know clap.

#[cfg(target_os = "linux")]
mod circuits;
mod flow_logs;
#[cfg(target_os = "linux")]
mod running;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

#[cfg(target_os = "linux")]
pub use circuits::{BgpArgs, BgpCommand, BgpRoutesArgs, CircuitsArgs};
pub use flow_logs::FlowLogArgs;
#[cfg(target_os = "linux")]
pub use running::{CaptureArgs, ControlArgs, CountersArgs, FlowsArgs, MetersArgs, ReloadArgs, TopArgs};

use crate::observe::ask::EntryName;
use crate::runtime::bench::Profile;
use crate::types::nanos_of;

/// A userspace dataplane for Azure-style customer edges: what would become of these packets, and why.
///
/// Clearway reads the resources that Azure's command line prints (VNets, NSGs, route tables, peerings, gateways,
/// circuits), and runs packets through them as Azure would: from GRE frame in to GRE frame out, with one verdict for
/// each packet that names the rule, the route or the fault that decided.
#[derive(Debug, Parser)]
#[command(name = "clearway", version, max_term_width = 110, subcommand_required = true)]
#[command(arg_required_else_help = true, after_help = AFTER, after_long_help = AFTER_LONG)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "`clearway help COMMAND` explains a command, with an example.";

const AFTER_LONG: &str = "\
Try it, from the root of the repository:
  clearway check   pcaps/hub-and-spoke-firewall/config.yaml
  clearway replay  pcaps/hub-and-spoke-firewall/config.yaml \\
      --in fabric=pcaps/hub-and-spoke-firewall/fabric.in.pcap \\
      --in internet=pcaps/hub-and-spoke-firewall/internet.in.pcap --out out
  clearway help explain

Files:
  CONFIG           YAML or JSON, apiVersion clearway/v1: the ports, and of each customer the
                   resources as `az ... show -o json` prints them (ARM templates and REST
                   bodies too), in the file or in files that `resources:` names
  captures         pcap or pcapng with Ethernet frames, packed by gzip or not
  verdicts.jsonl   one JSON object per packet, in the order of the packets
  summary.json     one JSON object: packets = forwarded + dropped + punted

Exit status:
  0   done; the packet is forwarded; everything is as expected
  1   the answer is no: `explain`: dropped or punted; `replay --expect`: a difference; `bench`: a
      packet was lost or misjudged; `reload`: refused; `run`: a worker failed, or the machine
      does not let it run now
  2   unusable input or configuration, or no appliance that answers, with sentences on standard
      error, nothing half-written";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read and compile a configuration: every fault at once, or what is in it
    #[command(after_long_help = CHECK)]
    Check(CheckArgs),
    /// Run captures through the packet path: verdicts, captures of what leaves, a summary
    #[command(after_long_help = REPLAY)]
    Replay(ReplayArgs),
    /// Walk one new packet, and the answer to it, through the path, step by step
    #[command(after_long_help = EXPLAIN)]
    Explain(ExplainArgs),
    /// The effective routes of a subnet, Active and Invalid, and why
    #[command(after_long_help = ROUTES)]
    Routes(RoutesArgs),
    /// The effective security rules of a subnet or NIC, tags expanded
    #[command(after_long_help = RULES)]
    Rules(RulesArgs),
    /// Run as an edge appliance: frames from network devices, for as long as it is wanted
    #[command(after_long_help = RUN)]
    Run(RunArgs),
    /// Throughput of the packet path in memory, on traffic made for it
    #[command(after_long_help = BENCH)]
    Bench(BenchArgs),
    /// What the running appliance has counted: packets, reasons, ports, VNets, workers
    #[cfg(target_os = "linux")]
    #[command(after_long_help = running::COUNTERS)]
    Counters(CountersArgs),
    /// Flow records of the running appliance
    #[cfg(target_os = "linux")]
    #[command(after_long_help = running::FLOWS)]
    Flows(FlowsArgs),
    /// What circuit links have carried for the running appliance, packets and bytes, each way
    #[cfg(target_os = "linux")]
    #[command(after_long_help = running::METERS)]
    Meters(MetersArgs),
    /// Links of circuits of the running appliance: up or down and why, BGP, BFD, rates
    #[cfg(target_os = "linux")]
    #[command(after_long_help = circuits::CIRCUITS)]
    Circuits(CircuitsArgs),
    /// BGP sessions of circuit links of the running appliance, and their routes
    #[cfg(target_os = "linux")]
    #[command(after_long_help = circuits::BGP)]
    Bgp(BgpArgs),
    /// Packets of the running appliance as they come in, each with its verdict, as pcapng
    #[cfg(target_os = "linux")]
    #[command(after_long_help = running::CAPTURE)]
    Capture(CaptureArgs),
    /// Let the running appliance read its configuration again
    #[cfg(target_os = "linux")]
    #[command(after_long_help = running::RELOAD)]
    Reload(ReloadArgs),
    /// Rates of the running appliance, once a second
    #[cfg(target_os = "linux")]
    #[command(after_long_help = running::TOP)]
    Top(TopArgs),
    /// Write man pages and completions for shells into a folder, for packages
    #[command(hide = true)]
    Manual(ManualArgs),
}

const CHECK: &str = "\
A configuration is accepted whole or refused whole. Every fault is told at once on standard
error, as FILE:LINE:COLUMN: error: 'VALUE': what would be right. Warnings do not refuse it.

Example:
  clearway check pcaps/hub-and-spoke-firewall/config.yaml

Exit status: 0 accepted, 2 refused or unreadable.";

const REPLAY: &str = "\
Captures are merged by time, equal times in the order of the --in options; the time of the
packets is the clock. Frames come in by --in PORT=FILE (pcap or pcapng, .gz too, `-` is standard
input); frames that leave by a port are written to DIR/PORT.pcap. DIR/verdicts.jsonl has a line
for each packet, DIR/summary.json the counts. The files appear together at the end, or not at
all. Results are the same for any number of workers.

Example:
  clearway replay pcaps/hub-and-spoke-firewall/config.yaml \\
      --in fabric=pcaps/hub-and-spoke-firewall/fabric.in.pcap \\
      --in internet=pcaps/hub-and-spoke-firewall/internet.in.pcap --out out
  head -3 out/verdicts.jsonl

As a regression test, keep verdicts.jsonl, or some of its lines and fields, for --expect.

Exit status: 0 done, 1 differences from --expect, 2 unusable configuration or capture. A capture
that is damaged midway is answered up to the damage, and the status is 2; one that is cut inside
a record is answered as far as it goes, with a warning.";

const EXPLAIN: &str = "\
Builds one packet of a new flow (TCP: a SYN; ICMP: an echo request) as it would arrive: from the
host of its source, by a circuit's first link that is up, by a connection, or from the Internet.
Prints what each step finds, the route and the rule that decide, the way behind appliances, and
the way of the answer, in the same state, with where the two ways part.

Example:
  clearway explain pcaps/hub-and-spoke-firewall/config.yaml --customer contoso --vnet spoke \\
      --protocol tcp --from 10.2.0.4 --to 93.184.216.34:443

With --live the running appliance answers by the configuration in force, and says whether it
holds a flow record of exactly this packet: packets of a live flow are not judged anew.
  clearway explain --live --customer contoso --vnet spoke --protocol tcp \\
      --from 10.2.0.4:51514 --to 93.184.216.34:443

Exit status: 0 forwarded, 1 dropped or punted, 2 no such customer, VNet or way in, or no
appliance.";

const RUN: &str = "\
Every port of the configuration needs a network device (`device: eth1`) that has the port's
address. Linux stays in charge of the underlay: addresses, neighbours and routes are the
kernel's, and follow its changes. Only GRE to a port's address, and plain packets on internet
and services ports, are taken; ARP, SSH and the rest stay with the kernel.

SIGHUP, `clearway reload`, or with --watch a change of the files, puts the configuration in force
again, without a lost packet; one that is refused changes nothing and says why. SIGTERM drains:
what was received is sent, for 0.3 s at most, then flow logs are written; it ends at once as a
rule, and within 14 s. It needs root, or CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF.

`io:` of a port is auto, af_xdp, af_packet, pnet or tap. On a kernel older than Linux 6.6 the
kernel sees what comes by af_packet and pnet, too, and answers GRE with ICMP errors; a warning
says so. GRO and LRO of the devices are turned off, and stay off.

Flow logs are files as Azure's storage holds them, one for each NSG or VNet, MAC address and hour,
below a folder for each customer: FOLDER/CUSTOMER/insights-logs-.../PT1H.json. They tell of flows
of endpoints that have an NSG: NSG flow logs of TCP and UDP, VNet flow logs of every protocol.
What was lost, for want of room or time, is counted at /metrics and by `clearway counters --json`.

Example:
  clearway run /etc/clearway/config.yaml --metrics 127.0.0.1:9469
  clearway run config.yaml --nsg-flow-logs /var/log/clearway --flow-logs-limit 20G

A device that is not there yet is waited for: /readyz and `clearway counters` say that it is
not ready until every port has its device.

Exit status: 0 stopped by a signal (the log says if not everything was drained), 1 a worker failed, or the machine does not let it run now (a
device or address that another has, no privilege): start it anew, 2 unusable configuration.";

const ROUTES: &str = "\
Azure's columns: source, state, address prefix, next hop type, next hop; Invalid routes with what
stands in their place. --json prints {\"value\": [...]} in the shape of Azure's effective routes.

Example:
  clearway routes pcaps/hub-and-spoke-firewall/config.yaml --customer contoso --vnet spoke \\
      --subnet web

With --live the running appliance answers by the configuration in force, with the routes that its
circuits have learned by BGP.
  clearway routes --live --customer contoso --vnet spoke --subnet web

Exit status: 0 done, 2 no such subnet, or no appliance runs here.";

const RULES: &str = "\
The rules of the subnet's network security group, or of both a NIC's and its subnet's in the
order they are asked, default rules too, with what tags and application security groups stand
for. --json prints {\"value\": [...]} in the shape of Azure's effective network security groups,
with every prefix.

Example:
  clearway rules pcaps/hub-and-spoke-firewall/config.yaml --customer contoso --vnet spoke \\
      --subnet web

Exit status: 0 done, 2 no such subnet or NIC.";

const BENCH: &str = "\
Profiles:
  small   1 VNet, 1,000 flows, 100 rules, 100 routes (when no profile is said)
  edge    100 VNets, 100,000 flows, 100 rules, 1,000 routes
  large   1,000 VNets, 1,000,000 flows, 1,000 rules, 1,000 routes, Zipf 1.0
  churn   edge with every packet opening a flow

Traffic: each VNet has a customer of its own, 16 NICs in 4 subnets on 4 hosts, and a circuit with
two links. A quarter of the connections each is from NIC to NIC, from a NIC to the circuit, from
the circuit to a NIC, and from a NIC to the Internet; half have replies; half are TCP, half UDP.
All comes in GRE and leaves in GRE. The rules that allow it are every third of each list. NIC to
NIC makes two flow records, one at each end, the others one.

Measured: from the bytes of received frames to the bytes of frames to send, with several workers
also finding whose a frame is and handing it over. Not measured: writing fresh frames into the
ring before, counting and checking behind. Every packet must be forwarded; in a first pass all
are compared with what must become of them, later 1 in 1009: verdict, customer, flow, rule, route,
egress and every byte that leaves. Otherwise no figure is printed.

Figures: ns_per_packet, mpps and gbps (of inner packets) are medians over the repeats; with several
workers the whole is as fast as the worker that was busy longest. median_burst is the median over
bursts of frames, which hardly sees what else the machine does; with several workers it is without
hand-over: parsing frames, which says whose they are, and handing them over. flows are the live
records at the end. --seconds is the time of one repeat by the clock on the wall, filling and checking included.

With --swaps, another thread compiles changes of one customer after the other (two rules and a
route) and puts them in force between two bursts: so many for each second that the workers are
busy, because what a change costs them between two bursts is measured, while about half of the
time, filling and checking, is not. Each repeat comes as a pair, one with changes and one without,
and the figures of the changes say how many times as long a packet takes with them. With --learned
learned routes come or go instead, and those of 20 milliseconds come into force together, as with run.

Example:
  clearway bench small --seconds 0.2
  clearway bench edge --zipf 1.0 --workers 2 --json

Exit status: 0 done, 1 a packet was lost or misjudged, 2 sizes that cannot be.";

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration, YAML or JSON
    pub config: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The configuration, YAML or JSON
    pub config: PathBuf,
    /// A capture of the frames that come in by a port; may be given for several ports
    #[arg(long = "in", value_name = "PORT=FILE", required = true)]
    pub inputs: Vec<PortFile>,
    /// The folder that the results are written to; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Worker threads; as many as there are processors when unsaid
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// Put another configuration in force for packets at or after this many seconds behind the first; may be repeated
    #[arg(long = "swap", value_name = "SECONDS=CONFIG")]
    pub swaps: Vec<Swap>,
    /// Write no verdicts.jsonl
    #[arg(long)]
    pub no_verdicts: bool,
    /// Also write annotated.pcapng: every packet that came in, with its verdict as a comment
    #[arg(long)]
    pub annotate: bool,
    /// Compare with these verdicts; fields that a line leaves out are not compared
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Print the summary as one JSON document; differences go to standard error
    #[arg(long)]
    pub json: bool,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The configuration, YAML or JSON; none with --live
    #[arg(required_unless_present = "live", conflicts_with = "live")]
    pub config: Option<PathBuf>,
    /// Ask the running appliance: the configuration in force, and the flow records that it holds of this packet
    #[arg(long)]
    pub live: bool,
    /// Where it listens [default: as `clearway run` does]
    #[arg(long, value_name = "PATH", requires = "live", conflicts_with = "config")]
    pub control: Option<PathBuf>,
    /// The customer
    #[arg(long, value_name = "NAME")]
    pub customer: String,
    /// The VNet that the packet comes from, or goes to when it enters elsewhere than by the fabric
    #[arg(long, value_name = "NAME")]
    pub vnet: String,
    /// tcp, udp, icmp, esp, ah, or a protocol number
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: ProtocolName,
    /// The source: 10.1.0.4, 10.1.0.4:50000, fd00::4 or `[fd00::4]:50000` (port 50000 when unsaid)
    #[arg(long, value_name = "IP[:PORT]")]
    pub from: Socket,
    /// The destination (port 443 when unsaid)
    #[arg(long, value_name = "IP[:PORT]")]
    pub to: Socket,
    /// Where the packet enters: fabric, circuit:NAME, connection:NAME or internet
    #[arg(long, value_name = "ENTRY", default_value = "fabric")]
    pub entry: EntryName,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `routes`.
#[derive(Debug, Args)]
pub struct RoutesArgs {
    /// The configuration, YAML or JSON; none with --live
    #[arg(required_unless_present = "live", conflicts_with = "live")]
    pub config: Option<PathBuf>,
    /// Ask the running appliance: the configuration in force, with the routes that circuits have learned
    #[arg(long)]
    pub live: bool,
    /// Where it listens [default: as `clearway run` does]
    #[arg(long, value_name = "PATH", requires = "live", conflicts_with = "config")]
    pub control: Option<PathBuf>,
    /// The customer
    #[arg(long, value_name = "NAME")]
    pub customer: String,
    /// The VNet
    #[arg(long, value_name = "NAME")]
    pub vnet: String,
    /// The subnet
    #[arg(long, value_name = "NAME")]
    pub subnet: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `rules`.
#[derive(Debug, Args)]
pub struct RulesArgs {
    /// The configuration, YAML or JSON
    pub config: PathBuf,
    /// The customer
    #[arg(long, value_name = "NAME")]
    pub customer: String,
    /// The VNet
    #[arg(long, value_name = "NAME")]
    pub vnet: String,
    /// The subnet, for its addresses without a NIC resource
    #[arg(long, value_name = "NAME", required_unless_present = "nic", conflicts_with = "nic")]
    pub subnet: Option<String>,
    /// The NIC
    #[arg(long, value_name = "NAME")]
    pub nic: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration
    pub config: PathBuf,
    /// Threads that run packets, each on a core of its own if one is left over [default: the cores, but for one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: Option<u16>,
    /// Where `clearway counters`, `flows`, `capture`, `explain --live`, `top` and `reload` reach it
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Serve /metrics, /healthz and /readyz there
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub flow_logs: FlowLogArgs,
    /// Keep there what circuit links have carried, over restarts [default: meters.json in $STATE_DIRECTORY, if that is set]
    #[arg(long, value_name = "FILE")]
    pub meters: Option<PathBuf>,
    /// Reload when the configuration, or a file that it names, has changed and stays as it is
    #[arg(long)]
    pub watch: bool,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// How log records are written to standard error
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
}

impl RunArgs {
    /// Log records are JSON documents.
    pub fn json_logs(&self) -> bool {
        self.log_format == "json"
    }
}

/// `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A named size, which options change: small, edge, large or churn
    #[arg(value_name = "PROFILE")]
    pub profile: Option<ProfileName>,
    /// VNets, each of a customer of its own
    #[arg(long, value_name = "N")]
    pub vnets: Option<u32>,
    /// Flow records that are live at once
    #[arg(long, value_name = "N")]
    pub flows: Option<u32>,
    /// Rules of each NSG; a NIC's and a subnet's are asked in each direction
    #[arg(long, value_name = "N")]
    pub rules: Option<u32>,
    /// Routes of each VNet, learned and user-defined
    #[arg(long, value_name = "N")]
    pub routes: Option<u32>,
    /// Bytes of the inner packet
    #[arg(long, value_name = "BYTES")]
    pub size: Option<u32>,
    /// Share of the packets that open a flow that nobody has seen
    #[arg(long, value_name = "PERCENT")]
    pub new_flows: Option<f64>,
    /// Exponent of Zipf's law by which packets choose their flow; 0 is uniform
    #[arg(long, value_name = "S")]
    pub zipf: Option<f64>,
    /// Worker threads (1)
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
    /// How long each repeat lasts (1)
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// How often the run is repeated (5)
    #[arg(long, value_name = "N")]
    pub repeats: Option<u32>,
    /// Changes of one customer's configuration that are compiled and put in force in each second that is measured; every
    /// repeat then has one without changes beside it
    #[arg(long, value_name = "PER_SECOND")]
    pub swaps: Option<f64>,
    /// Instead: learned routes that come or go, as BGP has it, in each second that is measured
    #[arg(long, value_name = "PER_SECOND")]
    pub learned: Option<f64>,
    /// What all random choices follow from (1)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `manual`.
#[derive(Debug, Args)]
pub struct ManualArgs {
    /// The folder; made if it is not there
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// The name of a bench's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileName(pub Profile);

impl FromStr for ProfileName {
    type Err = String;

    fn from_str(text: &str) -> Result<ProfileName, String> {
        let named = Profile::ALL.into_iter().find(|p| p.name() == text);
        named.map(ProfileName).ok_or_else(|| "is none of small, edge, large and churn".to_owned())
    }
}

/// `PORT=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFile {
    /// The port.
    pub port: String,
    /// The capture, or `-`.
    pub file: String,
}

/// `SECONDS=CONFIG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// Nanoseconds behind the first packet.
    pub after: u64,
    /// The configuration.
    pub config: PathBuf,
}

/// An address, and a port if one was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: Option<u16>,
}

/// A protocol by name or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolName {
    /// ICMP, or ICMPv6 when the addresses are IPv6.
    Icmp,
    /// Any other.
    Number(u8),
}

impl FromStr for PortFile {
    type Err = String;

    fn from_str(text: &str) -> Result<PortFile, String> {
        match text.split_once('=') {
            Some((port, file)) if !port.is_empty() && !file.is_empty() => {
                Ok(PortFile { port: port.to_owned(), file: file.to_owned() })
            }
            _ => Err("is not PORT=FILE, such as fabric=fabric.pcap".to_owned()),
        }
    }
}

impl FromStr for Swap {
    type Err = String;

    fn from_str(text: &str) -> Result<Swap, String> {
        let (seconds, config) = text
            .split_once('=')
            .filter(|(_, config)| !config.is_empty())
            .ok_or("is not SECONDS=CONFIG, such as 2.5=new.yaml")?;
        let after = nanos_of(seconds).ok_or_else(|| {
            format!("'{seconds}' is no number of seconds, such as 10 or 2.5, with at most nine digits behind the point")
        })?;
        Ok(Swap { after, config: PathBuf::from(config) })
    }
}

impl FromStr for Socket {
    type Err = String;

    fn from_str(text: &str) -> Result<Socket, String> {
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Socket { address, port: None });
        }
        match text.parse::<std::net::SocketAddr>() {
            Ok(socket) => Ok(Socket { address: socket.ip(), port: Some(socket.port()) }),
            Err(_) => {
                Err("is no address with or without a port, such as 10.1.0.4, 10.1.0.4:443 or [fd00::4]:443"
                    .to_owned())
            }
        }
    }
}

impl FromStr for ProtocolName {
    type Err = String;

    fn from_str(text: &str) -> Result<ProtocolName, String> {
        use crate::wire::protocol::{AH, ESP, TCP, UDP};
        Ok(match text.to_ascii_lowercase().as_str() {
            "icmp" | "icmpv6" => ProtocolName::Icmp,
            "tcp" => ProtocolName::Number(TCP),
            "udp" => ProtocolName::Number(UDP),
            "esp" => ProtocolName::Number(ESP),
            "ah" => ProtocolName::Number(AH),
            number => ProtocolName::Number(
                number.parse().map_err(|_| "is none of tcp, udp, icmp, esp, ah and the numbers 0 to 255")?,
            ),
        })
    }
}

/// All commands and options, for those who describe them.
pub fn commands() -> clap::Command {
    use clap::CommandFactory;
    Cli::command()
}

/// Reads the command line; what is to be printed instead, with the exit status, when there is nothing to do.
pub fn parse() -> Result<Command, u8> {
    Cli::try_parse().map(|cli| cli.command).map_err(|error| {
        // Nobody is left to be told that printing failed.
        let _ = error.print();
        if error.use_stderr() { 2 } else { 0 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        commands().debug_assert();
    }

    #[test]
    fn explain_asks_a_file_or_the_appliance() {
        let packet = "--customer c --vnet v --protocol tcp --from 10.1.0.4 --to 10.1.0.5";
        let read = |more: &str| {
            let words = format!("clearway explain {packet} {more}");
            Cli::try_parse_from(words.split_whitespace()).map(drop).map_err(|e| e.to_string())
        };
        assert_eq!(
            (read("net.yaml"), read("--live"), read("--live --control c.sock")),
            (Ok(()), Ok(()), Ok(()))
        );
        assert!(read("").unwrap_err().contains("CONFIG"));
        assert!(read("net.yaml --live").unwrap_err().contains("cannot be used with"));
        assert!(read("net.yaml --control c.sock").is_err());
    }

    #[test]
    fn a_swap_has_a_time_and_a_configuration() {
        let swap = "2.5=b.yaml".parse::<Swap>().map(|swap| (swap.after, swap.config));
        assert_eq!(swap, Ok((2_500_000_000, PathBuf::from("b.yaml"))));
        assert!("5".parse::<Swap>().is_err() && "5=".parse::<Swap>().is_err());
    }

    #[test]
    fn sockets_are_read_with_and_without_port() {
        let read = |t: &str| t.parse::<Socket>().map(|s| (s.address.to_string(), s.port));
        assert_eq!(read("10.1.0.4"), Ok(("10.1.0.4".into(), None)));
        assert_eq!(read("10.1.0.4:443"), Ok(("10.1.0.4".into(), Some(443))));
        assert_eq!(read("fd00::4"), Ok(("fd00::4".into(), None)));
        assert_eq!(read("[fd00::4]"), Ok(("fd00::4".into(), None)));
        assert_eq!(read("[fd00::4]:53"), Ok(("fd00::4".into(), Some(53))));
        assert!(read("10.1.0.4:70000").is_err() && read("host:80").is_err() && read("10.1.0.0/24").is_err());
    }

    #[test]
    fn protocols_by_name() {
        assert_eq!("TCP".parse(), Ok(ProtocolName::Number(6)));
        assert_eq!("132".parse(), Ok(ProtocolName::Number(132)));
        assert!("256".parse::<ProtocolName>().is_err() && "sctp".parse::<ProtocolName>().is_err());
    }
}
