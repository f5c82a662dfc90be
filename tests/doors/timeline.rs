//! What `--timeline` and `--log` say of a run, and that a run does not notice them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Output;

use crate::common::runs::{complaint, sage};
use crate::common::{extract, fixture};
use sage::store::ExtractSelection;
use serde_json::Value;

/// A span of a timeline; times in ns.
#[derive(Clone, Debug)]
struct Span {
    name: String,
    thread: u64,
    start: u64,
    end: u64,
    fields: Value,
}

impl Span {
    fn holds(&self, other: &Span) -> bool {
        self.thread == other.thread && self.start <= other.start && other.end <= self.end
    }

    fn overlaps(&self, other: &Span) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whose layer it is.
    fn layer(&self) -> (&Value, &Value) {
        (&self.fields["module"], &self.fields["layer"])
    }
}

struct Timeline {
    /// What it says of itself.
    about: Value,
    spans: Vec<Span>,
    /// Names of what took no time.
    events: Vec<String>,
}

impl Timeline {
    /// Reads a file, and insists that the spans of every thread lie within each other or apart.
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        let (mut spans, mut events) = (Vec::new(), Vec::new());
        let ns = |value: &Value| (value.as_f64().unwrap() * 1000.0).round() as u64;
        for entry in file["traceEvents"].as_array().unwrap() {
            let name = entry["name"].as_str().unwrap().to_owned();
            match entry["ph"].as_str().unwrap() {
                "X" => spans.push(Span {
                    name,
                    thread: entry["tid"].as_u64().unwrap(),
                    start: ns(&entry["ts"]),
                    end: ns(&entry["ts"]) + ns(&entry["dur"]),
                    fields: entry["args"].clone(),
                }),
                "i" => events.push(name),
                other => assert_eq!(other, "M", "{entry}"),
            }
        }
        let mut open = BTreeMap::<u64, Vec<&Span>>::new();
        for span in &spans {
            let open = open.entry(span.thread).or_default();
            while open.last().is_some_and(|last| last.end <= span.start) {
                open.pop();
            }
            if let Some(last) = open.last() {
                assert!(last.holds(span), "{span:?} is cut by the end of {last:?}");
            }
            open.push(span);
        }
        Self {
            about: file["otherData"].clone(),
            spans,
            events,
        }
    }

    fn named(&self, name: &str) -> Vec<&Span> {
        let found: Vec<&Span> = self.spans.iter().filter(|span| span.name == name).collect();
        assert!(!found.is_empty(), "no {name}");
        found
    }
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", complaint(output));
}

/// A generation of words under a limit of fewer experts than one token uses, with its timeline.
fn generated(timeline: &Path, more: &[&str]) -> Output {
    let prompt = "Tom lives in Rome. Where does Tom live?";
    let generate = [
        "generate",
        "models/tiny",
        "--prompt",
        prompt,
        "--limit",
        "60slots",
        "--max-tokens",
        "16",
        "--ignore-stop",
        "--timeline",
        timeline.to_str().unwrap(),
    ];
    let output = sage(&[&generate, more].concat());
    done(&output);
    output
}

/// One read at a time fills the slots of a lease, and arithmetic goes on with what is there: of the hundreds of reads of this run nearly
/// all lie beside arithmetic. That not one does takes hundreds of reads that each begin and end while the other thread stands between two
/// pieces of work, though every read but a lease's last is followed at once by the next while what it brought is worked on; so it holds on
/// one busy core, too, where the two take turns within a read or within a product.
#[test]
fn reads_lie_beside_the_arithmetic_of_their_tick() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("timeline.json");
    generated(&path, &[]);
    let timeline = Timeline::read(&path);
    assert_eq!(timeline.about["dropped"], 0);
    for name in ["load", "orient", "head", "wait"] {
        timeline.named(name);
    }
    let (ticks, layers) = (timeline.named("tick"), timeline.named("layer"));
    for layer in &layers {
        assert!(ticks.iter().any(|tick| tick.holds(layer)), "{layer:?}");
    }
    for name in ["attention", "route", "lease", "work", "wait"] {
        for part in timeline.named(name) {
            let inside = |layer: &&&Span| layer.holds(part) && layer.layer() == part.layer();
            assert_eq!(layers.iter().filter(inside).count(), 1, "{part:?}");
        }
    }
    let reads = timeline.named("read");
    assert!(reads.len() > 200, "{} reads", reads.len());
    for read in &reads {
        assert_ne!(read.thread, ticks[0].thread);
        assert!(read.fields["bytes"].as_u64().unwrap() > 0 && read.fields["expert"].is_u64());
    }
    let known = ["demand", "prefetch"];
    let mut purposes = reads.iter().map(|read| read.fields["purpose"].as_str());
    assert!(purposes.all(|purpose| purpose.is_some_and(|purpose| known.contains(&purpose))));
    let beside = |tick: &&&Span| {
        let of_tick = timeline.spans.iter().filter(|span| tick.holds(span));
        let mut arithmetic = of_tick.filter(|span| ["work", "attention"].contains(&&*span.name));
        arithmetic.any(|work| reads.iter().any(|read| read.overlaps(work)))
    };
    assert!(ticks.iter().any(|tick| beside(&tick)));
}

/// Towers, talker, vocoder and shadow runs.
#[test]
fn every_part_of_the_body_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| {
        let timeline = path("timeline.json");
        done(&sage(&[arguments, &["--timeline", &timeline]].concat()));
        Timeline::read(Path::new(&timeline))
    };
    let (omni, picture) = (fixture("tiny-omni"), fixture("pictures/gradient.jpg"));
    let (omni, picture) = (omni.to_str().unwrap(), picture.to_str().unwrap());

    let out = path("out.safetensors");
    let encoded = run(&["encode", omni, "--image", picture, "--out", &out]);
    assert!(encoded.named("piece").len() > 3);

    let turn = "480 72 10 11 12 481 13 480 91 13";
    let (sound, said) = (
        path("out.wav"),
        ["--prompt-tokens", turn, "--max-tokens", "9"],
    );
    let speak = ["--speak", &sound, "--max-codes", "8"];
    let spoken = run(&[&["generate", omni], &said[..], &speak].concat());
    spoken.named("chunk");
    let frames = spoken.named("frame");
    let mut talker = spoken.named("layer").into_iter();
    assert!(talker.any(|layer| {
        layer.fields["module"] == "talker" && frames.iter().any(|frame| frame.holds(layer))
    }));

    let story = path("story.txt");
    fs::write(&story, "Tom lives in Oslo. ").unwrap();
    let priced = ["--segments", "1", "--segment-tokens", "3"];
    let priced = run(&[&["price", "models/tiny", "--text", &story], &priced[..]].concat());
    let reads = priced.named("read");
    let mut shadow = reads
        .iter()
        .filter(|read| read.fields["purpose"] == "shadow");
    let strides = priced.named("stride");
    assert!(shadow.any(|read| strides.iter().any(|stride| stride.holds(read))));
}

/// The processes of an evaluation tell what happens in them, and each has a timeline of its own.
#[test]
fn an_evaluation_tells_of_its_processes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("story.txt"), "Tom lives in Oslo. ").unwrap();
    let (story, timeline) = (path("story.txt"), path("t.json"));
    let (story, timeline) = (story.to_str().unwrap(), timeline.to_str().unwrap());
    let eval = ["eval", "models/tiny", "--text", story, "--states", "wake"];
    let few = ["--max-tokens-per-document", "4", "--json"];
    let output = sage(&[&eval[..], &few, &["--timeline", timeline, "--log", "tick"]].concat());
    done(&output);
    assert!(
        complaint(&output).contains("sage::core::tick: close"),
        "{}",
        complaint(&output)
    );
    // The first ones only plan.
    let each = (1..).map(|process| path(&format!("t.{process}.json")));
    let each = each.take_while(|file| file.is_file());
    let each: Vec<Timeline> = each.map(|file| Timeline::read(&file)).collect();
    assert!(
        each.iter()
            .any(|one| one.spans.iter().any(|span| span.name == "layer"))
    );
    Timeline::read(&path("t.json"));
}

/// All lines of a recording but the first, without what the clock said.
fn recorded(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let timeless = |line: &str| match line.split_once(",\"measured\":") {
        Some((line, _)) => line.to_owned(),
        None => line.trim_end_matches('}').to_owned(),
    };
    text.lines().map(timeless).collect()
}

/// Under a limit in bytes, where what the listeners take would be missing from the pool.
#[test]
fn a_run_does_not_notice_that_somebody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, more: &[&str]| {
        let trace = folder.path().join(name);
        let scenario = "scenarios/wake-focus-crisis.toml";
        let arguments = [
            "run",
            scenario,
            "--limit",
            "46MiB",
            "--json",
            "--record",
            trace.to_str().unwrap(),
        ];
        let output = sage(&[&arguments, more].concat());
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}",
            complaint(&output)
        );
        (recorded(&trace), complaint(&output))
    };
    let (alone, quiet) = run("alone.trace", &[]);
    let timeline = folder.path().join("timeline.json");
    let listened = ["--log", "trace", "--timeline", timeline.to_str().unwrap()];
    let (heard, log) = run("heard.trace", &listened);
    assert!(alone.len() > 200 && alone == heard);
    assert!(alone.last().unwrap().contains("digest"));

    assert!(!quiet.contains("sage::") && !log.contains('\x1b'));
    let told = [
        "sage::events::state: ",
        "sage::events::answer: ",
        "sage::cpu::read: close",
    ];
    for told in told {
        assert!(log.contains(told), "{told}");
    }
    // What is told is in the list that filters are held to.
    let targets: BTreeSet<&str> = log
        .split(' ')
        .filter_map(|word| word.strip_suffix(':'))
        .filter(|word| word.starts_with("sage::"))
        .collect();
    assert!(targets.len() > 12, "{targets:?}");
    let filter = Vec::from_iter(targets).join(",");
    done(&sage(&["inspect", "models/tiny", "--log", &filter]));

    let timeline = Timeline::read(&timeline);
    for event in [
        "loading",
        "mode",
        "state",
        "observation",
        "salience",
        "answer",
        "token",
        "summary",
    ] {
        assert!(timeline.events.iter().any(|name| name == event), "{event}");
    }
}

#[test]
fn a_full_timeline_keeps_the_newest_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("timeline.json");
    // One that stood there is replaced.
    fs::write(&path, "something else").unwrap();
    let output = generated(&path, &["--timeline-events", "512"]);
    let timeline = Timeline::read(&path);
    assert_eq!(timeline.about["kept"], 512);
    let dropped = timeline.about["dropped"].as_u64().unwrap();
    assert!(dropped > 100);
    let said = format!("the newest 512 spans and events; {dropped} before them are missing");
    assert!(complaint(&output).contains(&said), "{}", complaint(&output));
    let missing = format!("{dropped} spans and events that ended before this are missing");
    // In its place stands what is missing; behind it the newest, the answer last.
    assert_eq!(timeline.events[0], missing);
    assert_eq!(timeline.events[timeline.events.len() - 1], "answer");
    assert_eq!(timeline.spans.len() + timeline.events.len() - 1, 512);
    // The model was loaded first.
    assert!(timeline.spans.iter().all(|span| span.name != "load"));
    timeline.named("tick");
}

#[test]
fn a_run_that_fails_leaves_its_timeline() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = (
        folder.path().join("store"),
        folder.path().join("timeline.json"),
    );
    extract(&fixture("tiny-thinker"), &store, &ExtractSelection::all());
    for expert in fs::read_dir(store.join("experts")).unwrap() {
        let expert = expert.unwrap().path();
        let mut bytes = fs::read(&expert).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&expert, bytes).unwrap();
    }
    let output = sage(&[
        "generate",
        store.to_str().unwrap(),
        "--prompt-tokens",
        "1 2 3",
        "--max-tokens",
        "2",
        "--timeline",
        path.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(3), "{}", complaint(&output));
    let timeline = Timeline::read(&path);
    timeline.named("read");
    timeline.named("tick");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("none/timeline.json");
    let folder = folder.path().to_str().unwrap();
    for (more, said) in [
        (["--log", "info,raed=trace"], "`raed=trace`"),
        (["--log", "read=loud"], "`loud` is no level"),
        (
            ["--timeline", nowhere.to_str().unwrap()],
            "cannot write there",
        ),
        (["--timeline", folder], "name a file"),
        (["--timeline-events", "4096"], "--timeline"),
    ] {
        let output = sage(&[&["inspect", "models/tiny"], &more[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(complaint(&output).contains(said), "{}", complaint(&output));
        assert!(output.stdout.is_empty());
    }
}
