//! `sage scenario check` and the language's page, as a user meets them.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sage::scenario::Scenario;
use sage::scenario::language::{EXPECT, KINDS, OBSERVE, SCENARIO, SENSOR, STATES, ScenarioKey};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/scenarios.md")).expect("the page")
}

fn sage(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sage"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("sage runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The fenced blocks of a language on the page.
fn blocks(language: &str) -> Vec<String> {
    let page = page();
    let fence = format!("\n```{language}\n");
    let blocks = page.split(&fence).skip(1);
    let blocks: Vec<String> = blocks
        .filter_map(|rest| rest.split("```").next())
        .map(str::to_owned)
        .collect();
    assert!(!blocks.is_empty(), "no {language}");
    blocks
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

const SOUND: &str = "name = 'a'\nticks = 5\n[[observe]]\nat = 1\nkind = 'text'\ntext = 'b'\n";
const MISTAKEN: &str =
    "name = 'a'\nticks = 5\n[[observe]]\nat = 1\nkind = 'txt'\ntext = 'b'\nurgency = 3\n";

#[test]
fn the_repository_s_scenarios_are_sound() {
    let scenarios: Vec<PathBuf> = std::fs::read_dir(root().join("scenarios"))
        .expect("scenarios")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    assert!(!scenarios.is_empty());
    for path in scenarios {
        let output = sage(
            root(),
            &["scenario", "check", path.to_str().expect("a path")],
        );
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
        assert!(
            text(&output.stdout).contains(": fine: "),
            "{}",
            text(&output.stdout)
        );
    }
}

#[test]
fn mistakes_are_the_answer_no_with_every_place() {
    let folder = folder(&[("sound.toml", SOUND), ("mistaken.toml", MISTAKEN)]);
    let output = sage(
        folder.path(),
        &["scenario", "check", "sound.toml", "mistaken.toml"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stdout),
        "sound.toml: fine: 5 ticks, 1 observation, 0 sensors, 0 expectations\n\
         mistaken.toml:5:8: observe number 1 (at = 1, txt): `kind` is \"txt\"; there is no such kind\n  \
           hint: did you mean `text`?\n\
         mistaken.toml:7:11: observe number 1 (at = 1, txt): `urgency` is 3; expected a number from 0 to 1\n\
         mistaken.toml: 2 problems\n"
    );
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn json_carries_places_and_hints() {
    let folder = folder(&[("sound.toml", SOUND), ("mistaken.toml", MISTAKEN)]);
    let arguments = ["scenario", "check", "--json", "mistaken.toml", "sound.toml"];
    let output = sage(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(report["problems"], 2);
    assert_eq!(
        (&report["files"][0]["ok"], &report["files"][1]["ok"]),
        (&false.into(), &true.into())
    );
    let problem = &report["files"][0]["problems"][0];
    assert_eq!(
        problem,
        &serde_json::json!({
            "file": "mistaken.toml", "line": 5, "column": 8,
            "entry": "observe number 1 (at = 1, txt)",
            "message": "`kind` is \"txt\"; there is no such kind",
            "hint": "did you mean `text`?",
        })
    );
}

#[test]
fn an_unreadable_file_is_a_wrong_request_and_the_others_are_checked() {
    let folder = folder(&[("sound.toml", SOUND)]);
    std::fs::write(folder.path().join("bytes.toml"), [0xff, 0xfe]).expect("written");
    for bad in ["no-such.toml", "bytes.toml", "."] {
        let output = sage(folder.path(), &["scenario", "check", bad, "sound.toml"]);
        assert_eq!(output.status.code(), Some(2), "{bad}");
        assert!(text(&output.stdout).contains("sound.toml: fine"), "{bad}");
        let message = text(&output.stderr);
        assert!(message.contains(&format!("error: {bad}: ")), "{message}");
        let output = sage(folder.path(), &["scenario", "check", "--json", bad]);
        assert_eq!(output.status.code(), Some(2), "{bad}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
        assert!(report["files"][0]["error"].is_string(), "{report}");
    }
    assert_eq!(
        sage(folder.path(), &["scenario", "check"]).status.code(),
        Some(2)
    );
}

#[test]
fn run_says_the_same_as_check() {
    let folder = folder(&[("mistaken.toml", MISTAKEN)]);
    let checked = sage(folder.path(), &["scenario", "check", "mistaken.toml"]);
    let run = sage(folder.path(), &["run", "mistaken.toml"]);
    assert_eq!(run.status.code(), Some(2));
    let said = text(&checked.stdout);
    let said = said
        .trim_end()
        .strip_suffix("mistaken.toml: 2 problems")
        .expect("a count");
    assert_eq!(text(&run.stderr), format!("error: {said}"));
    assert_eq!(text(&run.stdout), "");
}

#[test]
fn every_example_of_the_page_is_a_scenario() {
    let examples = blocks("toml");
    assert!(examples.len() >= 4);
    for example in &examples {
        let parsed = Scenario::parse(Path::new("example.toml"), example);
        assert!(parsed.is_ok(), "{example}\n{}", parsed.expect_err("wrong"));
    }
}

/// The page's mistaken scenario is answered as the page says.
#[test]
fn the_page_shows_what_mistakes_look_like() {
    let folder = folder(&[("visit.toml", &blocks("toml-mistaken")[0])]);
    let output = sage(folder.path(), &["scenario", "check", "visit.toml"]);
    assert_eq!(text(&output.stdout), blocks("text")[0]);
}

/// Each key has its row, with what it may be and its default, and there is no other row.
#[test]
fn the_page_has_every_key_and_no_other() {
    let page = page();
    for (heading, keys) in [
        ("## The scenario", &SCENARIO[..]),
        ("## Sensors", &SENSOR),
        ("## Observations", &OBSERVE),
        ("## Expectations", &EXPECT),
    ] {
        let section = page.split(heading).nth(1).expect(heading);
        let section = section.split("\n## ").next().expect("a section");
        let table = section
            .split("| key | expected | default | meaning |")
            .nth(1);
        let table = table.expect(heading).split("\n\n").next().expect("a table");
        let rows: Vec<&str> = table
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        assert_eq!(rows.len(), keys.len(), "{heading}");
        for (
            row,
            ScenarioKey {
                name,
                expected,
                default,
            },
        ) in rows.iter().zip(keys)
        {
            let default = default.unwrap_or("required");
            let expected = format!("| `{name}` | {expected} | {default} | ");
            assert!(row.starts_with(&expected), "{row}\nis not\n{expected}");
        }
    }
    for (kind, _) in KINDS {
        assert!(page.contains(&format!("| `{kind}` |")), "{kind}");
    }
    for state in STATES {
        assert!(page.contains(&format!("`{state}`")), "{state}");
    }
}

/// The page's defaults are those of a scenario that says nothing.
#[test]
fn the_page_s_defaults_hold() {
    let scenario = Scenario::parse(Path::new("t.toml"), "name = 'a'\nticks = 1").expect("sound");
    let default = |name: &str| {
        let key = SCENARIO.iter().find(|key| key.name == name).expect(name);
        key.default
            .expect("a default")
            .parse::<usize>()
            .expect("a number")
    };
    assert_eq!(scenario.context_tokens, default("context_tokens"));
    assert_eq!(scenario.chunk_tokens, default("chunk_tokens"));
    assert_eq!(scenario.answer_tokens, default("answer_tokens"));
    assert_eq!((scenario.limit, scenario.description.as_str()), (None, ""));
}

/// Damaged anywhere, a scenario is read or refused, and every refusal points into the text.
#[test]
fn damage_anywhere_is_an_answer_with_a_place() {
    let sound = blocks("toml")[0].clone();
    let lines = sound.lines().count() + 1;
    for cut in (0..sound.len()).filter(|cut| sound.is_char_boundary(*cut)) {
        for with in ["", "\"", "[", "=", "\n", "é", "9"] {
            let mut damaged = sound.clone();
            let end = (cut + 1..=sound.len()).find(|end| sound.is_char_boundary(*end));
            damaged.replace_range(cut..end.unwrap_or(sound.len()), with);
            let Err(sage::scenario::ScenarioError::Wrong(problems)) =
                Scenario::parse(Path::new("t.toml"), &damaged)
            else {
                continue;
            };
            assert!(!problems.is_empty(), "refused without a reason: {damaged}");
            for problem in problems {
                assert!(
                    problem.place.line <= lines + 1 && problem.place.column >= 1,
                    "{problem}"
                );
            }
        }
    }
}

/// Sounds and pictures are decoded by the check: what a run would refuse has line and column, and what admits it.
#[test]
fn files_that_cannot_be_perceived_are_found() {
    let mut script = "name = 'a'\nticks = 5\nmedia_tokens = 32\n".to_owned();
    let mut expected = Vec::new();
    let long = [
        &b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\0\0\0\0\x01\0\x08\0data\0\0\0\0"
            [..],
        &[129; 5 * 8_000],
    ]
    .concat();
    let cases = root().join("tests/fixtures/media-cases");
    let case = |name: &str| std::fs::read(cases.join(name)).expect(name);
    let files = [
        ("sound", "gone.wav", None, "`sound` cannot be read"),
        (
            "sound",
            "none.wav",
            Some(b"no sound".to_vec()),
            "not a sound file",
        ),
        (
            "sound",
            "long.wav",
            Some(long),
            "takes 65 tokens, expected at most 32",
        ),
        (
            "sound",
            "cut.flac",
            Some(case("flac-stereo-16.flac")[..9_000].to_vec()),
            "cut short",
        ),
        (
            "sound",
            "short.wav",
            Some(case("wav-double.wav")[..900].to_vec()),
            "at least 201",
        ),
        (
            "picture",
            "none.png",
            Some(b"\x89PNG\r\n\x1a\nno".to_vec()),
            "cannot be decoded",
        ),
        (
            "picture",
            "apart.jpg",
            Some(case("jpeg-noninterleaved-420.jpg")),
            "one scan per component",
        ),
        (
            "picture",
            "large.jpg",
            Some(case("large.jpg")),
            "expected at most 524288",
        ),
        ("picture", ".", None, "is a folder"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    for (index, (key, name, bytes, message)) in files.into_iter().enumerate() {
        if let Some(bytes) = bytes {
            std::fs::write(folder.path().join(name), bytes).expect("written");
        }
        script.push_str(&format!(
            "[[observe]]\nat = {}\nkind = '{key}'\n{key} = '{name}'\n",
            index % 2 + index / 2
        ));
        // The value behind the key.
        expected.push((7 + 4 * index, key.len() + 4, message));
    }
    std::fs::write(
        folder.path().join("media.toml"),
        script.replace("ticks = 5", "ticks = 9"),
    )
    .expect("written");
    let output = sage(
        folder.path(),
        &["scenario", "check", "--json", "media.toml"],
    );
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let problems = report["files"][0]["problems"].as_array().expect("problems");
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, (line, column, message)) in problems.iter().zip(&expected) {
        assert!(
            problem.to_string().contains(message),
            "{message}: {problem}"
        );
        assert_eq!(problem["line"], *line, "{problem}");
        assert_eq!(problem["column"], *column, "{problem}");
    }
    let said = report.to_string();
    assert!(said.contains("`media_tokens = 65` admits it"), "{said}");
    assert!(said.contains("`media_tokens = 127` admits it"), "{said}");
}
