//! What a bench is asked to do, and the named profiles.

/// The size of the network, the traffic and the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// VNets, each of a customer of its own.
    pub vnets: u32,
    /// Flow records that are live at once. A connection inside a VNet has two, one at each end; any other has one.
    pub flows: u32,
    /// Rules of each NSG, half of them inbound.
    pub rules: u32,
    /// Routes of each VNet, learned and user-defined.
    pub routes: u32,
    /// Bytes of the inner packet.
    pub size: u32,
    /// Percent of the packets that open a flow nobody has seen.
    pub new_flows: f64,
    /// Exponent of the Zipf law by which packets choose their flow; 0 is uniform.
    pub zipf: f64,
    /// Worker threads.
    pub workers: u32,
    /// How long one repeat lasts.
    pub seconds: f64,
    /// How often the run is repeated.
    pub repeats: u32,
    /// Changes of configuration per second of measured time.
    pub swaps: f64,
    /// Instead of them, learned routes that come or go per second of measured time.
    pub learned: f64,
    /// Everything that is chosen at random follows from it, but for the seeds of hash tables.
    pub seed: u64,
}

/// A named size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// 1 VNet, 1,000 flows, 100 rules, 100 routes.
    Small,
    /// 100 VNets, 100,000 flows, 100 rules, 1,000 routes.
    Edge,
    /// 1,000 VNets, 1,000,000 flows, 1,000 rules, 1,000 routes, Zipf 1.0.
    Large,
    /// `Edge` with every packet opening a flow.
    Churn,
}

impl Profile {
    /// Every profile, smallest first.
    pub const ALL: [Profile; 4] = [Profile::Small, Profile::Edge, Profile::Large, Profile::Churn];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Small => "small",
            Profile::Edge => "edge",
            Profile::Large => "large",
            Profile::Churn => "churn",
        }
    }

    /// What it stands for.
    pub fn settings(self) -> Settings {
        let small = Settings {
            vnets: 1,
            flows: 1000,
            rules: 100,
            routes: 100,
            size: 64,
            new_flows: 0.0,
            zipf: 0.0,
            workers: 1,
            seconds: 1.0,
            repeats: 5,
            swaps: 0.0,
            learned: 0.0,
            seed: 1,
        };
        let edge = Settings { vnets: 100, flows: 100_000, routes: 1000, ..small.clone() };
        match self {
            Profile::Small => small,
            Profile::Edge => edge,
            Profile::Large => Settings { vnets: 1000, flows: 1_000_000, rules: 1000, zipf: 1.0, ..edge },
            Profile::Churn => Settings { new_flows: 100.0, ..edge },
        }
    }
}

/// Bytes of the smallest inner packet: an IPv4 and a TCP header.
const SMALLEST: u32 = 40;
/// Bytes of the largest.
const LARGEST: u32 = 9000;

impl Settings {
    /// Sentences about what cannot be.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut whole = |option: &str, value: u32, from: u32, to: u32, why: &str| {
            if !(from..=to).contains(&value) {
                faults.push(format!("--{option} {value}: {why}; {from} to {to} can be benched"));
            }
        };
        whole("vnets", self.vnets, 1, 10_000, "each VNet has a customer, addresses and tunnels of its own");
        whole("flows", self.flows, 16, 64_000_000, "this many flow records are live at once");
        whole("rules", self.rules, 0, 1000, "Azure takes at most 1,000 rules in an NSG");
        whole(
            "routes",
            self.routes,
            1,
            10_400,
            "a circuit teaches at least 1 and at most 10,000 routes, a route table holds 400",
        );
        whole(
            "size",
            self.size,
            SMALLEST,
            LARGEST,
            "the inner packet begins with 40 bytes of IPv4 and TCP headers",
        );
        whole("workers", self.workers, 1, 64, "each worker is a thread");
        whole("repeats", self.repeats, 1, 1000, "the median of all repeats is told");
        let mut fraction = |option: &str, value: f64, to: f64, why: &str| {
            if !(0.0..=to).contains(&value) {
                faults.push(format!("--{option} {value}: {why}; 0 to {to} can be benched"));
            }
        };
        fraction("new-flows", self.new_flows, 100.0, "a percentage of the packets");
        fraction("zipf", self.zipf, 4.0, "the exponent of Zipf's law, 0 for all flows alike");
        fraction("swaps", self.swaps, 10_000.0, "changes of configuration per second");
        fraction("learned", self.learned, 10_000.0, "learned routes that come or go per second");
        if self.swaps > 0.0 && self.learned > 0.0 {
            faults.push(format!(
                "--learned {}: --swaps is there, too; one of them can be benched",
                self.learned
            ));
        }
        if !(self.seconds > 0.0 && self.seconds <= 100.0) {
            let value = self.seconds;
            faults.push(format!(
                "--seconds {value}: one repeat lasts more than 0 and at most 100 seconds, so that no flow idles out; ask for \
                 more --repeats to measure longer"
            ));
        }
        if self.new_flows > 0.0 && self.flows < 1000 {
            faults.push(format!(
                "--flows {}: with --new-flows at least 1000, of which some idle out all the time",
                self.flows
            ));
        }
        if self.flows < self.vnets {
            faults.push(format!(
                "--flows {}: fewer than --vnets {}; every VNet has at least one flow",
                self.flows, self.vnets
            ));
        }
        faults
    }

    /// Changes of either kind per second of measured time.
    pub fn changes(&self) -> f64 {
        self.swaps.max(self.learned)
    }

    /// How often something is measured: with changes of configuration, once more without for each repeat.
    pub fn runs(&self) -> u32 {
        self.repeats * if self.changes() > 0.0 { 2 } else { 1 }
    }

    /// Share of the packets that open a flow.
    pub fn opening(&self) -> f64 {
        self.new_flows / 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_can_be_benched_and_impossible_sizes_are_told_all_at_once() {
        for profile in Profile::ALL {
            assert_eq!(profile.settings().faults(), [""; 0], "{}", profile.name());
        }
        let wrong = Settings {
            flows: 0,
            size: 20,
            rules: 1001,
            new_flows: 101.0,
            seconds: 0.0,
            zipf: f64::NAN,
            ..Profile::Small.settings()
        };
        let faults = wrong.faults();
        for option in
            ["--flows 0", "--size 20", "--rules 1001", "--new-flows 101", "--seconds 0", "--zipf NaN"]
        {
            assert!(faults.iter().any(|f| f.starts_with(option)), "{option} in {faults:?}");
        }
    }
}
