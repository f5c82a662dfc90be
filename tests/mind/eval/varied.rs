//! Arms that differ in one thing, texts that are read in chunks, and arms that run beside each other.

use super::*;

#[test]
fn a_mechanism_that_is_held_off_is_compared_with_the_same_arm() {
    let material = Material::new();
    let report = json(&material.text(&[
        "--limits",
        "6slots",
        "--states",
        "wake",
        "--without",
        "miss_cap",
        "--only",
        "k",
        "--vary",
        "mind.budgets.wake.f=1.0,mind.budgets.wake.miss_bytes_per_token=0",
    ]));
    let text = |name: &str| arm(&report, name)["text"].clone();
    let unvaried = text("wake salient 6slots");
    assert!(unvaried["change"].is_null(), "{unvaried}");
    let loss = |text: &Value| text["nll"]["value"].as_f64().expect("a loss");
    let missed = |text: &Value| text["bytes_per_token"].as_f64().expect("bytes");
    let names = [
        "wake salient 6slots without miss_cap",
        "wake salient 6slots only k",
        "wake salient 6slots mind.budgets.wake.f=1.0,mind.budgets.wake.miss_bytes_per_token=0",
    ];
    for name in names {
        let varied = text(name);
        let change = &varied["change"];
        let nats = change["nll"]["value"].as_f64().expect("nats");
        let share = change["bytes"]["value"].as_f64().expect("a share");
        assert!(
            (nats - (loss(&varied) - loss(&unvaried))).abs() < 1e-9,
            "{change}"
        );
        assert!(
            (share - (missed(&varied) / missed(&unvaried) - 1.0)).abs() < 1e-9,
            "{change}"
        );
    }
    // Twice as many experts miss more, however many residents are preferred.
    let twice = text(names[2])["change"]["bytes"]["value"].as_f64();
    assert!(twice > Some(0.5), "{twice:?}");
    // k alone is the router's own choice at the state's k.
    let k = arm(&report, names[1])["k"].as_u64();
    assert_eq!(k, arm(&report, "wake salient 6slots")["k"].as_u64());
    assert_eq!(text(names[1])["denied_mass_per_token"], 0.0);

    let shown = run(&material.text(&["--states", "wake", "--only", "k"]));
    let table = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(table.contains("missed, varied"), "{table}");
}

#[test]
fn texts_can_be_read_in_chunks() {
    let material = Material::new();
    let chunks = |tokens: &str, more: &[&str]| {
        let common = ["--chunk", tokens, "--limits", "6slots", "--states", "wake"];
        json(&material.text(&[&common[..], more].concat()))
    };
    let one = chunks("1", &[]);
    let many = chunks("40", &[]);
    let loss = |report: &Value, name: &str| arm(report, name)["text"]["nll"]["value"].as_f64();
    let exact = "exact 6slots";
    let (a, b) = loss(&one, exact).zip(loss(&many, exact)).expect("losses");
    assert!((a - b).abs() < 1e-5, "{a} for {b}");
    assert_eq!(arm(&many, exact)["text"]["agreement"]["value"], 1.0);
    let missed = |report: &Value, name: &str| arm(report, name)["text"]["bytes_per_token"].as_f64();
    assert!(
        missed(&many, exact) < missed(&one, exact),
        "experts are shared"
    );
    // Neither the cap nor the bias towards residents acts on what is read.
    let name = "wake salient 6slots without miss_cap";
    let without = chunks("40", &["--without", "miss_cap,residency_bias"]);
    assert_eq!(arm(&without, name)["text"]["change"]["nll"]["value"], 0.0);
    assert_eq!(without["mode"]["chunk_tokens"], 40);
}

#[test]
fn arms_side_by_side_find_what_they_find_one_after_the_other() {
    let material = Material::new();
    let tasks = material.name("tasks.jsonl");
    let jobs = |jobs: &str| {
        let record = material.name(&format!("record-{jobs}"));
        let more = [
            "--tasks",
            &tasks,
            "--states",
            "wake,rest",
            "--limits",
            "8slots",
        ];
        let rest = ["--answer-tokens", "12", "--jobs", jobs, "--out", &record];
        settled(json(&material.text(&[&more[..], &rest[..]].concat())))
    };
    let alone = jobs("1");
    assert_eq!(alone, jobs("3"));
    // What three wrote beside each other is gone on from.
    let record = std::fs::read_to_string(material.path("record-3")).expect("a record");
    let ends: Vec<usize> = record.match_indices('\n').map(|(at, _)| at + 1).collect();
    std::fs::write(material.path("record-3"), &record[..ends[ends.len() / 2]]).expect("written");
    assert_eq!(alone, jobs("3"));
}
