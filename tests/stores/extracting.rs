//! Stores that the command makes.

#![allow(clippy::unwrap_used)] // a test stops at the first thing that is wrong

use std::path::Path;

use crate::common::layouts::{sage, text};

/// A store of `from`, with a `--quant` for every rule.
pub fn extracted(from: &Path, rules: &[&str]) -> tempfile::TempDir {
    extracted_saying(from, rules).0
}

/// As [`extracted`], and what the command said of it.
pub fn extracted_saying(from: &Path, rules: &[&str]) -> (tempfile::TempDir, String) {
    let store = tempfile::tempdir().unwrap();
    let mut args = vec!["extract", text(from), "--out", text(store.path())];
    for rule in rules {
        args.extend(["--quant", *rule]);
    }
    let (code, _, stderr) = sage(&args);
    assert_eq!(code, 0, "{stderr}");
    (store, stderr)
}
