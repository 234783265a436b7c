//! Flow records: how long they live, what a change of configuration does to them, and full tables.

use clearway::packet::NextHopType::{Internet, VnetLocal};
use clearway::packet::Reason;

use crate::packet::{ping, tcp, udp};
use crate::story::{Format, Story, with};

const LOCAL: (clearway::packet::NextHopType, &str) = (VnetLocal, "10.1.0.0/16");
const OUTWARD: (clearway::packet::NextHopType, &str) = (Internet, "0.0.0.0/0");
const HTTPS: &str = "UserRule_AllowHttps";

pub fn flow_timeout() -> Story {
    let mut s = Story::new(
        "flow-timeout",
        "Records idle out after four minutes or what their VNet says, and TCP ends ten seconds after FIN or RST.",
        FLOW_TIMEOUT,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let slow = s.host("contoso/slow", "fabric", "198.51.100.12", 0xa02);
    let internet = s.plain("contoso/hub", "internet");
    let to_slow = s.plain("contoso/slow", "internet");
    let (server, slow_server) = ("10.1.0.4:443", "10.2.0.4:443");
    let client = "8.8.8.8:40000";

    s.scene("A connection, and one in a VNet whose records live thirty minutes.");
    s.send(internet, tcp(client, server, "SYN")).opens(HTTPS).via(LOCAL).to(web);
    s.send(web, tcp(server, client, "SYN ACK")).established(HTTPS).via(OUTWARD).to(internet);
    s.send(to_slow, tcp(client, slow_server, "SYN")).opens(HTTPS).via((VnetLocal, "10.2.0.0/16")).to(slow);
    s.scene("Just under four minutes later a packet of either direction refreshes it.");
    s.until(240);
    s.send(web, tcp(server, client, "ACK")).established(HTTPS).via(OUTWARD).to(internet);
    s.until(480);
    s.send(internet, tcp(client, server, "ACK")).established(HTTPS).via(LOCAL).to(web);
    s.scene("After more than four minutes it is gone: the segment opens nothing, and outbound neither.");
    s.until(721);
    s.send(internet, tcp(client, server, "ACK")).ends(Reason::TcpNoFlow).rule(HTTPS).via(LOCAL);
    s.send(web, tcp(server, client, "ACK")).ends(Reason::TcpNoFlow).rule("DefaultRule_AllowInternetOutBound");
    s.scene("The patient VNet still knows it.");
    s.send(slow, tcp(slow_server, client, "SYN ACK")).established(HTTPS).via(OUTWARD).to(to_slow);

    s.scene("UDP and ping: after four minutes an answer is a stranger.");
    s.send(web, udp("10.1.0.4:5000", "8.8.8.8:53"))
        .opens("DefaultRule_AllowInternetOutBound")
        .via(OUTWARD)
        .to(internet);
    s.send(web, ping("10.1.0.4", "8.8.8.8", 7))
        .opens("DefaultRule_AllowInternetOutBound")
        .via(OUTWARD)
        .to(internet);
    s.until(962);
    s.send(internet, udp("8.8.8.8:53", "10.1.0.4:5000"))
        .ends(Reason::NsgDeny)
        .rule("DefaultRule_DenyAllInBound")
        .via(LOCAL);
    s.send(web, udp("10.1.0.4:5000", "8.8.8.8:53"))
        .opens("DefaultRule_AllowInternetOutBound")
        .via(OUTWARD)
        .to(internet);

    s.scene("A connection is closed from both sides; what still comes passes for ten seconds.");
    s.until(1000);
    s.send(internet, tcp(client, server, "SYN")).opens(HTTPS).via(LOCAL).to(web);
    s.send(web, tcp(server, client, "FIN ACK")).established(HTTPS).via(OUTWARD).to(internet);
    s.send(internet, tcp(client, server, "ACK")).established(HTTPS).via(LOCAL).to(web);
    s.send(internet, tcp(client, server, "FIN ACK")).established(HTTPS).via(LOCAL).to(web);
    s.send(web, tcp(server, client, "ACK")).established(HTTPS).via(OUTWARD).to(internet);
    s.until(1009);
    s.send(internet, tcp(client, server, "FIN ACK")).established(HTTPS).via(LOCAL).to(web);
    s.scene("That did not refresh it.");
    s.until(1011);
    s.send(internet, tcp(client, server, "ACK")).ends(Reason::TcpNoFlow).rule(HTTPS).via(LOCAL);
    s.scene("A reset ends it at once; a SYN on an ended record is judged anew, and opens one.");
    s.send(internet, tcp(client, server, "SYN")).opens(HTTPS).via(LOCAL).to(web);
    s.send(internet, tcp(client, server, "SYN")).established(HTTPS).via(LOCAL).to(web);
    s.send(web, tcp(server, client, "RST ACK")).established(HTTPS).via(OUTWARD).to(internet);
    s.send(internet, tcp(client, server, "PSH ACK")).established(HTTPS).via(LOCAL).to(web);
    s.send(internet, tcp(client, server, "SYN")).opens(HTTPS).via(LOCAL).to(web);
    s.scene("A SYN the other way round on a live record is one of its packets, judged by no rule.");
    s.send(web, tcp(server, client, "SYN")).established(HTTPS).via(OUTWARD).to(internet);
    s.scene("On an ended one it is judged in its own direction.");
    s.send(internet, tcp(client, server, "RST")).established(HTTPS).via(LOCAL).to(web);
    s.send(web, tcp(server, client, "SYN"))
        .opens("DefaultRule_AllowInternetOutBound")
        .via(OUTWARD)
        .to(internet);
    // Live at the end: the patient one, the datagrams', and the last connection.
    s.flows(9, 3)
}

const FLOW_TIMEOUT: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets: [{name: web, addressPrefix: 10.1.0.0/24, networkSecurityGroup: web-nsg}]
      - name: slow
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        flowTimeoutInMinutes: 30
        subnets: [{name: web, addressPrefix: 10.2.0.0/24, networkSecurityGroup: slow-nsg}]
    networkSecurityGroups:
      - name: web-nsg
        securityRules:
          - {name: AllowHttps, priority: 100, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: Internet, sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "443"}
      - name: slow-nsg
        securityRules:
          - {name: AllowHttps, priority: 100, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: Internet, sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "443"}
    tunnels:
      - {vnet: hub,  port: fabric, key: 0xa01}
      - {vnet: slow, port: fabric, key: 0xa02}
    hosts:
      - {address: 198.51.100.11, vnet: hub,  prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: slow, prefixes: [10.2.0.0/24]}
"#;

/// The configuration of both stories of a changed group.
const SWAP: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: web, addressPrefix: 10.1.0.0/24, networkSecurityGroup: web-nsg}
          - {name: lab, addressPrefix: 10.1.5.0/24, networkSecurityGroup: lab-nsg}
    networkSecurityGroups:
      - name: web-nsg
        flushConnection: false
        securityRules:
          - {name: AllowHttps, priority: 100, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "443"}
          - {name: AllowSsh, priority: 110, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "22"}
      - {name: lab-nsg, securityRules: []}
    networkInterfaces:
      - {name: web1-nic, ipConfigurations: [{privateIPAddress: 10.1.0.4, subnet: hub/web}]}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/16]}
"#;

/// The group after the change: SSH is denied, and what HTTPS needs is allowed under another name.
fn changed(config: &str) -> String {
    let denied = with(
        config,
        "AllowSsh, priority: 110, direction: Inbound, access: Allow",
        "DenySsh, priority: 110, direction: Inbound, access: Deny",
    );
    with(&denied, "name: AllowHttps, priority: 100", "name: AllowWebTraffic, priority: 105")
}

pub fn time_order() -> Story {
    let mut s = Story::new(
        "time-order",
        "The clock is the captures' own and never goes back: records, fragments and changes of configuration follow it.",
        FLOW_TIMEOUT,
    );
    s.format("internet", Format::Nanoseconds);
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let internet = s.plain("contoso/hub", "internet");
    let (server, client) = ("10.1.0.4:443", "8.8.8.8:40000");
    let dns = "DefaultRule_AllowInternetOutBound";
    let question = udp("10.1.0.4:5000", "8.8.8.8:53");
    let answer = udp("8.8.8.8:53", "10.1.0.4:5000");

    s.scene(
        "At the same time as the question the answer comes: the ports go in the order that they were given.",
    );
    s.send(web, question.clone()).opens(dns).via(OUTWARD).to(internet);
    s.send(internet, answer.clone()).stamped(-1_000_000).established(dns).via(LOCAL).to(web);
    s.scene("A nanosecond is enough to come before.");
    s.send(internet, tcp(client, server, "SYN")).stamped(999_999).opens(HTTPS).via(LOCAL).to(web);
    s.send(web, tcp(server, client, "SYN ACK")).established(HTTPS).via(OUTWARD).to(internet);
    s.scene("A packet goes back a minute: its verdict has its own time, what leaves has its predecessor's.");
    s.until(200);
    s.send(internet, tcp(client, server, "ACK")).established(HTTPS).via(LOCAL).to(web);
    s.send(internet, answer.clone()).stamped(-60_000_000_000).established(dns).via(LOCAL).to(web);
    s.scene("It refreshed its record by the clock, not by its own time.");
    s.until(440);
    s.send(internet, answer.clone()).established(dns).via(LOCAL).to(web);
    s.scene("Going back does not bring back what is gone by the clock.");
    s.until(681);
    s.send(internet, answer.clone()).ends(Reason::NsgDeny).rule("DefaultRule_DenyAllInBound").via(LOCAL);
    s.send(internet, answer)
        .stamped(-100_000_000_000)
        .ends(Reason::NsgDeny)
        .rule("DefaultRule_DenyAllInBound")
        .via(LOCAL);
    s.scene("A configuration is in force from its instant on, for what arrives then, too.");
    s.swap(700, "open.yaml", with_dns(FLOW_TIMEOUT));
    s.send(internet, udp("8.8.8.8:53", "10.1.0.4:5001")).opens("UserRule_AllowDns").via(LOCAL).to(web);
    s.scene("And for what goes back behind it.");
    s.send(internet, udp("8.8.8.8:53", "10.1.0.4:5002"))
        .stamped(-10_000_000_000)
        .opens("UserRule_AllowDns")
        .via(LOCAL)
        .to(web);
    s.flows(4, 2)
}

/// Answers of name servers are let in.
fn with_dns(config: &str) -> String {
    let at = "      - name: slow-nsg\n";
    let rule = r#"          - {name: AllowDns, priority: 110, direction: Inbound, access: Allow, protocol: Udp,
             sourceAddressPrefix: "*", sourcePortRange: "53", destinationAddressPrefix: "*", destinationPortRange: "*"}
"#;
    with(config, at, &format!("{rule}{at}"))
}

pub fn swap_keeps_flows() -> Story {
    let mut s = Story::new(
        "swap-keeps-flows",
        "Changed rules hold for new connections only; records go with their endpoint, or with its last group.",
        SWAP,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let internet = s.plain("contoso/hub", "internet");
    let (client, other_client) = ("8.8.8.8:40000", "8.8.8.8:40001");
    let (https, ssh) = ("10.1.0.4:443", "10.1.0.4:22");

    s.scene("Two connections are open, and one out of the lab.");
    s.send(internet, tcp(client, https, "SYN")).opens(HTTPS).via(LOCAL).to(web);
    s.send(internet, tcp(client, ssh, "SYN")).opens("UserRule_AllowSsh").via(LOCAL).to(web);
    s.send(web, udp("10.1.5.4:5000", "8.8.8.8:53"))
        .opens("DefaultRule_AllowInternetOutBound")
        .via(OUTWARD)
        .to(internet);

    s.swap(10, "ssh-denied.yaml", changed(SWAP));
    s.scene(
        "SSH is denied now: the old connection goes on, under the rule that opened it; a new one is refused.",
    );
    s.send(internet, tcp(client, ssh, "ACK")).established("UserRule_AllowSsh").via(LOCAL).to(web);
    s.send(web, tcp(ssh, client, "ACK")).established("UserRule_AllowSsh").via(OUTWARD).to(internet);
    s.send(internet, tcp(other_client, ssh, "SYN")).ends(Reason::NsgDeny).rule("UserRule_DenySsh").via(LOCAL);
    s.scene("HTTPS is allowed by another rule, which new connections name.");
    s.send(internet, tcp(client, https, "ACK")).established(HTTPS).via(LOCAL).to(web);
    s.send(internet, tcp(other_client, https, "SYN")).opens("UserRule_AllowWebTraffic").via(LOCAL).to(web);

    let renamed = with(&changed(SWAP), "name: web1-nic", "name: web9-nic");
    let renamed = with(
        &renamed,
        "addressPrefix: 10.1.5.0/24, networkSecurityGroup: lab-nsg",
        "addressPrefix: 10.1.5.0/24",
    );
    s.swap(20, "renamed.yaml", renamed);
    s.scene("The NIC has another name: it is another endpoint, and its records are gone.");
    s.send(internet, tcp(client, ssh, "ACK")).ends(Reason::NsgDeny).rule("UserRule_DenySsh").via(LOCAL);
    s.send(internet, tcp(client, https, "ACK"))
        .ends(Reason::TcpNoFlow)
        .rule("UserRule_AllowWebTraffic")
        .via(LOCAL);
    s.scene("The lab has lost its group: its answers pass, as everything does, and nothing is recorded.");
    s.send(internet, udp("8.8.8.8:53", "10.1.5.4:5000")).via(LOCAL).to(web);

    s.swap(30, "back.yaml", SWAP.to_owned());
    s.scene("The group is back; the record is not. A question is asked again.");
    s.send(internet, udp("8.8.8.8:53", "10.1.5.4:5000"))
        .ends(Reason::NsgDeny)
        .rule("DefaultRule_DenyAllInBound")
        .via(LOCAL);
    s.send(web, udp("10.1.5.4:5000", "8.8.8.8:53"))
        .opens("DefaultRule_AllowInternetOutBound")
        .via(OUTWARD)
        .to(internet);

    let space = "        addressSpace: {addressPrefixes: [10.1.0.0/16]}\n";
    s.swap(40, "patient.yaml", with(SWAP, space, &format!("{space}        flowTimeoutInMinutes: 10\n")));
    s.scene("The VNet is told to be patient: what is recorded lives longer, too.");
    s.until(600);
    s.send(internet, udp("8.8.8.8:53", "10.1.5.4:5000"))
        .established("DefaultRule_AllowInternetOutBound")
        .via(LOCAL)
        .to(web);
    let nic = "      - {name: web1-nic,";
    let lab = "      - {name: lab-nic, ipConfigurations: [{privateIPAddress: 10.1.5.4, subnet: hub/lab}]}\n";
    s.swap(610, "lab-nic.yaml", with(SWAP, nic, &format!("{lab}{nic}")));
    s.scene("The address becomes a NIC's: that is another endpoint.");
    s.send(internet, udp("8.8.8.8:53", "10.1.5.4:5000"))
        .ends(Reason::NsgDeny)
        .rule("DefaultRule_DenyAllInBound")
        .via(LOCAL);
    s.flows(5, 0)
}

pub fn swap_flush_connection() -> Story {
    let mut s = Story::new(
        "swap-flush-connection",
        "With flushConnection a change of rules is put to live records too: denied they are gone, allowed they stay.",
        SWAP,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let internet = s.plain("contoso/hub", "internet");
    let client = "8.8.8.8:40000";
    let (https, ssh) = ("10.1.0.4:443", "10.1.0.4:22");

    s.scene("Two connections are open, one is ended, and the web server has asked a question; somebody is logged in from the lab.");
    s.send(internet, tcp(client, https, "SYN")).opens(HTTPS).via(LOCAL).to(web);
    s.send(internet, tcp(client, ssh, "SYN")).opens("UserRule_AllowSsh").via(LOCAL).to(web);
    s.send(web, udp("10.1.0.4:5000", "8.8.8.8:53"))
        .opens("DefaultRule_AllowInternetOutBound")
        .via(OUTWARD)
        .to(internet);
    s.send(web, tcp("10.1.5.4:6000", ssh, "SYN")).opens("UserRule_AllowSsh").via(LOCAL).to(web);
    s.until(5);
    s.send(internet, tcp("8.8.8.8:40009", ssh, "SYN")).opens("UserRule_AllowSsh").via(LOCAL).to(web);
    s.send(internet, tcp("8.8.8.8:40009", ssh, "RST")).established("UserRule_AllowSsh").via(LOCAL).to(web);

    let flushed = with(&changed(SWAP), "flushConnection: false", "flushConnection: true");
    s.swap(10, "flushed.yaml", flushed);
    s.scene("SSH is denied now, and its connection gone in both directions.");
    s.send(internet, tcp(client, ssh, "ACK")).ends(Reason::NsgDeny).rule("UserRule_DenySsh").via(LOCAL);
    s.send(web, tcp(ssh, client, "ACK")).ends(Reason::TcpNoFlow).rule("DefaultRule_AllowInternetOutBound");
    s.scene(
        "The lab's group flushes nothing: the flow is known where it leaves, and denied where it arrives.",
    );
    s.send(web, tcp("10.1.5.4:6000", ssh, "ACK"))
        .ends(Reason::NsgDeny)
        .established("UserRule_DenySsh")
        .via(LOCAL);
    s.scene("HTTPS goes on, under the rule that allows it now.");
    s.send(internet, tcp(client, https, "ACK")).established("UserRule_AllowWebTraffic").via(LOCAL).to(web);
    s.send(web, tcp(https, client, "ACK")).established("UserRule_AllowWebTraffic").via(OUTWARD).to(internet);
    s.scene("The question is judged again as it was asked, outbound.");
    s.send(internet, udp("8.8.8.8:53", "10.1.0.4:5000"))
        .established("DefaultRule_AllowInternetOutBound")
        .via(LOCAL)
        .to(web);
    s.scene("The ended one was not live: what still comes passes.");
    s.send(internet, tcp("8.8.8.8:40009", ssh, "ACK")).established("UserRule_AllowSsh").via(LOCAL).to(web);
    s.flows(6, 3)
}

pub fn flow_table_full() -> Story {
    let mut s = Story::new(
        "flow-table-full",
        "A full table refuses the packet that would open one more, naming the rule that allowed it, and evicts nothing alive.",
        FLOW_TABLE_FULL,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let other = s.host("contoso/other", "fabric", "198.51.100.12", 0xa02);
    let internet = s.plain("contoso/hub", "internet");
    let to_other = s.plain("contoso/other", "internet");
    let server = "10.1.0.4:443";

    s.scene("The NIC may have two records.");
    s.send(internet, tcp("8.8.8.8:40001", server, "SYN")).opens(HTTPS).via(LOCAL).to(web);
    s.send(internet, tcp("8.8.8.8:40002", server, "SYN")).opens(HTTPS).via(LOCAL).to(web);
    s.send(internet, tcp("8.8.8.8:40003", server, "SYN")).ends(Reason::FlowTableFull).rule(HTTPS).via(LOCAL);
    s.scene("What is denied is denied; what is established goes on.");
    s.send(internet, tcp("8.8.8.8:40003", "10.1.0.4:22", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("DefaultRule_DenyAllInBound")
        .via(LOCAL);
    s.send(web, tcp(server, "8.8.8.8:40001", "SYN ACK")).established(HTTPS).via(OUTWARD).to(internet);
    s.scene("Outbound it is as full as inbound.");
    s.send(web, udp("10.1.0.4:5000", "8.8.8.8:53"))
        .ends(Reason::FlowTableFull)
        .rule("DefaultRule_AllowInternetOutBound");
    s.scene("The VNet may have three: a neighbour takes the last.");
    s.send(internet, tcp("8.8.8.8:40001", "10.1.0.5:443", "SYN")).opens(HTTPS).via(LOCAL).to(web);
    s.send(internet, tcp("8.8.8.8:40002", "10.1.0.5:443", "SYN"))
        .ends(Reason::FlowTableFull)
        .rule(HTTPS)
        .via(LOCAL);
    s.scene("Another VNet has its own.");
    s.send(to_other, tcp("8.8.8.8:40001", "10.2.0.4:443", "SYN"))
        .opens(HTTPS)
        .via((VnetLocal, "10.2.0.0/16"))
        .to(other);
    s.scene("An ended record is replaced by a SYN of its own, which makes no one more.");
    s.send(internet, tcp("8.8.8.8:40002", server, "RST")).established(HTTPS).via(LOCAL).to(web);
    s.send(internet, tcp("8.8.8.8:40003", server, "SYN")).ends(Reason::FlowTableFull).rule(HTTPS).via(LOCAL);
    s.send(internet, tcp("8.8.8.8:40002", server, "SYN")).opens(HTTPS).via(LOCAL).to(web);
    s.scene("Ten seconds after its end a record is gone, and there is room.");
    s.send(internet, tcp("8.8.8.8:40002", server, "RST")).established(HTTPS).via(LOCAL).to(web);
    s.wait(10.0);
    s.send(internet, tcp("8.8.8.8:40003", server, "SYN")).opens(HTTPS).via(LOCAL).to(web);
    s.scene("Between two machines of the VNet two records are opened at once: there is room for none.");
    s.send(web, udp("10.1.0.5:5000", "10.1.0.6:53"))
        .ends(Reason::FlowTableFull)
        .rule("DefaultRule_AllowVnetOutBound");
    s.scene("After four minutes all are gone: now there is room for both, but not for two more.");
    s.wait(241.0);
    s.send(web, udp("10.1.0.5:5000", "10.1.0.6:53")).opens("DefaultRule_AllowVnetInBound").via(LOCAL).to(web);
    s.send(web, udp("10.1.0.6:6000", "10.1.0.5:53"))
        .ends(Reason::FlowTableFull)
        .rule("DefaultRule_AllowVnetInBound")
        .via(LOCAL);
    s.flows(8, 2)
}

const FLOW_TABLE_FULL: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        maxFlows: 3
        subnets: [{name: web, addressPrefix: 10.1.0.0/24, networkSecurityGroup: web-nsg}]
      - name: other
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        subnets: [{name: web, addressPrefix: 10.2.0.0/24, networkSecurityGroup: web-nsg}]
    networkSecurityGroups:
      - name: web-nsg
        securityRules:
          - {name: AllowHttps, priority: 100, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: Internet, sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "443"}
    networkInterfaces:
      - {name: web1-nic, maxFlows: 2, ipConfigurations: [{privateIPAddress: 10.1.0.4, subnet: hub/web}]}
    tunnels:
      - {vnet: hub,   port: fabric, key: 0xa01}
      - {vnet: other, port: fabric, key: 0xa02}
    hosts:
      - {address: 198.51.100.11, vnet: hub,   prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: other, prefixes: [10.2.0.0/24]}
"#;
