//! A limit that is chosen from what the machine has, on trees that stand for machines; and one that changes while the model runs.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use sage::Sage;
use sage::core::{Arrivals, Limit, LimitError};
use sage::sensors::Machine;
use sage::session::exact::EXACT;
use sage::session::opening::{EngineOptions, open};
use sage::store::open_model;
use sage_actors::config::MindConfig;
use sage_actors::protocol::Phase;
use serde_json::Value;

use crate::common::runs::typed;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny")
}

/// Whatever the limit does meanwhile, an exact run computes the same numbers.
#[test]
fn exact_numbers_do_not_depend_on_a_limit_that_changes() {
    let limits = [
        Limit::Slots(40),
        Limit::Slots(0),
        Limit::None,
        Limit::Slots(3),
        Limit::Slots(200),
    ];
    let run = |changing: bool| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let options = EngineOptions {
                limit: Limit::None,
                context_tokens: 64,
                chunk_tokens: Some(8),
                mind: MindConfig {
                    hold: Some(EXACT),
                    ..MindConfig::default()
                },
                ..EngineOptions::default()
            };
            let source = Arc::from(open_model(model()).expect("a model"));
            let mut engine = open(source, options, |_, _| ()).await.expect("an engine");
            let mut kv = engine.new_sequence().expect("a sequence");
            let (mut numbers, mut mapped) = (Vec::new(), Vec::new());
            for step in 0..10u32 {
                if changing {
                    let limit = limits[step as usize % limits.len()];
                    let change = engine.set_limit(limit).expect("at least the floor");
                    assert!(change.holds() && change.after == engine.plan);
                    let before = engine.plan;
                    let refused = engine
                        .set_limit(Limit::Bytes(1 << 20))
                        .expect_err("too little");
                    let LimitError::BelowFloor(refused) = refused else {
                        panic!("{refused}");
                    };
                    assert!(refused.floor_bytes > 1 << 20 && engine.plan == before);
                    if step == 7 {
                        // A fact below the floor is no reason to compute anything else.
                        assert!(!engine.impose_limit(Limit::Bytes(1 << 20)).holds());
                    }
                }
                let orientation = engine.orient(Arrivals::default()).await.expect("oriented");
                let tokens = [17 + step, 40 + 3 * step];
                let forward = engine
                    .forward(&mut kv, &tokens, Phase::Prefill, &orientation, None)
                    .await
                    .expect("a step");
                numbers.extend(forward.normed.iter().map(|number| number.to_bits()));
                mapped.push(engine.host().usage().held_bytes);
            }
            engine.shutdown().await;
            (numbers, mapped)
        })
    };
    let ((still, all), (moving, mapped)) = (run(false), run(true));
    assert_eq!(still, moving);
    // Slots(0) leaves one window; without a limit everything stays.
    assert!(
        mapped[1] < all[1] && mapped[1] < mapped[0],
        "{mapped:?} and {all:?}"
    );
}

const MIB: u64 = 1 << 20;

/// A machine whose control group allows this much, and holds nothing but this process.
fn machine(limit_bytes: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in [
        ("proc/self/cgroup", "0::/work\n".to_owned()),
        (
            "proc/self/mountinfo",
            "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n".to_owned(),
        ),
        (
            "proc/meminfo",
            "MemTotal: 67108864 kB\nMemAvailable: 60000000 kB\n".to_owned(),
        ),
        ("sys/fs/cgroup/work/memory.max", format!("{limit_bytes}\n")),
        ("sys/fs/cgroup/work/memory.current", "0\n".to_owned()),
    ] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }
    folder
}

/// A group that leaves so much beside its reserve.
fn leaving(room_bytes: u64) -> tempfile::TempDir {
    // An eighth, 64 MiB at least.
    machine((room_bytes + 64 * MIB).max(room_bytes * 8 / 7))
}

fn command(machine: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sage"));
    command.args(arguments).env("SAGE_SYSFS", machine);
    command
}

fn on(machine: &tempfile::TempDir, arguments: &[&str]) -> Output {
    let output = command(machine.path(), arguments).output();
    output.expect("sage runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a conversation answers to one line.
fn chat(machine: &tempfile::TempDir, line: &str, kind: &str, options: &[&str]) -> Value {
    let model = model();
    let begin = ["chat", model.to_str().expect("a path"), "--json"];
    let mut chat = command(machine.path(), &[&begin, options].concat());
    let output = typed(&mut chat, &format!("{line}\n"));
    let lines = String::from_utf8(output.stdout).expect("text");
    let mut events = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("an event a line"));
    let found = events.find(|event| event["type"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {lines}"))
}

fn bytes(of: &Value) -> u64 {
    of.as_u64().unwrap_or_else(|| panic!("{of} is no size"))
}

/// 128 experts of 1.5 MiB: 192 MiB.
fn synth(folder: &Path) -> String {
    let store = folder.join("store");
    let store = store.to_str().expect("a path").to_owned();
    let shape = "--layers 2 --vocab 1024 --hidden 512 --experts 64 --moe-intermediate 512 --heads 8 --kv-heads 2 --head-dim 64";
    let shape: Vec<&str> = shape.split(' ').collect();
    let here = machine(64 << 30);
    let made = on(&here, &[&["synth", "--out", &store][..], &shape].concat());
    assert!(made.status.success(), "{}", said(&made));
    store
}

#[test]
fn a_model_that_does_not_fit_answers_under_a_limit_that_is_chosen_and_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = synth(folder.path());
    let small = machine(256 * MIB);
    let ask = |machine: &tempfile::TempDir, more: &[&str]| {
        let generate = [
            "generate",
            &store,
            "--prompt-tokens",
            "1 2 3",
            "--max-tokens",
            "24",
            "--ignore-stop",
            "--json",
        ];
        on(machine, &[&generate, more].concat())
    };
    let report = |output: &Output| -> Value {
        assert!(output.status.success(), "{}", said(output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let output = ask(&small, &[]);
    let line = said(&output);
    assert!(
        line.contains(
            "memory: limit 192.00 MiB, chosen because control group /work allows 256.00 MiB, 256.00 MiB available, \
             less a reserve of 64.00 MiB; --limit 192MiB repeats it, --limit none switches it off\n"
        ),
        "{line}"
    );
    assert!(line.contains("limit 192.00 MiB, chosen (floor "), "{line}");
    let chosen = report(&output);
    assert_eq!(bytes(&chosen["mode"]["limit_bytes"]), 192 * MIB);
    assert_eq!(chosen["mode"]["limit_chosen"], true);
    let reason = chosen["mode"]["limit_reason"].as_str().expect("a reason");
    assert!(reason.contains("control group /work"), "{reason}");
    assert!(bytes(&chosen["peak_rss_bytes"]) <= 192 * MIB, "{chosen}");

    let repeated = ask(&small, &["--limit", "192MiB"]);
    assert!(!said(&repeated).contains("memory:"), "{}", said(&repeated));
    let repeated = report(&repeated);
    assert_eq!(repeated["tokens"], chosen["tokens"]);
    assert_eq!(repeated["mode"]["pool_bytes"], chosen["mode"]["pool_bytes"]);
    assert_eq!(repeated["mode"]["limit_chosen"], false);

    let off = report(&ask(&small, &["--limit", "none"]));
    assert_eq!(off["mode"]["limit_bytes"], Value::Null);
    let fits = report(&ask(&machine(1 << 30), &[]));
    assert_eq!(fits["mode"]["limit_bytes"], Value::Null);
    assert_eq!(fits["tokens"], off["tokens"]);

    // More than there is, in any words; what the message names instead does.
    for asked in ["300MiB", "6GiB", "200slots"] {
        let above = ask(&small, &["--limit", asked]);
        let message = said(&above);
        assert_eq!(above.status.code(), Some(2), "{asked}: {message}");
        assert!(
            message.contains("control group /work allows 256.00 MiB"),
            "{message}"
        );
        assert!(message.contains("--limit 192MiB would do"), "{message}");
    }
    let bare = ask(&small, &["--limit", "40"]);
    assert_eq!(bare.status.code(), Some(2));
    assert!(
        said(&bare).contains("`40` has no unit: is it 40MiB"),
        "{}",
        said(&bare)
    );

    let tiny = ask(&machine(72 * MIB), &[]);
    let message = said(&tiny);
    assert_eq!(tiny.status.code(), Some(2), "{message}");
    for words in [
        "chosen because control group /work allows 72.00 MiB",
        "below the floor of",
        "hint: ",
    ] {
        assert!(message.contains(words), "{message}");
    }
}

/// Recorded where a limit had to be chosen, it is the same run on a machine with less, which would not even begin it.
#[test]
fn a_chosen_limit_is_recorded_and_a_replay_looks_at_no_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| {
        folder
            .path()
            .join(name)
            .to_str()
            .expect("a path")
            .to_owned()
    };
    let (scenario, trace, model) = (path("a.toml"), path("a.trace"), model());
    let model = model.to_str().expect("a path");
    let script = "name = 'a'\nticks = 40\ncontext_tokens = 512\n[[observe]]\nat = 0\nkind = 'question'\n\
                  text = 'Tom lives in Oslo. Where does Tom live?'\n";
    std::fs::write(&scenario, script).expect("written");
    let run = ["run", &scenario, "--model", model, "--json"];
    let mode = |output: &Output| -> Value {
        assert!(output.status.success(), "{}", said(output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(text.lines().next().expect("events")).expect("JSON")
    };
    let free = mode(&on(&machine(64 << 30), &run));
    assert_eq!(free["limit_bytes"], Value::Null);
    // Without a limit the pool is eight times all experts.
    let everything = bytes(&free["floor_bytes"]) + bytes(&free["pool_bytes"]) / 8;
    let (roomy, narrow) = (leaving(everything - MIB), machine(65 * MIB));
    let recorded = on(
        &roomy,
        &[&run[..], &["--record", &trace, "--record-logits"]].concat(),
    );
    assert!(recorded.status.success(), "{}", said(&recorded));
    assert!(
        said(&recorded).contains("memory: limit "),
        "{}",
        said(&recorded)
    );
    let begun = mode(&recorded);
    assert_eq!(begun["limit_chosen"], true, "{begun}");
    let limit = bytes(&begun["limit_bytes"]);
    assert!(
        limit < everything && limit.is_multiple_of(8 * MIB),
        "{limit}"
    );

    let written = std::fs::read_to_string(&trace).expect("a recording");
    let header: Value =
        serde_json::from_str(written.lines().next().expect("a header")).expect("JSON");
    assert_eq!(bytes(&header["event"]["limit"]["bytes"]), limit, "{header}");

    let refused = on(&narrow, &run);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    for how in [&["--verify", "--model", model][..], &["--policy-only"]] {
        let replayed = on(&narrow, &[&["replay", &trace], how].concat());
        let found = String::from_utf8_lossy(&replayed.stdout).into_owned();
        assert!(replayed.status.success(), "{found}{}", said(&replayed));
        assert!(found.contains("equal"), "{found}");
    }
    // A limit of the scenario's own is nobody's choice, and neither is none.
    for own in ["10slots", "none"] {
        std::fs::write(&scenario, format!("limit = '{own}'\n{script}")).expect("written");
        let begun = mode(&on(&roomy, &run));
        assert_eq!(begun["limit_chosen"], false);
        assert_eq!(begun["limit_bytes"] == Value::Null, own == "none");
    }
    std::fs::write(&scenario, format!("limit = '6GiB'\n{script}")).expect("written");
    let above = on(&roomy, &run);
    assert_eq!(above.status.code(), Some(2), "{}", said(&above));
    assert!(said(&above).contains("6.00 GiB"), "{}", said(&above));
}

#[test]
fn a_conversation_says_where_its_limit_comes_from() {
    let context = ["--context", "512"];
    // With the shortest chunks the least is enough for everything.
    let short = ["--set", "session.chunk_tokens=128"];
    let least = chat(
        &machine(64 << 30),
        "/limit",
        "limit_report",
        &[context, short].concat(),
    );
    assert_eq!(least["limit_bytes"], Value::Null);
    assert_eq!(least["limit_chosen"], false);
    let reason = least["limit_reason"].as_str().expect("a reason");
    assert!(reason.contains("everything of the model fits"), "{reason}");
    let roomy = leaving(bytes(&least["everything_bytes"]) - MIB);
    let report = chat(&roomy, "/limit", "limit_report", &context);
    assert_eq!(report["limit_chosen"], true);
    // The same floor, but for chunks that take an eighth at most of what experts would have.
    let floor = bytes(&least["floor_bytes"]);
    let more = bytes(&report["floor_bytes"]) - floor;
    assert!(8 * more <= bytes(&report["limit_bytes"]) - floor);
    assert_eq!(
        bytes(&report["pool_bytes"]) + bytes(&report["floor_bytes"]),
        bytes(&report["limit_bytes"])
    );
    let asked = chat(
        &roomy,
        "/limit",
        "limit_report",
        &[&context[..], &["--limit", "9slots"]].concat(),
    );
    assert_eq!(asked["limit_reason"], "as it was asked for");
    let changed = chat(&roomy, "/limit none\n/limit", "limit_report", &context);
    assert_eq!(changed["limit_bytes"], Value::Null);
    assert_eq!(changed["limit_reason"], "as it was set while running");
    let above = chat(&roomy, "/limit 6GiB", "refused", &context);
    let (message, hint) = (above["message"].to_string(), above["hint"].to_string());
    assert!(
        message.contains("6.00 GiB") && message.contains("control group /work"),
        "{message}"
    );
    assert!(hint.contains("/limit "), "{hint}");
}

/// The library chooses as the commands do; opening the engine oneself looks at no machine unless told to.
#[tokio::test]
async fn the_library_chooses_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = synth(folder.path());
    let source = open_model(&store).expect("a model");
    let plain = EngineOptions {
        context_tokens: 512,
        ..EngineOptions::default()
    };
    let plan = sage::session::opening::plan(&*source, &plain).expect("a plan");
    assert_eq!(plan.memory.limit_bytes, None);
    let narrow = Machine::read(Some(machine(65 * MIB).path()));
    let refused = sage::session::opening::plan(&*source, &plain.limited(None, narrow));
    assert!(refused.is_err());
    // This process has memory of its own, which the other tests move: half of the experts leaves room for that.
    let roomy = leaving(plan.memory.everything_bytes() - 96 * MIB);
    let build = async |limit: Option<&str>| {
        let mut builder = Sage::builder()
            .model(&store)
            .context_tokens(512)
            .answer_tokens(8)
            .sysfs(roomy.path());
        if let Some(limit) = limit {
            builder = builder.limit(limit);
        }
        builder.build().await
    };
    let sage = build(None).await.expect("a loop");
    let mode = sage.mode().expect("a mode").clone();
    assert!(mode.limit_chosen && mode.limit_bytes.is_some(), "{mode:?}");
    sage.shutdown().await.expect("an end");
    let sage = build(Some("none")).await.expect("a loop");
    assert_eq!(sage.mode().expect("a mode").limit_bytes, None);
    sage.shutdown().await.expect("an end");
    let Err(refused) = build(Some("6GiB")).await else {
        panic!("6 GiB are taken");
    };
    let refused = refused.to_string();
    assert!(refused.contains("control group /work"), "{refused}");
    assert!(
        refused.contains(".limit ") && !refused.contains("--limit"),
        "{refused}"
    );
}
