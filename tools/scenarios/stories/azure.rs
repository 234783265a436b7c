//! Configurations as Azure's own tools print them: exports of the command line, and a template.

use clearway::packet::NextHopType::{
    self, Internet, VNetPeering, VirtualAppliance, VirtualNetworkGateway, VnetLocal,
};
use clearway::packet::Reason;

use crate::packet::{ping, tcp, udp};
use crate::story::Story;

pub fn azure_export() -> Story {
    let mut s = Story::with_files(
        "azure-export",
        "A hub and a spoke as `az network ... show` and `list` printed them, with only tunnels, hosts and learned routes beside.",
        &[
            ("config.yaml", EXPORT),
            ("contoso/contoso-er.json", include_str!("../exports/contoso-er.json")),
            ("contoso/frontend-nsg.json", include_str!("../exports/frontend-nsg.json")),
            ("contoso/hub-ergw.json", include_str!("../exports/hub-ergw.json")),
            ("contoso/hub-to-er.json", include_str!("../exports/hub-to-er.json")),
            ("contoso/hub-vnet.json", include_str!("../exports/hub-vnet.json")),
            ("contoso/nics.json", include_str!("../exports/nics.json")),
            ("contoso/route-tables.json", include_str!("../exports/route-tables.json")),
            ("contoso/spoke-vnet.json", include_str!("../exports/spoke-vnet.json")),
            ("contoso/web-asg.json", include_str!("../exports/web-asg.json")),
            ("contoso/web-nic-nsg.json", include_str!("../exports/web-nic-nsg.json")),
        ],
    );
    let web = s.host("contoso/spoke-vnet", "fabric", "198.51.100.12", 0xa02);
    let nva = s.host("contoso/hub-vnet", "fabric", "198.51.100.11", 0xa01);
    let link = s.site("contoso/hub-vnet", "edge-a", "192.0.2.2", 0xc01);
    let internet = s.plain("contoso/spoke-vnet", "internet");
    let local = (VnetLocal, "10.20.0.0/16");
    let out = "DefaultRule_AllowVnetOutBound";
    let (office, jump_host) = ("192.168.7.9:6000", "192.168.5.5:40000");

    s.scene(
        "A customer of the shop: the subnet's group allows by application security group, then the NIC's.",
    );
    s.send(internet, tcp("8.8.8.8:40000", "10.20.0.4:443", "SYN"))
        .opens("UserRule_default-allow-https")
        .via(local)
        .to(web);
    s.send(web, tcp("10.20.0.4:443", "8.8.8.8:40000", "SYN ACK"))
        .established("UserRule_default-allow-https")
        .via((Internet, "0.0.0.0/0"))
        .to(internet);
    s.scene("The spoke reaches the office by the appliance, not by the gateway: its table takes no learned routes.");
    s.send(web, udp("10.20.0.4:5000", office)).opens(out).via((VirtualAppliance, "192.168.0.0/16")).to(nva);
    s.send(nva, udp("10.20.0.4:5000", office)).via((VirtualNetworkGateway, "192.168.0.0/16")).to(link);
    s.scene("The answer comes by the circuit; the gateway's own route table sends it to the appliance, too.");
    s.send(link, udp(office, "10.20.0.4:5000")).via((VirtualAppliance, "10.20.0.0/16")).to(nva);
    s.send(nva, udp(office, "10.20.0.4:5000")).established(out).via((VNetPeering, "10.20.0.0/16")).to(web);
    s.scene("A jump host: allowed by a list of addresses and ports at the subnet, and by the NIC.");
    s.send(nva, tcp(jump_host, "10.20.0.4:22", "SYN"))
        .opens("UserRule_default-allow-ssh")
        .via((VNetPeering, "10.20.0.0/16"))
        .to(web);
    s.scene("Remote desktop is in the list too, but the NIC knows no rule for it except the default for VirtualNetwork.");
    s.send(nva, tcp(jump_host, "10.20.0.4:3389", "SYN"))
        .opens("DefaultRule_AllowVnetInBound")
        .via((VNetPeering, "10.20.0.0/16"))
        .to(web);
    s.scene("The rest of the office is denied by the last rule.");
    s.send(nva, tcp(office, "10.20.0.4:22", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("UserRule_DenyPartners")
        .via((VNetPeering, "10.20.0.0/16"));
    s.scene("Private addresses that are nobody's are in VirtualNetwork, for the spoke's table names them, and end at that route.");
    s.send(web, ping("10.20.0.4", "10.99.0.1", 1))
        .ends(Reason::RouteNone)
        .rule(out)
        .via((NextHopType::None, "10.0.0.0/8"));
    s.send(nva, ping("10.10.1.4", "10.99.0.1", 1))
        .ends(Reason::RouteNone)
        .via((NextHopType::None, "10.0.0.0/8"));
    s.scene("The flow timeout of the hub is its own; the spoke's is four minutes.");
    s.wait(241.0);
    s.send(web, tcp("10.20.0.4:443", "8.8.8.8:40000", "ACK"))
        .ends(Reason::TcpNoFlow)
        .rule("DefaultRule_AllowInternetOutBound");
    s.flows(4, 0)
}

const EXPORT: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  edge-a:   {role: edge,     address: 192.0.2.1}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    resources: [contoso/*.json]
    tunnels:
      - {vnet: hub-vnet,   port: fabric, key: 0xa01}
      - {vnet: spoke-vnet, port: fabric, key: 0xa02}
      - {circuit: contoso-er, peering: AzurePrivatePeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc01}
    hosts:
      - {address: 198.51.100.11, vnet: hub-vnet,   prefixes: [10.10.1.0/24]}
      - {address: 198.51.100.12, vnet: spoke-vnet, prefixes: [10.20.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: contoso-er, peering: AzurePrivatePeering, link: primary, asPath: [65010]}
"#;

pub fn arm_template() -> Story {
    let mut s = Story::with_files(
        "arm-template",
        "A Resource Manager template with parameters, variables and functions, read as if it had been deployed.",
        &[("config.yaml", TEMPLATE), ("template.json", include_str!("../exports/template.json"))],
    );
    let web = s.host("fabrikam/shop-vnet", "fabric", "198.51.100.11", 0xb01);
    let appliance = s.host("fabrikam/shop-vnet", "fabric", "198.51.100.12", 0xb01);
    let internet = s.plain("fabrikam/shop-vnet", "internet");
    let local = (VnetLocal, "10.30.0.0/16");

    s.scene("Everybody may shop, on two ports.");
    s.send(internet, tcp("8.8.8.8:40000", "10.30.0.4:443", "SYN"))
        .opens("UserRule_allow-web")
        .via(local)
        .to(web);
    s.send(internet, tcp("8.8.8.8:40000", "10.30.0.4:80", "SYN"))
        .opens("UserRule_allow-web")
        .via(local)
        .to(web);
    s.send(internet, tcp("8.8.8.8:40000", "10.30.0.4:22", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("UserRule_deny-rest")
        .via(local);
    s.scene("The office, of two ranges that a parameter names, may do everything.");
    s.send(internet, tcp("131.107.1.9:40000", "10.30.0.4:22", "SYN"))
        .opens("UserRule_allow-office")
        .via(local)
        .to(web);
    s.send(internet, ping("167.220.8.8", "10.30.0.4", 5)).opens("UserRule_allow-office").via(local).to(web);
    s.scene("Answers leave by the appliance; nothing goes to the range that leads nowhere.");
    s.send(web, tcp("10.30.0.4:443", "8.8.8.8:40000", "SYN ACK"))
        .established("UserRule_allow-web")
        .via((VirtualAppliance, "0.0.0.0/0"))
        .to(appliance);
    s.send(web, udp("10.30.0.4:5000", "192.0.0.9:53"))
        .ends(Reason::RouteNone)
        .rule("DefaultRule_AllowVnetOutBound")
        .via((NextHopType::None, "192.0.0.0/24"));
    s.scene("The appliance forwards.");
    s.send(appliance, tcp("10.30.0.4:443", "8.8.8.8:40000", "SYN ACK"))
        .via((Internet, "0.0.0.0/0"))
        .to(internet);
    s.flows(4, 4)
}

const TEMPLATE: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: fabrikam
    resources: [template.json]
    tunnels:
      - {vnet: shop-vnet, port: fabric, key: 0xb01}
    hosts:
      - {address: 198.51.100.11, vnet: shop-vnet, prefixes: [10.30.0.0/24]}
      - {address: 198.51.100.12, vnet: shop-vnet, prefixes: [10.30.9.0/24]}
"#;
