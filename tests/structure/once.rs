//! What exists once: a second opening of a model, or a second loop that drives it, would have to be kept in step with the first.

use super::{production, sources};

/// The places outside of `besides` where `what` stands in the code of `src/`.
fn places(what: &str, besides: &str) -> Vec<String> {
    let mut found = Vec::new();
    for path in sources("src") {
        let name = path.display().to_string();
        let Some(code) = production(&path) else {
            continue;
        };
        for (at, _) in code.match_indices(what) {
            // A longer name that ends so is another one.
            let before = code[..at].chars().next_back();
            if name != besides && !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                found.push(name.clone());
            }
        }
    }
    found
}

/// Every command, the library and replay open a model by `Session::open`, which alone calls what assembles an engine.
#[test]
fn one_place_constructs_a_running_model() {
    assert_eq!(places("opening::open(", ""), ["src/session/open.rs"]);
    assert_eq!(places("opening::open_with(", ""), [""; 0]);
    assert_eq!(places("Engine::new(", ""), ["src/session/opening.rs"]);
    assert_eq!(places("CoreLoop::new(", ""), ["src/session/open.rs"]);
    // Nobody takes them by their bare names.
    assert_eq!(places("opening::{open", ""), [""; 0]);
    assert_eq!(places("opening::open;", ""), [""; 0]);
}

/// The mind is told what arrived, and asked how to run the step, in one place.
#[test]
fn one_place_drives_the_loop() {
    assert_eq!(places(".orient(", ""), ["src/core/drive.rs"]);
    assert_eq!(places("fn orient(", "src/spans.rs"), ["src/core/orient.rs"]);
}

/// Errors become exit codes in one file.
#[test]
fn one_file_says_how_errors_end_a_command() {
    let mut found = places("for CliError {", "");
    found.dedup();
    assert_eq!(found, ["src/cli/error.rs"]);
}

/// The structs of a file, with how many fields each has.
fn fields(path: &str) -> Vec<(String, usize)> {
    let code = production(std::path::Path::new(path)).unwrap();
    let mut found = Vec::new();
    for part in code.split("struct ").skip(1) {
        let Some((head, rest)) = part.split_once('{') else {
            continue;
        };
        let body = rest.split("\n}").next().unwrap();
        let fields = body.lines().filter(|line| line.trim_end().ends_with(','));
        found.push((head.trim().to_owned(), fields.count()));
    }
    found
}

/// No object is everything: the loop and the engine are made of parts that own their fields.
#[test]
fn the_loop_and_the_engine_are_made_of_parts() {
    for (path, name) in [
        ("src/core/core_loop/conductor.rs", "CoreLoop"),
        ("src/core/engine.rs", "Engine"),
    ] {
        let fields = fields(path);
        let count = |name: &str| fields.iter().find(|(of, _)| of == name).map(|of| of.1);
        assert!(count(name).is_some_and(|count| count > 4), "{fields:?}");
        let large: Vec<_> = fields.iter().filter(|of| of.1 > 10).collect();
        assert!(large.is_empty(), "{path}: {large:?}");
    }
}
