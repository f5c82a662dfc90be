//! Each sensor on trees that stand for machines: what it reads, that it alone depletes a mind and lets it recover, and
//! that nothing in a file can do more than be skipped.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

mod cgroup;
mod machine;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use sage_actors::config::{MindConfig, ModuleShape};
use sage_actors::metabolic::Controller;
use sage_actors::protocol::{Assess, Module, State};

use super::*;

/// Files of a machine, by their absolute paths.
type Files<'a> = &'a [(&'a str, &'a str)];

fn machine(files: Files<'_>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), files);
    folder
}

fn write(root: &Path, files: Files<'_>) {
    for (path, text) in files {
        let path = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("written");
    }
}

/// What every kind reads, and what of it made no sense.
fn values(root: &Path) -> (BTreeMap<&'static str, f64>, Vec<Garbled>) {
    let mut garbled = Vec::new();
    let mut found = BTreeMap::new();
    for (kind, sample) in Sensors::new(Some(root)).read() {
        garbled.extend(sample.garbled);
        found.extend(sample.value.map(|value| (kind.name, value)));
    }
    (found, garbled)
}

/// A mind to which nothing happens but what its sensors read.
struct Body {
    live: Live,
    mind: Controller,
    levels: BTreeMap<String, f64>,
    tick: u64,
}

impl Body {
    fn new(root: &Path) -> Self {
        let shape = ModuleShape {
            module: Module::Thinker,
            layers: vec![0],
            experts: 8,
            k_trained: 2,
            norm_topk_prob: true,
            expert_bytes: 1,
            smaller: Vec::new(),
        };
        let config = MindConfig {
            modules: vec![shape],
            ..MindConfig::default()
        };
        Self {
            live: Live::new(Some(root), SensorSettings { every_ticks: 8 }),
            mind: Controller::new(&config),
            levels: BTreeMap::new(),
            tick: 0,
        }
    }

    /// Lets some ticks pass; returns the state.
    fn live(&mut self, ticks: u64) -> State {
        for tick in self.tick..self.tick + ticks {
            for reading in self.live.due(tick) {
                assert!(reading.is_of_body(), "{reading:?}");
                let level = reading.level.expect("a level");
                assert!((0.0..=1.0).contains(&level), "{reading:?}");
                self.levels.insert(reading.name, level);
            }
            self.mind.step(&Assess {
                tick,
                ticks: 1,
                quiet: true,
                pool_bytes: 1,
                levels: self.levels.values().copied().collect(),
                ..Assess::default()
            });
        }
        self.tick += ticks;
        self.mind.state()
    }

    /// The only reserve that is not full.
    fn lacking(&self) -> Vec<&str> {
        let lacking = self.levels.iter().filter(|(_, level)| **level < 1.0);
        lacking.map(|(name, _)| name.as_str()).collect()
    }
}

const CGROUP_V2: Files<'_> = &[
    ("/proc/self/cgroup", "0::/work/sage\n"),
    (
        "/proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n",
    ),
];

const CGROUP_V1: Files<'_> = &[
    (
        "/proc/self/cgroup",
        "9:name=systemd:/\n4:memory:/work/sage\n0::/\n",
    ),
    (
        "/proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
         35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
         41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
    ),
];

const PSI_CALM: &str = "some avg10=9.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
const PSI_FULL: &str = "some avg10=99.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=49.50 avg60=0.00 avg300=0.00 total=0\n";

/// Starts sound, is damaged, is sound again: the state must be Wake or Rest, Depletion, and another again, and the
/// sensor of this name the only cause.
fn depletes_and_recovers(name: &str, base: Files<'_>, sound: Files<'_>, short: Files<'_>) {
    let root = machine(base);
    write(root.path(), sound);
    let mut body = Body::new(root.path());
    assert_ne!(body.live(20), State::Depletion, "{name}");
    assert!(body.levels.contains_key(name), "{name}: {:?}", body.levels);
    assert_eq!(body.lacking(), Vec::<&str>::new(), "{name}");
    write(root.path(), short);
    // Up to the next reading, and one more tick.
    let depleted = (0..8).any(|_| body.live(1) == State::Depletion);
    assert!(depleted, "{name}: {:?}", body.levels);
    assert_eq!(body.lacking(), [name]);
    write(root.path(), sound);
    assert_ne!(body.live(20), State::Depletion, "{name}: {:?}", body.levels);
    assert_eq!(
        body.live.skipped(),
        0,
        "{name}: {:?}",
        body.live.take_notes()
    );
}

#[test]
fn each_sensor_alone_depletes_and_recovers() {
    let psi = "/proc/pressure/memory";
    depletes_and_recovers(
        "machine.pressure",
        &[],
        &[(psi, PSI_CALM)],
        &[(psi, PSI_FULL)],
    );
    let psi = "/sys/fs/cgroup/work/sage/memory.pressure";
    depletes_and_recovers(
        "machine.cgroup_pressure",
        CGROUP_V2,
        &[(psi, PSI_CALM)],
        &[(psi, PSI_FULL)],
    );
    depletes_and_recovers(
        "machine.temperature",
        &[
            (
                "/sys/class/thermal/thermal_zone0/trip_point_0_type",
                "passive\n",
            ),
            (
                "/sys/class/thermal/thermal_zone0/trip_point_0_temp",
                "60000\n",
            ),
            (
                "/sys/class/thermal/thermal_zone0/trip_point_1_type",
                "critical\n",
            ),
            (
                "/sys/class/thermal/thermal_zone0/trip_point_1_temp",
                "100000\n",
            ),
        ],
        &[("/sys/class/thermal/thermal_zone0/temp", "71000\n")],
        &[("/sys/class/thermal/thermal_zone0/temp", "98500\n")],
    );
    depletes_and_recovers(
        "machine.temperature",
        &[("/sys/class/hwmon/hwmon3/temp2_crit", "90000\n")],
        &[("/sys/class/hwmon/hwmon3/temp2_input", "40000\n")],
        &[("/sys/class/hwmon/hwmon3/temp2_input", "95000\n")],
    );
    depletes_and_recovers(
        "machine.battery",
        &[("/sys/class/power_supply/BAT0/type", "Battery\n")],
        &[
            ("/sys/class/power_supply/BAT0/capacity", "7\n"),
            ("/sys/class/power_supply/BAT0/status", "Charging\n"),
        ],
        &[("/sys/class/power_supply/BAT0/status", "Discharging\n")],
    );
}

#[test]
fn a_machine_without_sensors_is_fine() {
    for files in [&[][..], CGROUP_V1, CGROUP_V2] {
        let root = machine(files);
        assert_eq!(values(root.path()), (BTreeMap::new(), Vec::new()));
        let mut body = Body::new(root.path());
        assert_eq!(body.live(20), State::Wake);
        let notes = body.live.take_notes();
        assert_eq!(notes.len(), 1, "it is said once: {notes:?}");
        assert!(
            notes[0].contains("none; not here: machine.pressure, "),
            "{notes:?}"
        );
    }
}

#[test]
fn limits_that_no_part_has_and_batteries_of_mice_are_no_reserves() {
    let root = machine(&[
        ("/sys/class/hwmon/hwmon0/temp1_input", "40000"),
        ("/sys/class/hwmon/hwmon0/temp1_crit", "65261850"),
        ("/sys/class/hwmon/hwmon0/temp2_input", "40000"),
        ("/sys/class/thermal/thermal_zone0/temp", "40000"),
        ("/sys/class/thermal/cooling_device0/type", "fan"),
        ("/sys/class/power_supply/mouse/type", "Battery"),
        ("/sys/class/power_supply/mouse/scope", "Device"),
        ("/sys/class/power_supply/mouse/capacity", "1"),
        ("/sys/class/power_supply/AC/type", "Mains"),
    ]);
    assert_eq!(values(root.path()), (BTreeMap::new(), Vec::new()));
    // The mean of two batteries, drawn from if one is; the nearest limit of several.
    write(
        root.path(),
        &[
            ("/sys/class/power_supply/BAT0/type", "Battery"),
            ("/sys/class/power_supply/BAT0/capacity", "80"),
            ("/sys/class/power_supply/BAT0/status", "Full"),
            ("/sys/class/power_supply/BAT1/type", "Battery"),
            ("/sys/class/power_supply/BAT1/capacity", "20"),
            ("/sys/class/power_supply/BAT1/status", "Discharging"),
            ("/sys/class/hwmon/hwmon0/temp2_max", "70000"),
            ("/sys/class/thermal/thermal_zone0/trip_point_0_type", "hot"),
            (
                "/sys/class/thermal/thermal_zone0/trip_point_0_temp",
                "65000",
            ),
        ],
    );
    let (found, garbled) = values(root.path());
    assert_eq!(garbled, Vec::new());
    let expected = [("machine.battery", 50.0), ("machine.temperature", 25.0)];
    assert_eq!(found, expected.into());
}

/// A sensor that fails while its reserve is low must not hold the mind in Depletion for ever.
#[test]
fn a_lost_sensor_is_said_and_forgotten() {
    let files: Files<'_> = &[
        ("/sys/class/power_supply/BAT0/type", "Battery"),
        ("/sys/class/power_supply/BAT0/capacity", "5"),
        ("/sys/class/power_supply/BAT0/status", "Discharging"),
    ];
    for garble in [true, false] {
        let root = machine(files);
        let mut body = Body::new(root.path());
        assert_eq!(body.live(8), State::Depletion);
        body.live.take_notes();
        if garble {
            write(root.path(), &[(files[1].0, "five")]);
        } else {
            fs::remove_dir_all(root.path().join("sys")).expect("removed");
        }
        assert_eq!(
            body.live(24),
            State::Depletion,
            "for a while its last word holds"
        );
        assert_ne!(body.live(16), State::Depletion);
        let notes = body.live.take_notes().join("\n");
        assert!(notes.contains("machine.battery is lost"), "{notes}");
        assert_eq!(
            notes.contains("expected 0 to 100, found \"five\""),
            garble,
            "{notes}"
        );
        assert_eq!(
            notes.lines().count(),
            1 + usize::from(garble),
            "said once: {notes}"
        );
        assert_eq!(body.live.skipped() > 1, garble);
        write(root.path(), files);
        assert_eq!(body.live(8), State::Depletion, "it reads again");
    }
}

/// All the files of a machine with every sensor.
fn whole() -> Vec<(&'static str, &'static str)> {
    let own = [
        ("/proc/pressure/memory", PSI_CALM),
        ("/sys/fs/cgroup/work/sage/memory.pressure", PSI_CALM),
        ("/sys/fs/cgroup/work/sage/memory.current", "500"),
        ("/sys/fs/cgroup/work/sage/memory.max", "1000"),
        ("/sys/fs/cgroup/work/sage/memory.high", "max"),
        (
            "/sys/fs/cgroup/work/sage/memory.stat",
            "inactive_file 10\nactive_file 10\n",
        ),
        (
            "/sys/fs/cgroup/work/sage/memory.events",
            "high 0\nmax 0\noom 0\noom_kill 0\n",
        ),
        ("/sys/class/thermal/thermal_zone0/temp", "40000"),
        (
            "/sys/class/thermal/thermal_zone0/trip_point_0_type",
            "critical",
        ),
        (
            "/sys/class/thermal/thermal_zone0/trip_point_0_temp",
            "90000",
        ),
        ("/sys/class/power_supply/BAT0/type", "Battery"),
        ("/sys/class/power_supply/BAT0/capacity", "80"),
        ("/sys/class/power_supply/BAT0/status", "Discharging"),
    ];
    CGROUP_V2.iter().copied().chain(own).collect()
}

#[test]
fn a_machine_with_all_sensors() {
    let root = machine(&whole());
    let (found, garbled) = values(root.path());
    assert_eq!(
        (found.len(), garbled),
        (KINDS.len(), Vec::new()),
        "{found:?}"
    );
}

/// The page states every kind as it is.
#[test]
fn the_page_has_every_sensor_and_no_other() {
    let page = include_str!("../../docs/states.md");
    for kind in &KINDS {
        let (empty, full) = kind.reserve;
        let (name, reads, unit) = (kind.name, kind.reads, kind.unit);
        let row = format!("| `{name}` | {reads} | {unit} | {empty} | {full} |\n");
        assert!(page.contains(&row), "not on the page: {row}");
    }
    assert_eq!(page.matches("\n| `machine.").count(), KINDS.len());
    let every = SensorSettings::default().every_ticks;
    assert!(page.contains(&format!("ticks ({every}; `--set sensors.every_ticks=")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever stands in a file, every level is a share, and what makes no sense is skipped and named.
    #[test]
    fn nothing_in_a_file_does_harm(
        at in 0..15usize,
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "-?[0-9]{1,25}(\\.[0-9]+)?(e[0-9]+)?".prop_map(String::into_bytes),
            "(nan|inf|-inf|max|full avg10=[0-9]*)".prop_map(String::into_bytes),
        ],
    ) {
        let files = whole();
        prop_assert_eq!(files.len(), 15);
        let root = machine(&files);
        let path = root.path().join(files[at].0.trim_start_matches('/'));
        fs::write(&path, &bytes).expect("written");
        for (kind, sample) in Sensors::new(Some(root.path())).read() {
            let level = sample.value.map_or(1.0, |value| kind.level(value));
            prop_assert!((0.0..=1.0).contains(&level), "{}: {:?}", kind.name, sample);
        }
    }
}
