//! The stories, by what they are about. Every packet's verdict is stated here by hand, from the contract.

mod azure;
mod circuits;
mod customers;
mod faults;
mod flows;
mod hubs;
mod links;
mod public;
mod routes;
mod rules;
mod sizes;
mod wire;

use crate::story::Story;

/// All stories, in the order of the table of contents.
pub fn all() -> Vec<Story> {
    vec![
        hubs::hub_and_spoke_firewall(),
        hubs::forced_tunnelling(),
        hubs::peering_forwarding(),
        routes::route_selection(),
        circuits::asymmetric_circuits(),
        circuits::vpn_and_circuit(),
        links::circuit_link_addresses(),
        links::circuit_states(),
        public::microsoft_peering(),
        public::public_peering(),
        links::circuit_bandwidth(),
        links::meters(),
        rules::nsg_both_levels(),
        rules::application_security_groups(),
        rules::service_tags(),
        rules::platform_addresses(),
        customers::two_customers_same_addresses(),
        customers::spoofing(),
        customers::internet_tunnels(),
        faults::gre_faults(),
        faults::outer_faults(),
        faults::inner_blocked(),
        faults::vlan_frames(),
        wire::nvgre(),
        wire::ipv6(),
        wire::sequence_numbers(),
        wire::ecn_dscp(),
        sizes::fragments(),
        sizes::mtu(),
        sizes::icmp_errors(),
        flows::flow_timeout(),
        flows::time_order(),
        flows::swap_keeps_flows(),
        flows::swap_flush_connection(),
        flows::flow_table_full(),
        azure::azure_export(),
        azure::arm_template(),
    ]
}
