//! `sage sensors` and `sage run --live-sensors`, on trees that stand for machines.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::Path;
use std::process::{Command, Output};

use crate::common::runs::{run, states, without_timings};
use serde_json::Value;

/// A machine on a nearly empty battery, with a thermal zone that makes no sense.
fn machine() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in [
        (
            "proc/pressure/memory",
            "some avg10=3.00\nfull avg10=1.00 total=9\n",
        ),
        ("sys/class/power_supply/BAT0/type", "Battery\n"),
        ("sys/class/power_supply/BAT0/capacity", "7\n"),
        ("sys/class/power_supply/BAT0/status", "Discharging\n"),
        ("sys/class/thermal/thermal_zone0/temp", "warm\n"),
        (
            "sys/class/thermal/thermal_zone0/trip_point_0_type",
            "critical\n",
        ),
        (
            "sys/class/thermal/thermal_zone0/trip_point_0_temp",
            "95000\n",
        ),
    ] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }
    folder
}

fn sage(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sage"))
        .args(arguments)
        .output()
        .expect("sage runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(folder: &Path) -> &str {
    folder.to_str().expect("a path")
}

#[test]
fn what_is_found_is_listed_and_what_makes_no_sense_is_said() {
    let machine = machine();
    let root = path(machine.path());
    let output = sage(&["sensors", "--sysfs", root]);
    assert_eq!(output.status.code(), Some(0));
    let listed = text(&output.stdout);
    assert!(
        listed.contains("machine.battery     7.0     %   5 %\n"),
        "{listed}"
    );
    assert!(
        listed.contains("machine.pressure    1.0     %  98 %\n"),
        "{listed}"
    );
    assert!(
        listed.contains("BAT0/capacity (7 %, Discharging)\n"),
        "{listed}"
    );
    assert!(
        listed.contains("machine.temperature: not here\n"),
        "{listed}"
    );
    let said = text(&output.stderr);
    assert!(
        said.contains("thermal_zone0/temp: expected thousandths of a degree, found \"warm\""),
        "{said}"
    );

    let output = sage(&["sensors", "--json", "--sysfs", root]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let battery = &report["sensors"][1];
    assert_eq!(battery["name"], "machine.battery");
    assert_eq!(
        (battery["value"].as_f64(), battery["level"].as_f64()),
        (Some(7.0), Some(0.05))
    );
    assert_eq!(
        report["not_here"].as_array().map(Vec::len),
        Some(5),
        "{report}"
    );
    assert_eq!(
        report["skipped"][0]["file"]
            .as_str()
            .map(|file| file.ends_with("thermal_zone0/temp")),
        Some(true)
    );
}

#[test]
fn wrong_folders_are_wrong_requests() {
    for arguments in [
        &["sensors", "--sysfs", "/no/such/folder"][..],
        &["run", "s.toml", "--sysfs", "/"],
    ] {
        let output = sage(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "");
    }
    // This machine has whatever it has.
    assert_eq!(sage(&["sensors"]).status.code(), Some(0));
}

/// The machine's battery depletes a run that would otherwise only doze; its readings are observations in the record.
#[test]
fn live_sensors_are_observations_and_move_the_state() {
    let machine = machine();
    let script = machine.path().join("calm.toml");
    std::fs::write(&script, "name = 'calm'\nticks = 60\n").expect("written");
    let (_, calm) = run(&script, &[]);
    assert_eq!(states(&calm), ["rest"]);
    let live = ["--live-sensors", "--sysfs", path(machine.path())];
    let every = ["--set", "sensors.every_ticks=20"];
    let (output, events) = run(&script, &[&live[..], &every].concat());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(states(&events), ["depletion"]);
    let observed = events.iter().filter(|event| event["type"] == "observation");
    let observed: Vec<(u64, &str)> = observed
        .filter_map(|event| Some((event["tick"].as_u64()?, event["source"].as_str()?)))
        .collect();
    let (pressure, battery) = ("machine.pressure", "machine.battery");
    let expected = [0, 20, 40].map(|tick| [(tick, pressure), (tick, battery)]);
    assert_eq!(observed, expected.concat());
    let first = events.iter().find(|event| event["source"] == battery);
    assert_eq!(first.and_then(|event| event["level"].as_f64()), Some(0.05));
    let said = text(&output.stderr);
    assert_eq!(
        said.matches("a reading is skipped").count(),
        1,
        "once a file: {said}"
    );
    assert!(
        said.contains(
            "sensors, read every 20 ticks: machine.pressure, machine.battery; not here: "
        ),
        "{said}"
    );
    assert!(said.contains("3 files of sensors made no sense"), "{said}");
    let (_, again) = run(&script, &[&live[..], &every].concat());
    assert_eq!(
        without_timings(&events),
        without_timings(&again),
        "the same readings, the same run"
    );
}
