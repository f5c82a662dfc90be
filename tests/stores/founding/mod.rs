//! What the founding text promised, by its words: one state looked at closely, the towers alone, its spellings of
//! extraction, stores by measured price, and what the program is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

mod encode;
mod extract;
mod wake;

use std::process::Output;

use crate::common::fixture;
use crate::common::runs::{complaint, sage};
use sage::goldens::{self, Golden};
use serde_json::Value;

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", complaint(output));
    serde_json::from_slice(&output.stdout).expect("one object of JSON")
}

/// That a command refuses its request and says so with these words.
fn refused(arguments: &[&str], words: &[&str]) {
    let output = sage(arguments);
    let message = complaint(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    for word in words {
        assert!(message.contains(word), "{arguments:?}: {word}: {message}");
    }
}

fn golden(model: &str, case: &str) -> Golden {
    let cases = goldens::cases(&fixture(model).join("goldens")).expect("goldens");
    let case = cases.iter().find(|found| found.name == case).expect(case);
    case.open().expect("a golden")
}

fn prompt(golden: &Golden) -> String {
    let (_, ids) = golden.integers("in.input_ids").unwrap().unwrap();
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    ids.join(" ")
}

fn path(name: &str) -> String {
    fixture(name).display().to_string()
}

#[test]
fn the_version_says_commit_target_and_instruction_set() {
    let short = String::from_utf8(sage(&["-V"]).stdout).unwrap();
    assert_eq!(short.lines().count(), 1, "{short}");
    let long = String::from_utf8(sage(&["--version"]).stdout).unwrap();
    let line = |name: &str| {
        let found = long.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("{name} in {long}")).trim()
    };
    assert!(long.starts_with(&format!("sage {}", env!("CARGO_PKG_VERSION"))));
    let commit = line("commit:");
    let hash = commit.trim_end_matches(" with changes");
    assert!(
        commit == "unknown" || hash.len() >= 12 && hash.chars().all(|c| c.is_ascii_hexdigit()),
        "{commit}"
    );
    assert!(line("target:").contains(std::env::consts::ARCH));
    let set = line("instruction set:").split(' ').next().unwrap();
    assert!(["portable", "avx2", "avx512"].contains(&set), "{set}");
    assert!(short.contains(set) && short.contains(hash));
}
