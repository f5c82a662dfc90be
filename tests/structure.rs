//! The architecture's rules that a compiler does not check.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "structure/dependencies.rs"]
mod dependencies;
#[path = "structure/inner.rs"]
mod inner;
#[path = "structure/once.rs"]
mod once;
#[path = "structure/rooms.rs"]
mod rooms;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below `folder`, relative to the root.
fn sources(folder: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// A file without its comments.
fn code(path: &Path) -> String {
    let text = read(path);
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

/// A file without its comments and its tests; none, if it is nothing but tests.
fn production(path: &Path) -> Option<String> {
    let name = path.file_stem().unwrap().to_str().unwrap();
    if name == "tests" || name.ends_with("_tests") {
        return None;
    }
    let code = code(path);
    let end = code.find("#[cfg(test)]\nmod tests {").unwrap_or(code.len());
    Some(code[..end].to_owned())
}

/// The modules that a file names behind `crate::`, also in a group (`use crate::{a, b::c}`).
fn used_modules(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        let name = |text: &str| {
            text.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect::<String>()
        };
        let Some(group) = rest.strip_prefix('{') else {
            used.insert(name(rest));
            continue;
        };
        let mut depth = 1;
        let mut start = true;
        for (index, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => start = true,
                c if start && !c.is_whitespace() => {
                    used.insert(name(&group[index..]));
                    start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    used
}

#[test]
fn groups_and_paths_are_understood() {
    let code = "use crate::a::x;\nuse crate::{b::{y, z},\n  c};\nfn f() { crate::d::g() }";
    assert_eq!(
        used_modules(code),
        ["a", "b", "c", "d"].map(str::to_owned).into()
    );
}

#[test]
fn the_mind_has_no_tensors_files_clock_or_random_order() {
    // Tests may measure; a map without order has no place even where it is not iterated today.
    let banned = [
        "candle",
        "std::fs",
        "std::net",
        "Instant",
        "SystemTime",
        "HashMap",
        "HashSet",
        "RandomState",
    ];
    let mut wrong = Vec::new();
    for path in sources("actors/src") {
        let code = code(&path);
        wrong.extend(
            banned
                .iter()
                .filter(|word| code.contains(**word))
                .map(|word| format!("{}: {word}", path.display())),
        );
    }
    let manifest = fs::read_to_string(root().join("actors/Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or("");
    for banned in ["candle", "\nsage ", "\nsage=", "rand "] {
        assert!(
            !dependencies.contains(banned),
            "actors/Cargo.toml: {banned}"
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_stay_readable() {
    let folders = [
        "src",
        "actors/src",
        "actors/tests",
        "tests",
        "examples",
        "benches",
    ];
    let mut long = Vec::new();
    for path in folders.into_iter().flat_map(sources) {
        let lines = read(&path).lines().count();
        if lines > 500 {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn the_top_level_holds_only_what_it_should() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "build.rs",
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "deny.toml",
        "LICENSE",
        "NOTICE",
        "actors",
        "src",
        "config",
        "docs",
        "scenarios",
        "tests",
        "models",
        "examples",
        "benches",
        "target",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || allowed.contains(&name.as_str()),
            "{name} at the top level"
        );
    }
}

/// What computes is behind the core's ports; of the model it uses what has no weights.
#[test]
fn the_core_knows_no_processor_and_no_format() {
    const PLAIN: [&str; 5] = [
        "Positions",
        "positions::",
        "speech::",
        "pieces::PieceCounts",
        "audio::token_count",
    ];
    let mut wrong = Vec::new();
    for path in sources("src/core") {
        let code = code(&path);
        let used = used_modules(&code);
        let rooms = ["cpu", "kernels", "host_memory"].into_iter();
        let found = rooms.filter(|room| used.contains(*room));
        wrong.extend(found.map(|room| format!("{} uses {room}", path.display())));
        for (at, name) in code.match_indices("crate::model::") {
            let rest = &code[at + name.len()..];
            if !PLAIN.iter().any(|plain| rest.starts_with(plain)) {
                let end = rest.find([';', '\n']).unwrap_or(rest.len());
                wrong.push(format!("{} uses model::{}", path.display(), &rest[..end]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The names that a format of weights goes by.
fn is_format(variant: &str) -> bool {
    let plain = variant.trim().to_lowercase().replace('_', "");
    ["f32", "bf16", "f16", "q80", "q4k"].contains(&plain.as_str())
}

/// How weights are stored is said in one vocabulary: whatever else enumerates formats would have to be kept in step with it.
#[test]
fn one_type_enumerates_the_formats_of_weights() {
    let mut found = Vec::new();
    for path in sources("src").into_iter().chain(sources("actors/src")) {
        let code = code(&path);
        for (at, _) in code.match_indices("enum ") {
            let Some((name, rest)) = code[at + 5..].split_once('{') else {
                continue;
            };
            let body = rest.split("\n}").next().unwrap_or(rest);
            let variants = body.split([',', '\n', '{', '(', '}']);
            if variants.filter(|variant| is_format(variant)).count() > 1 {
                found.push(format!("{}: {}", path.display(), name.trim()));
            }
        }
    }
    assert_eq!(found, ["src/formats/mod.rs: WeightFormat"]);
}

/// Formats and the memory of the host are what everything else is built on: they use no other room.
#[test]
fn formats_and_host_memory_use_nothing() {
    let leaves = sources("src/formats")
        .into_iter()
        .chain(sources("src/host_memory"))
        .chain([PathBuf::from("src/host_memory.rs")]);
    for path in leaves {
        let code = code(&path);
        let used = code
            .find("crate::")
            .map(|at| &code[at..(at + 40).min(code.len())]);
        assert_eq!(used, None, "{} uses another room", path.display());
    }
}
