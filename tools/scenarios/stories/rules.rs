//! Network security groups: both levels, application security groups, service tags, platform addresses.

use clearway::packet::NextHopType::{Internet, VirtualAppliance, VirtualNetworkServiceEndpoint, VnetLocal};
use clearway::packet::Reason;

use crate::packet::{icmp, other, ping, pong, tcp, udp};
use crate::story::Story;

pub fn nsg_both_levels() -> Story {
    let mut s = Story::new(
        "nsg-both-levels",
        "Inbound the subnet's group is asked before the NIC's, outbound after it, and the last that was asked is named.",
        NSG_BOTH_LEVELS,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let bare = s.host("contoso/hub", "fabric", "198.51.100.12", 0xa01);
    let internet = s.plain("contoso/hub", "internet");
    let local = (VnetLocal, "10.1.0.0/16");
    let https = "UserRule_NicAllowHttps";

    s.scene("Both allow: the NIC's rule is named, for it was asked last.");
    s.send(internet, tcp("5.6.7.8:40000", "10.1.0.4:443", "SYN")).opens(https).via(local).to(web);
    s.scene("The answer needs no rule; the subnet would deny it.");
    s.send(web, tcp("10.1.0.4:443", "5.6.7.8:40000", "SYN ACK"))
        .established(https)
        .via((Internet, "0.0.0.0/0"))
        .to(internet);
    s.scene("The subnet allows port 80, the NIC does not.");
    s.send(internet, tcp("5.6.7.8:40001", "10.1.0.4:80", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("DefaultRule_DenyAllInBound")
        .via(local);
    s.scene("The NIC allows port 22, the subnet denies it and ends it.");
    s.send(internet, tcp("5.6.7.8:40002", "10.1.0.4:22", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("UserRule_SubnetDenySsh")
        .via(local);
    s.scene(
        "A NIC without a group of its own: only the subnet is asked. A list of ports, and a range, match.",
    );
    for port in [80, 443, 8000, 8099] {
        s.send(internet, tcp("5.6.7.8:40003", &format!("10.1.0.5:{port}"), "SYN"))
            .opens("UserRule_SubnetAllowWeb")
            .via(local)
            .to(web);
    }
    s.send(internet, tcp("5.6.7.8:40003", "10.1.0.5:8100", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("DefaultRule_DenyAllInBound")
        .via(local);
    s.scene("Outbound the NIC is asked first, and denies before the subnet is asked.");
    s.send(web, udp("10.1.0.4:5000", "5.6.7.8:123")).ends(Reason::NsgDeny).rule("UserRule_NicDenyNtp");
    s.scene("The NIC allows by a default rule, the subnet denies.");
    s.send(web, udp("10.1.0.4:5000", "5.6.7.8:53")).ends(Reason::NsgDeny).rule("UserRule_SubnetDenyInternet");

    s.scene("Traffic inside a subnet is judged at both ends: two records.");
    s.send(web, udp("10.1.0.5:5000", "10.1.0.4:514")).opens("UserRule_NicAllowSyslog").via(local).to(web);
    s.send(web, udp("10.1.0.4:514", "10.1.0.5:5000"))
        .established("DefaultRule_AllowVnetOutBound")
        .via(local)
        .to(web);
    s.scene("A segment that opens nothing is refused under the rule that would allow it.");
    s.send(internet, tcp("5.6.7.8:40009", "10.1.0.4:443", "ACK"))
        .ends(Reason::TcpNoFlow)
        .rule(https)
        .via(local);
    s.send(internet, tcp("5.6.7.8:40009", "10.1.0.4:443", "SYN FIN"))
        .ends(Reason::TcpNoFlow)
        .rule(https)
        .via(local);
    s.scene("A ping is neither TCP nor UDP: rules with ports do not match it, the one for ICMP does.");
    s.send(internet, ping("5.6.7.8", "10.1.0.5", 77)).opens("UserRule_SubnetAllowPing").via(local).to(web);
    s.send(web, pong("10.1.0.5", "5.6.7.8", 77))
        .established("UserRule_SubnetAllowPing")
        .via((Internet, "0.0.0.0/0"))
        .to(internet);
    s.send(internet, other("5.6.7.8", "10.1.0.5", 50, b"an ESP packet"))
        .ends(Reason::NsgDeny)
        .rule("DefaultRule_DenyAllInBound")
        .via(local);
    s.scene("A NIC that does not track TCP takes any segment of an allowed connection.");
    s.send(internet, tcp("5.6.7.8:40010", "10.1.0.6:443", "ACK"))
        .opens("UserRule_SubnetAllowWeb")
        .via(local)
        .to(web);
    s.scene("No group at either level: everything passes, and nothing is recorded.");
    s.send(internet, tcp("5.6.7.8:40000", "10.1.5.4:22", "ACK")).via(local).to(bare);
    s.scene("Between a subnet with groups and one without, only the one with groups is asked.");
    s.send(web, udp("10.1.0.5:6000", "10.1.5.4:53"))
        .opens("DefaultRule_AllowVnetOutBound")
        .via(local)
        .to(bare);
    s.flows(10, 10)
}

const NSG_BOTH_LEVELS: &str = r#"
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
          - {name: bare, addressPrefix: 10.1.5.0/24}
    networkSecurityGroups:
      - name: web-nsg
        securityRules:
          - {name: SubnetDenySsh, priority: 100, direction: Inbound, access: Deny, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "22"}
          - {name: SubnetAllowWeb, priority: 200, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: Internet, sourcePortRange: "*", destinationAddressPrefix: 10.1.0.0/24,
             destinationPortRanges: ["80", "443", 8000-8099]}
          - {name: SubnetAllowPing, priority: 300, direction: Inbound, access: Allow, protocol: Icmp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "*"}
          - {name: SubnetDenyInternet, priority: 100, direction: Outbound, access: Deny, protocol: "*",
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: Internet, destinationPortRange: "*"}
      - name: nic-nsg
        securityRules:
          - {name: NicAllowHttps, priority: 100, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "443"}
          - {name: NicAllowSsh, priority: 110, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "22"}
          - {name: NicAllowSyslog, priority: 120, direction: Inbound, access: Allow, protocol: Udp,
             sourceAddressPrefix: VirtualNetwork, sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "514"}
          - {name: NicDenyNtp, priority: 100, direction: Outbound, access: Deny, protocol: Udp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "123"}
    networkInterfaces:
      - name: web1-nic
        networkSecurityGroup: nic-nsg
        ipConfigurations: [{privateIPAddress: 10.1.0.4, subnet: hub/web}]
      - name: web2-nic
        ipConfigurations: [{privateIPAddress: 10.1.0.5, subnet: hub/web}]
      - name: web3-nic
        disableTcpStateTracking: true
        ipConfigurations: [{privateIPAddress: 10.1.0.6, subnet: hub/web}]
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: hub, prefixes: [10.1.5.0/24]}
"#;

pub fn application_security_groups() -> Story {
    let mut s = Story::new(
        "application-security-groups",
        "Rules between application security groups hold at their members' NICs only, whatever the addresses.",
        APPLICATION_SECURITY_GROUPS,
    );
    let host = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let internet = s.plain("contoso/hub", "internet");
    let local = (VnetLocal, "10.1.0.0/16");
    let (web, both, db, neither) = ("10.1.0.4:9000", "10.1.0.5:9000", "10.1.0.20:1433", "10.1.0.99:9000");

    s.scene("A web server asks the database.");
    s.send(host, tcp(web, db, "SYN")).opens("UserRule_AllowWebToDb").via(local).to(host);
    s.scene("A NIC may be in several groups.");
    s.send(host, tcp(both, db, "SYN")).opens("UserRule_AllowWebToDb").via(local).to(host);
    s.scene("A machine in the same subnet that is in no group is denied at the database.");
    s.send(host, tcp(neither, db, "SYN")).ends(Reason::NsgDeny).rule("UserRule_DenyRestToDb").via(local);
    s.scene("The wrong port is denied too.");
    s.send(host, tcp(web, "10.1.0.20:22", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("UserRule_DenyRestToDb")
        .via(local);
    s.scene("The same from the Internet, to a web server and to the database.");
    s.send(internet, tcp("5.6.7.8:40000", "10.1.0.4:443", "SYN"))
        .opens("UserRule_AllowInternetToWeb")
        .via(local)
        .to(host);
    s.send(internet, tcp("5.6.7.8:40000", "10.1.0.20:443", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("UserRule_DenyRestToDb")
        .via(local);
    s.scene("To a machine in no group neither rule applies; the default decides.");
    s.send(internet, tcp("5.6.7.8:40000", "10.1.0.99:443", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("DefaultRule_DenyAllInBound")
        .via(local);
    s.scene("The database answers nobody unasked: outbound a rule names its group as source.");
    s.send(host, tcp("10.1.0.20:9000", "5.6.7.8:443", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("UserRule_DenyDbOut");
    s.send(host, tcp("10.1.0.99:9000", "5.6.7.8:443", "SYN"))
        .opens("DefaultRule_AllowInternetOutBound")
        .via((Internet, "0.0.0.0/0"))
        .to(internet);
    s.flows(6, 6)
}

const APPLICATION_SECURITY_GROUPS: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets: [{name: all, addressPrefix: 10.1.0.0/24, networkSecurityGroup: all-nsg}]
    applicationSecurityGroups: [{name: web}, {name: db}, {name: admin}]
    networkSecurityGroups:
      - name: all-nsg
        securityRules:
          - {name: AllowWebToDb, priority: 100, direction: Inbound, access: Allow, protocol: Tcp,
             sourceApplicationSecurityGroups: [web], sourcePortRange: "*",
             destinationApplicationSecurityGroups: [db], destinationPortRange: "1433"}
          - {name: DenyRestToDb, priority: 200, direction: Inbound, access: Deny, protocol: "*",
             sourceAddressPrefix: "*", sourcePortRange: "*",
             destinationApplicationSecurityGroups: [db], destinationPortRange: "*"}
          - {name: AllowInternetToWeb, priority: 300, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: Internet, sourcePortRange: "*",
             destinationApplicationSecurityGroups: [web], destinationPortRanges: ["80", "443"]}
          - {name: DenyDbOut, priority: 100, direction: Outbound, access: Deny, protocol: "*",
             sourceApplicationSecurityGroups: [db], sourcePortRange: "*",
             destinationAddressPrefix: "*", destinationPortRange: "*"}
    networkInterfaces:
      - {name: web1, ipConfigurations: [{privateIPAddress: 10.1.0.4, subnet: hub/all, applicationSecurityGroups: [web]}]}
      - {name: web2, ipConfigurations: [{privateIPAddress: 10.1.0.5, subnet: hub/all, applicationSecurityGroups: [web, admin]}]}
      - {name: db1, ipConfigurations: [{privateIPAddress: 10.1.0.20, subnet: hub/all, applicationSecurityGroups: [db]}]}
      - {name: other1, ipConfigurations: [{privateIPAddress: 10.1.0.99, subnet: hub/all}]}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
"#;

pub fn service_tags() -> Story {
    let mut s = Story::with_files(
        "service-tags",
        "Service tags in rules and in routes, regional and global, and a service endpoint that goes before a default route.",
        &[("config.yaml", SERVICE_TAGS), ("ServiceTags_Public.json", TAG_FILE)],
    );
    let app = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let firewall = s.host("contoso/hub", "fabric", "198.51.100.12", 0xa01);
    let services = s.plain("contoso/hub", "services");
    let internet = s.plain("contoso/hub", "internet");

    s.scene("Storage of West Europe is allowed by its regional tag, and reached by the service endpoint.");
    s.send(app, tcp("10.1.0.4:9000", "20.60.26.5:443", "SYN"))
        .opens("UserRule_AllowRegionalStorage")
        .via((VirtualNetworkServiceEndpoint, "20.60.26.0/23"))
        .to(services);
    s.send(services, tcp("20.60.26.5:443", "10.1.0.4:9000", "SYN ACK"))
        .established("UserRule_AllowRegionalStorage")
        .via((VnetLocal, "10.1.0.0/16"))
        .to(app);
    s.scene("Storage elsewhere is denied by the global tag; tags compare without case.");
    s.send(app, tcp("10.1.0.4:9001", "20.38.98.7:443", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("UserRule_DenyStorage");
    s.scene(
        "Databases go out directly, for the route of the tag is longer than the default to the firewall.",
    );
    s.send(app, tcp("10.1.0.4:9002", "40.68.37.158:1433", "SYN"))
        .opens("DefaultRule_AllowVnetOutBound")
        .via((Internet, "40.68.37.158/32"))
        .to(internet);
    s.scene("Two tags hold this prefix: the regional one goes before the global one.");
    s.send(app, tcp("10.1.0.4:9003", "13.69.104.3:1433", "SYN"))
        .opens("DefaultRule_AllowVnetOutBound")
        .via((VirtualAppliance, "13.69.104.0/26"))
        .to(firewall);
    s.scene("Everything else goes to the firewall.");
    s.send(app, tcp("10.1.0.4:9004", "93.184.216.34:443", "SYN"))
        .opens("DefaultRule_AllowVnetOutBound")
        .via((VirtualAppliance, "0.0.0.0/0"))
        .to(firewall);
    s.scene("The firewall's subnet has no endpoint: it reaches storage like any public address.");
    s.send(firewall, tcp("10.1.9.4:9000", "20.60.26.5:443", "SYN")).via((Internet, "0.0.0.0/0")).to(internet);
    s.scene("Inbound only the front door may open connections; a rule says so, for with a default route to an appliance VirtualNetwork holds every address.");
    s.send(internet, tcp("147.243.1.9:9000", "10.1.0.4:443", "SYN"))
        .opens("UserRule_AllowFrontDoor")
        .via((VnetLocal, "10.1.0.0/16"))
        .to(app);
    s.send(internet, tcp("147.242.1.9:9000", "10.1.0.4:443", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("UserRule_DenyRest")
        .via((VnetLocal, "10.1.0.0/16"));
    s.flows(5, 5)
}

const SERVICE_TAGS: &str = r#"
apiVersion: clearway/v1
serviceTags: ServiceTags_Public.json
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  services: {role: services, address: 203.0.113.10, nextHop: 203.0.113.9}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - name: app
            addressPrefix: 10.1.0.0/24
            networkSecurityGroup: app-nsg
            routeTable: app-rt
            serviceEndpoints: [{service: Microsoft.Storage, locations: [westeurope]}]
          - {name: firewall, addressPrefix: 10.1.9.0/24}
    networkSecurityGroups:
      - name: app-nsg
        securityRules:
          - {name: AllowRegionalStorage, priority: 100, direction: Outbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: Storage.WestEurope, destinationPortRange: "443"}
          - {name: DenyStorage, priority: 110, direction: Outbound, access: Deny, protocol: "*",
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: STORAGE, destinationPortRange: "*"}
          - {name: AllowFrontDoor, priority: 100, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: AzureFrontDoor.Backend, sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "443"}
          - {name: DenyRest, priority: 4096, direction: Inbound, access: Deny, protocol: "*",
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "*"}
    routeTables:
      - name: app-rt
        routes:
          - {name: everything, addressPrefix: 0.0.0.0/0, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4}
          - {name: databases, addressPrefix: Sql, nextHopType: Internet}
          - {name: regional-databases, addressPrefix: Sql.NorthEurope, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: hub, prefixes: [10.1.9.0/24]}
"#;

/// In the shape of the file that Microsoft publishes, with a handful of its prefixes.
const TAG_FILE: &str = r#"
{
  "changeNumber": 1,
  "cloud": "Public",
  "values": [
    {"name": "Storage", "id": "Storage", "properties": {"changeNumber": 1, "region": "", "platform": "Azure", "systemService": "AzureStorage",
      "addressPrefixes": ["20.38.98.0/24", "20.60.26.0/23", "2603:1020:206:8::/64"], "networkFeatures": ["API", "NSG", "UDR"]}},
    {"name": "Storage.WestEurope", "id": "Storage.WestEurope", "properties": {"changeNumber": 1, "region": "westeurope", "platform": "Azure", "systemService": "AzureStorage",
      "addressPrefixes": ["20.60.26.0/23", "2603:1020:206:8::/64"], "networkFeatures": ["API", "NSG", "UDR"]}},
    {"name": "Sql", "id": "Sql", "properties": {"changeNumber": 1, "region": "", "platform": "Azure", "systemService": "AzureSQL",
      "addressPrefixes": ["13.69.104.0/26", "40.68.37.158/32"], "networkFeatures": ["API", "NSG", "UDR"]}},
    {"name": "Sql.NorthEurope", "id": "Sql.NorthEurope", "properties": {"changeNumber": 1, "region": "northeurope", "platform": "Azure", "systemService": "AzureSQL",
      "addressPrefixes": ["13.69.104.0/26"], "networkFeatures": ["API", "NSG", "UDR"]}},
    {"name": "AzureFrontDoor.Backend", "id": "AzureFrontDoor.Backend", "properties": {"changeNumber": 1, "region": "", "platform": "Azure", "systemService": "AzureFrontDoor",
      "addressPrefixes": ["147.243.0.0/16"], "networkFeatures": ["API", "NSG", "UDR"]}}
  ]
}
"#;

pub fn platform_addresses() -> Story {
    let mut s = Story::new(
        "platform-addresses",
        "DNS, metadata and probes pass whatever the rules and routes say, unless a rule names their own tags.",
        PLATFORM_ADDRESSES,
    );
    let host = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let services = s.plain("contoso/hub", "services");
    let internet = s.plain("contoso/hub", "internet");
    let default = (Internet, "0.0.0.0/0");

    s.scene("Everything outbound is denied, but this is not asked of DNS and metadata.");
    s.send(host, udp("10.1.0.4:5000", "168.63.129.16:53")).via(default).to(services);
    s.send(host, tcp("10.1.0.4:5001", "169.254.169.254:80", "SYN")).via(default).to(services);
    s.scene("Nor does the default route to the appliance matter, and no record is kept.");
    s.send(host, tcp("10.1.0.4:5001", "169.254.169.254:80", "ACK")).via(default).to(services);
    s.send(host, udp("10.1.0.4:5000", "8.8.8.8:53")).ends(Reason::NsgDeny).rule("UserRule_DenyEverything");
    s.scene("Answers and probes come from outside, and are believed on the services port.");
    s.send(services, udp("168.63.129.16:53", "10.1.0.4:5000")).via((VnetLocal, "10.1.0.0/16")).to(host);
    s.send(services, tcp("168.63.129.16:6000", "10.1.0.4:443", "SYN"))
        .via((VnetLocal, "10.1.0.0/16"))
        .to(host);
    s.scene("Elsewhere nobody may claim to be the platform.");
    s.send(internet, udp("168.63.129.16:53", "10.1.0.4:5000")).ends(Reason::SpoofedSource);
    s.send(host, udp("168.63.129.16:53", "10.1.0.5:5000")).ends(Reason::SpoofedSource);

    s.scene("A locked subnet blocks DNS by its tag; metadata is allowed by name, the rest passes unasked.");
    s.send(host, udp("10.1.1.4:5000", "168.63.129.16:53")).ends(Reason::NsgDeny).rule("UserRule_BlockDns");
    s.send(host, tcp("10.1.1.4:5000", "168.63.129.16:80", "SYN")).via(default).to(services);
    s.send(host, tcp("10.1.1.4:5000", "169.254.169.254:80", "SYN"))
        .rule("UserRule_AllowMetadata")
        .via(default)
        .to(services);
    s.scene("ICMP to the platform is asked of the same rules only.");
    s.send(host, icmp("10.1.1.4", "168.63.129.16", (8, 0), 1, b"")).via(default).to(services);
    s.flows(0, 0)
}

const PLATFORM_ADDRESSES: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  services: {role: services, address: 203.0.113.10, nextHop: 203.0.113.9}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: closed, addressPrefix: 10.1.0.0/24, networkSecurityGroup: closed-nsg, routeTable: via-appliance}
          - {name: locked, addressPrefix: 10.1.1.0/24, networkSecurityGroup: locked-nsg}
          - {name: appliance, addressPrefix: 10.1.9.0/24}
    networkSecurityGroups:
      - name: closed-nsg
        securityRules:
          - {name: DenyEverything, priority: 100, direction: Outbound, access: Deny, protocol: "*",
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "*"}
          - {name: DenyEverythingIn, priority: 100, direction: Inbound, access: Deny, protocol: "*",
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "*"}
      - name: locked-nsg
        securityRules:
          - {name: BlockDns, priority: 100, direction: Outbound, access: Deny, protocol: "*",
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: AzurePlatformDNS, destinationPortRange: "53"}
          - {name: AllowMetadata, priority: 110, direction: Outbound, access: Allow, protocol: "*",
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: AzurePlatformIMDS, destinationPortRange: "*"}
          - {name: DenyEverything, priority: 120, direction: Outbound, access: Deny, protocol: "*",
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "*"}
    routeTables:
      - name: via-appliance
        routes:
          - {name: everything, addressPrefix: 0.0.0.0/0, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/16]}
"#;
