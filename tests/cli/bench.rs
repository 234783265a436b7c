//! `bench`: that it runs, what it prints, and what it refuses. No test looks at a time.

use serde_json::Value;

use super::support::{Ran, clearway};

/// Runs a bench for a moment.
fn bench(words: &str) -> Ran {
    let moment = ["bench", "--seconds", "0.05", "--repeats", "2"];
    clearway(moment.into_iter().chain(words.split_whitespace()))
}

fn count(document: &Value, pointer: &str) -> u64 {
    document.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} in {document}"))
}

#[test]
fn every_profile_in_miniature_has_all_fields() {
    for (profile, rest) in [
        ("small", "--flows 200"),
        ("edge", "--vnets 7 --flows 500 --routes 40"),
        ("large", "--vnets 5 --flows 600 --rules 50 --routes 30"),
        ("churn", "--vnets 3 --flows 1000 --routes 20"),
    ] {
        let found = bench(&format!("{profile} {rest} --json")).expect(0).json();
        for field in ["ns_per_packet", "mpps", "gbps", "bytes_per_flow", "median_burst_ns"] {
            assert!(found[field].as_f64().is_some_and(|n| n >= 0.0), "{field} in {found}");
            assert!(found["workers"][0][field].is_number(), "{field} of a worker in {found}");
        }
        assert_eq!(found["profile"], profile);
        let packets = count(&found, "/packets");
        assert!(packets > 0, "{found}");
        assert_eq!(count(&found, "/verdicts/forward"), packets);
        assert_eq!(count(&found, "/verdicts/drop") + count(&found, "/verdicts/punt"), 0);
        let asked = count(&found, "/options/flows");
        let flows = count(&found, "/flows");
        assert!(asked / 2 <= flows && flows <= asked * 2, "{profile}: {flows} of {asked}");
        let opened = count(&found, "/opened");
        assert_eq!(opened, if profile == "churn" { packets } else { 0 });
        assert!(found["calibration"]["ghz"].as_f64().is_some_and(|n| n > 0.1), "{found}");
    }
}

#[test]
fn the_table_names_every_figure() {
    let found = bench("--flows 100 --workers 2").expect(0).stdout;
    for word in ["ns_per_packet", "mpps", "gbps", "flows", "bytes_per_flow", "worker 1", "median", "spread"] {
        assert!(found.contains(word), "{word} in {found}");
    }
}

#[test]
fn two_workers_judge_as_one() {
    for new in [0, 20] {
        let sizes = format!("--vnets 3 --flows 2000 --new-flows {new} --zipf 0.5 --json");
        for workers in [1, 2] {
            let found = bench(&format!("{sizes} --workers {workers}")).expect(0).json();
            assert_eq!(found["workers"].as_array().map(Vec::len), Some(workers));
            let of_workers = (0..workers).map(|w| count(&found, &format!("/workers/{w}/verdicts/forward")));
            assert_eq!(of_workers.sum::<u64>(), count(&found, "/packets"));
            let flows = count(&found, "/flows");
            assert!(new > 0 || flows == 2000 || flows == 2001, "{found}");
        }
    }
}

#[test]
fn changes_of_configuration_lose_nothing() {
    let found = bench("--vnets 4 --flows 500 --workers 2 --swaps 5000 --json").expect(0).json();
    assert!(count(&found, "/changes/count") > 1, "{found}");
    let figure = |name: &str| found.pointer(&format!("/changes/{name}")).and_then(Value::as_f64);
    for name in ["compile_milliseconds/mean", "compile_milliseconds/max", "times_without"] {
        assert!(figure(name).is_some_and(|f| f > 0.0), "{name} in {found}");
    }
    for name in ["in_force_milliseconds/mean", "in_force_milliseconds/max"] {
        assert!(figure(name).is_some(), "{name} in {found}");
    }
    let without = found.pointer("/changes/without").and_then(Value::as_array);
    assert_eq!(without.map(Vec::len), found["repeats"].as_array().map(Vec::len));
    assert_eq!(count(&found, "/verdicts/forward"), count(&found, "/packets"));
    let found = bench("--vnets 4 --flows 500 --workers 2 --learned 5000 --json").expect(0).json();
    assert!(count(&found, "/changes/count") > 1 && found["options"]["learned"] == 5000.0, "{found}");
    assert_eq!(count(&found, "/verdicts/forward"), count(&found, "/packets"));
    let both = bench("--swaps 1 --learned 1").expect(2).stderr;
    assert!(both.contains("--swaps is there, too"), "{both}");
    let table = bench("--vnets 2 --flows 200 --swaps 5000").expect(0).stdout;
    assert!(table.contains("in force after") && table.contains("run 2, no changes"), "{table}");
    assert!(bench("--flows 100 --json").expect(0).json()["changes"].is_null());
}

#[test]
fn sizes_that_cannot_be_are_told_all_at_once() {
    let refused = bench("--size 20 --flows 0 --rules 5000 --zipf 9").expect(2);
    for option in ["--size 20", "--flows 0", "--rules 5000", "--zipf 9"] {
        assert!(refused.stderr.contains(&format!("error: {option}: ")), "{}", refused.stderr);
    }
    assert_eq!(refused.stdout, "");
    let unknown = bench("medium").expect(2);
    assert!(unknown.stderr.contains("small, edge, large and churn"), "{}", unknown.stderr);
    bench("--workers many").expect(2);
}
