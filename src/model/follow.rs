//! What a configuration may not change of the one before it: what Azure does not let a circuit that is in use become.

use super::{Circuit, CircuitTier, Customer, Model};

/// Why a configuration may not come into force after another, a sentence for each reason. Circuits are compared by the names
/// of customer and circuit; one that is removed and added again in between may be anything.
pub fn may_follow(before: &Model, after: &Model) -> Result<(), Vec<String>> {
    let mut sentences = Vec::new();
    for customer in &after.customers {
        let same = |c: &&std::sync::Arc<Customer>| c.name.eq_ignore_ascii_case(&customer.name);
        let Some(earlier) = before.customers.iter().find(same) else { continue };
        if std::sync::Arc::ptr_eq(earlier, customer) {
            continue;
        }
        for circuit in &customer.circuits {
            let same = |c: &&Circuit| c.name.eq_ignore_ascii_case(&circuit.name);
            if let Some(earlier) = earlier.circuits.iter().find(same) {
                let said = format!("customer '{}': circuit '{}'", customer.name, circuit.name);
                sentences.extend(circuit_faults(earlier, circuit).map(|fault| format!("{said}: {fault}")));
            }
        }
    }
    if sentences.is_empty() { Ok(()) } else { Err(sentences) }
}

/// What of a circuit may not become as it is to be (semantics 4.1). From Premium to Standard is right within Standard's
/// limits, and beyond them no Standard circuit can be configured at all; what sessions have learned only the appliance knows.
fn circuit_faults(before: &Circuit, after: &Circuit) -> impl Iterator<Item = String> {
    const AGAIN: &str = "remove the circuit, and add it again";
    // Without a bandwidth there is no limit.
    let lower = match (before.bandwidth_mbps, after.bandwidth_mbps) {
        (Some(before), Some(after)) if after < before => {
            Some(format!("bandwidthInMbps cannot be lowered from {before} to {after}; {AGAIN}"))
        }
        (None, Some(after)) => {
            Some(format!("bandwidthInMbps cannot become {after}, as there was no limit; {AGAIN}"))
        }
        _ => None,
    };
    let metered = (before.unlimited_data && !after.unlimited_data)
        .then(|| format!("sku.family cannot change from UnlimitedData to MeteredData; {AGAIN}"));
    let local = (before.tier != CircuitTier::Local && after.tier == CircuitTier::Local)
        .then(|| format!("sku.tier cannot change to Local; {AGAIN}"));
    [lower, metered, local].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn model(mbps: Option<u32>, unlimited_data: bool, tier: CircuitTier) -> Model {
        let circuit = Circuit {
            name: "Er1".to_owned(),
            tier,
            unlimited_data,
            bandwidth_mbps: mbps,
            peerings: Vec::new(),
        };
        let customer =
            Customer { name: "contoso".to_owned(), circuits: vec![circuit], ..Customer::default() };
        Model { customers: vec![Arc::new(customer)], ..Model::default() }
    }

    #[test]
    fn a_circuit_grows_and_never_shrinks() {
        use CircuitTier::{Local, Premium, Standard};
        let before = model(Some(200), true, Standard);
        for after in [
            model(Some(200), true, Standard),
            model(Some(10_000), true, Premium),
            model(None, true, Standard),
            Model::default(),
        ] {
            assert_eq!(may_follow(&before, &after), Ok(()));
        }
        let said = |after: Model| may_follow(&before, &after).unwrap_err().join("\n");
        assert_eq!(
            said(model(Some(100), true, Standard)),
            "customer 'contoso': circuit 'Er1': bandwidthInMbps cannot be lowered from 200 to 100; remove the circuit, and \
             add it again"
        );
        assert!(said(model(Some(200), false, Standard)).contains("from UnlimitedData to MeteredData"));
        assert!(said(model(Some(200), true, Local)).contains("cannot change to Local"));
        assert_eq!(may_follow(&model(Some(50), false, Premium), &model(Some(50), true, Standard)), Ok(()));
    }

    #[test]
    fn circuits_are_compared_by_the_names_of_customer_and_circuit() {
        let named = |all: &[(&str, &str, u32)]| {
            let customer = |(customer, circuit, mbps): &(&str, &str, u32)| {
                let mut one = model(Some(*mbps), false, CircuitTier::Standard);
                let one = Arc::make_mut(&mut one.customers[0]);
                (one.name, one.circuits[0].name) = (customer.to_string(), circuit.to_string());
                Arc::new(std::mem::take(one))
            };
            Model { customers: all.iter().map(customer).collect(), ..Model::default() }
        };
        let before = named(&[("contoso", "Er1", 1000), ("fabrikam", "Er1", 50)]);
        // The other customer's circuit has never had more; who comes, or has another name, may have less; in any order.
        for after in [
            named(&[("contoso", "Er1", 1000), ("fabrikam", "Er1", 50)]),
            named(&[("fabrikam", "Er1", 50), ("contoso", "Er1", 1000)]),
            named(&[("contoso", "Er2", 50), ("fabrikam", "Er1", 50)]),
            named(&[("contoso2", "Er1", 50), ("fabrikam", "Er1", 50)]),
        ] {
            assert_eq!(may_follow(&before, &after), Ok(()));
        }
        // Letter case makes no other name.
        let after = named(&[("fabrikam", "Er1", 50), ("Contoso", "ER1", 500)]);
        let sentences = may_follow(&before, &after).unwrap_err();
        assert!(sentences.len() == 1 && sentences[0].starts_with("customer 'Contoso': circuit 'ER1': "));
    }
}
