//! `routes` and `rules`.

use super::support::Folder;

const HUB_SPOKE: &str = include_str!("../data/hub-spoke.yaml");

fn folder() -> Folder {
    Folder::new().file("config.yaml", HUB_SPOKE)
}

/// The table's lines with single blanks.
fn lines(table: &str) -> Vec<String> {
    table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn routes_with_azures_columns_and_why_they_lose() {
    let ran = folder().run("routes config.yaml --customer contoso --vnet spoke --subnet app").expect(0);
    let expected = [
        "effective routes of spoke/app (route table app-rt)",
        "",
        "SOURCE STATE ADDRESS PREFIX NEXT HOP TYPE NEXT HOP IP NAME",
        "Default Active 10.2.0.0/16 VnetLocal",
        "Default Active 10.1.0.0/16 VNetPeering VNet hub",
        "VirtualNetworkGateway Active 10.2.7.0/24 VirtualNetworkGateway never used: Default VnetLocal 10.2.0.0/16 goes first",
        "VirtualNetworkGateway Active 192.168.0.0/16 VirtualNetworkGateway circuit er1 secondary",
        "Default Active 0.0.0.0/0 Internet",
        "Default Invalid 10.0.0.0/8 None loses to User VirtualAppliance",
        "Default Active 172.16.0.0/12 None",
        "Default Invalid 192.168.0.0/16 None loses to VirtualNetworkGateway VirtualNetworkGateway",
        "Default Invalid 100.64.0.0/10 None loses to User None",
        "User Active 10.0.0.0/8 VirtualAppliance 10.1.9.4 hub-by-fw",
        "User Active 100.64.0.0/10 None no-shared",
    ];
    assert_eq!(lines(&ran.stdout), expected);
}

#[test]
fn routes_in_azures_shape() {
    let folder = folder();
    let ran = folder.run("routes config.yaml --customer contoso --vnet spoke --subnet app --json").expect(0);
    let document = ran.json();
    let routes = document["value"].as_array().unwrap();
    let expected = serde_json::json!({
        "name": "hub-by-fw", "disableBgpRoutePropagation": false, "source": "User", "state": "Active",
        "hasBgpOverride": false, "addressPrefix": ["10.0.0.0/8"], "nextHopType": "VirtualAppliance",
        "nextHopIpAddress": ["10.1.9.4"], "destinationServiceTags": [], "tagMap": {},
    });
    assert_eq!(routes[9], expected);
    assert_eq!(routes[0]["name"], serde_json::Value::Null);
    let invalid = routes.iter().filter(|r| r["state"] == "Invalid").count();
    assert_eq!((routes.len(), invalid), (11, 3));
}

#[test]
fn the_prefixes_of_a_service_tag_are_one_route() {
    let tags = r#"{"name": "ServiceTags_Public", "changeNumber": 1, "cloud": "Public", "values": [
        {"name": "Storage", "id": "Storage", "properties": {"changeNumber": 1, "region": "", "regionId": 0, "platform": "Azure",
         "systemService": "AzureStorage", "networkFeatures": [], "addressPrefixes": ["20.38.98.0/24", "20.60.0.0/16", "2603:1030::/32"]}}]}"#;
    let config = format!("serviceTags: tags.json\n{HUB_SPOKE}").replace(
        "{name: fw, addressPrefix: 10.1.9.0/24}",
        "{name: fw, addressPrefix: 10.1.9.0/24, serviceEndpoints: [{service: Microsoft.Storage, locations: ['*']}]}",
    );
    let folder = Folder::new().file("config.yaml", config).file("tags.json", tags);
    let ran = folder.run("routes config.yaml --customer contoso --vnet hub --subnet fw").expect(0);
    let line = "Default Active 2 prefixes of Storage VirtualNetworkServiceEndpoint";
    assert!(lines(&ran.stdout).iter().any(|l| l == line), "{}", ran.stdout);
    let document =
        folder.run("routes config.yaml --customer contoso --vnet hub --subnet fw --json").expect(0).json();
    let routes = document["value"].as_array().unwrap();
    let route = routes.iter().find(|r| r["nextHopType"] == "VirtualNetworkServiceEndpoint").unwrap();
    assert_eq!(route["addressPrefix"], serde_json::json!(["20.38.98.0/24", "20.60.0.0/16"]));
    assert_eq!(route["destinationServiceTags"], serde_json::json!(["Storage"]));
    assert_eq!(route["tagMap"]["Storage"], route["addressPrefix"]);
}

#[test]
fn rules_of_a_subnet() {
    let folder = folder();
    let ran = folder.run("rules config.yaml --customer contoso --vnet spoke --subnet app").expect(0);
    let lines = lines(&ran.stdout);
    for line in [
        "Inbound rules of subnet spoke/app (NSG app-nsg)",
        "200 Inbound AllowSsh Allow Tcp 10.1.0.0/24 * * 22",
        "210 Inbound AllowApp Allow Tcp VirtualNetwork * ASG app-asg 80, 8000-8100",
        "65500 Outbound DenyAllOutBound Deny All * * * *",
        "ASG app-asg is 10.2.0.4/32",
        "ASG db-asg is nothing",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} in {}", ran.stdout);
    }
    let of_vnet = "VirtualNetwork is 10.2.0.0/16, 168.63.129.16/32, 10.1.0.0/16, 10.2.7.0/24, 192.168.0.0/16, 10.0.0.0/8, 100.64.0.0/10";
    assert!(lines.iter().any(|l| l == of_vnet), "{}", ran.stdout);
    assert!(lines.iter().any(|l| l.starts_with("Internet is 1.0.0.0/8, 2.0.0.0/7") && l.ends_with("more")));

    let document =
        folder.run("rules config.yaml --customer contoso --vnet spoke --subnet app --json").expect(0).json();
    let group = &document["value"][0];
    assert_eq!(group["networkSecurityGroup"]["id"], "app-nsg");
    assert_eq!(group["association"], serde_json::json!({"subnet": {"id": "spoke/app"}}));
    let rules = group["effectiveSecurityRules"].as_array().unwrap();
    assert_eq!(rules.len(), 10);
    let app = &rules[1];
    assert_eq!(app["name"], "securityRules/AllowApp");
    assert_eq!(app["destinationPortRanges"], serde_json::json!(["80-80", "8000-8100"]));
    assert!(app.get("destinationPortRange").is_none());
    assert_eq!(app["destinationAddressPrefix"], "10.2.0.4/32");
    assert_eq!(app["expandedSourceAddressPrefix"].as_array().unwrap().len(), 7);
    let default = rules.last().unwrap();
    let expected = serde_json::json!({
        "name": "defaultSecurityRules/DenyAllOutBound", "protocol": "All",
        "sourcePortRange": "0-65535", "destinationPortRange": "0-65535",
        "sourcePortRanges": ["0-65535"], "destinationPortRanges": ["0-65535"],
        "sourceAddressPrefix": "0.0.0.0/0", "destinationAddressPrefix": "0.0.0.0/0",
        "sourceAddressPrefixes": ["0.0.0.0/0"], "destinationAddressPrefixes": ["0.0.0.0/0"],
        "expandedSourceAddressPrefix": null, "expandedDestinationAddressPrefix": null,
        "access": "Deny", "priority": 65500, "direction": "Outbound",
    });
    assert_eq!(*default, expected);
}

#[test]
fn rules_of_a_nic_at_both_levels_in_the_order_they_are_asked() {
    let folder = folder();
    let ran = folder.run("rules config.yaml --customer contoso --vnet spoke --nic app-nic").expect(0);
    let lines = lines(&ran.stdout);
    let titles: Vec<&String> = lines.iter().filter(|l| l.contains(" rules of ")).collect();
    let expected = [
        "Inbound rules of subnet spoke/app (NSG app-nsg)",
        "Inbound rules of NIC app-nic (NSG nic-nsg)",
        "Outbound rules of NIC app-nic (NSG nic-nsg)",
        "Outbound rules of subnet spoke/app (NSG app-nsg)",
    ];
    assert_eq!(titles, expected);
    for line in [
        "not asked, the NIC is in none of their ASGs: AllowDb",
        "100 Outbound DenyDns Deny Udp * * 8.8.8.8/32, 8.8.4.4/32, 1.1.1.1/32 and 1 more 53",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} in {}", ran.stdout);
    }
    let document =
        folder.run("rules config.yaml --customer contoso --vnet spoke --nic app-nic --json").expect(0).json();
    let groups = document["value"].as_array().unwrap();
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[1]["association"], serde_json::json!({"networkInterface": {"id": "app-nic"}}));
    let all = groups[0]["effectiveSecurityRules"].as_array().unwrap();
    assert!(!all.iter().any(|r| r["name"] == "securityRules/AllowDb"));
}

#[test]
fn where_no_group_is_there_are_no_rules() {
    let folder = folder();
    let ran = folder.run("rules config.yaml --customer contoso --vnet hub --subnet fw").expect(0);
    assert!(ran.stdout.contains("subnet hub/fw (no NSG: everything is allowed)"), "{}", ran.stdout);
    let ran =
        folder.run("rules config.yaml --customer contoso --vnet hub --subnet GatewaySubnet --json").expect(0);
    assert_eq!(ran.json(), serde_json::json!({"value": []}));
}

#[test]
fn names_are_found_in_any_letter_case_and_missing_ones_told() {
    let folder = folder();
    folder.run("routes config.yaml --customer Contoso --vnet SPOKE --subnet App").expect(0);
    for (words, sentence) in [
        ("routes config.yaml --customer contosso --vnet hub --subnet web", "did you mean 'contoso'?"),
        (
            "routes config.yaml --customer contoso --vnet spoke --subnet web",
            "no such subnet of VNet 'spoke'; there is app",
        ),
        (
            "rules config.yaml --customer contoso --vnet hub --nic app-nic",
            "no such NIC in VNet 'hub'; there is fw-nic",
        ),
        (
            "rules config.yaml --customer fabrikam --vnet hub --nic x",
            "no such NIC in VNet 'hub'; it has none",
        ),
        ("rules config.yaml --customer contoso --vnet hub", "--subnet"),
        ("rules missing.yaml --customer contoso --vnet hub --subnet web", "missing.yaml: error: "),
    ] {
        let ran = folder.run(words).expect(2);
        assert!(ran.stderr.contains(sentence), "{sentence} in {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}
