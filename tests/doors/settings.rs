//! `sage config` and the settings of the running commands, as a user meets them.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Runs `sage` with these variables and no other settings from the outside.
fn sage(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sage"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SAGE_")) {
        command.env_remove(name);
    }
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .envs(variables.iter().copied())
        .args(arguments)
        .output()
        .expect("sage runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shown(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn json(variables: &[(&str, &str)], arguments: &[&str]) -> Value {
    let arguments = [&["config", "--json"], arguments].concat();
    serde_json::from_str(&shown(&sage(variables, &arguments))).expect("one object")
}

/// The setting of a key in a report.
fn setting<'a>(report: &'a Value, key: &str) -> &'a Value {
    let settings = report["settings"].as_array().expect("settings");
    let found = settings.iter().find(|setting| setting["key"] == key);
    found.unwrap_or_else(|| panic!("no {key}"))
}

/// A file in the tests' own folder.
fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("written");
    path
}

#[test]
fn every_setting_is_shown_with_its_value_and_its_default() {
    let shown = shown(&sage(&[], &["config"]));
    let row = |key: &str| {
        let line = shown
            .lines()
            .find(|line| line.split("  ").next() == Some(key));
        let line = line.unwrap_or_else(|| panic!("no {key} in\n{shown}"));
        line.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("session.limit")[1..], ["auto", "default"]);
    assert_eq!(row("sampling.temperature")[1..], ["0.0", "default"]);
    assert_eq!(row("mind.routing")[1..], ["salient", "default"]);
    assert_eq!(
        row("mind.budgets.wake.residency_bias")[1..],
        ["0.1", "default"]
    );
    assert_eq!(
        row("mind.eviction.horizon.half_life_tokens")[1..],
        ["12.0", "default"]
    );
    assert_eq!(row("mind.hold")[1..], ["(not set)", "default"]);
    assert_eq!(row("mind.pool_bytes")[1], "(found at start)");
    assert_eq!(row("mind.modules")[1], "(found at start)");

    // Everything that the defaults' file says, and its values.
    let defaults = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/default.toml");
    let defaults = std::fs::read_to_string(defaults).expect("the defaults");
    let defaults: toml::Table = defaults.parse().expect("TOML");
    let report = json(&[], &[]);
    let mut count = 0;
    leaves("", &defaults, &mut |key, value| {
        let (key, value) = match key {
            "mind.eviction.horizon" => return,
            key => (key, value),
        };
        count += 1;
        let found = setting(&report, key);
        assert_eq!(
            found["value"],
            serde_json::to_value(value).expect("JSON"),
            "{key}"
        );
        assert_eq!(found["value"], found["default"]);
        assert_eq!(found["origin"], "default");
    });
    assert!(count > 70, "{count}");
}

/// The page has a row of every setting, with its default and what it may be.
#[test]
fn the_page_on_settings_has_all_of_them() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let report = json(&[], &[]);
    let default = |setting: &Value| match &setting["default"] {
        Value::Null => "(not set)".to_owned(),
        Value::String(word) => word.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(Value::to_string).collect();
            format!("[{}]", items.join(", "))
        }
        value => value.to_string(),
    };
    let mut budgets: Vec<(String, Vec<String>, String)> = Vec::new();
    let settings = report["settings"].as_array().expect("settings");
    for setting in settings {
        let key = setting["key"].as_str().expect("a key");
        let expected = setting["expected"].as_str().expect("words");
        if let Some(name) = key.strip_prefix("mind.budgets.") {
            let (_, name) = name.split_once('.').expect("a state and a name");
            match budgets.iter_mut().find(|row| row.0 == name) {
                Some(row) => row.1.push(format!("`{}`", default(setting))),
                None => {
                    let first = vec![format!("`{}`", default(setting))];
                    budgets.push((name.to_owned(), first, expected.to_owned()));
                }
            }
            continue;
        }
        let row = format!("| `{key}` | `{}` | {expected} | ", default(setting));
        assert!(page.contains(&row), "docs/settings.md lacks {row}");
    }
    for (name, defaults, expected) in &budgets {
        let row = format!("| `{name}` | {} | {expected} | ", defaults.join(" | "));
        assert!(page.contains(&row), "docs/settings.md lacks {row}");
    }
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `") && line.ends_with(" |"));
    let of_settings =
        rows.filter(|line| line.matches(" | ").count() > 2 && !line.contains("STATE"));
    let states = 6;
    let listed = settings.len() - budgets.len() * (states - 1);
    assert_eq!(
        of_settings.count(),
        listed,
        "the page has a row of no setting"
    );
}

fn leaves(at: &str, table: &toml::Table, each: &mut impl FnMut(&str, &toml::Value)) {
    for (key, value) in table {
        let at = if at.is_empty() {
            key.clone()
        } else {
            format!("{at}.{key}")
        };
        match value {
            toml::Value::Table(table) => leaves(&at, table, each),
            value => each(&at, value),
        }
    }
}

/// The same four settings, each layer saying one more of them than the layer above it leaves alone.
#[test]
fn file_environment_and_command_line_each_override_the_layer_before() {
    let key = |name: &str| format!("mind.transitions.{name}");
    let named = file(
        "named.toml",
        "[mind.transitions]\ndwell_ticks = 11\nthreat_rearm_ticks = 11\nthreat_calm_ticks = 11\nwake_rest_ticks = 11\n",
    );
    let given = file(
        "given.toml",
        "[mind.transitions]\nthreat_rearm_ticks = 12\n\nthreat_calm_ticks = 12\nwake_rest_ticks = 12\n",
    );
    let (named, given) = (
        named.to_str().expect("a path"),
        given.to_str().expect("a path"),
    );
    let variables = [
        ("SAGE_CONFIG", named),
        ("SAGE_MIND__TRANSITIONS__THREAT_CALM_TICKS", "13"),
        ("SAGE_MIND__TRANSITIONS__WAKE_REST_TICKS", "13"),
    ];
    let arguments = [
        "--config",
        given,
        "--set",
        "mind.transitions.wake_rest_ticks=14",
    ];
    let report = json(&variables, &arguments);
    let of = |name: &str| setting(&report, &key(name)).clone();

    let first = of("dwell_ticks");
    assert_eq!(
        (&first["value"], &first["origin"]),
        (&11.into(), &"file".into())
    );
    assert_eq!(
        (&first["file"], &first["line"], &first["column"]),
        (&named.into(), &2.into(), &15.into())
    );
    let second = of("threat_rearm_ticks");
    assert_eq!(
        (&second["value"], &second["file"], &second["line"]),
        (&12.into(), &given.into(), &2.into())
    );
    let third = of("threat_calm_ticks");
    assert_eq!(
        (&third["value"], &third["origin"]),
        (&13.into(), &"environment".into())
    );
    assert_eq!(
        third["variable"],
        "SAGE_MIND__TRANSITIONS__THREAT_CALM_TICKS"
    );
    let fourth = of("wake_rest_ticks");
    assert_eq!(
        (&fourth["value"], &fourth["origin"]),
        (&14.into(), &"command_line".into())
    );
    assert_eq!(fourth["argument"], "mind.transitions.wake_rest_ticks=14");
    assert_eq!(fourth["default"], 30);
    assert_eq!(of("dream_quiet_ticks")["origin"], "default");

    let shown = shown(&sage(&variables, &[&["config"][..], &arguments].concat()));
    for expected in [
        &format!("{named}:2:15"),
        &format!("{given}:2:22"),
        "SAGE_MIND__TRANSITIONS__THREAT_CALM_TICKS",
        "--set",
    ] {
        assert!(shown.contains(expected), "{shown}\ndoes not say {expected}");
    }
    let empty = json(&[("SAGE_CONFIG", "")], &[]);
    assert_eq!(setting(&empty, "mind.routing")["origin"], "default");
}

#[test]
fn mistakes_end_with_2_and_say_where_and_what() {
    let path = file(
        "mistaken-settings.toml",
        "[mind]\nroutng = 'sage'\n\n[mind.budgets.wake]\nf = 'fast'\n",
    );
    let path = path.to_str().expect("a path");
    let output = sage(
        &[("SAGE_MIND__WINDOW_EXPERTS", "0")],
        &["config", "--config", path, "--set", "mind.routing=slow"],
    );
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        format!(
            "error: {path}:2:1: there is no setting `mind.routng`\n  \
               hint: did you mean `routing`?\n\
             {path}:5:5: `mind.budgets.wake.f` is \"fast\"; expected a number above 0\n\
             SAGE_MIND__WINDOW_EXPERTS: `mind.window_experts` is 0; expected a whole number from 1 to 65535\n\
             --set mind.routing=slow: `mind.routing` is \"slow\"; expected exact, sage or salient\n"
        )
    );
    let output = sage(&[("SAGE_CONFIG", "no-such.toml")], &["config"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("no-such.toml"),
        "{}",
        text(&output.stderr)
    );
}

const ASK: [&str; 6] = [
    "generate",
    "models/tiny",
    "--prompt",
    "What is 21 + 3?",
    "--max-tokens",
    "2",
];

/// The running commands read the same layers: each is refused for the same mistake, and obeys the same values.
#[test]
fn running_commands_share_the_layers() {
    let goldens = "tests/fixtures/tiny-thinker/goldens";
    let verify = [
        "verify",
        "tests/fixtures/tiny-thinker",
        "--goldens",
        goldens,
    ];
    let run = [
        "run",
        "scenarios/wake-focus-crisis.toml",
        "--model",
        "models/tiny",
    ];
    for command in [&ASK[..], &verify, &run] {
        for (variables, arguments) in [
            (&[("SAGE_MIND__BUDGETS__WAKE__F", "0")][..], &[][..]),
            (&[], &["--set", "mind.budgets.wake.f=0"]),
        ] {
            let output = sage(variables, &[command, arguments].concat());
            let message = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command:?}: {message}");
            assert!(
                message.contains("`mind.budgets.wake.f` is 0; expected a number above 0"),
                "{message}"
            );
        }
    }
    let mode = |variables: &[(&str, &str)], arguments: &[&str]| {
        let output = sage(variables, &[&ASK[..], &["--json"], arguments].concat());
        let report: Value = serde_json::from_str(&shown(&output)).expect("one object");
        (
            report["mode"]["routing"].clone(),
            report["mode"]["eviction"].clone(),
        )
    };
    let says = |routing: &str, eviction: &str| (routing.into(), eviction.into());
    assert_eq!(
        mode(&[("SAGE_MIND__ROUTING", "sage")], &[]),
        says("sage", "horizon(12 tokens)")
    );
    assert_eq!(
        mode(
            &[("SAGE_MIND__ROUTING", "sage")],
            &["--set", "mind.routing=salient"]
        ),
        says("salient", "horizon(12 tokens)")
    );
    let half_life = ["--set", "mind.eviction.horizon.half_life_tokens=9"];
    assert_eq!(mode(&[], &half_life), says("salient", "horizon(9 tokens)"));
    assert_eq!(
        mode(&[], &[&half_life[..], &["--eviction", "horizon"]].concat()),
        says("salient", "horizon(9 tokens)")
    );
    assert_eq!(
        mode(&[], &["--set", "mind.eviction=lru"]),
        says("salient", "lru")
    );
    // The options of a command are nearer than any setting.
    assert_eq!(
        mode(&[("SAGE_MIND__ROUTING", "sage")], &["--routing", "exact"]),
        says("exact", "horizon(12 tokens)")
    );
    assert_eq!(
        mode(&[("SAGE_MIND__ROUTING", "sage")], &["--exact"]),
        says("exact", "horizon(12 tokens)")
    );

    let both = sage(
        &[],
        &[&ASK[..], &["--exact", "--set", "mind.routing=sage"]].concat(),
    );
    assert_eq!(both.status.code(), Some(2));
    assert!(
        text(&both.stderr).contains("--exact"),
        "{}",
        text(&both.stderr)
    );
}

/// A setting that is shown is a setting that acts: the window of a lease is part of the floor.
#[test]
fn the_window_is_as_wide_as_it_was_set() {
    let floor = |window: &str| {
        let set = format!("mind.window_experts={window}");
        let output = sage(&[], &[&ASK[..], &["--json", "--set", &set]].concat());
        let report: Value = serde_json::from_str(&shown(&output)).expect("one object");
        report["mode"]["floor_bytes"].as_u64().expect("bytes")
    };
    assert!(floor("32") > floor("16"));
}

#[test]
fn help_documents_the_layers() {
    let help = shown(&sage(&[], &["config", "--help"]));
    for expected in [
        "SAGE_CONFIG",
        "SAGE_MIND__BUDGETS__WAKE__F=0.75",
        "--set",
        "--config",
        "Exit code 2",
    ] {
        assert!(help.contains(expected), "{help}\ndoes not say {expected}");
    }
}
