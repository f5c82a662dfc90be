//! What the workspace is built of: where its packages come from, which versions are asked for, under which licences, and
//! what a host gets that takes the library alone. `deny.toml` says the same to `cargo deny`, which reads the packages too.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use toml::{Table, Value};

use super::read;

const MANIFESTS: [&str; 2] = ["Cargo.toml", "actors/Cargo.toml"];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Young packages, whose next release may be another: one version and no other, until somebody has looked.
const PINNED: [&str; 4] = ["candle-core", "candle-nn", "kameo", "redb"];

/// What only the program needs.
const OF_THE_PROGRAM: [&str; 5] = [
    "anyhow",
    "clap",
    "indicatif",
    "rustyline",
    "tracing-subscriber",
];

fn parsed(path: &str) -> Table {
    read(Path::new(path))
        .parse()
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The value behind keys that stand within each other.
fn at<'a>(table: &'a Table, keys: &[&str]) -> Option<&'a Value> {
    let (first, rest) = keys.split_first()?;
    let value = table.get(*first)?;
    match value {
        _ if rest.is_empty() => Some(value),
        Value::Table(inner) => at(inner, rest),
        _ => None,
    }
}

fn texts<'a>(table: &'a Table, keys: &[&str]) -> BTreeSet<&'a str> {
    let list = at(table, keys).and_then(Value::as_array);
    let list = list.unwrap_or_else(|| panic!("no list {keys:?}"));
    list.iter().filter_map(Value::as_str).collect()
}

/// Every table of dependencies in a manifest, of every target too.
fn dependency_tables(manifest: &Table) -> Vec<&Table> {
    const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = at(manifest, &["target"]).and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values);
    let parts = targets.filter_map(Value::as_table).chain([manifest]);
    let tables = parts.flat_map(|part| KINDS.iter().filter_map(|kind| at(part, &[*kind])));
    tables
        .chain(at(manifest, &["workspace", "dependencies"]))
        .filter_map(Value::as_table)
        .collect()
}

/// What is wrong with how a manifest asks for a package.
fn problem(name: &str, asked: &Value) -> Option<String> {
    if let Some(from) = ["git", "registry"]
        .iter()
        .find(|key| asked.get(key).is_some())
    {
        return Some(format!("comes from another place than crates.io ({from})"));
    }
    // The workspace's own table is looked at too; what has a path is a member, or Cargo.lock says otherwise.
    let is_ours = asked.get("workspace").is_some() || asked.get("path").is_some();
    let version = asked.as_str().or_else(|| asked.get("version")?.as_str());
    let Some(version) = version.filter(|version| !version.trim().is_empty()) else {
        return (!is_ours).then(|| "asks for no version".to_owned());
    };
    if version.contains('*') {
        return Some(format!("asks for any version ({version})"));
    }
    let is_loose = PINNED.contains(&name) && !version.starts_with('=');
    is_loose.then(|| format!("asks for {version}, expected one version (=x.y.z)"))
}

#[test]
fn what_is_wrong_with_a_dependency_is_seen() {
    let asked = "a = '1'\nb = '*'\nc = { version = '1.*' }\nd = { git = 'g' }\ne = {}\nf = { path = 'p' }\nredb = '4'\nkameo = '=1'";
    let asked: Table = asked.parse().unwrap();
    let wrong = asked
        .iter()
        .filter(|(name, asked)| problem(name, asked).is_some());
    let wrong: Vec<&str> = wrong.map(|(name, _)| name.as_str()).collect();
    assert_eq!(wrong, ["b", "c", "d", "e", "redb"]);
}

#[test]
fn every_dependency_asks_for_a_version_and_the_young_ones_for_one() {
    let (mut wrong, mut pinned) = (Vec::new(), BTreeSet::new());
    for path in MANIFESTS {
        let manifest = parsed(path);
        for (name, asked) in dependency_tables(&manifest).into_iter().flatten() {
            pinned.extend(PINNED.iter().filter(|pinned| *pinned == name));
            wrong.extend(problem(name, asked).map(|problem| format!("{path}: {name} {problem}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(pinned, PINNED.iter().collect());
}

#[test]
fn every_package_is_ours_or_from_crates_io() {
    let manifests = MANIFESTS.map(parsed);
    let name = |manifest| at(manifest, &["package", "name"]).and_then(Value::as_str);
    let ours: BTreeSet<&str> = manifests.iter().filter_map(name).collect();
    assert_eq!(ours.len(), MANIFESTS.len());
    let lock = parsed("Cargo.lock");
    let packages = at(&lock, &["package"]).and_then(Value::as_array).unwrap();
    assert!(packages.len() > ours.len());
    let text = |package: &Value, key| package.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut wrong = Vec::new();
    for package in packages {
        let name = text(package, "name").unwrap();
        match text(package, "source") {
            None if ours.contains(&*name) => {}
            Some(source) if source == CRATES_IO && text(package, "checksum").is_some() => {}
            source => wrong.push(format!("{name} from {source:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_checks_of_licences_and_sources_are_in_force() {
    let deny = parsed("deny.toml");
    let allowed = texts(&deny, &["licenses", "allow"]);
    let root = parsed("Cargo.toml");
    let ours = at(&root, &["workspace", "package", "license"]).and_then(Value::as_str);
    let ours = ours.unwrap();
    assert!(allowed.contains(ours), "deny.toml allows no {ours}");
    for path in MANIFESTS {
        let manifest = parsed(path);
        let inherits = at(&manifest, &["package", "license", "workspace"]).and_then(Value::as_bool);
        assert_eq!(inherits, Some(true), "{path} has a licence of its own");
    }
    for (keys, value) in [
        (["bans", "wildcards"], "deny"),
        (["sources", "unknown-registry"], "deny"),
        (["sources", "unknown-git"], "deny"),
    ] {
        let said = at(&deny, &keys).and_then(Value::as_str);
        assert_eq!(said, Some(value), "{keys:?} of deny.toml");
    }
    let registries = texts(&deny, &["sources", "allow-registry"]);
    let index = CRATES_IO.strip_prefix("registry+").unwrap();
    assert_eq!(registries, [index].into());
}

/// Names of the packages that `sage` is built of, as cargo resolves them with these arguments.
fn built_of(arguments: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(super::root())
        .args(["tree", "--package", "sage", "--edges", "normal", "--frozen"])
        .args(["--prefix", "none", "--format", "{p}"]);
    let output = cargo.args(arguments).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    let listed = String::from_utf8(output.stdout).unwrap();
    let name = |line: &str| line.split_whitespace().next().map(str::to_owned);
    listed.lines().filter_map(name).collect()
}

#[test]
fn the_library_alone_brings_nothing_of_the_command_line() {
    let of_the_program: BTreeSet<String> = OF_THE_PROGRAM.map(str::to_owned).into();
    let program = built_of(&[]);
    assert!(program.is_superset(&of_the_program), "{program:?}");
    let library = built_of(&["--no-default-features"]);
    assert!(library.contains("tokio"), "{library:?}");
    let found: Vec<&String> = library.intersection(&of_the_program).collect();
    assert!(found.is_empty(), "the library alone is built of {found:?}");
}
