//! The kinds of sensors, and what each reading leaves of its reserve. `docs/states.md` shows this table.

use serde::Serialize;

/// One kind of sensor.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SensorKind {
    /// Its name; `machine.` keeps it apart from what a scenario declares.
    pub name: &'static str,
    /// What a reading counts.
    pub unit: &'static str,
    /// The readings that mean empty and full; linear between, clamped beyond.
    pub reserve: (f64, f64),
    /// The least difference that means anything.
    pub resolution: f64,
    /// What a reading is.
    pub reads: &'static str,
}

impl SensorKind {
    /// What is left of the reserve, in [0, 1].
    pub fn level(&self, value: f64) -> f64 {
        reserve_level(value, self.reserve)
    }
}

/// What a reading leaves of a reserve of `(empty, full)`, in [0, 1]; empty may be the larger.
pub fn reserve_level(value: f64, (empty, full): (f64, f64)) -> f64 {
    ((value - empty) / (full - empty)).clamp(0.0, 1.0)
}

const fn kind(
    name: &'static str,
    unit: &'static str,
    reserve: (f64, f64),
    reads: &'static str,
) -> SensorKind {
    SensorKind {
        name,
        unit,
        reserve,
        resolution: 1.0,
        reads,
    }
}

/// Every kind, in the order in which they are read.
pub const KINDS: [SensorKind; 7] = [
    kind(
        "machine.pressure",
        "%",
        (50.0, 0.0),
        "share of the last 10 seconds in which everything waited for memory: `full avg10` of /proc/pressure/memory",
    ),
    kind(
        "machine.cgroup_pressure",
        "%",
        (50.0, 0.0),
        "the same of the process's own cgroup (v2): memory.pressure",
    ),
    kind(
        "machine.memory",
        "%",
        (0.0, FREE_ENOUGH),
        "share of the cgroup's limit that is free, the page cache counted as free; the least over the cgroup and those above it. \
         v2: memory.max or memory.high, memory.current, memory.stat; v1: memory.limit_in_bytes, memory.usage_in_bytes, memory.stat",
    ),
    kind(
        "machine.limit_hits",
        "hits",
        (100.0, 0.0),
        "times that a limit was hit since the reading before, while less than 20 % is free (above, the page cache makes room for itself). \
         v2: high and max of memory.events; v1: memory.failcnt",
    ),
    kind(
        "machine.oom",
        "events",
        (1.0, 0.0),
        "times since the reading before that memory could not be had or a process was killed for it; 1 while that stands. \
         v2: oom and oom_kill of memory.events; v1: under_oom and oom_kill of memory.oom_control",
    ),
    kind(
        "machine.temperature",
        "°C",
        (0.0, 20.0),
        "degrees below the nearest limit: the lowest critical or hot trip point of each /sys/class/thermal zone, \
         tempN_crit (else tempN_max) of each /sys/class/hwmon chip",
    ),
    kind(
        "machine.battery",
        "%",
        (5.0, 45.0),
        "mean charge of the batteries in /sys/class/power_supply; 100 while they charge, are full or are not drawn from",
    ),
];

/// With this share of a limit free (%), the reserve is full.
pub const FREE_ENOUGH: f64 = 20.0;
