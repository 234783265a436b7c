//! Tests of Azure's shapes.

use super::*;
use crate::model::text;

fn read(json: &str) -> Node {
    text::parse("t.json", json.as_bytes()).unwrap()
}

/// A whole tree in one line.
fn show(node: &Node) -> String {
    match &node.kind {
        Kind::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Kind::Map(entries) => {
            let each = |e: &Entry| format!("{}: {}", e.key, show(&e.value));
            format!("{{{}}}", entries.iter().map(each).collect::<Vec<_>>().join(", "))
        }
        _ => node.describe(),
    }
}

#[test]
fn flattens_properties_and_drops_nulls() {
    let rest = read(
        r#"{"name": "hub", "tags": {"properties": {"a": 1}, "n": null}, "properties": {"addressSpace": {"addressPrefixes": ["10.0.0.0/8"]},
            "flowTimeoutInMinutes": null, "subnets": [{"name": "web", "properties": {"addressPrefix": "10.0.0.0/24"}}]}}"#,
    );
    assert_eq!(
        show(&flatten(&rest)),
        "{name: hub, tags: {properties: {a: 1}, n: null}, addressSpace: {addressPrefixes: [10.0.0.0/8]}, \
         subnets: [{name: web, addressPrefix: 10.0.0.0/24}]}"
    );
}

#[test]
fn reads_references() {
    let id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/hub/subnets/web";
    for (json, name, parent, kind) in [
        ("\"hub\"".to_owned(), "hub", None, None),
        ("\"hub/fw\"".to_owned(), "fw", Some("hub"), None),
        (format!("\"{id}\""), "web", Some("hub"), Some("subnets")),
        (format!("{{\"id\": \"{id}\", \"name\": null}}"), "web", Some("hub"), Some("subnets")),
        ("{\"name\": \"n\"}".to_owned(), "n", None, None),
        ("{\"id\": \"Microsoft.Network/routeTables/rt\"}".to_owned(), "rt", None, Some("routeTables")),
        ("{\"id\": \"/virtualNetworks/v\"}".to_owned(), "v", None, Some("virtualNetworks")),
        ("7".to_owned(), "7", None, None),
    ] {
        let reference = reference(&read(&json)).unwrap();
        assert_eq!(reference.name, name, "{json}");
        assert_eq!(reference.parent.as_deref(), parent, "{json}");
        assert_eq!(reference.kind.as_deref(), kind, "{json}");
    }
    for json in [
        "null",
        "[]",
        "{}",
        "\"\"",
        "\"a/b/c\"",
        "\"a//b\"",
        "{\"id\": \"/subscriptions/s/providers/Microsoft.Network/x\"}",
    ] {
        assert_eq!(reference(&read(json)), None, "{json}");
    }
}

fn load(json: &str) -> (Vec<Resource>, Vec<String>) {
    let mut faults = Vec::new();
    let resources = resources(&read(json), &mut faults);
    let faults = faults.iter().map(|f| format!("{}:{} '{}' {}", f.line, f.column, f.value, f.message));
    (resources, faults.collect())
}

/// Kind (its last word), name and body of each resource.
fn shown(resources: &[Resource]) -> Vec<String> {
    let kind = |kind: &ResourceKind| match kind {
        ResourceKind::Other(kind) => kind.clone(),
        known => format!("{known:?}"),
    };
    resources.iter().map(|r| format!("{} {} {}", kind(&r.kind), r.name, show(&r.body))).collect()
}

#[test]
fn reads_every_shape_of_a_file() {
    let nsg =
        "NetworkSecurityGroup n {name: n, type: Microsoft.Network/networkSecurityGroups, securityRules: []}";
    let body = r#""name": "n", "type": "Microsoft.Network/networkSecurityGroups""#;
    for file in [
        format!("{{{body}, \"properties\": {{\"securityRules\": []}}}}"),
        format!("[{{{body}, \"securityRules\": [], \"tags\": null}}]"),
        format!("{{\"value\": [{{{body}, \"securityRules\": []}}], \"nextLink\": null}}"),
        format!("{{\"NewNSG\": {{{body}, \"securityRules\": []}}}}"),
        format!(
            "{{\"$schema\": \"x/deploymentTemplate.json#\", \"contentVersion\": \"1.0.0.0\", \"resources\": [{{{body}, \"securityRules\": []}}]}}"
        ),
        format!(
            "{{\"languageVersion\": \"2.0\", \"resources\": {{\"nsg\": {{{body}, \"securityRules\": []}}, \"old\": {{\"existing\": true, {body}}}}}}}"
        ),
    ] {
        let (resources, faults) = load(&file);
        assert_eq!(faults, [""; 0], "{file}");
        assert_eq!(shown(&resources), [nsg], "{file}");
    }
    assert!(load("[]").0.is_empty() && load("{\"value\": []}").1.is_empty());
}

#[test]
fn tells_resources_by_type_id_or_shape() {
    let id = "/subscriptions/s/resourceGroups/g/providers/microsoft.network/";
    for (file, kind, name) in [
        (r#"{"name": "a", "type": "MICROSOFT.NETWORK/virtualnetworks"}"#.to_owned(), "VirtualNetwork", "a"),
        (format!(r#"{{"id": "{id}routeTables/rt"}}"#), "RouteTable", "rt"),
        (
            format!(r#"{{"id": "{id}virtualNetworks/v/subnets/s", "name": "s"}}"#),
            "microsoft.network/virtualNetworks/subnets",
            "v/s",
        ),
        (r#"{"name": "a", "addressSpace": {}}"#.to_owned(), "VirtualNetwork", "a"),
        (
            r#"{"name": "a", "properties": {"defaultSecurityRules": []}}"#.to_owned(),
            "NetworkSecurityGroup",
            "a",
        ),
        (r#"{"name": "a", "routes": []}"#.to_owned(), "RouteTable", "a"),
        (
            r#"{"name": "a", "enableIpForwarding": true, "ipConfigurations": []}"#.to_owned(),
            "NetworkInterface",
            "a",
        ),
        (
            r#"{"name": "a", "gatewayType": "Vpn", "ipConfigurations": []}"#.to_owned(),
            "VirtualNetworkGateway",
            "a",
        ),
        (r#"{"name": "a", "localNetworkAddressSpace": {}}"#.to_owned(), "LocalNetworkGateway", "a"),
        (r#"{"name": "a", "connectionType": "IPsec"}"#.to_owned(), "Connection", "a"),
        (r#"{"name": "a", "serviceProviderProperties": {}}"#.to_owned(), "ExpressRouteCircuit", "a"),
        (
            r#"{"name": "a", "type": "Microsoft.Compute/virtualMachines"}"#.to_owned(),
            "Microsoft.Compute/virtualMachines",
            "a",
        ),
    ] {
        let (resources, faults) = load(&file);
        assert_eq!(faults, [""; 0], "{file}");
        let shown = shown(&resources);
        assert!(shown.len() == 1 && shown[0].starts_with(&format!("{kind} {name} ")), "{file}: {shown:?}");
    }
}

#[test]
fn says_why_a_file_is_no_export() {
    for (file, fault) in [
        ("null", "1:1 '' the file is empty"),
        ("7", "1:1 '7' is no resource of Azure"),
        ("[7]", "1:2 '7' is no resource of Azure"),
        ("{\"a\": 1}", "1:1 '{a: 1}' is no resource, list of resources or template of Azure that is known"),
        ("{\"error\": {\"code\": \"NotFound\"}}", "is an error that Azure answered ('NotFound')"),
        ("{\"$schema\": \"x/deploymentParameters.json#\"}", "holds the parameters of a template"),
        ("{\"$schema\": \"x/buildingBlocks.json\"}", "is a settings file of the Azure Building Blocks tool"),
        ("{\"changeNumber\": 1, \"values\": []}", "is a file of service tags"),
        ("{\"resources\": [{\"associations\": []}]}", "is a topology"),
        ("{\"value\": [], \"nextLink\": \"https://x\"}", "1:27 'https://x' the list goes on at this address"),
        (
            "{\"addressSpace\": {}}",
            "1:1 '{addressSpace: {}}' a resource of type Microsoft.Network/virtualNetworks needs a name",
        ),
        (
            "{\"type\": \"Microsoft.Network/virtualNetworks/subnets\", \"name\": \"s\"}",
            "1:63 's' the name of a resource of type Microsoft.Network/virtualNetworks/subnets has the form name/name",
        ),
    ] {
        let (resources, faults) = load(file);
        assert!(resources.is_empty() && faults.len() == 1 && faults[0].contains(fault), "{file}: {faults:?}");
    }
}

/// A template with these parameters, variables and resources.
fn template(parameters: &str, variables: &str, resources: &str) -> String {
    format!(
        r#"{{"contentVersion": "1.0.0.0", "parameters": {{{parameters}}}, "variables": {{{variables}}}, "resources": [{resources}]}}"#
    )
}

#[test]
fn evaluates_what_a_template_says_itself() {
    let parameters = r#""name": {"type": "string", "defaultValue": "hub"}, "Net": {"defaultValue": {"prefix": "10.0.0.0/16", "list": [1, 2]}}, "none": {}"#;
    let variables = r#""full": "[concat(parameters('NAME'), '-vnet')]", "sub": "[subscription().subscriptionId]", "loop": "[variables('loop')]",
        "id": "[resourceId('Microsoft.Network/virtualNetworks', variables('full'))]", "hidden": "[reference('x').y]", "obj": {"a": "[variables('full')]", "b": "[reference('x')]"},
        "copy": [{"name": "made", "count": 2, "input": "[concat('m', copyIndex('made', 1))]"}]"#;
    for (value, shown) in [
        ("[parameters('name')]", "hub"),
        ("[variables('FULL')]", "hub-vnet"),
        ("[parameters('net').prefix]", "10.0.0.0/16"),
        ("[parameters('net')['list'][1]]", "2"),
        ("[variables('obj').a]", "hub-vnet"),
        ("[variables('made')]", "[m1, m2]"),
        ("[[parameters('name')]", "[parameters('name')]"),
        ("[ToLower(concat('A', 'b', 1, true()))]", "ab1true"),
        ("[format('{0}/{1}', variables('full'), 'web')]", "hub-vnet/web"),
        ("[if(equals(parameters('name'), 'hub'), 'yes', reference('x'))]", "yes"),
        (
            "[resourceId('Microsoft.Network/virtualNetworks/subnets', 'v', 's')]",
            "Microsoft.Network/virtualNetworks/v/subnets/s",
        ),
        ("[resourceId('rg', 'Microsoft.Network/routeTables', 'rt')]", "Microsoft.Network/routeTables/rt"),
        (
            "[concat(variables('id'), '/subnets/web')]",
            "Microsoft.Network/virtualNetworks/hub-vnet/subnets/web",
        ),
        (
            "[concat('/subscriptions/', variables('sub'), '/resourceGroups/', resourceGroup().name, '/providers/Microsoft.Network/virtualNetworks/v')]",
            "Microsoft.Network/virtualNetworks/v",
        ),
        ("[cidrSubnet('10.0.0.0/16', 24, 3)]", "10.0.3.0/24"),
        ("[concat(createArray('a'), split('b,c', ','))]", "[a, b, c]"),
        ("[length(parameters('net').list)]", "2"),
        (r#"[json('{\"a\": [1]}')]"#, "{a: [1]}"),
        // What is not known stays as it is.
        ("[parameters('none')]", "[parameters('none')]"),
        ("[parameters('missing')]", "[parameters('missing')]"),
        ("[variables('loop')]", "[variables('loop')]"),
        ("[variables('hidden')]", "[variables('hidden')]"),
        ("[concat(variables('obj').b, 'x')]", "[concat(variables('obj').b, 'x')]"),
        ("[concat(resourceGroup().name, 'x')]", "[concat(resourceGroup().name, 'x')]"),
        ("[variables('sub')]", "[variables('sub')]"),
        ("[add(1, 'x')]", "[add(1, 'x')]"),
    ] {
        let resource = format!(
            r#"{{"type": "Microsoft.Network/routeTables", "name": "[variables('full')]", "location": "[resourceGroup().location]", "x": "{value}"}}"#
        );
        let (resources, faults) = load(&template(parameters, variables, &resource));
        assert_eq!(faults, [""; 0], "{value}");
        assert_eq!(resources[0].name, "hub-vnet");
        assert_eq!(show(resources[0].body.get("x").unwrap()), shown, "{value}");
    }
}

#[test]
fn follows_loops_conditions_children_and_deployments() {
    let inner = r#"{"type": "Microsoft.Resources/deployments", "name": "d", "properties": {"expressionEvaluationOptions": {"scope": "inner"}, "parameters": {"n": {"value": "[parameters('n')]"}},
        "template": {"parameters": {"n": {}, "m": {"defaultValue": "m"}}, "resources": [{"type": "Microsoft.Network/routeTables", "name": "[concat(parameters('n'), parameters('m'))]"}]}}}"#;
    let outer = r#"{"type": "Microsoft.Resources/deployments", "name": "d", "properties": {"template": {"resources": [{"type": "Microsoft.Network/routeTables", "name": "[parameters('n')]"}]}}}"#;
    let looped = r#"{"type": "Microsoft.Network/routeTables", "name": "[concat('rt', copyIndex(1))]", "copy": {"name": "c", "count": 2},
        "properties": {"copy": [{"name": "routes", "count": "[length(createArray(7, 8))]", "input": {"name": "[concat(copyIndex('routes'), copyIndex())]"}}]}}"#;
    let never = r#"{"type": "Microsoft.Network/routeTables", "name": "x", "condition": "[equals(parameters('n'), 'other')]"}"#;
    let nested = r#"{"type": "Microsoft.Network/virtualNetworks", "name": "v", "resources": [{"type": "subnets", "name": "s", "properties": {"addressPrefix": "10.0.0.0/24"}}]}"#;
    let child = r#"{"type": "Microsoft.Network/routeTables/routes", "name": "[concat(parameters('n'), '/r')]", "properties": {"nextHopType": "None"}}"#;
    let file = template(
        r#""n": {"defaultValue": "p"}"#,
        "",
        &[inner, outer, looped, never, nested, child].join(", "),
    );
    let (resources, faults) = load(&file);
    assert_eq!(faults, [""; 0]);
    assert_eq!(
        shown(&resources),
        [
            "RouteTable pm {name: pm, type: Microsoft.Network/routeTables}",
            "RouteTable p {name: p, type: Microsoft.Network/routeTables}",
            "RouteTable rt1 {name: rt1, type: Microsoft.Network/routeTables, routes: [{name: 00}, {name: 10}]}",
            "RouteTable rt2 {name: rt2, type: Microsoft.Network/routeTables, routes: [{name: 01}, {name: 11}]}",
            "VirtualNetwork v {name: v, type: Microsoft.Network/virtualNetworks}",
            "Microsoft.Network/virtualNetworks/subnets v/s {name: s, type: subnets, addressPrefix: 10.0.0.0/24}",
            "Microsoft.Network/routeTables/routes p/r {name: r, type: Microsoft.Network/routeTables/routes, nextHopType: None}",
        ]
    );
}

#[test]
fn says_which_part_of_a_template_is_not_known() {
    for (resource, fault) in [
        (
            r#""name": "[parameters('none')]""#,
            "1:181 '[parameters('none')]' the name of a resource of type Microsoft.Network/routeTables must be known: the parameter 'none' has no defaultValue; give it one, or export",
        ),
        (
            r#""name": "[concat(variables('v'), 'x')]""#,
            "must be known: in the variable 'v': uniqueString() is answered only by Azure",
        ),
        (
            r#""name": "n", "condition": "[parameters('none')]""#,
            "whether this resource of type Microsoft.Network/routeTables exists is not known: the parameter 'none' has no defaultValue",
        ),
        (
            r#""name": "n", "copy": {"name": "c", "count": "[parameters('none')]"}"#,
            "how many resources of type Microsoft.Network/routeTables this loop makes is not known",
        ),
        (r#""name": "n", "copy": {"name": "c", "count": 801}"#, "a loop turns 0 to 800 times, not '801'"),
        (r#""name": "[copyIndex()]""#, "copyIndex() has a value only inside its 'copy' loop"),
    ] {
        let file = template(
            r#""none": {}"#,
            r#""v": "[uniqueString(resourceGroup().id)]""#,
            &format!(r#"{{"type": "Microsoft.Network/routeTables", {resource}}}"#),
        );
        let (resources, faults) = load(&file);
        assert!(
            resources.is_empty() && faults.len() == 1 && faults[0].contains(fault),
            "{resource}: {faults:?}"
        );
    }
    let link = r#"{"type": "Microsoft.Resources/deployments", "name": "d", "properties": {"templateLink": {"uri": "https://x"}}}"#;
    assert!(
        load(&template("", "", link)).1[0].contains("the linked template is not written out in this file")
    );
    // Other resources may hold what they like.
    let other = r#"{"type": "Microsoft.Compute/virtualMachines", "name": "[uniqueString('x')]", "condition": "[parameters('none')]"}"#;
    assert_eq!(load(&template("", "", other)).1, [""; 0]);

    for (text, reason) in [
        ("10.0.0.0/8", None),
        ("[[x]", None),
        (
            "[parameters('x')]",
            Some(
                "needs the parameter 'x', of which the template gives no literal value; give it one, or export",
            ),
        ),
        (
            "[concat(variables('x'), reference('y').z)]",
            Some("with reference(), whose answer only Azure knows"),
        ),
        ("[copyIndex()]", Some("copyIndex(), which has a value only inside a 'copy' loop")),
        ("[nonsense", None),
        ("[nonsense]", Some("cannot be read: 'nonsense' is no function call")),
        ("[add('x', 1)]", Some("is an ARM expression whose value cannot be worked out")),
        ("[variables('x')]", Some("needs 'x', whose value the template alone does not tell")),
    ] {
        match (unresolved(text), reason) {
            (None, None) => {}
            (Some(sentence), Some(reason)) => assert!(sentence.contains(reason), "{text}: {sentence}"),
            (sentence, _) => panic!("{text}: {sentence:?}"),
        }
    }
}

#[test]
fn templates_that_explode_are_refused() {
    let mut variables = vec![
        r#""v0": ["a", "b", "c", "d"], "s0": "[format('{0}{0}{0}{0}', 'abcdefghijklmnop')]", "d0": []"#
            .to_owned(),
    ];
    for i in 1..40 {
        let j = i - 1;
        variables.push(format!(r#""v{i}": "[concat(variables('v{j}'), variables('v{j}'))]", "s{i}": "[format('{{0}}{{0}}{{0}}', variables('s{j}'))]""#));
    }
    for i in 1..1000 {
        variables.push(format!(r#""d{i}": ["[variables('d{}')]"]"#, i - 1));
    }
    let resource =
        |value: &str| format!(r#"{{"type": "Microsoft.Network/routeTables", "name": "r", "x": "{value}"}}"#);
    let (resources, _) = load(&template("", &variables.join(", "), &resource("[variables('s39')]")));
    assert_eq!(show(resources[0].body.get("x").unwrap()), "[variables('s39')]");
    let (resources, _) = load(&template("", &variables.join(", "), &resource("[variables('d999')]")));
    assert!(resources[0].body.size().1 < 250);
    let all = (0..1000).map(|i| format!("[variables('d{i}')]")).collect::<Vec<_>>().join("\", \"");
    let list = format!(r#"{{"type": "Microsoft.Network/routeTables", "name": "r", "x": ["{all}"]}}"#);
    assert!(load(&template("", &variables.join(", "), &list)).1.is_empty());
    let (_, faults) = load(&template("", &variables.join(", "), &resource("[variables('v39')]")));
    assert!(faults[0].contains("make more than"), "{faults:?}");
}
