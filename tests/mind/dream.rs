//! Rest and Dream at work, on the model in the repository.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use sage::core::Limit;
use sage::core::core_loop::{AnswerPolicy, CoreLoop, Observation};
use sage::core::sampling::Sampling;
use sage::events::{DreamEvent, Event, EventKind};
use sage::session::opening::{EngineOptions, open};
use sage::store::open_model;
use sage::text::Text;
use sage_actors::config::MindConfig;
use sage_actors::protocol::{Cause, ExpertKey, State};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const DOMAINS: [&str; 5] = ["austen", "dialogue", "kjv", "python", "spanish"];

/// Held-out documents of a domain.
fn documents(domain: &str) -> Vec<String> {
    let path = root().join(format!("models/tiny/heldout/{domain}.txt"));
    let text = std::fs::read_to_string(path).expect("held-out text");
    let documents = text.split("<|endoftext|>").map(str::trim);
    documents
        .filter(|d| !d.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The first `most` pieces of a text of about `letters` letters each, cut at white space.
fn pieces(text: &str, letters: usize, most: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for word in text.split_inclusive(char::is_whitespace) {
        if pieces.last().is_some_and(|piece| piece.len() >= letters) {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push_str(word);
        }
    }
    pieces.truncate(most);
    pieces
}

async fn core(slots: u64) -> CoreLoop {
    let source = Arc::from(open_model(root().join("models/tiny")).expect("a model"));
    let text = Text::load(&*source).expect("a tokenizer");
    let options = EngineOptions {
        limit: Limit::Slots(slots),
        context_tokens: 512,
        chunk_tokens: Some(32),
        mind: MindConfig::default(),
        ..EngineOptions::default()
    };
    let engine = open(source, options, |_, _| ()).await.expect("an engine");
    let policy = AnswerPolicy {
        sampling: Sampling::GREEDY,
        answer_tokens: 4,
    };
    CoreLoop::new(engine, Some(text), policy).expect("a loop")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
}

/// Has it read 18 short texts.
async fn read_texts(core: &mut CoreLoop, events: &mut Vec<Event>) {
    for (number, text) in pieces(&documents("kjv")[0], 70, 18).into_iter().enumerate() {
        core.submit(Observation::text("book", text));
        let mut ticks = 0;
        while !core.is_idle() {
            core.tick(&mut |event| events.push(event))
                .await
                .expect("a tick");
            ticks += 1;
            assert!(ticks < 1_000, "text {number} is never read");
        }
    }
}

/// Ticks until the state is `state`.
async fn until(core: &mut CoreLoop, state: State, events: &mut Vec<Event>) {
    for _ in 0..2_000 {
        core.tick(&mut |event| events.push(event))
            .await
            .expect("a tick");
        if core.state() == state {
            return;
        }
    }
    panic!("{state:?} never comes; it is {:?}", core.state());
}

fn dreams(events: &[Event]) -> Vec<&DreamEvent> {
    events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Dream(dream) => Some(dream),
            _ => None,
        })
        .collect()
}

async fn moved(core: &CoreLoop) -> usize {
    let engine = core.engine();
    let mut moved = 0;
    for layer in engine.sparse_layers() {
        for expert in 0..engine.text_config().num_experts as u16 {
            let key = ExpertKey {
                layer: *layer,
                expert,
            };
            let record = engine.mind.record(key).await.expect("a record");
            moved += usize::from(record.is_some_and(|r| (r.convergence - 0.5).abs() > 1e-6));
        }
    }
    moved
}

#[test]
fn a_dream_scores_consolidates_and_ends_by_itself() {
    runtime().block_on(async {
        let mut core = core(60).await;
        let mut events = Vec::new();
        read_texts(&mut core, &mut events).await;
        assert_eq!(moved(&core).await, 0, "nothing awake moves convergence");
        // The last segment is told with the tick behind it.
        core.tick(&mut |event| events.push(event))
            .await
            .expect("a tick");
        let waiting = core.engine().mind.unconsolidated_episodes().await;
        assert_eq!(waiting.expect("a count"), 18);
        until(&mut core, State::Dream, &mut events).await;
        until(&mut core, State::Rest, &mut events).await;
        let end = events.iter().rev().find_map(|event| match event.kind {
            EventKind::State { from, cause, .. } => Some((from, cause)),
            _ => None,
        });
        assert_eq!(end, Some((State::Dream, Cause::Consolidated)));
        let waiting = core.engine().mind.unconsolidated_episodes().await;
        assert_eq!(waiting.expect("a count"), 0);
        let dreams = dreams(&events);
        let scored: u32 = dreams.iter().map(|dream| dream.scored).sum();
        let episodes: u32 = dreams.iter().map(|dream| dream.episodes).sum();
        assert_eq!(episodes, 18);
        assert!(
            scored >= 18
                && dreams
                    .iter()
                    .all(|dream| dream.units > 0.0 || dream.scored == 0)
        );
        assert!(dreams.iter().any(|dream| !dream.hot.is_empty()));
        // What is read is bounded by what was missed, to within a stride of one layer; the rest is consolidated unscored.
        let read: u64 = dreams.iter().map(|dream| dream.bytes_read).sum();
        let stats = core.engine().mind.cache_stats().await.expect("totals");
        let layer_bytes = 64 * (48 << 10);
        assert!(read <= stats.miss_bytes * 7 / 20 + layer_bytes, "{read}");
        let unscored: u32 = dreams.iter().map(|dream| dream.unscored).sum();
        assert!(0 < unscored && unscored < 18, "{unscored} of 18");
        assert!(moved(&core).await > 8);
        core.shutdown().await;
    });
}

/// A text is never read asleep, however early in a Dream it comes.
#[test]
fn a_text_is_read_awake_whenever_in_a_dream_it_comes() {
    runtime().block_on(async {
        let mut core = core(60).await;
        let mut events = Vec::new();
        let more = pieces(&documents("kjv")[1], 70, 15);
        for (dreamt, texts) in more.chunks(3).enumerate() {
            read_texts(&mut core, &mut events).await;
            until(&mut core, State::Dream, &mut events).await;
            for _ in 0..dreamt {
                core.tick(&mut |event| events.push(event))
                    .await
                    .expect("a tick");
            }
            assert_eq!(core.state(), State::Dream);
            for text in texts {
                core.submit(Observation::text("book", text));
            }
            events.clear();
            core.tick(&mut |event| events.push(event))
                .await
                .expect("a tick");
            assert_eq!(core.state(), State::Wake, "after {dreamt} ticks");
            let woken = events
                .iter()
                .position(|event| matches!(event.kind, EventKind::State { .. }));
            let read = events
                .iter()
                .position(|event| matches!(event.kind, EventKind::Read { .. }));
            assert!(woken.is_some() && woken < read, "{events:?}");
        }
        core.shutdown().await;
    });
}

#[test]
fn input_ends_a_dream_at_once() {
    runtime().block_on(async {
        let mut core = core(60).await;
        let mut events = Vec::new();
        read_texts(&mut core, &mut events).await;
        until(&mut core, State::Dream, &mut events).await;
        core.tick(&mut |event| events.push(event))
            .await
            .expect("a tick");
        assert_eq!(core.state(), State::Dream);
        core.submit(Observation::question("visitor", "What is 21 + 3?"));
        core.tick(&mut |event| events.push(event))
            .await
            .expect("a tick");
        assert_eq!(core.state(), State::Wake);
        let mut answered = false;
        for _ in 0..200 {
            let answers = core.tick(&mut |event| events.push(event)).await;
            answered |= !answers.expect("a tick").answers.is_empty();
        }
        assert!(answered);
        let awakened = events.iter().any(|event| {
            matches!(
                event.kind,
                EventKind::State {
                    from: State::Dream,
                    cause: Cause::Awakened,
                    ..
                }
            )
        });
        assert!(awakened, "the Dream was over before the question came");
        core.shutdown().await;
    });
}

// ---- Runs as a user runs them

fn run(script: &str, name: &str, more: &[&str]) -> Vec<Value> {
    let path: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, script).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_sage"))
        .current_dir(root())
        .env(
            "SAGE_CACHE",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"),
        )
        .args(["run", path.to_str().expect("a path"), "--json"])
        .args(more)
        .output()
        .expect("sage runs");
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("an event a line"))
        .collect()
}

/// A scenario under construction: texts one after the other, each about as long as its tokens take.
#[derive(Default)]
struct Script {
    observe: String,
    at: usize,
    urgency: f32,
}

impl Script {
    fn text(&mut self, source: &str, text: &str) {
        let text = serde_json::to_string(text).expect("a string");
        self.observe.push_str(&format!(
            "[[observe]]\nat = {}\nkind = \"text\"\nsource = \"{source}\"\ntext = {text}\nurgency = {:.1}\n",
            self.at, self.urgency
        ));
        self.at += text.len() / 3 + 4;
    }

    fn toml(&self, limit: &str, chunk: usize, ticks: usize) -> String {
        format!(
            "name = \"dream\"\nlimit = \"{limit}\"\nticks = {ticks}\nchunk_tokens = {chunk}\n{}",
            self.observe
        )
    }
}

#[test]
fn the_limit_holds_while_dreaming() {
    let mut script = Script::default();
    for domain in ["kjv", "python"] {
        for text in pieces(&documents(domain)[0], 120, 9) {
            script.text(domain, &text);
        }
    }
    let toml = script.toml("20slots", 32, script.at + 300);
    let events = run(&toml, "dream-limit.toml", &[]);
    let summary = events.last().expect("a summary");
    assert!(
        summary["dreamt"]["episodes"].as_u64() > Some(0),
        "{summary}"
    );
    assert!(
        summary["dreamt"]["bytes_read"].as_u64() > Some(0),
        "{summary}"
    );
    // It is read on top of what the steps ask for, and said so.
    let read = &summary["read_bytes"];
    assert!(
        read["shadow"].as_u64() >= summary["dreamt"]["bytes_read"].as_u64(),
        "{summary}"
    );
    let parts = ["demand", "prefetch", "shadow", "towers", "other"];
    let sum: u64 = parts.iter().filter_map(|part| read[part].as_u64()).sum();
    assert_eq!(read["total"], sum);
    assert!(
        summary["peak_rss_bytes"].as_u64() <= summary["limit_bytes"].as_u64(),
        "{summary}"
    );
    // The same again: what a dream does is decided by nothing but the run.
    let again = run(&toml, "dream-limit.toml", &["--threads", "1"]);
    let dreams = |events: &[Value]| -> Vec<Value> {
        let dreams = events.iter().filter(|event| event["type"] == "dream");
        dreams.cloned().collect()
    };
    assert_eq!(dreams(&events), dreams(&again));
}

/// (misses, bytes) of the steps from `tick` on.
fn demand(events: &[Value], tick: usize) -> (u64, u64) {
    let steps = events
        .iter()
        .filter(|event| event["type"] == "cache" && event["tick"].as_u64() >= Some(tick as u64));
    steps.fold((0, 0), |(misses, bytes), step| {
        let of = |key: &str| step[key].as_u64().unwrap_or(0);
        (misses + of("misses"), bytes + of("bytes_read"))
    })
}

/// Every setting of the two days below: the mind stays awake from text to text, and rests when none comes for long.
const DAY: [&str; 2] = ["--set", "mind.transitions.wake_rest_ticks=250"];

/// A day of reading, a night, and the tick at which a day of other text from the same sources begins.
fn two_days() -> (Script, usize) {
    let mut script = Script {
        // Enough to stay awake, or to wake up.
        urgency: 0.6,
        ..Script::default()
    };
    let read = |script: &mut Script, document: usize, rounds: usize| {
        for round in 0..rounds {
            for domain in DOMAINS {
                let text = &documents(domain)[document];
                script.text(domain, &pieces(text, 400, rounds)[round]);
            }
        }
    };
    read(&mut script, 0, 4);
    script.at += 900;
    let morning = script.at;
    read(&mut script, 1, 2);
    (script, morning)
}

/// With a Dream in the night, and without: (misses, bytes) of the second day, and what was dreamt.
fn with_and_without_a_dream(limit: &str, chunk: usize) -> [((u64, u64), Value); 2] {
    let (script, morning) = two_days();
    let toml = script.toml(limit, chunk, script.at);
    let name = format!("dream-{limit}-{chunk}.toml");
    let sleepless = ["--set", "mind.transitions.dream_episodes_min=1000000"];
    let arms = [&DAY[..], &[&DAY[..], &sleepless].concat()].map(|settings| {
        let events = run(&toml, &name, settings);
        let reads = |e: &&Value| e["type"] == "read" && e["tick"].as_u64() >= Some(morning as u64);
        let tokens = events.iter().filter(reads);
        let tokens: u64 = tokens.filter_map(|read| read["tokens"].as_u64()).sum();
        let summary = &events[events.len() - 1];
        for (state, did) in summary["states"].as_object().expect("states") {
            let awake = state == "wake" || did["tokens"] == 0;
            assert!(awake, "{limit}, {chunk}: read in {state}: {did}");
        }
        (demand(&events, morning), summary["dreamt"].clone(), tokens)
    });
    assert_eq!(arms[0].2, arms[1].2, "both read the same");
    let change = 100.0 * (arms[0].0.0 as f64 / arms[1].0.0 as f64 - 1.0);
    println!(
        "{limit}, chunks of {chunk}, {} tokens: {:?} misses and bytes after a Dream, {:?} without: {change:+.1} %; {} episodes, {} unscored, {} bytes in shadow, {} saved",
        arms[0].2,
        arms[0].0,
        arms[1].0,
        arms[0].1["episodes"],
        arms[0].1["unscored"],
        arms[0].1["bytes_read"],
        arms[0].1["saved_bytes"]
    );
    arms.map(|(demand, dreamt, _)| (demand, dreamt))
}

/// After a Dream other text of known sources misses less, and so reads less: nothing is read ahead for it.
#[test]
#[ignore = "reads about 4,000 tokens one by one, six times: minutes"]
fn other_text_of_known_domains_misses_less_after_a_dream() {
    // Awake, half of it holds experts: 16 %, 31 % and 44 % of the model's 320.
    for (limit, most) in [("100slots", 0.97), ("200slots", 0.92), ("280slots", 0.90)] {
        let [(with, dreamt), (without, never)] = with_and_without_a_dream(limit, 1);
        assert_eq!(dreamt["episodes"], 20, "{dreamt}");
        assert_eq!(never["episodes"], 0, "{never}");
        assert!(with.0 as f64 <= most * without.0 as f64, "{limit}");
        assert!(with.1 < without.1);
        // What the twin says was saved is what the other arm missed more.
        let saved = dreamt["saved_bytes"].as_i64().expect("bytes");
        let missed_more = without.1 as i64 - with.1 as i64;
        assert!((saved - missed_more).abs() < missed_more / 10, "{saved}");
        let read = dreamt["bytes_read"].as_u64().expect("bytes");
        println!("{limit}: read {read}, saved {saved}");
    }
}

/// In chunks a layer has one turn for many tokens, so that a slot is found again at most once a chunk, whoever is in it.
#[test]
#[ignore = "reads about 4,000 tokens, four times: a minute"]
fn in_chunks_a_dream_costs_nothing() {
    for limit in ["100slots", "280slots"] {
        let [(with, _), (without, _)] = with_and_without_a_dream(limit, 32);
        assert!(with.0 as f64 <= 1.01 * without.0 as f64, "{limit}");
    }
}
