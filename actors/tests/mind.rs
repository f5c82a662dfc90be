//! The whole mind on a runtime: a step end to end, failures that name their actor, the cost of an ask.

#![allow(clippy::unwrap_used, clippy::panic)] // an integration test

use std::sync::{Arc, Mutex};

use sage_actors::cache::CacheError;
use sage_actors::protocol::*;
use sage_actors::router::RouteError;
use sage_actors::{ActorName, Mind, MindConfig, MindError, ModuleShape};

#[derive(Default)]
struct Calls(Mutex<Vec<String>>);

impl ExpertSource for Calls {
    fn admit(&self, key: ExpertKey, slot: SlotId, speculative: bool) {
        self.log(format!(
            "admit {}.{} {} {speculative}",
            key.layer.layer, key.expert, slot.0
        ));
    }
    fn promote(&self, slot: SlotId) {
        self.log(format!("promote {}", slot.0));
    }
    fn evict(&self, slot: SlotId) {
        self.log(format!("evict {}", slot.0));
    }
    fn settle(&self) {
        self.log("settle".into());
    }
}

impl Calls {
    fn log(&self, call: String) {
        self.0.lock().unwrap().push(call);
    }
}

const LAYERS: u16 = 4;
const EXPERTS: u16 = 16;

fn config() -> MindConfig {
    MindConfig {
        modules: vec![ModuleShape {
            module: Module::Thinker,
            layers: (0..LAYERS).collect(),
            experts: EXPERTS,
            k_trained: 4,
            norm_topk_prob: true,
            expert_bytes: 100,
            smaller: Vec::new(),
        }],
        pool_bytes: 2000,
        ..MindConfig::default()
    }
}

fn key(layer: u16) -> LayerKey {
    LayerKey {
        module: Module::Thinker,
        layer,
    }
}

/// One decoded token through all layers; everything that was decided, written down.
async fn token(mind: &Mind, tick: Tick) -> Result<String, MindError> {
    let mut said = String::new();
    let report = mind
        .observe(Observe {
            tick,
            ticks: 1,
            urgency: 0.2,
            ..Observe::default()
        })
        .await?;
    let episodes = mind.unconsolidated_episodes().await?;
    let directives = mind
        .assess(Assess {
            tick,
            ticks: 1,
            report,
            open_requests: 1,
            pool_bytes: 2000,
            unconsolidated_episodes: episodes,
            spent: Spent {
                compute_units: 1.0,
                miss_bytes: 400,
            },
            ..Assess::default()
        })
        .await?;
    let trust = mind.snapshot().await?;
    let mut residency = mind.apply(&directives, &trust).await?;
    said += &format!("{directives:?}\n");
    let mut worked = Vec::new();
    for layer in 0..LAYERS {
        let logits = (0..u64::from(EXPERTS))
            .map(|e| (((e * 7 + u64::from(layer) * 3 + tick * 5) % 31) as f32) * 0.1)
            .collect();
        let route = Route {
            spans: Vec::new(),
            tick,
            phase: Phase::Decode,
            logits,
            resident: residency.resident,
            bytes_left: residency.bytes_left,
            salience_t: report.salience_t,
            surprise_t: report.surprise_t,
            reward: report.salience.reward,
        };
        let selection = mind.route(key(layer), route).await?;
        let uses = selection
            .row(0)
            .iter()
            .map(|c| Use {
                expert: c.expert,
                tokens: 1,
            })
            .collect();
        let next_layer = key((layer + 1) % LAYERS);
        let request = LeaseRequest {
            tick,
            phase: Phase::Decode,
            layer: key(layer),
            tokens: 1,
            uses,
            upcoming: Vec::new(),
            next_layer,
        };
        let lease = mind.lease(request).await?;
        said += &format!("{selection:?} {lease:?}\n");
        worked.extend(selection.row(0).iter().map(|c| Worked {
            layer,
            expert: c.expert,
            gate: c.weight,
        }));
        mind.prefetch(next_layer, vec![1, 2]).await?;
        mind.release(lease.id).await?;
        residency = lease.next;
    }
    let tokens = vec![TokenOutcome {
        origin: TokenOrigin::Generated,
        error: 1.0,
        entropy: 1.0,
        worked,
    }];
    let state = directives.state;
    let module = Module::Thinker;
    mind.outcome(Outcome {
        tick,
        ticks: 1,
        state,
        module,
        tokens,
        denied: vec![],
        feedback: None,
        scored: vec![],
    })
    .await?;
    Ok(said)
}

async fn run(tokens: u64) -> (String, Vec<String>) {
    let calls = Arc::new(Calls::default());
    let mind = Mind::spawn(config(), Arc::clone(&calls) as Arc<dyn ExpertSource>).unwrap();
    let mut said = String::new();
    for tick in 0..tokens {
        said += &token(&mind, tick).await.unwrap();
    }
    let stats = mind.cache_stats().await.unwrap();
    assert_eq!(
        stats.hits + stats.misses,
        tokens * u64::from(LAYERS) * 4 - stats_missing(&said)
    );
    assert!(
        stats.hits > 0 && stats.misses > 0 && stats.evictions > 0,
        "{stats:?}"
    );
    said += &format!("{stats:?}");
    mind.shutdown().await;
    let calls = calls.0.lock().unwrap().clone();
    (said, calls)
}

/// The first token runs before the state has settled in Focus, with k = 2.
fn stats_missing(said: &str) -> u64 {
    2 * u64::from(LAYERS) * said.matches("state: Wake, transition").count() as u64
}

#[test]
fn a_mind_decides_the_same_on_one_thread_and_on_several() {
    let one = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let several = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let (first, second) = (one.block_on(run(50)), several.block_on(run(50)));
    assert!(first == second);
}

#[tokio::test]
async fn a_router_that_fails_is_named_and_stays_stopped() {
    let mind = Mind::spawn(config(), Arc::new(Calls::default())).unwrap();
    let route = |bad: f32| Route {
        spans: Vec::new(),
        tick: 0,
        phase: Phase::Decode,
        logits: (0..EXPERTS)
            .map(|e| if e == 3 { bad } else { 0.0 })
            .collect(),
        resident: ExpertSet::default(),
        bytes_left: None,
        salience_t: 0.0,
        surprise_t: 0.0,
        reward: 0.5,
    };
    let error = mind.route(key(2), route(f32::NAN)).await.unwrap_err();
    let source = RouteError::NotFinite { row: 0, expert: 3 };
    assert_eq!(
        error,
        MindError::Route {
            layer: key(2),
            source
        }
    );
    assert_eq!(error.actor(), Some(ActorName::Router(key(2))));
    let error = mind.route(key(2), route(1.0)).await.unwrap_err();
    assert_eq!(error, MindError::Stopped(ActorName::Router(key(2))));
    assert!(mind.route(key(1), route(1.0)).await.is_ok());
    assert_eq!(
        mind.route(key(9), route(1.0)).await,
        Err(MindError::UnknownLayer(key(9)))
    );
    assert_eq!(
        mind.release(LeaseId(7)).await,
        Err(CacheError::UnknownLease(LeaseId(7)).into())
    );
    assert_eq!(
        mind.cache_stats().await,
        Err(MindError::Stopped(ActorName::Cache))
    );
    mind.shutdown().await;
}

struct Panics;

impl ExpertSource for Panics {
    fn admit(&self, _: ExpertKey, _: SlotId, _: bool) {
        panic!("a source that cannot");
    }
    fn promote(&self, _: SlotId) {}
    fn evict(&self, _: SlotId) {}
    fn settle(&self) {}
}

#[tokio::test]
async fn a_panic_is_an_error_that_names_its_actor() {
    let mind = Mind::spawn(config(), Arc::new(Panics)).unwrap();
    let error = mind.prefetch(key(0), vec![1]).await;
    assert_eq!(
        error,
        Ok(()),
        "the speculation pool is empty before the first directive"
    );
    let uses = vec![Use {
        expert: 1,
        tokens: 1,
    }];
    let request = LeaseRequest {
        tick: 0,
        phase: Phase::Decode,
        layer: key(0),
        tokens: 1,
        uses,
        upcoming: Vec::new(),
        next_layer: key(1),
    };
    assert_eq!(
        mind.lease(request).await,
        Err(MindError::Stopped(ActorName::Cache))
    );
    mind.shutdown().await;
}

#[test]
fn a_mind_needs_a_runtime() {
    assert!(matches!(
        Mind::spawn(config(), Arc::new(Panics)),
        Err(MindError::NoRuntime)
    ));
}
