//! `--ledger` and `sage trust`, as a user meets them.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use redb::{Database, TableDefinition};
use sage::ledger::{LedgerFile, VERSION, log_path};
use serde_json::Value;

const SCENARIO: &str = r#"
name = "a page and a question"
limit = "60slots"
ticks = 80

[[observe]]
at = 0
kind = "text"
source = "book"
text = "And he ran unto Eli, and said, Here am I; for thou calledst me. And he said, I called not; lie down again. "

[[observe]]
at = 40
kind = "question"
source = "visitor"
text = "What is 21 + 3?"

[[observe]]
at = 70
kind = "feedback"
source = "visitor"
value = 0.5
"#;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sage"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env(
            "SAGE_CACHE",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"),
        )
        .args(arguments);
    command
}

fn sage(arguments: &[&str]) -> Output {
    command(arguments).output().expect("sage runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(arguments: &[&str]) -> Value {
    let output = sage(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one object of JSON")
}

/// A folder with the scenario, and paths in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        std::fs::write(folder.path().join("scenario.toml"), SCENARIO).expect("written");
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        let path = self.0.path().join(name);
        path.to_str().expect("a path").to_owned()
    }

    /// Runs the scenario; every event but the mode, without what the clock says.
    fn run(&self, more: &[&str]) -> (Value, Vec<Value>) {
        let scenario = self.path("scenario.toml");
        let output = sage(&[&["run", &scenario, "--json"], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let stdout = text(&output.stdout);
        let mut events = stdout
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("an event a line"));
        let mode = events.next().expect("a mode");
        let mut events: Vec<Value> = events.collect();
        events.pop().expect("a summary");
        (mode, events)
    }

    /// A ledger that one run has filled.
    fn ledger(&self) -> String {
        let ledger = self.path("trust.redb");
        self.run(&["--ledger", &ledger]);
        ledger
    }
}

fn refused(arguments: &[&str], code: i32, expected: &[&str]) {
    let output = sage(arguments);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    for part in expected {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn an_empty_ledger_decides_nothing_and_the_next_run_goes_on_from_it() {
    let place = Place::new();
    let ledger = place.path("trust.redb");
    let (without, fresh) = place.run(&[]);
    let (mode, first) = place.run(&["--ledger", &ledger]);
    assert_eq!(fresh, first, "an empty ledger changed a decision");
    assert_eq!(mode["ledger"].as_str(), Some(&*ledger));
    let line = mode["text"].as_str().expect("a line");
    assert!(line.contains("(0 outcomes over 0 ticks)"), "{line}");
    assert_eq!(without.get("ledger"), None);
    assert!(
        !log_path(Path::new(&ledger)).exists(),
        "closed, it is one file"
    );

    let one = json(&["trust", "show", &ledger, "--json"]);
    assert!(one["outcomes"].as_u64() > Some(5), "{one}");
    let (mode, _) = place.run(&["--ledger", &ledger]);
    let line = mode["text"].as_str().expect("a line");
    assert!(
        line.contains(&format!("({} outcomes over", one["outcomes"])),
        "{line}"
    );
    let two = json(&["trust", "show", &ledger, "--json"]);
    for count in ["visits", "outcomes", "tick"] {
        let of = |shown: &Value| shown[count].as_f64().expect("a number");
        let grown = of(&two) / of(&one);
        assert!(
            (1.6..2.4).contains(&grown),
            "{count} grew {grown}: {one} {two}"
        );
    }
    let last = |shown: &Value| {
        let rows = shown["most"].as_array().expect("rows").iter();
        rows.filter_map(|row| row["last_used"].as_u64()).max()
    };
    assert!(last(&two) > one["tick"].as_u64(), "ticks go on over runs");
}

#[test]
fn generate_learns_too_but_not_exactly() {
    let place = Place::new();
    let ledger = place.path("trust.redb");
    let ask = [
        "generate",
        "models/tiny",
        "--prompt",
        "What is 21 + 3?",
        "--ledger",
        &ledger,
    ];
    refused(
        &[&ask[..], &["--exact"]].concat(),
        2,
        &["--ledger", "--exact"],
    );
    assert!(!Path::new(&ledger).exists(), "nothing was made");
    assert!(sage(&ask).status.success());
    let shown = json(&["trust", "show", &ledger, "--json"]);
    assert!(shown["known"].as_u64() > Some(8), "{shown}");
}

#[test]
fn a_killed_run_loses_no_step_that_it_reported() {
    let place = Place::new();
    let ledger = place.path("trust.redb");
    let scenario = place.path("scenario.toml");
    let outcomes = |ledger: &str| {
        let shown = json(&["trust", "show", ledger, "--json"]);
        shown["outcomes"].as_u64().expect("a number")
    };
    let mut before = 0;
    for kill_after in [2, 9] {
        let mut child = command(&["run", &scenario, "--json", "--ledger", &ledger])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sage runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut steps = 0;
        for line in lines.map_while(Result::ok) {
            // Told after the step was learned from.
            steps += u64::from(line.contains(r#""type":"cache""#));
            if steps == kill_after {
                child.kill().expect("killed");
            }
        }
        child.wait().expect("ended");
        let after = outcomes(&ledger);
        assert!(after >= before + steps, "{after} of {before} and {steps}");
        before = after;
    }
    place.run(&["--ledger", &ledger]);
    assert!(outcomes(&ledger) > before);
}

#[test]
fn show_is_a_table_and_says_what_it_leaves_out() {
    let place = Place::new();
    let ledger = place.ledger();
    let shown = text(&sage(&["trust", "show", &ledger, "--top", "3"]).stdout);
    for part in [
        "outcomes over",
        "most trusted",
        "least trusted",
        "at their prior",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let rows = |shown: &str| shown.matches("thinker layer ").count();
    assert_eq!(rows(&shown), 6, "{shown}");
    let layer = text(&sage(&["trust", "show", &ledger, "--layer", "1"]).stdout);
    assert_eq!(rows(&layer), layer.matches("thinker layer 1 ").count());
    let whole = json(&["trust", "show", &ledger, "--json", "--top", "1000"]);
    let most = whole["most"].as_array().expect("rows");
    let trust = most
        .iter()
        .map(|row| row["trust"].as_f64().expect("a number"));
    assert!(trust.is_sorted_by(|a, b| a >= b));
    assert_eq!(Some(most.len() as u64), whole["known"].as_u64());
    refused(
        &["trust", "show", &ledger, "--layer", "99"],
        2,
        &["--layer is 99"],
    );
    refused(
        &["trust", "show", &place.path("none.redb")],
        2,
        &["none.redb"],
    );
}

#[test]
fn an_export_comes_back_as_it_was() {
    let place = Place::new();
    let ledger = place.ledger();
    let (file, copy, again) = (
        place.path("a.json"),
        place.path("b.redb"),
        place.path("b.json"),
    );
    assert!(
        sage(&["trust", "export", &ledger, "--out", &file])
            .status
            .success()
    );
    let exported = std::fs::read_to_string(&file).expect("an export");
    let piped = sage(&["trust", "export", &ledger]);
    assert_eq!(text(&piped.stdout), exported);
    let import = ["trust", "import", &file, "--out", &copy];
    json(&[&import[..], &["--model", "models/tiny", "--json"]].concat());
    assert!(
        sage(&["trust", "export", &copy, "--out", &again])
            .status
            .success()
    );
    assert_eq!(
        std::fs::read_to_string(&again).expect("an export"),
        exported
    );
    // A run goes on from the copy as from the original.
    let (_, original) = place.run(&["--ledger", &ledger]);
    let (_, imported) = place.run(&["--ledger", &copy]);
    assert_eq!(original, imported);
    // Nothing is overwritten unasked.
    let before = std::fs::read(&copy).expect("a ledger");
    refused(&import, 2, &["exists", "--force"]);
    assert_eq!(std::fs::read(&copy).expect("a ledger"), before);
    json(&[&import[..], &["--force", "--json"]].concat());
    let shown = |ledger: &str| json(&["trust", "show", ledger, "--json"])["outcomes"].clone();
    assert!(shown(&copy).as_u64() < shown(&ledger).as_u64());
}

#[test]
fn an_export_that_no_ledger_wrote_is_refused_with_its_place() {
    let place = Place::new();
    let ledger = place.ledger();
    let exported = text(&sage(&["trust", "export", &ledger]).stdout);
    let (file, made) = (
        PathBuf::from(place.path("changed.json")),
        place.path("made.redb"),
    );
    let record = exported.find(r#""convergence":"#).expect("a record");
    let line = format!("line {}", exported[..record].lines().count());
    let newer = VERSION + 1;
    let (of_newer, of_this) = (format!("version {newer}"), format!("version {VERSION}"));
    let value = |with: &str| {
        let end = record + exported[record..].find(',').expect("more");
        format!(
            "{}\"convergence\":{with}{}",
            &exported[..record],
            &exported[end..]
        )
    };
    let lines: Vec<&str> = exported.lines().collect();
    let dropped = lines.iter().enumerate().filter(|(at, _)| *at != 6);
    let dropped: Vec<&str> = dropped.map(|(_, line)| *line).collect();
    for (changed, expected) in [
        (
            value("1.5"),
            vec!["convergence is 1.5; expected 0 to 1", &line],
        ),
        (value("-0.1"), vec!["convergence is -0.1", &line]),
        (value("NaN"), vec![&*line]),
        (value("null"), vec![&*line]),
        (value("1e999"), vec![&*line]),
        (
            exported.replacen(
                &format!("\"version\":{VERSION}"),
                &format!("\"version\":{newer}"),
                1,
            ),
            vec![&of_newer, &of_this],
        ),
        (
            exported.replacen("sage trust", "some other", 1),
            vec!["format"],
        ),
        (
            exported.replacen("\"layer\":0,\"expert\":1,", "\"layer\":0,\"expert\":9,", 1),
            vec!["modules[0].records[1]", "expected layer 0 expert 1"],
        ),
        (dropped.join("\n"), vec!["modules[0].records"]),
        (
            exported[..exported.len() / 2].to_owned(),
            vec!["EOF", "line"],
        ),
        (
            exported.replacen("\"visits\"", "\"visit\"", 1),
            vec!["unknown field `visit`", "line"],
        ),
        (String::new(), vec!["changed.json"]),
    ] {
        std::fs::write(&file, changed).expect("written");
        let file = file.to_str().expect("a path");
        refused(&["trust", "import", file, "--out", &made], 2, &expected);
        assert!(!Path::new(&made).exists(), "something was made");
    }
    // Sound, but of another model.
    std::fs::write(&file, &exported).expect("written");
    let import = [
        "trust",
        "import",
        file.to_str().expect("a path"),
        "--out",
        &made,
    ];
    let other = ["--model", "tests/fixtures/tiny-thinker"];
    refused(
        &[&import[..], &other].concat(),
        2,
        &["is the trust ledger of model"],
    );
}

#[test]
fn another_models_ledger_is_refused_with_both_names() {
    let place = Place::new();
    let ledger = place.ledger();
    let own = json(&["trust", "show", &ledger, "--json"])["fingerprint"].clone();
    let own = own.as_str().expect("a fingerprint");
    let other = sage::store::open_model(Path::new("tests/fixtures/tiny-thinker"))
        .and_then(|model| model.fingerprint())
        .expect("a model");
    let before = std::fs::read(&ledger).expect("a ledger");
    refused(
        &[
            "generate",
            "tests/fixtures/tiny-thinker",
            "--prompt-tokens",
            "1 2 3",
            "--max-tokens",
            "2",
            "--ledger",
            &ledger,
        ],
        2,
        &[own, &other, "hint"],
    );
    assert_eq!(
        before.len(),
        std::fs::read(&ledger).expect("a ledger").len()
    );
}

#[test]
fn one_process_at_a_time() {
    let place = Place::new();
    let ledger = place.ledger();
    let held = LedgerFile::open(Path::new(&ledger)).expect("free");
    let scenario = place.path("scenario.toml");
    let file = place.path("a.json");
    let in_use = ["in use by another process"];
    refused(&["trust", "show", &ledger], 3, &in_use);
    refused(&["run", &scenario, "--ledger", &ledger], 3, &in_use);
    drop(held);
    assert!(
        sage(&["trust", "export", &ledger, "--out", &file])
            .status
            .success()
    );
    let held = LedgerFile::open(Path::new(&ledger)).expect("free");
    refused(
        &["trust", "import", &file, "--out", &ledger, "--force"],
        3,
        &in_use,
    );
    drop(held);
}

#[test]
fn other_files_and_newer_versions_are_refused() {
    let place = Place::new();
    let ledger = place.ledger();
    let scenario = place.path("scenario.toml");
    refused(
        &["run", &scenario, "--ledger", &scenario],
        2,
        &["scenario.toml is no trust ledger"],
    );
    let meta: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
    let newer = || -> Result<(), Box<dyn std::error::Error>> {
        let db = Database::open(&ledger)?;
        let transaction = db.begin_write()?;
        transaction
            .open_table(meta)?
            .insert("version", (VERSION + 1).to_le_bytes().as_slice())?;
        Ok(transaction.commit()?)
    };
    newer().expect("written");
    let newer = format!("version {}", VERSION + 1);
    let own = format!("version {VERSION}");
    for command in [
        &["trust", "show", &ledger][..],
        &["run", &scenario, "--ledger", &ledger],
    ] {
        refused(command, 2, &[&newer, &own, "hint"]);
    }
    let other = place.path("other.redb");
    drop(Database::create(&other).expect("made"));
    refused(&["trust", "show", &other], 2, &["is no trust ledger"]);
}
