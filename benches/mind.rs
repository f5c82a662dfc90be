//! What the mind's decisions cost on the shape of the released thinker: 48 layers of 128 experts, of which 8 work on a token.
//!
//! `cargo bench --bench mind` runs them all, `cargo bench --bench mind -- cache` those whose name says so, and
//! `cargo bench --bench mind -- --test` each of them once. What a whole token's decisions cost, asks included:
//! `cargo run --release -p sage-actors --example ask_cost`.

#![allow(clippy::unwrap_used)] // a benchmark stops at the first thing that is wrong

use std::sync::Arc;

use divan::Bencher;
use sage_actors::cache::Cache;
use sage_actors::protocol::*;
use sage_actors::router::Router;
use sage_actors::{EvictionPolicy, Mind, MindConfig, ModuleShape, RoutingPolicy};

const LAYERS: u16 = 48;
const EXPERTS: u16 = 128;
const EXPERTS_PER_TOKEN: u16 = 8;
/// Gate, up and down in bf16.
const EXPERT_BYTES: u64 = 3 * 2048 * 768 * 2;
/// A quarter of all experts.
const POOL_BYTES: u64 = LAYERS as u64 * EXPERTS as u64 / 4 * EXPERT_BYTES;

fn main() {
    divan::main();
}

/// The body that reads nothing.
struct Nowhere;

impl ExpertSource for Nowhere {
    fn admit(&self, _: ExpertKey, _: SlotId, _: bool) {}
    fn promote(&self, _: SlotId) {}
    fn evict(&self, _: SlotId) {}
    fn settle(&self) {}
}

fn shape() -> ModuleShape {
    ModuleShape {
        module: Module::Thinker,
        layers: (0..LAYERS).collect(),
        experts: EXPERTS,
        k_trained: EXPERTS_PER_TOKEN,
        norm_topk_prob: true,
        expert_bytes: EXPERT_BYTES,
        smaller: Vec::new(),
    }
}

fn config(eviction: EvictionPolicy) -> MindConfig {
    MindConfig {
        modules: vec![shape()],
        pool_bytes: POOL_BYTES,
        eviction,
        ..MindConfig::default()
    }
}

fn layer_key(layer: u16) -> LayerKey {
    LayerKey {
        module: Module::Thinker,
        layer,
    }
}

fn directive() -> ModuleDirective {
    ModuleDirective {
        module: Module::Thinker,
        epoch: 1,
        state: State::Focus,
        k: EXPERTS_PER_TOKEN,
        reading_k: None,
        router_mass: 1.0,
        expert_bytes: POOL_BYTES,
        speculation_bytes: 0,
        miss_bytes_per_token: Some(96 * EXPERT_BYTES),
        lambda: 1.0,
        beta: 0.5,
        focus_weight: 0.1,
        lookahead: 0,
    }
}

fn directives() -> Directives {
    Directives {
        epoch: 1,
        tick: 0,
        state: State::Focus,
        transition: None,
        energy: Energy::default(),
        drive: 0.0,
        may_step: true,
        end_answer: false,
        tokens_max: None,
        modules: vec![directive()],
        towers: Vec::new(),
    }
}

fn trust() -> TrustView {
    let prior = Arc::new(LayerTrust::prior(EXPERTS));
    let layers = (0..LAYERS).map(|layer| (layer_key(layer), Arc::clone(&prior)));
    TrustView {
        layers: layers.collect(),
    }
}

/// One of 2^22 numbers, the same for the same expert and token.
fn noise(tick: Tick, layer: u16, expert: u16) -> u64 {
    let seed = tick * 131 + u64::from(layer) * 17 + u64::from(expert);
    seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 42
}

/// Logits of one token; half of the experts are resident.
fn token(tick: Tick) -> Route {
    let mut resident = ExpertSet::default();
    (0..EXPERTS)
        .step_by(2)
        .for_each(|expert| resident.insert(expert));
    Route {
        spans: Vec::new(),
        tick,
        phase: Phase::Decode,
        logits: (0..EXPERTS)
            .map(|expert| noise(tick, 0, expert) as f32 / (1 << 20) as f32)
            .collect(),
        resident,
        bytes_left: Some(4 * EXPERT_BYTES),
        salience_t: 0.2,
        surprise_t: 0.2,
        reward: 0.5,
    }
}

const ROUTING: [RoutingPolicy; 3] = [
    RoutingPolicy::Exact,
    RoutingPolicy::Salient,
    RoutingPolicy::Sage,
];

/// A layer's choice for one token.
#[divan::bench(args = ROUTING)]
fn router(bencher: Bencher<'_, '_>, policy: &RoutingPolicy) {
    let mut router = Router::new(&shape(), *policy);
    let prior = Arc::new(LayerTrust::prior(EXPERTS));
    router.apply(&directive(), prior).unwrap();
    let message = token(3);
    bencher.bench_local(|| router.route(&message).unwrap());
}

/// The same, asked of the actor by the loop that shares its thread.
#[divan::bench]
fn router_asked(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let mind = runtime.block_on(mind());
    let message = token(3);
    bencher
        .with_inputs(|| message.clone())
        .bench_local_values(|message| {
            let asked = mind.route(layer_key(0), message);
            runtime.block_on(asked).unwrap()
        });
    runtime.block_on(mind.shutdown());
}

/// The experts of layer after layer, token after token; what a layer uses drifts, so that about half of it is missed.
struct Leases {
    step: u64,
}

impl Leases {
    fn next(&mut self) -> LeaseRequest {
        let layers = u64::from(LAYERS);
        let (tick, layer) = (self.step / layers, (self.step % layers) as u16);
        self.step += 1;
        let first = (tick / 3 * 5 + u64::from(layer)) % u64::from(EXPERTS);
        let mut uses: Vec<Use> = (0..EXPERTS_PER_TOKEN / 2)
            .map(|i| (first as u16 + i * 3) % EXPERTS)
            .map(|expert| Use { expert, tokens: 1 })
            .collect();
        let mut at = 0;
        while uses.len() < usize::from(EXPERTS_PER_TOKEN) {
            let expert = (noise(tick, layer, at) % u64::from(EXPERTS)) as u16;
            at += 1;
            if uses.iter().all(|used| used.expert != expert) {
                uses.push(Use { expert, tokens: 1 });
            }
        }
        LeaseRequest {
            tick,
            phase: Phase::Decode,
            layer: layer_key(layer),
            tokens: 1,
            uses,
            upcoming: Vec::new(),
            next_layer: layer_key((layer + 1) % LAYERS),
        }
    }
}

const EVICTION: [EvictionPolicy; 5] = [
    EvictionPolicy::Lru,
    EvictionPolicy::Lfu,
    EvictionPolicy::Trust,
    EvictionPolicy::Horizon {
        half_life_tokens: 12.0,
    },
    EvictionPolicy::Learned,
];

/// Tokens until the pool is full and every miss evicts.
const TOKENS_TO_FILL: u64 = 40;

/// A lease of one layer's experts for one token, with what it evicts, and its release.
#[divan::bench(args = EVICTION)]
fn cache_lease(bencher: Bencher<'_, '_>, policy: &EvictionPolicy) {
    let mut cache = Cache::new(&config(*policy), Arc::new(Nowhere));
    cache.apply(&directives(), &trust()).unwrap();
    let mut leases = Leases { step: 0 };
    while leases.step < TOKENS_TO_FILL * u64::from(LAYERS) {
        let lease = cache.lease(&leases.next()).unwrap();
        cache.release(lease.id).unwrap();
    }
    assert!(cache.stats().evictions > 0, "the pool is not full");
    bencher
        .with_inputs(|| leases.next())
        .bench_local_values(|request| {
            let lease = cache.lease(&request).unwrap();
            cache.release(lease.id).unwrap();
            lease
        });
}

/// The same, asked of the actor by the loop that shares its thread: two asks. The pool still fills, so nothing is evicted.
#[divan::bench]
fn cache_lease_asked(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let mind = runtime.block_on(mind());
    let (directives, trust) = (directives(), Arc::new(trust()));
    let applied = mind.apply(&directives, &trust);
    runtime.block_on(applied).unwrap();
    let mut leases = Leases { step: 0 };
    bencher
        .with_inputs(|| leases.next())
        .bench_local_values(|request| {
            runtime.block_on(async {
                let lease = mind.lease(request).await.unwrap();
                mind.release(lease.id).await.unwrap();
                lease
            })
        });
    runtime.block_on(mind.shutdown());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

async fn mind() -> Mind {
    let config = config(MindConfig::default().eviction);
    Mind::spawn(config, Arc::new(Nowhere)).unwrap()
}
