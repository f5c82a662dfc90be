//! Shadow runs against what they stand for: the exact engine, and a store that lacks the denied expert.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use sage::checkpoint::Component;
use sage::core::reading::PrefillRun;
use sage::core::shadow::{AblationSegment, AblationStep, Shadow, VARIANTS};
use sage::core::{Arrivals, Engine, Limit};
use sage::session::exact::EXACT;
use sage::session::opening::{EngineOptions, open};
use sage::store::{ExpertSelection, ExtractSelection, open_model};
use sage_actors::config::{MindConfig, RoutingPolicy};
use sage_actors::protocol::{Phase, Scored};

use crate::common::{extract, fixture};

/// The model in `folder` at its trained k and without bias; `slots` of room for experts.
async fn engine(folder: &Path, slots: u64, routing: RoutingPolicy) -> Engine {
    let options = EngineOptions {
        limit: Limit::Slots(slots),
        context_tokens: 64,
        chunk_tokens: Some(64),
        mind: MindConfig {
            hold: Some(EXACT),
            routing,
            ..MindConfig::default()
        },
        degrade: routing != RoutingPolicy::Exact,
        ..EngineOptions::default()
    };
    let source = Arc::from(open_model(folder).expect("a model"));
    open(source, options, |_, _| ()).await.expect("an engine")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
}

fn tokens(engine: &Engine) -> Vec<u32> {
    let vocabulary = engine.text_config().vocab_size as u32;
    (0..24).map(|n| (n * 37 + 5) % vocabulary).collect()
}

/// Losses of the tokens as the engine itself reads them, and (hits, misses).
async fn read(engine: &mut Engine, tokens: &[u32]) -> (Vec<f32>, u64, u64) {
    let mut kv = engine.new_sequence().expect("a sequence");
    let hidden = engine.text_config().hidden_size;
    let mut reading = PrefillRun::new(tokens.to_vec(), hidden, true);
    let orientation = engine.orient(Arrivals::default()).await.expect("oriented");
    let step = reading.step(engine, &mut kv, &orientation).await;
    let step = step.expect("read");
    let losses = step.measures.iter().map(|measure| measure.nll).collect();
    let traffic = step.forward.traffic;
    (losses, traffic.hits, traffic.misses)
}

/// A segment with its base pass complete.
async fn based(engine: &Engine, shadow: &mut Shadow, tokens: &[u32]) -> AblationSegment {
    let mut segment = AblationSegment::new(engine, shadow, tokens).expect("a segment");
    while segment.stride(engine, shadow).await.expect("a stride") == AblationStep::On {}
    assert!(segment.is_based());
    segment
}

async fn score(
    engine: &Engine,
    shadow: &mut Shadow,
    segment: &mut AblationSegment,
    layer: u16,
    experts: &[u16],
) -> Vec<Scored> {
    segment.deny(layer, experts);
    loop {
        match segment.stride(engine, shadow).await.expect("a stride") {
            AblationStep::On => {}
            AblationStep::Scored(scored) => return scored,
            other => panic!("{other:?}"),
        }
    }
}

/// Every expert that the segment used, denied.
async fn all_scores(
    engine: &Engine,
    shadow: &mut Shadow,
    segment: &mut AblationSegment,
) -> Vec<Scored> {
    let mut scores = Vec::new();
    for layer in segment.used().chunk_by(|a, b| a.layer == b.layer) {
        for batch in layer.chunks(VARIANTS) {
            let experts: Vec<u16> = batch.iter().map(|used| used.expert).collect();
            scores.extend(score(engine, shadow, segment, batch[0].layer, &experts).await);
        }
    }
    scores
}

const MODELS: [&str; 5] = [
    "tiny-thinker",
    "edge-bf16",
    "edge-dense-layers",
    "edge-top1",
    "edge-no-norm-topk",
];

#[test]
fn the_base_pass_is_the_exact_engine_bit_for_bit() {
    for name in MODELS {
        runtime().block_on(async {
            let mut engine = engine(&fixture(name), 64, RoutingPolicy::Exact).await;
            let tokens = tokens(&engine);
            let (losses, _, _) = read(&mut engine, &tokens).await;
            let mut shadow = Shadow::new(&engine, 1).expect("a shadow");
            let segment = based(&engine, &mut shadow, &tokens).await;
            assert_eq!(segment.losses(), losses, "{name}");
        });
    }
}

/// What a denial costs is what the store without that expert costs.
#[test]
fn a_denied_expert_is_one_that_is_not_there() {
    for name in ["tiny-thinker", "edge-top1", "edge-dense-layers"] {
        runtime().block_on(async {
            let whole = engine(&fixture(name), 64, RoutingPolicy::Exact).await;
            let tokens = tokens(&whole);
            let mut shadow = Shadow::new(&whole, 2).expect("a shadow");
            let mut segment = based(&whole, &mut shadow, &tokens).await;
            let used = segment.used();
            let denied = used[used.len() / 2];
            let batch = score(
                &whole,
                &mut shadow,
                &mut segment,
                denied.layer,
                &[denied.expert],
            )
            .await;
            let [scored] = batch[..] else {
                panic!("{batch:?}")
            };

            let config = whole.text_config();
            let mut kept = BTreeSet::new();
            for layer in config.sparse_layers() {
                for expert in 0..config.num_experts {
                    if (layer as u16, expert as u16) != (denied.layer, denied.expert) {
                        kept.insert((Component::Thinker, layer, expert));
                    }
                }
            }
            let folder = tempfile::tempdir().expect("a folder");
            let store = folder.path().join("store");
            let selection = ExtractSelection {
                experts: ExpertSelection::Listed(kept),
                ..ExtractSelection::all()
            };
            extract(&fixture(name), &store, &selection);
            let mut partial = engine(&store, 64, RoutingPolicy::Salient).await;
            let (without, _, _) = read(&mut partial, &tokens).await;
            let users = segment.users(denied.layer, denied.expert);
            assert_eq!(users.len(), scored.tokens as usize, "{name}");
            let total =
                |losses: &[f32]| -> f64 { users.iter().map(|user| f64::from(losses[*user])).sum() };
            let increase = total(&without) - total(segment.losses());
            assert!(
                (increase - scored.increase).abs() < 1e-3 * (1.0 + increase.abs()),
                "{name}: {increase} without the record, {} in shadow",
                scored.increase
            );
        });
    }
}

/// The same tokens, hits and misses with and without shadow runs between them.
#[test]
fn shadow_runs_touch_neither_residency_nor_the_live_context() {
    let name = fixture("tiny-thinker");
    let live = |shadowed: bool| {
        runtime().block_on(async {
            let mut engine = engine(&name, 3, RoutingPolicy::Exact).await;
            let tokens = tokens(&engine);
            let mut kv = engine.new_sequence().expect("a sequence");
            let mut seen = Vec::new();
            for half in tokens.chunks(tokens.len() / 2) {
                let orientation = engine.orient(Arrivals::default()).await.expect("oriented");
                let step = engine.forward(&mut kv, half, Phase::Prefill, &orientation, None);
                let step = step.await.expect("a step");
                seen.push((step.normed, step.traffic, orientation.directives));
                if shadowed {
                    let mut shadow = Shadow::new(&engine, 1).expect("a shadow");
                    let mut segment = based(&engine, &mut shadow, &tokens).await;
                    let scores = all_scores(&engine, &mut shadow, &mut segment).await;
                    assert!(scores.len() > 4 && shadow.bytes_read() > 0);
                    assert!(scores.iter().any(|scored| scored.increase != 0.0));
                }
            }
            let stats = engine.mind.cache_stats().await.expect("totals");
            (seen, stats)
        })
    };
    assert_eq!(live(false), live(true));
}

/// However many experts are denied together and kept in memory, a score is a score.
#[test]
fn scores_do_not_depend_on_batches_or_slots() {
    runtime().block_on(async {
        let engine = engine(&fixture("edge-bf16"), 64, RoutingPolicy::Exact).await;
        let tokens = tokens(&engine);
        let mut few = Shadow::new(&engine, 1).expect("a shadow");
        let mut many = Shadow::new(&engine, 1000).expect("a shadow");
        let mut segment = based(&engine, &mut few, &tokens).await;
        let together = all_scores(&engine, &mut many, &mut segment).await;
        for expected in &together {
            let layer = expected.layer;
            let alone = score(&engine, &mut few, &mut segment, layer, &[expected.expert]).await;
            assert_eq!(alone, [*expected]);
        }
        assert!(many.bytes_read() < few.bytes_read());
    });
}
