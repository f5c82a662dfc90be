//! Tells the program which commit and target it is built from. Needs nothing but cargo; without git, or outside a checkout
//! of its own, the commit is `unknown`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the program is made of: while any of it differs from the commit, the commit alone would not be true.
const SOURCES: [&str; 6] = [
    "src",
    "actors",
    "config",
    "build.rs",
    "Cargo.toml",
    "Cargo.lock",
];

fn main() {
    let target = std::env::var("TARGET").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=SAGE_TARGET={target}");
    println!(
        "cargo::rustc-env=SAGE_COMMIT={}",
        commit().unwrap_or_else(|| "unknown".to_owned())
    );
    for source in SOURCES {
        watch(Path::new(source));
    }
}

fn commit() -> Option<String> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    // A copy of the sources inside of another project's checkout has that project's commits around it.
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    // The log of HEAD grows with every commit, wherever the branch's own name is kept.
    for name in ["HEAD", "logs/HEAD", "packed-refs"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            watch(Path::new(&path));
        }
    }
    let changed = [&["status", "--porcelain", "--"][..], &SOURCES].concat();
    match git(&changed) {
        Some(changes) if changes.is_empty() => Some(hash),
        _ => Some(format!("{hash} with changes")),
    }
}

/// Runs this again when the path changes. One that is not there would have it run every time.
fn watch(path: &Path) {
    if path.exists() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    let output = git
        .arg("--no-optional-locks")
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
