//! Keys and values as they are computed, or rounded: by setting, by request, and where the limit leaves no choice.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::Path;
use std::sync::Arc;

use sage::core::ports::Sequence;
use sage::core::request::Request;
use sage::core::{Arrivals, Engine, EngineError};
use sage::input::KvPrecision;
use sage::session::exact::EXACT;
use sage::session::opening::EngineOptions;
use sage::session::{SessionPlan, opening};
use sage::store::{WeightSource, open_model};
use sage_actors::config::{MindConfig, RoutingPolicy};
use sage_actors::protocol::Phase;
use serde_json::Value;

use crate::common::runs::{complaint, root, sage};
use crate::common::sessions;

fn source() -> Arc<dyn WeightSource> {
    Arc::from(open_model(root().join("models/tiny")).expect("a model"))
}

fn exact(kv: KvPrecision) -> EngineOptions {
    EngineOptions {
        context_tokens: 64,
        kv: Some(kv),
        mind: MindConfig {
            hold: Some(EXACT),
            routing: RoutingPolicy::Exact,
            ..MindConfig::default()
        },
        ..EngineOptions::default()
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

/// States behind the final norm of a text that is read in two steps.
async fn states(engine: &mut Engine, mut kv: Sequence) -> Vec<f32> {
    let tokens: Vec<u32> = (0..40).map(|n| 30 + 7 * n).collect();
    let mut states = Vec::new();
    for tokens in [&tokens[..30], &tokens[30..]] {
        let arrivals = Arrivals::default();
        let orientation = engine.orient(arrivals).await.expect("oriented");
        let phase = Phase::Prefill;
        let step = engine.forward(&mut kv, tokens, phase, &orientation, None);
        states.extend(step.await.expect("a step").normed);
    }
    states
}

#[test]
fn rounding_changes_states_a_little_and_halves_the_memory() {
    let (states, bytes) = block_on(async {
        let (mut all, mut bytes) = (Vec::new(), Vec::new());
        for precision in KvPrecision::ALL {
            let engine = opening::open(source(), exact(precision), |_, _| ());
            let mut engine = engine.await.expect("an engine");
            let kv = engine.new_sequence().expect("a sequence");
            all.push(states(&mut engine, kv).await);
            bytes.push(engine.plan.floor.kv_bytes);
            engine.shutdown().await;
        }
        (all, bytes)
    });
    assert_eq!(bytes[1] * 2, bytes[0]);
    assert_eq!(bytes[2] * 64, bytes[0] * 17);
    let size =
        |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let whole = size(&mut states[0].iter().copied());
    for (rounded, most) in states[1..].iter().zip([0.04, 0.08]) {
        let difference = size(&mut states[0].iter().zip(rounded).map(|(a, b)| a - b)) / whole;
        println!("{difference}");
        assert!(difference > 1e-6 && difference < most, "{difference}");
    }
}

/// One session answers in all three, and each answer is that of a session that does nothing else.
#[test]
fn a_request_has_its_own_precision_and_as_much_context_as_the_memory_holds() {
    let tokens: Vec<u32> = (0..20).map(|n| 30 + 7 * n).collect();
    let ask = |kv| Request {
        kv,
        ..sessions::request(tokens.clone(), 12)
    };
    block_on(async {
        let mut alone = Vec::new();
        for precision in KvPrecision::ALL {
            let mut session = sessions::open(source(), exact(precision)).await;
            alone.push(sessions::answer(&mut session, ask(None)).await.tokens);
            session.abort().await;
        }
        let mut session = sessions::open(source(), exact(KvPrecision::Half)).await;
        let engine = session.engine();
        let of = |precision| engine.context_tokens_in(precision).expect("whole blocks");
        assert_eq!(KvPrecision::ALL.map(of), [32, 64, 64]);
        for round in 0..2 {
            for (precision, alone) in KvPrecision::ALL.into_iter().zip(&alone) {
                let answer = sessions::answer(&mut session, ask(Some(precision))).await;
                assert_eq!(answer.tokens, *alone, "round {round}, {precision}");
            }
        }
        let long = Request {
            kv: Some(KvPrecision::Exact),
            ..sessions::request(tokens.clone(), 13)
        };
        let refused = session.answer(long, None, &mut |_| true).await;
        assert!(
            matches!(
                refused,
                Err(EngineError::ContextFull {
                    needed: 33,
                    capacity: 32
                })
            ),
            "{refused:?}"
        );
        session.abort().await;
    });
}

/// Turns of one conversation, each in another precision: what was read in one is read again for the next.
#[test]
fn a_conversation_goes_on_in_another_precision() {
    block_on(async {
        let mut said = Vec::new();
        for alternating in [false, true] {
            let source = source();
            let text = sage::text::Text::load(&*source).expect("a tokenizer");
            let plan = SessionPlan {
                text: Some(text),
                system: Some("You are brief.".to_owned()),
                ..SessionPlan::of_engine(EngineOptions {
                    context_tokens: 256,
                    ..exact(KvPrecision::Exact)
                })
            };
            let session = sage::session::Session::open(source, plan, |_, _| ()).await;
            let mut session = session.expect("a session");
            let precisions = [None, Some(KvPrecision::Quarter), Some(KvPrecision::Exact)];
            let mut answers = Vec::new();
            for (turn, kv) in precisions.into_iter().enumerate() {
                let request = Request {
                    context: sage::core::request::ContextKind::Conversation,
                    max_tokens: Some(8),
                    kv: kv.filter(|_| alternating),
                    ..Request::question("user", format!("What is {turn}?"))
                };
                answers.push(sessions::answer(&mut session, request).await.tokens);
            }
            session.abort().await;
            said.push(answers);
        }
        assert_eq!(said[0][0], said[1][0]);
        // Rounding may change the second answer; where it does not, the third sees the same as ever.
        if said[0][1] == said[1][1] {
            assert_eq!(said[0][2], said[1][2]);
        }
    });
}

#[test]
fn heads_that_are_no_whole_blocks_are_refused_by_name() {
    let fixture = root().join("tests/fixtures/edge-tied");
    let run = |kv: &str| {
        let model = fixture.to_str().expect("a path");
        let tokens = [
            "--prompt-tokens",
            "3,4,5",
            "--max-tokens",
            "2",
            "--ignore-stop",
        ];
        sage(&[&["generate", model, "--kv", kv], &tokens[..]].concat())
    };
    assert!(run("bf16").status.success());
    let refused = run("q8");
    assert_eq!(refused.status.code(), Some(2));
    let why = "keys and values cannot be kept in q8: the model's heads have 16 numbers, not whole blocks of 32; take bf16 or f32";
    assert!(complaint(&refused).contains(why), "{}", complaint(&refused));
    let unknown = run("q3");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(complaint(&unknown).contains("expected f32, bf16 or q8"));
}

fn floor_bytes(kv: &str) -> u64 {
    let inspected = sage(&[
        "inspect",
        "models/tiny",
        "--context",
        "4096",
        "--kv",
        kv,
        "--json",
    ]);
    let report: Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
    report["memory"]["floor_bytes"].as_u64().expect("a floor")
}

/// Under a limit with no room for what is exact, a run rounds and says so; an exact one is refused.
#[test]
fn where_nobody_says_it_the_limit_decides() {
    let (exact, rounded) = (floor_bytes("f32"), floor_bytes("bf16"));
    assert!(rounded + (8 << 20) < exact);
    let limit = format!("{}KiB", (rounded + (2 << 20)) >> 10);
    let generate = |more: &[&str]| {
        let base = [
            "generate",
            "models/tiny",
            "--prompt",
            "Hello",
            "--context",
            "4096",
            "--max-tokens",
            "2",
            "--limit",
            &limit,
            "--set",
            "session.chunk_tokens=128",
        ];
        sage(&[&base, more].concat())
    };
    let fits = generate(&[]);
    let said = complaint(&fits);
    assert!(fits.status.success(), "{said}");
    assert!(said.contains("; keys and values in bf16"), "{said}");
    for more in [
        ["--kv", "f32"].as_slice(),
        &["--exact"],
        &["--routing", "exact"],
        &["--set", "mind.routing=exact"],
    ] {
        let refused = generate(more);
        assert_eq!(refused.status.code(), Some(2), "{}", complaint(&refused));
        assert!(complaint(&refused).contains("below the floor"));
    }
}

#[test]
fn a_recording_has_it_and_replays() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("rounded.trace");
    let trace = trace.to_str().expect("a path");
    let scenario = "scenarios/impatient-user.toml";
    let run = sage(&["run", scenario, "--kv", "q8", "--record", trace]);
    assert!(run.status.success(), "{}", complaint(&run));
    let header = std::fs::read(trace).expect("a recording");
    let header = header.split(|byte| *byte == b'\n').next().expect("a line");
    let header = String::from_utf8_lossy(header);
    assert!(header.contains(r#""kv_precision":"q8""#), "{header}");
    let replayed = sage(&["replay", trace, "--verify"]);
    assert!(replayed.status.success(), "{}", complaint(&replayed));
    assert!(Path::new(trace).exists());
}
