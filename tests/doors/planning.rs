//! `sage plan` and `sage doctor`: what would be, before anything runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use sage::store::ExtractSelection;
use serde_json::Value;

use crate::common::extract;
use crate::common::runs::{complaint, root, route_trace, sage};

/// How long prompt and answer of a bench are, which a forecast is held to.
const LENGTH: [&str; 6] = [
    "--prompt-tokens",
    "8",
    "--answer-tokens",
    "64",
    "--rounds",
    "1",
];

fn number(value: &Value, key: &str) -> f64 {
    let found = value[key].as_f64();
    found.unwrap_or_else(|| panic!("no number {key} in {value}"))
}

fn parsed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", complaint(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The finding of this name.
fn finding(report: &Value, name: &str) -> Value {
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["name"] == name);
    found
        .unwrap_or_else(|| panic!("no {name}: {report}"))
        .clone()
}

/// The plan of what a bench then measures has the same hits; less than the floor is refused.
#[test]
fn a_plan_says_what_a_limit_would_give() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("routes.csv");
    std::fs::write(&trace, route_trace(&root().join("models/tiny"), 8, 64)).unwrap();
    let trace = trace.to_str().unwrap();
    let plan = |more: &[&str]| sage(&[&["plan", "models/tiny", "--json"], more].concat());
    let limit = ["--limit", "80slots", "--routes", trace];
    let report = parsed(&plan(&[&limit[..], &["--answer-tokens", "64"]].concat()));
    let expected = &report["expected"];
    for key in [
        "tokens_per_second",
        "tokens_per_second_all_resident",
        "bytes_per_token",
    ] {
        assert!(number(expected, key) > 0.0, "{expected}");
    }
    for key in [
        "disk_bytes_per_second",
        "memory_bytes_per_second",
        "expert_bytes_per_second",
    ] {
        assert!(number(&report["measured"], key) > 0.0, "{report}");
    }
    let command = ["bench", "models/tiny", "--json"];
    let bench = sage(&[&command[..], &LENGTH, &limit].concat());
    let measured = parsed(&bench);
    let (due, is) = (
        number(expected, "hit_rate"),
        number(&measured["lengths"][0], "decode_hit_rate"),
    );
    assert!((due - is).abs() < 0.15 && is > 0.2, "{due} and {is}");

    assert_eq!(report["exact"], true, "as the bench is");
    assert!(number(&report, "cycle_cliff_bytes") > number(&report, "floor_bytes"));
    let free = parsed(&plan(&["--no-measure", "--limit", "none"]));
    assert!(free["limit_bytes"].is_null() && free["expected"]["tokens_per_second"].is_null());
    let why = free["measured"]["problem"].as_str().unwrap();
    assert!(why.contains("--no-measure"), "{why}");
    // Only what nobody has used before is read.
    assert!(number(&free["expected"], "hit_rate") > 0.8);
    // A pool is never more than everything, whatever a run without a limit is given.
    let pool = number(&free, "pool_bytes");
    assert_eq!(
        pool + number(&free, "held_bytes"),
        number(&free, "everything_bytes")
    );

    let refused = plan(&["--limit", "8MiB"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        complaint(&refused).contains("would do"),
        "{}",
        complaint(&refused)
    );
}

#[test]
fn a_doctor_says_what_of_the_machine_limits() {
    let report = parsed(&sage(&["doctor", "models/tiny", "--json"]));
    for finding in report["findings"].as_array().unwrap() {
        let keys = finding.as_object().unwrap();
        assert!(keys.contains_key("advice"), "{finding}");
        assert_eq!(finding["state"] == "fine", finding["advice"].is_null());
    }
    assert_ne!(finding(&report, "processor")["found"], "");
    assert_eq!(finding(&report, "model")["state"], "fine");
    assert!(number(&report["measured"], "disk_bytes_per_second") > 0.0);

    // A machine that is set up badly.
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        (
            "proc/meminfo",
            "MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\nSwapTotal: 2097152 kB\nSwapFree: 1048576 kB\n",
        ),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always madvise [never]\n",
        ),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "powersave\n",
        ),
        ("proc/sys/vm/overcommit_memory", "2\n"),
        (
            "proc/self/limits",
            "Max open files            64                   64                   files\n",
        ),
    ] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sage"))
        .env("SAGE_SYSFS", folder.path())
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    let report = parsed(&output);
    for (name, state) in [
        ("memory", "notice"),
        ("pages", "limits"),
        ("swap", "limits"),
        ("frequency", "notice"),
        ("overcommit", "limits"),
        ("open files", "limits"),
    ] {
        let finding = finding(&report, name);
        assert_eq!(finding["state"], state, "{finding}");
        assert!(
            finding["advice"]
                .as_str()
                .is_some_and(|advice| advice.len() > 20)
        );
    }
}

fn plan(model: &str, more: &[&str]) -> Output {
    sage(&[&["plan", model, "--json", "--no-measure"], more].concat())
}

/// The least limit is one number: that of `plan` whatever the limit, that of `inspect`, and the one at which a plan is refused.
#[test]
fn the_floor_is_the_least_limit_that_would_do() {
    let model = "models/tiny";
    for more in [
        ["--context", "1"].as_slice(),
        &["--context", "7"],
        &["--context", "2048"],
        &["--context", "2048", "--kv", "f32"],
        &["--context", "1", "--kv", "q8"],
        &["--context", "300", "--exact"],
        &["--set", "session.chunk_tokens=200"],
        &["--set", "mind.routing=exact"],
    ] {
        let with = |limit: &str| plan(model, &[more, &["--limit", limit]].concat());
        let inspected = |limit: &str| {
            let command = ["inspect", model, "--json", "--limit", limit];
            sage(&[&command, more].concat())
        };
        let free = parsed(&with("none"));
        let floor = number(&free, "floor_bytes");
        assert_eq!(number(&parsed(&with("80slots")), "floor_bytes"), floor);
        let inspect = parsed(&inspected("80slots"))["memory"].clone();
        assert_eq!(number(&inspect, "floor_bytes"), floor, "{more:?}");
        assert_eq!(inspect["kv_precision"], free["floor_kv_precision"]);
        let least = format!("{floor}");
        let lowest = parsed(&with(&least));
        assert_eq!(number(&lowest, "held_bytes"), floor, "{more:?}");
        assert!(inspected(&least).status.success(), "{more:?}");

        let below = format!("{}", floor as u64 - 1);
        let refused = with(&below);
        assert_eq!(refused.status.code(), Some(2));
        assert_eq!(inspected(&below).status.code(), Some(1));
        // Two numbers that differ look different, and the least way to keep keys and values is named.
        let said = complaint(&refused);
        let precision = free["floor_kv_precision"].as_str().unwrap();
        for words in [
            format!("a limit of {below} bytes is below the floor of {floor} bytes"),
            format!("keys and values in {precision}"),
        ] {
            assert!(said.contains(&words), "{more:?}: {said}");
        }
    }
    let one = complaint(&plan(model, &["--context", "1", "--limit", "2MiB"]));
    assert!(one.contains("a context of 1 token,"), "{one}");
    assert!(one.contains("keys and values in f32"), "{one}");
}

/// What an exact run would have is planned for it: its floor has nothing for dreams, and its hits are forecast near that floor.
#[test]
fn an_exact_run_is_planned_as_it_is() {
    let model = "models/tiny";
    let with_mind = parsed(&plan(model, &["--limit", "60MiB"]));
    let exact = parsed(&plan(model, &["--limit", "60MiB", "--exact"]));
    assert_eq!(
        (&with_mind["exact"], &exact["exact"]),
        (&false.into(), &true.into())
    );
    assert_eq!(exact["floor_parts"]["dream_bytes"], 0);
    assert!(number(&with_mind["floor_parts"], "dream_bytes") > 0.0);
    let hits = |report: &Value| number(&report["expected"], "hit_rate");
    assert!(hits(&exact) >= hits(&with_mind));

    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("routes.csv");
    fs::write(&trace, route_trace(&root().join(model), 8, 64)).unwrap();
    let forced = ["--routes", trace.to_str().unwrap()];
    for limit in ["4slots", "24slots"] {
        let limit = ["--limit", limit];
        let bench = [&["bench", model, "--json"], &LENGTH[..], &forced, &limit].concat();
        let measured = parsed(&sage(&bench));
        let more = ["--context", "72", "--answer-tokens", "64"];
        let planned = parsed(&plan(model, &[&more[..], &forced, &limit].concat()));
        let mode = &measured["mode"];
        assert_eq!(mode["floor_bytes"], planned["held_bytes"]);
        assert_eq!(mode["pool_bytes"], planned["pool_bytes"]);
        let is = number(&measured["lengths"][0], "decode_hit_rate");
        assert!((hits(&planned) - is).abs() < 0.15, "{is}: {planned}");
    }
    let both = plan(model, &["--exact", "--set", "mind.routing=sage"]);
    assert_eq!(both.status.code(), Some(2));
    assert!(complaint(&both).contains("--exact routes exactly"));
}

#[test]
fn a_plan_reads_the_limit_of_the_settings() {
    let set = ["--set", "session.limit=60MiB"];
    let limit = |report: &Value| number(report, "limit_bytes") as u64 >> 20;
    assert_eq!(limit(&parsed(&plan("models/tiny", &set))), 60);
    let option = [&set[..], &["--limit", "61MiB"]].concat();
    assert_eq!(limit(&parsed(&plan("models/tiny", &option))), 61);
    let inspect = sage(&[&["inspect", "models/tiny", "--json"], &set[..]].concat());
    assert_eq!(limit(&parsed(&inspect)["memory"]), 60);
    let low = plan("models/tiny", &["--set", "session.limit=2MiB"]);
    assert_eq!(low.status.code(), Some(2), "{}", complaint(&low));
}

/// A forecast is of as many tokens as the context has room for, and says of how many.
#[test]
fn a_forecast_says_how_long_it_is() {
    let expected = |more: &[&str]| parsed(&plan("models/tiny", more))["expected"].clone();
    for (more, prompt, answer) in [
        (["--context", "2048"].as_slice(), 28, 128),
        (&["--context", "100"], 28, 72),
        (&["--context", "1"], 0, 1),
        (&["--context", "100", "--answer-tokens", "9"], 28, 9),
    ] {
        let found = expected(more);
        assert_eq!(found["prompt_tokens"], prompt, "{more:?}");
        assert_eq!(found["answer_tokens"], answer, "{more:?}");
    }
    let shown = sage(&["plan", "models/tiny", "--context", "1", "--no-measure"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("the first 1 token of an answer"), "{shown}");
    let none = plan("models/tiny", &["--answer-tokens", "0"]);
    assert_eq!(none.status.code(), Some(2));
}

/// No limit at which all experts of a token stay is beyond everything: where there is none, that is said.
#[test]
fn the_cycle_cliff_is_below_everything_or_none() {
    for model in [
        "models/tiny",
        "tests/fixtures/edge-all-experts",
        "tests/fixtures/edge-top1",
    ] {
        let report = parsed(&plan(model, &["--limit", "64slots"]));
        let everything = number(&report, "everything_bytes");
        let held = number(&report, "held_bytes");
        if let Some(cliff) = report["cycle_cliff_bytes"].as_f64() {
            assert!(held <= cliff && cliff <= everything, "{model}: {report}");
        }
    }
    // Up to where a least-recently-used cache finds nothing, and a little beyond, as a run has it.
    let length = [
        "--prompt-tokens",
        "8",
        "--answer-tokens",
        "24",
        "--rounds",
        "1",
    ];
    let exact = ["--exact", "--context", "32", "--limit", "60MiB"];
    let report = parsed(&plan("models/tiny", &exact));
    let nothing = number(&report, "lru_hits_nothing_up_to_bytes") as u64;
    let hits = |limit: u64| {
        let limit = limit.to_string();
        let command = ["bench", "models/tiny", "--json", "--mind", "off"];
        let more = ["--eviction", "lru", "--limit", &limit];
        let measured = parsed(&sage(&[&command[..], &length, &more].concat()));
        number(&measured["lengths"][0], "decode_hit_rate")
    };
    assert_eq!(hits(nothing), 0.0);
    assert!(hits(nothing + (200 << 10)) > 0.0);
    assert!(nothing < number(&report, "cycle_cliff_bytes") as u64);
}

/// A store of the repository's model, and the files of its experts.
fn own_store(folder: &Path) -> (String, Vec<PathBuf>) {
    let store = folder.join("store");
    let all = ExtractSelection::all();
    extract(&root().join("models/tiny"), &store, &all);
    let entries = fs::read_dir(store.join("experts")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    (store.to_str().unwrap().to_owned(), files)
}

/// Nothing is forecast from what could not be tried without saying so.
#[test]
fn experts_that_are_missing_or_damaged_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let (store, files) = own_store(folder.path());
    let reports = || {
        let plan = sage(&["plan", &store, "--json"]);
        let doctor = sage(&["doctor", &store, "--json"]);
        [plan, doctor].map(|output| parsed(&output))
    };
    for report in reports() {
        assert_eq!(finding(&report, "experts")["state"], "fine");
        assert!(report["measured"]["problem"].is_null(), "{report}");
    }
    let unmeasured = |report: &Value, words: &str| {
        assert!(
            report["measured"]["disk_bytes_per_second"].is_null(),
            "{report}"
        );
        let problem = report["measured"]["problem"].as_str().unwrap();
        assert!(problem.contains(words), "{problem}");
        assert_eq!(finding(report, "measurement")["state"], "limits");
    };
    // A byte that nobody's length tells.
    let name = |at: usize| files[at].file_name().unwrap().to_str().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&files[3]).unwrap();
    let end = file.metadata().unwrap().len();
    file.write_all_at(&[0x5a; 64], end / 2).unwrap();
    for report in reports() {
        unmeasured(&report, name(3));
    }
    let short = fs::OpenOptions::new().write(true).open(&files[2]).unwrap();
    short.set_len(end / 2).unwrap();
    fs::remove_file(&files[5]).unwrap();
    fs::remove_file(&files[6]).unwrap();
    for report in reports() {
        let (missing, damaged) = (
            finding(&report, "experts"),
            finding(&report, "damaged experts"),
        );
        for (finding, count, file) in [(&missing, 2, name(5)), (&damaged, 1, name(2))] {
            assert_eq!(finding["state"], "limits");
            let found = finding["found"].as_str().unwrap();
            assert!(found.starts_with(&format!("{count} of ")), "{found}");
            assert!(found.contains(file), "{found}");
            assert!(finding["advice"].as_str().unwrap().len() > 20);
        }
        unmeasured(&report, "experts");
    }
    let shown = sage(&["plan", &store]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("are missing") && shown.contains("experts were not tried"),
        "{shown}"
    );
}

/// Weights that were never written are read from nowhere: that is no speed of a disk.
#[test]
fn holes_are_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let (store, files) = own_store(folder.path());
    for path in &files {
        let length = fs::metadata(path).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        // What stands before the record stays.
        file.set_len(4096).unwrap();
        file.set_len(length).unwrap();
    }
    for command in ["plan", "doctor"] {
        let report = parsed(&sage(&[command, &store, "--json"]));
        let measured = &report["measured"];
        assert!(measured["disk_bytes_per_second"].is_null(), "{report}");
        let problem = measured["problem"].as_str().unwrap();
        assert!(problem.contains("holes in their files"), "{problem}");
        let finding = finding(&report, "measurement");
        assert_eq!(finding["state"], "limits");
    }
}
