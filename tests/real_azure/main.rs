//! Real Azure documents as a customer's resources in a whole configuration: each loads, or is refused with sentences that
//! are true. What Azure itself answered about such networks is compared in `answers`.

#[path = "../real_data/mod.rs"]
mod real_data;

mod answers;
mod recordings;
mod tags;
mod wrap;

use std::fs;
use std::path::PathBuf;

use clearway::compile::compile;
use clearway::compile::names::Names;
use clearway::model::{Fault, Model};

use wrap::{File, load, sentence};

/// What a document comes to: what is in the model, or where and what the refusing sentences are.
enum Comes {
    /// VNets, subnets, groups, rules, route tables, routes, NICs, circuits, gateways; and the warnings.
    To([usize; 9], &'static [&'static str]),
    /// In the order of the file.
    Refused(&'static [&'static str]),
}
use Comes::{Refused, To};

/// How much is in the model of one customer.
fn counted(model: &Model) -> [usize; 9] {
    let c = &model.customers[0];
    [
        c.vnets.len(),
        c.vnets.iter().map(|v| v.subnets.len()).sum(),
        c.nsgs.len(),
        c.nsgs.iter().map(|n| n.rules.len()).sum(),
        c.route_tables.len(),
        c.route_tables.iter().map(|t| t.routes.len()).sum(),
        c.nics.len(),
        c.circuits.len(),
        c.gateways.len(),
    ]
}

/// Each sentence must begin with its place in the file, and hold what is expected of it.
fn hold(name: &str, sentences: &[String], expected: &[&str]) {
    assert_eq!(sentences.len(), expected.len(), "{name}: {sentences:#?}");
    for (sentence, parts) in sentences.iter().zip(expected) {
        for part in parts.split(" … ") {
            assert!(sentence.contains(part), "{name}: {sentence}, not {part}");
        }
    }
}

fn read(folder: &str) -> Option<Vec<File>> {
    let folder = real_data::folder("azure")?.join(folder);
    let file = |p: &PathBuf| (real_data::name(p).to_owned(), fs::read(p).expect("a file"));
    Some(real_data::files_below(&folder).iter().map(file).collect())
}

/// The service tags of the whole public cloud.
fn public_tags() -> (tempfile::TempDir, PathBuf) {
    let folder = real_data::folder("service-tags").expect("the tags beside the documents");
    let unpacked = tempfile::tempdir().expect("a folder");
    let path = unpacked.path().join("ServiceTags_Public.json");
    fs::write(&path, real_data::text(&folder.join("ServiceTags_Public_20250127.json.gz"))).expect("written");
    (unpacked, path)
}

/// Compares what documents came to with what is expected.
fn judge(name: &str, loaded: Result<Model, Vec<Fault>>, comes: &Comes) {
    match (loaded, comes) {
        (Ok(model), To(counts, warnings)) => {
            assert_eq!(counted(&model), *counts, "{name}");
            hold(name, &model.warnings.iter().map(sentence).collect::<Vec<_>>(), warnings);
            compile(&model, &mut Names::default());
        }
        (Err(faults), Refused(sentences)) => {
            hold(name, &faults.iter().map(sentence).collect::<Vec<_>>(), sentences);
        }
        (Ok(model), Refused(_)) => panic!("{name} loads: {:?}", counted(&model)),
        (Err(faults), To(..)) => panic!("{name}: {faults:#?}"),
    }
}

/// Every file of a folder, each as all that the customer has.
fn check(folder: &str, expected: &[(&str, Comes)]) {
    let Some(files) = read(folder) else { return };
    let (_unpacked, tags) = public_tags();
    let mut loaded = 0;
    for file in &files {
        let name = &file.0;
        let (_, comes) = expected.iter().find(|e| e.0 == name).unwrap_or_else(|| panic!("{name} is new"));
        loaded += usize::from(matches!(comes, To(..)));
        judge(name, load(std::slice::from_ref(file), Some(&tags)), comes);
    }
    assert_eq!(files.len(), expected.len());
    println!("azure/{folder}: {} files, {loaded} load, {} are refused", files.len(), files.len() - loaded);
}

#[test]
fn templates_load_or_say_what_only_azure_knows() {
    const NO_ADDRESS: &str = "has no privateIPAddress here, but a network security group, application security groups or \
                              IP forwarding that depend on it; write the address that Azure gave it";
    const PREFIX: &str = "'fortiGateNamePrefix' has no defaultValue; give it one";
    const NAMES: &str = "the parameter 'resourceNames' has no defaultValue; give it one";
    const TOOL: &[&str] = &["1:1: … is a settings file of the Azure Building Blocks tool, no template"];
    check(
        "arm-template",
        &[
            (
                "alz-bastion.json",
                Refused(&[
                    "168:37: '[variables('nsgName')]' … the parameter 'bastionHostName' has no defaultValue",
                ]),
            ),
            ("asg.json", Refused(&[NO_ADDRESS])),
            ("azfw-forced-tunneling.json", Refused(&[NO_ADDRESS])),
            (
                "bicep-hub-spoke.json",
                Refused(&[
                    "138:27: … routeTable of subnet 'spoke-vnet' is an ARM expression with reference(), whose answer only Azure knows",
                    "331:23: … virtualNetworkPeerings must be known: reference() is answered only by Azure",
                    "397:23: … virtualNetworkPeerings must be known: reference() is answered only by Azure",
                    "467:43: … needs the parameter 'azFwlIp', of which the template gives no literal value; give it one",
                ]),
            ),
            ("er-private-peering-vnet.json", To([1, 2, 1, 2, 0, 0, 0, 1, 1], &[])),
            ("fortigate-routeserver.json", Refused(&[PREFIX; 11])),
            ("fwm-qs.json", Refused(&[NO_ADDRESS; 2])),
            ("hub-spoke-er.json", Refused(TOOL)),
            ("ipv6-in-vnet-stdlb.json", Refused(&[NO_ADDRESS; 4])),
            ("n-tier-linux.json", Refused(TOOL)),
            ("netsec-vnets.json", Refused(&[NAMES; 10])),
            (
                "pf-freebsd.json",
                Refused(&[
                    "routeTables must be known: resourceGroup() is known only to Azure",
                    "virtualNetworks must be known: … the parameter 'networkPrefix' has no defaultValue",
                    "in the variable 'frontendPublicNic': … 'networkPrefix' has no defaultValue",
                    "in the variable 'frontendPrivateNic': … 'networkPrefix' has no defaultValue",
                    "networkInterfaces must be known: resourceGroup() is known only to Azure",
                    "networkInterfaces must be known: resourceGroup() is known only to Azure",
                    "networkSecurityGroups must be known: resourceGroup() is known only to Azure",
                ]),
            ),
            ("secure-vnet-dmz.json", Refused(TOOL)),
            (
                "sqlmi-vnet.json",
                Refused(&[
                    "the parameter 'managedInstanceNsgName' has no defaultValue",
                    "the parameter 'managedInstanceRouteTableName' has no defaultValue",
                    "the parameter 'vnetResourceName' has no defaultValue",
                ]),
            ),
            (
                "udr-appliance-classic.json",
                To(
                    [1, 3, 1, 1, 1, 1, 1, 0, 0],
                    &[
                        "'Nic0' has no privateIPAddress here; this IP configuration is ignored",
                        "'Nic2' has no privateIPAddress here; this IP configuration is ignored",
                    ],
                ),
            ),
            (
                "wsus-asg.json",
                Refused(&[
                    NO_ADDRESS,
                    "subnet of network interface 'VM-WSUS01-NIC01' … needs 'subnetRef', whose value the template alone does not tell",
                ]),
            ),
        ],
    );
}

#[test]
fn exports_load_alone_where_they_need_nothing_else() {
    const NOTHING: Comes = To([0; 9], &[]);
    let group = |rules| To([0, 0, 1, rules, 0, 0, 0, 0, 0], &[]);
    check(
        "batfish-cloud-azure",
        &[
            (
                "VM-vnet.json",
                Refused(&[
                    "subnet 'private' names a network security group that customer 'contoso' does not have",
                ]),
            ),
            ("VM1-nsg.json", group(3)),
            ("VM1-public-ip.json", NOTHING),
            ("VM1.json", NOTHING),
            ("VM2-nsg.json", group(0)),
            ("VM2.json", NOTHING),
            ("nat-gateway-ip.json", NOTHING),
            ("nat-gateway.json", NOTHING),
            ("subnet-nsg.json", group(5)),
            (
                "vm1346.json",
                Refused(&[
                    "lies in virtual network 'VM-vnet', which customer 'contoso' does not have",
                    "names a network security group that customer 'contoso' does not have",
                ]),
            ),
            (
                "vm235.json",
                Refused(&[
                    "lies in virtual network 'VM-vnet', which customer 'contoso' does not have",
                    "names a network security group that customer 'contoso' does not have",
                ]),
            ),
        ],
    );
    let tool = &["is a settings file of the Azure Building Blocks tool"][..];
    check("nsg-params", &[("bb-nsg-dmz.json", Refused(tool)), ("bb-rt-complete.json", Refused(tool))]);
    const PAIR: &str = "is no resource, list of resources or template of Azure that is known";
    check(
        "oracle",
        &[("oracle-cli-2019.json", Refused(&[PAIR; 6])), ("oracle-net-watcher.json", Refused(&[PAIR; 5]))],
    );
}

#[test]
fn exports_of_one_network_load_together() {
    let Some(files) = read("batfish-cloud-azure") else { return };
    let model = load(&files, None).expect("the whole network");
    assert_eq!(counted(&model), [1, 2, 3, 8, 0, 0, 2, 0, 0]);
    assert_eq!(model.warnings, []);
    compile(&model, &mut Names::default());
}
