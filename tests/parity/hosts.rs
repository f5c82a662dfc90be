//! Experts that work elsewhere give the bits of those in this process's slots: whoever answers late, out of order, or only when
//! asked again. A host that is gone ends the step with an error that says so, and costs no lease.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test stops at the first thing that is wrong

mod elsewhere;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use sage::core::core_loop::{AnswerPolicy, CoreLoop};
use sage::core::ports::ExpertHost;
use sage::core::sampling::{Sampling, argmax};
use sage::core::shadow::{AblationSegment, AblationStep, Shadow};
use sage::core::speech::{Choosing, SpeechRequest};
use sage::core::{Arrivals, Engine, EngineError, ExpertTraffic, Limit, Probe};
use sage::goldens::speech::speak;
use sage::input::{Attributed, Fault};
use sage::media::medium::Medium;
use sage::session::exact::EXACT;
use sage::session::opening::{EngineOptions, open, open_with};
use sage::store::{WeightSource, open_model};
use sage::trace::{Sink, Tape, TraceError, TraceRecord};
use sage_actors::config::{MindConfig, RoutingPolicy};
use sage_actors::protocol::{Phase, Selection};

use crate::common::{fixture, sessions};
use elsewhere::{Elsewhere, Trouble};

fn options(speaks: bool, slots: u64) -> EngineOptions {
    EngineOptions {
        limit: Limit::Slots(slots),
        context_tokens: 64,
        chunk_tokens: Some(16),
        mind: MindConfig {
            hold: Some(EXACT),
            routing: RoutingPolicy::Exact,
            ..MindConfig::default()
        },
        // Nothing but the program's own pages differs between two openings.
        base_bytes: Some(64 << 20),
        speaks,
        codes: 8,
        ..EngineOptions::default()
    }
}

fn source(name: &str) -> Arc<dyn WeightSource> {
    Arc::from(open_model(fixture(name)).expect("a model"))
}

async fn local(name: &str, options: EngineOptions) -> Engine {
    let engine = open(source(name), options, |_, _| ());
    engine.await.expect("an engine")
}

/// An engine with its experts elsewhere, and the host.
async fn elsewhere(
    name: &str,
    options: EngineOptions,
    trouble: Option<(usize, Trouble)>,
) -> (Engine, Arc<Elsewhere>) {
    let source = source(name);
    let host = Arc::new(Elsewhere::new(&source, trouble));
    let handed = Arc::clone(&host);
    let engine = open_with(
        source,
        options,
        |_, _| (),
        |_| Ok(handed as Arc<dyn ExpertHost>),
    );
    (engine.await.expect("an engine"), host)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("a runtime").block_on(work)
}

/// Everything that a run lets out: hidden states of every layer and logits by their bits, choices, hits and misses.
#[derive(Debug, Default, PartialEq)]
struct Told {
    numbers: Vec<(String, Vec<u32>)>,
    choices: Vec<(usize, Selection)>,
    tokens: Vec<u32>,
    traffic: Vec<ExpertTraffic>,
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

impl Probe for Told {
    fn tensor(&mut self, name: &str, values: &[f32]) {
        self.numbers.push((name.to_owned(), bits(values)));
    }
    fn selection(&mut self, layer: usize, selection: &Selection) {
        self.choices.push((layer, selection.clone()));
    }
}

/// Lines that the mind is recorded in.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Sink for Lines {
    fn put(&mut self, record: &TraceRecord) {
        let line = serde_json::to_string(record).expect("a line");
        self.0.lock().unwrap().push(line);
    }
    fn keep(&mut self, _: &Medium) {}
    fn check(&mut self) -> Result<(), TraceError> {
        Ok(())
    }
}

/// Reads 20 tokens in two chunks, and writes four.
async fn think(engine: &mut Engine) -> (Told, Vec<String>) {
    let lines = Lines::default();
    let tape = Tape::new(Box::new(lines.clone()), true);
    engine.mind.watch(Arc::new(tape));
    let mut told = Told::default();
    let vocabulary = engine.text_config().vocab_size as u32;
    let prompt: Vec<u32> = (0..20).map(|n| (n * 37 + 5) % vocabulary).collect();
    let hidden = engine.text_config().hidden_size;
    let mut sequence = engine.new_sequence().expect("a sequence");
    let mut next: Vec<u32> = prompt[..16].to_vec();
    let mut left = vec![prompt[16..].to_vec()];
    for _ in 0..6 {
        let phase = match next.len() {
            1 => Phase::Decode,
            _ => Phase::Prefill,
        };
        let orientation = engine.orient(Arrivals::default()).await.expect("oriented");
        let forward = engine
            .forward(&mut sequence, &next, phase, &orientation, Some(&mut told))
            .await
            .expect("a step");
        told.traffic.push(forward.traffic);
        let last = &forward.normed[forward.normed.len() - hidden..];
        let logits = engine.logits(last).expect("logits");
        told.tensor("logits", &logits);
        next = left.pop().unwrap_or_else(|| vec![argmax(&logits)]);
        told.tokens.extend(&next);
    }
    (told, lines.0.lock().unwrap().clone())
}

#[test]
fn a_host_elsewhere_gives_the_same_bits() {
    for name in ["tiny-omni", "edge-bf16", "edge-dense-layers"] {
        block_on(async {
            let mut here = local(name, options(false, 4)).await;
            let (mut there, host) = elsewhere(name, options(false, 4), None).await;
            let (expected, lines) = think(&mut here).await;
            let (found, recorded) = think(&mut there).await;
            assert!(expected.numbers.len() > 20 && lines.len() > 20);
            assert!(found == expected, "{name}");
            assert!(recorded == lines, "{name}");
            assert!(host.retries.load(Ordering::SeqCst) > 0, "{name}");
            here.shutdown().await;
            there.shutdown().await;
        });
    }
}

/// Thinker and talker: what is written, every number of the talker, codes and samples.
async fn answer_aloud(engine: Engine) -> (Told, Vec<u32>, Vec<u32>) {
    let cases = sage::goldens::cases(&fixture("tiny-omni/goldens")).expect("goldens");
    let case = cases.iter().find(|case| case.name == "speech-text");
    let golden = case.expect("the case").open().expect("a golden");
    let (_, ids) = golden
        .integers("in.input_ids")
        .expect("a golden")
        .expect("a prompt");
    let tokens = ids.into_iter().map(|id| id as u32).collect();
    let policy = AnswerPolicy {
        sampling: Sampling::GREEDY,
        answer_tokens: 4,
    };
    let mut core = CoreLoop::new(engine, None, policy).expect("a loop");
    core.submit(sessions::request(tokens, 4));
    let mut answers = Vec::new();
    while !core.is_idle() {
        answers.extend(core.tick(&mut |_| ()).await.expect("a tick").answers);
    }
    let answer = answers.pop().expect("an answer");
    let said = core.last_turn(answer.prompt_tokens).expect("a turn");
    let request = SpeechRequest {
        speaker: "Ethan".into(),
        choosing: Choosing::GREEDY,
        max_codes: 6,
        end: None,
    };
    let (mut told, mut samples) = (Told::default(), Vec::new());
    let probe: &mut dyn Probe = &mut told;
    let engine = core.engine_mut();
    let mut sound = Vec::new();
    let spoken = speak(engine, &said, &request, &mut Some(probe), &mut sound).await;
    let codes = spoken.expect("speech").codes;
    samples.extend(bits(&sound));
    core.shutdown().await;
    told.tokens = answer.tokens;
    (told, codes, samples)
}

#[test]
fn a_talker_elsewhere_says_the_same() {
    block_on(async {
        let here = local("tiny-omni", options(true, 8)).await;
        let (there, host) = elsewhere("tiny-omni", options(true, 8), None).await;
        let expected = answer_aloud(here).await;
        let found = answer_aloud(there).await;
        assert!(!expected.1.is_empty() && !expected.2.is_empty());
        assert!(found == expected);
        assert!(host.retries.load(Ordering::SeqCst) > 0);
    });
}

#[test]
fn shadow_runs_elsewhere_score_the_same() {
    let scores = |engine: Engine| async move {
        let mut shadow = Shadow::new(&engine, 1).expect("a shadow");
        let tokens: Vec<u32> = (3..15).collect();
        let mut segment = AblationSegment::new(&engine, &shadow, &tokens).expect("a segment");
        while segment
            .stride(&engine, &mut shadow)
            .await
            .expect("a stride")
            == AblationStep::On
        {}
        let denied = segment.used()[0];
        segment.deny(denied.layer, &[denied.expert]);
        let scored = loop {
            match segment
                .stride(&engine, &mut shadow)
                .await
                .expect("a stride")
            {
                AblationStep::On => {}
                other => break other,
            }
        };
        engine.shutdown().await;
        (bits(segment.losses()), scored)
    };
    block_on(async {
        let here = scores(local("edge-bf16", options(false, 4)).await).await;
        let (engine, _) = elsewhere("edge-bf16", options(false, 4), None).await;
        assert!(matches!(&here.1, AblationStep::Scored(scored) if scored.len() == 1));
        assert_eq!(scores(engine).await, here);
    });
}

/// With room for one lease window alone, a lease that was not given back would be missed at once.
#[test]
fn a_lost_host_is_an_error_and_its_leases_come_back() {
    let troubles = [
        (Trouble::Lost, "the line was cut"),
        (Trouble::Silent, "it closed without an answer"),
        (Trouble::Short, "it answered with 0 rows"),
    ];
    for (trouble, reason) in troubles {
        block_on(async {
            let name = "tiny-omni";
            let mut here = local(name, options(false, 0)).await;
            let (mut there, _) = elsewhere(name, options(false, 0), Some((1, trouble))).await;
            let tokens: Vec<u32> = (40..56).collect();
            let mut sequence = there.new_sequence().expect("a sequence");
            let orientation = there.orient(Arrivals::default()).await.expect("oriented");
            let failed = there
                .forward(&mut sequence, &tokens, Phase::Prefill, &orientation, None)
                .await;
            let error = failed.expect_err("a lost host");
            assert!(matches!(error, EngineError::HostLost(_)), "{error}");
            assert_eq!(error.fault(), Fault::Run, "{error}");
            let message = error.to_string();
            for part in ["threads of a test", reason, "thinker expert", "of layer"] {
                assert!(message.contains(part), "{message}");
            }
            assert!(sequence.is_empty());
            // The host is back.
            let (expected, _) = think(&mut here).await;
            let (found, _) = think(&mut there).await;
            assert!(found.numbers == expected.numbers, "{trouble:?}");
            here.shutdown().await;
            there.shutdown().await;
        });
    }
}
