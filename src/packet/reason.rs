//! Why a packet was not forwarded. One name per fault; a name is never renamed or reused.

/// Every way a packet can end other than forwarded (contract, section 3). The doc sentence of a variant is its help text.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $kind:ident, $step:literal;)+) => {
        /// Why a packet was dropped or punted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// Every reason, in the order of the steps that give it.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),+];

            /// The name used in verdicts, summaries and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name),+ }
            }

            /// One sentence for a person.
            pub const fn sentence(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($doc),+)),+ }
            }

            /// The step of contract section 3 that gives it.
            pub const fn step(self) -> u8 {
                match self { $(Reason::$variant => $step),+ }
            }

            /// True if the packet is handed to the host instead of dropped.
            pub const fn is_punt(self) -> bool {
                match self { $(Reason::$variant => reasons!(@$kind)),+ }
            }
        }
    };
    (@Punt) => { true };
    (@Drop) => { false };
}

reasons! {
    /// The frame was captured shorter than it was sent, or ends inside its Ethernet header or tags.
    Truncated = "truncated", Drop, 1;
    /// The frame carries neither IPv4 nor IPv6 behind at most two VLAN tags.
    NotIp = "not-ip", Punt, 1;
    /// The packet is not addressed to this port, or is neighbour discovery on a plain port.
    NotForUs = "not-for-us", Punt, 1;
    /// The packet is addressed to this port but is not GRE.
    NotGre = "not-gre", Punt, 2;
    /// The outer IP header is wrong: version, lengths or checksum.
    OuterMalformed = "outer-malformed", Drop, 2;
    /// The outer packet is a fragment.
    OuterFragment = "outer-fragment", Drop, 2;
    /// The GRE header is longer than what is there.
    GreMalformed = "gre-malformed", Drop, 3;
    /// A reserved GRE flag is set (RFC 2784 section 2.3, RFC 7637 section 3.2).
    GreReservedBits = "gre-reserved-bits", Drop, 3;
    /// The GRE version is not 0.
    GreVersion = "gre-version", Drop, 3;
    /// The GRE checksum is wrong.
    GreChecksum = "gre-checksum", Drop, 3;
    /// The GRE protocol type is none of IPv4, IPv6 and Ethernet (NVGRE).
    GreProtocol = "gre-protocol", Drop, 3;
    /// The GRE header has no key, so no customer can be known.
    GreNoKey = "gre-no-key", Drop, 3;
    /// The NVGRE virtual subnet is reserved, or the inner frame is short or tagged (RFC 7637).
    NvgreMalformed = "nvgre-malformed", Drop, 3;
    /// No tunnel of this encapsulation has this key on this port, or no single VNet holds the destination.
    UnknownTunnel = "unknown-tunnel", Drop, 4;
    /// The tunnel is known, but the outer source is not one of its ends.
    TunnelPeer = "tunnel-peer", Drop, 4;
    /// The GRE sequence number is a repetition or older than the last (RFC 2890 section 2.2).
    GreSequence = "gre-sequence", Drop, 4;
    /// The inner packet is wrong: version, lengths, checksum, or a header cut short.
    InnerMalformed = "inner-malformed", Drop, 5;
    /// The outer header says congestion, but the inner transport cannot hear it (RFC 6040).
    EcnIllegal = "ecn-illegal", Drop, 5;
    /// The inner packet is of a kind that VNets do not carry: multicast, broadcast, loopback, tunnels, DHCP to a unicast address.
    InnerBlocked = "inner-blocked", Drop, 5;
    /// The inner packet is addressed to the tunnel end it came from (RFC 2784 section 3.1).
    GreLoop = "gre-loop", Drop, 5;
    /// The fragment is too small to hold the TCP flags, or could overwrite them (RFC 1858, RFC 3128).
    FragmentTiny = "fragment-tiny", Drop, 5;
    /// The circuit link's bandwidth is used up, inwards here or outwards behind step 12.
    OverRate = "over-rate", Drop, 5;
    /// The packet is from the customer's end of this circuit link to ours: its control side answers it.
    ToUs = "to-us", Punt, 6;
    /// The inner source may not be used by the sender.
    SpoofedSource = "spoofed-source", Drop, 6;
    /// The first fragment of this packet was not forwarded.
    FragmentOrphan = "fragment-orphan", Drop, 6;
    /// The packet comes in by public peering and belongs to no flow that the customer has begun.
    NotInitiated = "not-initiated", Drop, 6;
    /// A rule of a network security group denied the packet.
    NsgDeny = "nsg-deny", Drop, 7;
    /// A rule would allow the TCP segment, but it belongs to no flow and does not open one.
    TcpNoFlow = "tcp-no-flow", Drop, 7;
    /// A rule allowed the packet, but the table of flows is full.
    FlowTableFull = "flow-table-full", Drop, 7;
    /// The route that won has the next hop None.
    RouteNone = "route-none", Drop, 8;
    /// No route matches, or the destination may not be reached from here.
    NoRoute = "no-route", Drop, 8;
    /// The destination or next hop lies in no subnet, or no host carries it.
    NoHost = "no-host", Drop, 9;
    /// The receiving VNet's peering does not allow forwarded traffic.
    PeeringForwarding = "peering-forwarding", Drop, 9;
    /// The appliance's network interface does not forward.
    ApplianceNotForwarding = "appliance-not-forwarding", Drop, 9;
    /// The gateway or Internet tunnel that the route names has no way that is up.
    GatewayDown = "gateway-down", Drop, 9;
    /// The time to live ran out.
    TtlExpired = "ttl-expired", Drop, 11;
    /// The packet is larger than its way out carries and may not be fragmented.
    TooBig = "too-big", Drop, 12;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_order_of_steps() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(Reason::ALL.windows(2).all(|w| w[0].step() <= w[1].step()));
        assert!(Reason::NotForUs.is_punt() && !Reason::TooBig.is_punt());
    }
}
