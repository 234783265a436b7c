//! What the user typed. The only file that knows clap.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

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
  clearway replay  pcaps/hub-and-spoke-firewall/config.yaml --in fabric=pcaps/hub-and-spoke-firewall/fabric.pcap --out out
  clearway help replay

Files:
  CONFIG           YAML or JSON, apiVersion clearway/v1: the ports, and of each customer the resources as `az ... show -o
                   json` prints them (ARM templates and REST bodies too), in the file or named by `resources:`
  captures         pcap or pcapng with Ethernet frames, packed by gzip or not
  verdicts.jsonl   one JSON object per packet, in the order of the packets
  summary.json     one JSON object: packets = forwarded + dropped + punted

Exit status:
  0   done; everything is as expected
  1   `replay --expect`: a difference
  2   unusable input or configuration, with sentences on standard error and nothing half-written";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read and compile a configuration: every fault at once, or what is in it
    #[command(after_long_help = CHECK)]
    Check(CheckArgs),
    /// Run captures through the packet path: verdicts, captures of what leaves, a summary
    #[command(after_long_help = REPLAY)]
    Replay(ReplayArgs),
}

const CHECK: &str = "\
A configuration is accepted whole or refused whole. Every fault is told at once on standard error, as
FILE:LINE:COLUMN: error: 'VALUE': what would be right. Warnings do not refuse it.

Example:
  clearway check pcaps/hub-and-spoke-firewall/config.yaml

Exit status: 0 accepted, 2 refused or unreadable.";

const REPLAY: &str = "\
Captures are merged by time, equal times in the order of the --in options; the time of the packets is the clock. Frames of
a port come in by --in PORT=FILE (pcap or pcapng, .gz too, `-` is standard input), and frames that leave by a port are
written to DIR/PORT.pcap. DIR/verdicts.jsonl has a line for each packet, DIR/summary.json the counts. The files appear
together at the end, or not at all. Results are the same for any number of workers.

Example:
  clearway replay pcaps/hub-and-spoke-firewall/config.yaml \\
      --in fabric=pcaps/hub-and-spoke-firewall/fabric.pcap --out out
  head -3 out/verdicts.jsonl

As a regression test: keep a verdicts.jsonl (or only some of its lines and fields) and give it to --expect.

Exit status: 0 done, 1 differences from --expect, 2 unusable configuration or capture. A capture that is damaged midway
is answered up to the damage, and the status is 2; one that is cut inside a record is answered whole, with a warning.";

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
        let after = nanoseconds(seconds).ok_or_else(|| {
            format!("'{seconds}' is no number of seconds, such as 10 or 2.5, with at most nine digits behind the point")
        })?;
        Ok(Swap { after, config: PathBuf::from(config) })
    }
}

/// Decimal seconds as nanoseconds; exact.
fn nanoseconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction)
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
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn seconds_are_exact() {
        for (text, ns) in [("0", 0), ("2.5", 2_500_000_000), ("0.000000001", 1), ("10.10", 10_100_000_000)] {
            assert_eq!(nanoseconds(text), Some(ns), "{text}");
        }
        for text in ["", ".", "1.", ".5", "-1", "1e3", "0.0000000001", "99999999999999999999", "18446744074"]
        {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
        assert!("5".parse::<Swap>().is_err() && "5=".parse::<Swap>().is_err());
    }
}
