//! What the user says about flow logs.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Args};

/// Flow logs of `run`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("flow-logs").args(["nsg_flow_logs", "vnet_flow_logs"]).multiple(true))]
pub struct FlowLogArgs {
    /// Write NSG flow logs (version 2), as Azure does, below this folder; made if it is not there
    #[arg(long, value_name = "FOLDER")]
    pub nsg_flow_logs: Option<PathBuf>,
    /// Write VNet flow logs (version 4) below this folder
    #[arg(long, value_name = "FOLDER")]
    pub vnet_flow_logs: Option<PathBuf>,
    /// Bytes of each of the two logs at most, such as 500M or 20G; the oldest hours are removed first
    #[arg(long, value_name = "SIZE", default_value = "1G", requires = "flow-logs")]
    pub flow_logs_limit: Size,
    /// How often flow logs are written
    #[arg(long, value_name = "SECONDS", default_value = "60", requires = "flow-logs")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub flow_logs_interval: u16,
}

impl FlowLogArgs {
    /// Some flow log is wanted.
    pub fn any(&self) -> bool {
        self.nsg_flow_logs.is_some() || self.vnet_flow_logs.is_some()
    }

    /// How often they are written.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.flow_logs_interval.into())
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// The smallest limit: below it not even one file of each kind may fit.
const SMALLEST: u64 = 1 << 20;

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
        let unit =
            units.into_iter().find(|(letter, _)| text.ends_with([*letter, letter.to_ascii_lowercase()]));
        let (digits, shift) = unit.map_or((text, 0), |(_, shift)| (&text[..text.len() - 1], shift));
        let number = Some(digits).filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
        let bytes = number.and_then(|d| d.parse::<u64>().ok()?.checked_mul(1 << shift));
        match bytes {
            Some(bytes) if bytes >= SMALLEST => Ok(Size(bytes)),
            Some(_) => Err("is less than 1M".to_owned()),
            None => Err("is no number of bytes, such as 500M or 20G".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let read = |t: &str| t.parse::<Size>().map(|s| s.0).ok();
        assert_eq!(read("1G"), Some(1 << 30));
        assert_eq!(read("20g"), Some(20 << 30));
        assert_eq!(read("1048576"), Some(1 << 20));
        assert_eq!(read("2048K"), Some(2 << 20));
        for wrong in ["", "G", "-1G", "1.5G", "1GB", "10", "1K", "99999999999T", "１M"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
