//! Which room of `src/` may use which. The table allows: a room that does not stand in it may use nothing, and an arrow that nothing
//! needs any more has to leave it.

use std::collections::{BTreeMap, BTreeSet};

use super::{production, sources, used_modules};

/// Each room, and the rooms that it may use. Below the line are the instruments, which nothing but each other and the command line
/// may use.
const ALLOWED: [(&str, &[&str]); 29] = [
    // Used by all, knowing nobody.
    ("formats", &[]),
    ("host_memory", &[]),
    ("input", &[]),
    ("progress", &[]),
    ("reads", &["input"]),
    ("spans", &["reads"]),
    // Files.
    ("checkpoint", &["formats", "input", "reads"]),
    ("store", &["checkpoint", "formats", "input", "reads"]),
    ("hub", &["checkpoint", "input", "store"]),
    ("media", &[]),
    ("text", &["checkpoint", "input", "store"]),
    // Arithmetic.
    ("kernels", &["formats", "host_memory"]),
    (
        "model",
        &[
            "checkpoint",
            "formats",
            "host_memory",
            "kernels",
            "media",
            "progress",
            "reads",
            "spans",
            "store",
        ],
    ),
    // What a run writes and keeps.
    ("events", &["input", "reads"]),
    ("trace", &["input", "media"]),
    ("ledger", &["input"]),
    ("sensors", &["input"]),
    ("settings", &["input", "sensors"]),
    ("report", &["events", "input", "reads"]),
    // The loop, and this machine's processor below its ports.
    (
        "core",
        &[
            "checkpoint",
            "events",
            "input",
            "media",
            "model",
            "progress",
            "reads",
            "sensors",
            "spans",
            "store",
            "text",
            "trace",
        ],
    ),
    (
        "cpu",
        &[
            "checkpoint",
            "core",
            "formats",
            "host_memory",
            "input",
            "kernels",
            "media",
            "model",
            "progress",
            "reads",
            "spans",
            "store",
        ],
    ),
    // The assembly.
    (
        "session",
        &[
            "checkpoint",
            "core",
            "cpu",
            "events",
            "input",
            "kernels",
            "ledger",
            "media",
            "model",
            "progress",
            "reads",
            "sensors",
            "settings",
            "store",
            "text",
            "trace",
        ],
    ),
    (
        "replay",
        &[
            "core", "input", "ledger", "media", "session", "store", "text", "trace",
        ],
    ),
    ("scenario", &["core", "events", "input", "media", "sensors"]),
    // Instruments.
    (
        "eval",
        &[
            "core", "events", "input", "reads", "session", "store", "text",
        ],
    ),
    (
        "goldens",
        &["checkpoint", "core", "input", "media", "model"],
    ),
    (
        "reference",
        &["checkpoint", "core", "formats", "goldens", "input", "store"],
    ),
    ("routes", &["trace"]),
    ("synth", &["checkpoint", "formats", "store"]),
];

const INSTRUMENTS: [&str; 5] = ["eval", "goldens", "reference", "routes", "synth"];

/// The command line and the two files that name the rooms.
const ABOVE: [&str; 3] = ["cli", "main", "lib"];

/// Each room, and the rooms that its files use, with the first file that does.
fn arrows() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut arrows = BTreeMap::<String, BTreeMap<String, String>>::new();
    for path in sources("src") {
        let room = path.iter().nth(1).unwrap().to_str().unwrap();
        let room = room.trim_end_matches(".rs").to_owned();
        let used = arrows.entry(room.clone()).or_default();
        let Some(code) = production(&path) else {
            continue;
        };
        for other in used_modules(&code) {
            if other != room {
                used.entry(other)
                    .or_insert_with(|| path.display().to_string());
            }
        }
    }
    arrows
}

#[test]
fn rooms_use_only_what_the_table_allows() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into();
    let arrows = arrows();
    let mut wrong = Vec::new();
    for (room, used) in &arrows {
        if ABOVE.contains(&room.as_str()) {
            continue;
        }
        let Some(may) = allowed.get(room.as_str()) else {
            wrong.push(format!("{room} does not stand in the table"));
            continue;
        };
        for (other, file) in used {
            if !may.contains(&other.as_str()) {
                wrong.push(format!("{file} uses {other}"));
            }
        }
        for other in *may {
            if !used.contains_key(*other) {
                wrong.push(format!(
                    "{room} uses {other} no more: take it from the table"
                ));
            }
        }
    }
    for room in allowed.keys() {
        if !arrows.contains_key(*room) {
            wrong.push(format!("there is no room {room}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every room may use only rooms that do not come back to it, and instruments are used by instruments alone.
#[test]
fn the_table_is_a_tree_of_uses() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into();
    assert_eq!(allowed.len(), ALLOWED.len(), "a room stands twice");
    for room in allowed.keys() {
        let (mut reached, mut open) = (BTreeSet::new(), allowed[room].to_vec());
        while let Some(next) = open.pop() {
            if reached.insert(next) {
                open.extend(allowed[next]);
            }
        }
        assert!(!reached.contains(room), "{room} comes back to itself");
        let used: Vec<&&str> = INSTRUMENTS
            .iter()
            .filter(|name| reached.contains(*name))
            .collect();
        assert!(
            used.is_empty() || INSTRUMENTS.contains(room),
            "{room} uses the instruments {used:?}"
        );
    }
}

/// Of the core the processor's room knows the ports, how memory is counted, and what was sensed.
#[test]
fn below_the_ports_nobody_knows_the_loop() {
    const KNOWN: [&str; 3] = ["ports", "memory", "perception"];
    let mut wrong = Vec::new();
    for path in sources("src/cpu") {
        let Some(code) = production(&path) else {
            continue;
        };
        for (at, name) in code.match_indices("crate::core::") {
            let rest = &code[at + name.len()..];
            let module: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if !KNOWN.contains(&module.as_str()) {
                let end = rest.find([';', '\n']).unwrap_or(rest.len());
                wrong.push(format!("{} uses core::{}", path.display(), &rest[..end]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
