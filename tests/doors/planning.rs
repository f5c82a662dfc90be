//! `sage plan` and `sage doctor`: what would be, before anything runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use serde_json::Value;

use crate::common::runs::{complaint, root, route_trace, sage};

fn number(value: &Value, key: &str) -> f64 {
    let found = value[key].as_f64();
    found.unwrap_or_else(|| panic!("no number {key} in {value}"))
}

/// The plan of what a bench then measures has the same hits; its floor is that of `inspect`, and less is refused.
#[test]
fn a_plan_says_what_a_limit_would_give() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("routes.csv");
    std::fs::write(&trace, route_trace(&root().join("models/tiny"), 8, 64)).unwrap();
    let trace = trace.to_str().unwrap();
    let plan = |more: &[&str]| sage(&[&["plan", "models/tiny", "--json"], more].concat());
    let parsed = |output: &std::process::Output| -> Value {
        assert!(output.status.success(), "{}", complaint(output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let limit = ["--limit", "80slots", "--routes", trace];
    let report = parsed(&plan(&limit));
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
    let length = [
        "--prompt-tokens",
        "8",
        "--answer-tokens",
        "64",
        "--rounds",
        "1",
    ];
    let command = ["bench", "models/tiny", "--json"];
    let bench = sage(&[&command[..], &length, &limit].concat());
    let measured = parsed(&bench);
    let (due, is) = (
        number(expected, "hit_rate"),
        number(&measured["lengths"][0], "decode_hit_rate"),
    );
    assert!((due - is).abs() < 0.15 && is > 0.2, "{due} and {is}");

    let inspected = sage(&["inspect", "models/tiny", "--kv", "f32", "--json"]);
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    let floor = number(&report, "floor_bytes");
    let chunk = ["--set", "session.chunk_tokens=128", "--no-measure"];
    let least = parsed(&plan(&[&chunk[..], &["--limit", "none"]].concat()));
    assert_eq!(
        number(&least, "floor_bytes"),
        number(&inspected["memory"], "floor_bytes")
    );
    assert!(number(&report, "cycle_cliff_bytes") > floor);
    assert!(least["limit_bytes"].is_null() && least["expected"]["tokens_per_second"].is_null());
    // Only what nobody has used before is read.
    assert!(number(&least["expected"], "hit_rate") > 0.8);

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
    let parsed = |output: std::process::Output| -> Value {
        assert!(output.status.success(), "{}", complaint(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let finding = |report: &Value, name: &str| -> Value {
        let findings = report["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["name"] == name);
        found
            .unwrap_or_else(|| panic!("no {name}: {report}"))
            .clone()
    };
    let report = parsed(sage(&["doctor", "models/tiny", "--json"]));
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
    let report = parsed(output);
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
