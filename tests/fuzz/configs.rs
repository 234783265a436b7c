//! Configuration bytes to faults.

use std::path::Path;

use clearway::compile::compile;
use clearway::compile::names::Names;
use clearway::model::{self, Fault, Severity};

/// A configuration that names one export, both as resources and as the file of service tags.
const NAMING: &str = "\
apiVersion: clearway/v1
ports: {fabric: {role: fabric, address: 198.51.100.2}, edge: {role: edge, address: 192.0.2.1}}
customers:
  - name: contoso
    resources: [export.json]
    tunnels: [{vnet: hub, port: fabric, key: 1}]
    hosts: [{address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}]
";

/// No panic; refused with faults that stand in the text, each a sentence on one line and always the same; or accepted, and
/// then it compiles.
pub fn run(bytes: &[u8]) {
    check(bytes, None);
}

/// The same for what Azure's tools print, named by a configuration: as resources, and as service tags.
pub fn run_export(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("export.json"), bytes).expect("a file");
    check(NAMING.as_bytes(), Some(folder.path()));
    let tags = NAMING.replace("    resources: [export.json]\n", "") + "serviceTags: export.json\n";
    check(tags.as_bytes(), Some(folder.path()));
}

fn check(text: &[u8], base: Option<&Path>) {
    let read = || model::from_bytes("fuzz.yaml", text, base);
    match read() {
        Ok(model) => {
            assert!(model.warnings.iter().all(|w| w.severity == Severity::Warning));
            let program = compile(&model, &mut Names::default());
            assert_eq!(program.ports.len(), model.ports.len());
        }
        Err(refused) => {
            check_faults(text, base, &refused);
            assert_eq!(read().map(|_| ()).expect_err("refused before"), refused);
        }
    }
}

fn check_faults(text: &[u8], base: Option<&Path>, refused: &[Fault]) {
    let lines = |text: &[u8]| text.iter().filter(|b| matches!(b, b'\n' | b'\r')).count() as u32 + 1;
    let export = base.and_then(|folder| std::fs::read(folder.join("export.json")).ok()).unwrap_or_default();
    assert!(refused.iter().any(|f| f.severity == Severity::Error), "refused without an error: {refused:?}");
    for fault in refused {
        assert!(fault.message.len() > 10, "{fault}");
        // What is missing at the end is missing behind it.
        let last = lines(if &*fault.file == "fuzz.yaml" { text } else { &export }) + 1;
        assert!(fault.line <= last, "{fault}");
        assert!((fault.line == 0) == (fault.column == 0), "{fault}");
        assert!(!fault.to_string().contains(['\n', '\r']), "{:?}", fault.to_string());
    }
    let places: Vec<_> = refused.iter().map(|f| (&f.file, f.line, f.column)).collect();
    let sorted = |a: &(_, u32, u32), b: &(_, u32, u32)| a.0 != b.0 || (a.1, a.2) <= (b.1, b.2);
    assert!(places.is_sorted_by(sorted), "{places:?}");
}
