//! Inside a room: files depend on each other one way, and functions stay short.
//!
//! Both rules read the text of the sources. A path that begins with `crate`, `super`, `self` or the name of a child is
//! followed to the file that defines what it names, through every `use` on the way, so a circle cannot be hidden behind
//! a re-export. Tests are not counted.

mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use tokens::{Token, bare, behind_group, tokens, without_tests};

/// Lines that a function may have, from its signature to its last brace.
const FUNCTION_LINES: usize = 70;

type ModulePath = Vec<String>;

/// What one file says of others.
#[derive(Default)]
struct Module {
    /// The paths that it uses itself, as they are written.
    used: BTreeSet<ModulePath>,
    /// What each `use` calls what; `*` lists what is imported whole.
    names: BTreeMap<String, ModulePath>,
    globs: Vec<ModulePath>,
}

/// The paths of one `use`, groups written out, each with the name that it gets.
fn use_tree(tokens: &[Token], before: &[String], found: &mut Vec<(ModulePath, String)>) {
    let (mut path, mut at) = (before.to_vec(), 0);
    while at < tokens.len() {
        match tokens[at].0.as_str() {
            "::" => at += 1,
            "{" => {
                let end = behind_group(tokens, at);
                let (mut from, mut inner) = (at + 1, at + 1);
                while inner < end {
                    let token = tokens[inner].0.as_str();
                    if token == "," || inner + 1 == end {
                        use_tree(&tokens[from..inner], &path, found);
                        from = inner + 1;
                    }
                    inner = if token == "{" {
                        behind_group(tokens, inner)
                    } else {
                        inner + 1
                    };
                }
                return;
            }
            "as" => {
                found.push((path, tokens[at + 1].0.clone()));
                return;
            }
            name => {
                if name != "self" || path.is_empty() {
                    path.push(name.to_owned());
                }
                at += 1;
            }
        }
    }
    if let Some(last) = path.last().cloned().filter(|_| !tokens.is_empty()) {
        found.push((path, last));
    }
}

/// The places of the names that enums give to their variants.
fn variants(tokens: &[Token]) -> BTreeSet<usize> {
    let token = |at: usize| tokens.get(at).map_or("", |token| token.0.as_str());
    let mut found = BTreeSet::new();
    for start in (0..tokens.len()).filter(|&at| token(at) == "enum") {
        let Some(mut at) = (start..tokens.len()).find(|&at| token(at) == "{") else {
            continue;
        };
        let end = behind_group(tokens, at);
        at += 1;
        while at < end {
            match token(at) {
                "{" | "(" | "[" => at = behind_group(tokens, at),
                _ => {
                    found.insert(at);
                    at += 1;
                }
            }
        }
    }
    found
}

/// Reads what one file, without its tests, says of others.
fn module(tokens: &[Token]) -> Module {
    let mut module = Module::default();
    let mut shown = BTreeSet::new();
    let token = |at: usize| tokens.get(at).map_or("", |token| token.0.as_str());
    let variants = variants(tokens);
    let (mut at, mut plain) = (0, BTreeSet::new());
    while at < tokens.len() {
        let before = if at == 0 { "" } else { token(at - 1) };
        if token(at) == "use" {
            let end = (at..tokens.len())
                .find(|&end| token(end) == ";")
                .unwrap_or(tokens.len());
            let mut found = Vec::new();
            use_tree(&tokens[at + 1..end], &[], &mut found);
            for (path, name) in found {
                if name == "*" {
                    module.globs.push(path[..path.len() - 1].to_vec());
                } else {
                    module.names.insert(name.clone(), path.clone());
                }
                // What is only shown on is used by the others; see below for what the file uses as well.
                if before == "pub" || before == ")" {
                    shown.insert(name);
                } else {
                    module.used.insert(path);
                }
            }
            at = end;
        } else if before == "pub" && token(at) == "(" {
            at = behind_group(tokens, at);
        } else if ![".", "::", "mod", "fn"].contains(&before)
            && !variants.contains(&at)
            && token(at).starts_with(|c: char| c.is_alphabetic())
        {
            let mut path = vec![token(at).to_owned()];
            while token(at + 1) == "::" && token(at + 2).starts_with(|c: char| c.is_alphabetic()) {
                path.push(token(at + 2).to_owned());
                at += 2;
            }
            plain.insert(path);
            at += 1;
        } else {
            at += 1;
        }
    }
    let starts = |path: &ModulePath| path.len() > 1 || shown.contains(&path[0]);
    module.used.extend(plain.into_iter().filter(starts));
    module
}

type Modules = BTreeMap<ModulePath, Module>;

/// The modules of files that are given by their path below the crate's `src`, and by their text.
fn modules(files: &[(String, String)]) -> Modules {
    let (mut modules, mut tests) = (Modules::new(), BTreeSet::new());
    for (path, text) in files {
        let mut name = path.trim_end_matches(".rs").split('/').collect::<Vec<_>>();
        if ["mod", "lib"].contains(&name[name.len() - 1]) {
            name.pop();
        }
        let name: ModulePath = name.into_iter().map(str::to_owned).collect();
        let (tokens, test_files) = without_tests(tokens(&bare(text)));
        tests.extend(
            test_files
                .into_iter()
                .map(|test| [&name[..], &[test]].concat()),
        );
        modules.insert(name, module(&tokens));
    }
    modules.retain(|name, _| !(0..=name.len()).any(|end| tests.contains(&name[..end])));
    modules
}

/// The file that defines what `path`, written in the file `from`, names; none where that is another crate's.
fn defines(
    modules: &Modules,
    from: &[String],
    path: &[String],
    steps: usize,
) -> Option<ModulePath> {
    let mut place = from.to_vec();
    for (at, part) in path.iter().enumerate() {
        let child = [&place[..], std::slice::from_ref(part)].concat();
        match part.as_str() {
            "crate" => place.clear(),
            "self" => {}
            "super" => _ = place.pop()?,
            _ if modules.contains_key(&child) => place = child,
            _ => {
                let here = modules.get(&place)?;
                if let Some(meant) = here.names.get(part) {
                    let meant = [meant, &path[at + 1..]].concat();
                    return defines(modules, &place, &meant, steps.checked_sub(1)?);
                }
                return (at > 0).then_some(place);
            }
        }
    }
    Some(place)
}

type Graph = BTreeMap<ModulePath, BTreeSet<ModulePath>>;

/// Which files of its own room each file uses.
fn graph(modules: &Modules) -> Graph {
    let mut graph = Graph::new();
    for (name, module) in modules.iter().filter(|(name, _)| !name.is_empty()) {
        let used = module
            .used
            .iter()
            .filter_map(|path| defines(modules, name, path, 16));
        let near = used.filter(|used| used.first() == name.first() && used != name);
        graph.insert(name.clone(), near.collect());
    }
    graph
}

/// The sets of files each of which reaches all others of its set, every one as a line.
fn circles(graph: &Graph) -> Vec<String> {
    let reach = |from: &ModulePath| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(next) = open.pop() {
            let new = graph
                .get(next)
                .into_iter()
                .flatten()
                .filter(|used| seen.insert(*used));
            open.extend(new.collect::<Vec<_>>());
        }
        seen
    };
    let reached: BTreeMap<_, _> = graph.keys().map(|name| (name, reach(name))).collect();
    let mut found = BTreeSet::new();
    for (name, seen) in reached.iter().filter(|(name, seen)| seen.contains(*name)) {
        let circle = seen
            .iter()
            .filter(|other| reached[**other].contains(*name))
            .copied();
        let circle: BTreeSet<_> = circle.collect();
        let arrows = circle.iter().flat_map(|from| {
            let used = graph[*from].iter().filter(|used| circle.contains(used));
            used.map(|used| format!("{} → {}", from.join("::"), used.join("::")))
        });
        found.insert(arrows.collect::<Vec<_>>().join(", "));
    }
    found.into_iter().collect()
}

/// The functions of one file that are too long and do not say why: the name and the lines of each.
fn long_functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let tokens = tokens(&bare(text));
    let mut found = Vec::new();
    for at in (1..tokens.len()).filter(|at| tokens[at - 1].0 == "fn" && tokens[*at].0 != "(") {
        let (name, first) = &tokens[at];
        let mut end = at;
        while end < tokens.len() && !["{", ";"].contains(&tokens[end].0.as_str()) {
            let group = ["(", "["].contains(&tokens[end].0.as_str());
            end = if group {
                behind_group(&tokens, end)
            } else {
                end + 1
            };
        }
        if tokens.get(end).is_none_or(|token| token.0 == ";") {
            continue;
        }
        let last = tokens[behind_group(&tokens, end) - 1].1;
        let above = lines[..*first].iter().rev().map(|line| line.trim());
        let mut above = above.take_while(|line| line.starts_with("//") || line.starts_with('#'));
        let reason = above.any(|line| {
            line.strip_prefix("// Long: ")
                .is_some_and(|why| !why.is_empty())
        });
        if last - first + 1 > FUNCTION_LINES && !reason {
            found.push((name.clone(), last - first + 1));
        }
    }
    found
}

/// The sources below `folder`: their paths within it and their texts.
fn files(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                found.push((name.replace('\\', "/"), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn no_circles_inside_rooms() {
    let crates = ["src", "actors/src"].map(files);
    let found: Vec<_> = crates
        .iter()
        .flat_map(|files| circles(&graph(&modules(files))))
        .collect();
    assert!(
        found.is_empty(),
        "move what both sides need to a file below them: {found:#?}"
    );
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for folder in ["src", "actors/src"] {
        for (path, text) in files(folder) {
            let found = long_functions(&text).into_iter();
            long.extend(
                found.map(|(name, lines)| format!("{folder}/{path}: {name} has {lines} lines")),
            );
        }
    }
    assert!(
        long.is_empty(),
        "divide these, or say `// Long: why.` above them: {long:#?}"
    );
}

#[test]
fn a_circle_is_found_and_a_straight_line_is_not() {
    let found = |files: &[(&str, &str)]| {
        let own = files
            .iter()
            .map(|(path, text)| (path.to_string(), text.to_string()));
        circles(&graph(&modules(&own.collect::<Vec<_>>())))
    };
    let straight = [
        (
            "room/mod.rs",
            "mod above;\nmod below;\npub use below::Thing;",
        ),
        (
            "room/above.rs",
            "use super::Thing; // as in super::other\nfn f() { \"super::above\"; }",
        ),
        (
            "room/below.rs",
            "pub struct Thing;\n#[cfg(test)]\nmod tests { use crate::room::above; }",
        ),
        ("other.rs", "use crate::room::Thing;"),
    ];
    assert!(found(&straight).is_empty());
    let above = "room::above → room::below, room::below → room::above";
    for back in [
        "use super::above::f;",
        "use crate::{other::g, room::{above::f}};",
        "fn h() { super::above::f() }",
        "use super::above as up;",
        // What the room's door shows of a file is that file's.
        "use crate::room::f;",
    ] {
        let mut files = straight;
        files[0].1 = "mod above;\nmod below;\npub use above::f;\npub use below::Thing;";
        files[2].1 = back;
        files[1].1 = "use super::below::Thing;";
        assert_eq!(found(&files), [above], "{back}");
    }
    let door = [
        (
            "room/mod.rs",
            "mod below;\npub struct Thing;\nfn f() { below::g() }",
        ),
        ("room/below.rs", "use super::Thing;"),
    ];
    assert_eq!(found(&door), ["room → room::below, room::below → room"]);
    // A file that is used by its room's door, and needs nothing of it.
    let shown = [
        (
            "room/mod.rs",
            "mod below;\npub use below::Thing;\nfn f(thing: Thing) {}",
        ),
        ("room/below.rs", "pub struct Thing;"),
    ];
    assert!(found(&shown).is_empty());
}

#[test]
fn a_long_function_is_found_unless_it_says_why() {
    let body = "    x();\n".repeat(FUNCTION_LINES - 1);
    let long = format!("fn long(\n    bytes: [u8; 4]) {{\n{body}}}\n");
    let short = format!(
        "const S: &str = \"}}{{\";\nfn short(c: char) -> char {{ // {{\n{}    '{{'\n}}\n",
        &body[18..]
    );
    let found = |text: &str| {
        long_functions(text)
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&format!("{short}{long}{short}")), ["long"]);
    let said = format!("// Long: one line for each case.\n/// Text.\n#[inline]\n{long}");
    assert!(found(&said).is_empty());
    assert_eq!(found(&format!("// Long: of another.\n\n{long}")), ["long"]);
}
