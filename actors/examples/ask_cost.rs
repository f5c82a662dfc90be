//! What the mind costs: time of an ask, and of all decisions of one decoded token, on the shape of the real thinker.
//!
//! `cargo run --release -p sage-actors --example ask_cost`
#![allow(clippy::disallowed_types, clippy::unwrap_used)] // a measurement needs a clock

use std::sync::Arc;
use std::time::Instant;

use sage_actors::protocol::*;
use sage_actors::router::Router;
use sage_actors::{Mind, MindConfig, ModuleShape, RoutingPolicy};

/// Reads memory as a layer's weights do, so that nothing of the mind is left in the caches.
struct Sweep {
    memory: Vec<u64>,
    at: usize,
}

impl Sweep {
    /// More than caches hold.
    const ALL: usize = (512 << 20) / 8;
    /// What a layer of the real shapes reads for a token in 4 bits.
    const LAYER: usize = (32 << 20) / 8;

    fn new() -> Self {
        Self {
            memory: (0..Self::ALL as u64).collect(),
            at: 0,
        }
    }

    fn layer(&mut self) {
        let read = &self.memory[self.at..self.at + Self::LAYER];
        std::hint::black_box(read.iter().fold(0, |all, word| all ^ word));
        self.at = (self.at + Self::LAYER) % Self::ALL;
    }
}

struct Nowhere;

impl ExpertSource for Nowhere {
    fn admit(&self, _: ExpertKey, _: SlotId, _: bool) {}
    fn promote(&self, _: SlotId) {}
    fn evict(&self, _: SlotId) {}
    fn settle(&self) {}
}

const LAYERS: u16 = 48;
const EXPERTS: u16 = 128;
const BYTES: u64 = 9 << 20;
const POOL: u64 = 8 << 30;

fn shape() -> ModuleShape {
    ModuleShape {
        module: Module::Thinker,
        layers: (0..LAYERS).collect(),
        experts: EXPERTS,
        k_trained: 8,
        norm_topk_prob: true,
        expert_bytes: BYTES,
        smaller: Vec::new(),
    }
}

fn route(tick: Tick, layer: u16, residency: &Residency) -> Route {
    let noise = |e: u64| {
        let x = (tick / 3 * 131 + u64::from(layer) * 17 + e).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (x >> 40) as f32 / (1 << 22) as f32 + ((e * 7 + u64::from(layer)) % 32) as f32 * 0.1
    };
    Route {
        spans: Vec::new(),
        tick,
        phase: Phase::Decode,
        logits: (0..u64::from(EXPERTS)).map(noise).collect(),
        resident: residency.resident.clone(),
        bytes_left: residency.bytes_left,
        salience_t: 0.2,
        surprise_t: 0.2,
        reward: 0.5,
    }
}

/// Microseconds of each part of a token: apply, route, lease and release, learn, all; between them `sweep` works.
async fn token(mind: &Mind, tick: Tick, times: &mut [f64; 5], sweep: &mut Option<Sweep>) {
    let mut swept = 0.0;
    let mut work = || {
        let at = Instant::now();
        if let Some(sweep) = sweep {
            sweep.layer();
        }
        swept += micros(at);
    };
    let start = Instant::now();
    work();
    let begun = Instant::now();
    let report = mind
        .observe(Observe {
            tick,
            ticks: 1,
            ..Observe::default()
        })
        .await
        .unwrap();
    let assess = Assess {
        tick,
        ticks: 1,
        report,
        open_requests: 1,
        pool_bytes: POOL,
        ..Assess::default()
    };
    let directives = mind.assess(assess).await.unwrap();
    let trust = mind.snapshot().await.unwrap();
    let mut residency = mind.apply(&directives, &trust).await.unwrap();
    drop(trust);
    times[0] += micros(begun);
    let mut worked = Vec::new();
    for number in 0..LAYERS {
        let layer = LayerKey {
            module: Module::Thinker,
            layer: number,
        };
        let next_layer = LayerKey {
            layer: (number + 1) % LAYERS,
            ..layer
        };
        let message = route(tick, number, &residency);
        work();
        let at = Instant::now();
        let selection = mind.route(layer, message).await.unwrap();
        times[1] += micros(at);
        let uses: Vec<Use> = selection
            .chosen
            .iter()
            .map(|c| Use {
                expert: c.expert,
                tokens: 1,
            })
            .collect();
        worked.extend(selection.chosen.iter().map(|c| Worked {
            layer: number,
            expert: c.expert,
            gate: c.weight,
        }));
        let request = LeaseRequest {
            tick,
            phase: Phase::Decode,
            layer,
            tokens: 1,
            uses,
            upcoming: Vec::new(),
            next_layer,
        };
        let at = Instant::now();
        let lease = mind.lease(request).await.unwrap();
        mind.release(lease.id).await.unwrap();
        times[2] += micros(at);
        residency = lease.next;
    }
    work();
    let at = Instant::now();
    let tokens = vec![TokenOutcome {
        origin: TokenOrigin::Generated,
        error: 1.0,
        entropy: 1.0,
        worked,
    }];
    let (state, module) = (directives.state, Module::Thinker);
    let outcome = Outcome {
        tick,
        ticks: 1,
        state,
        module,
        tokens,
        denied: vec![],
        feedback: None,
        scored: vec![],
    };
    mind.outcome(outcome).await.unwrap();
    times[3] += micros(at);
    times[4] += micros(start) - swept;
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

async fn measure(name: &str, tokens: u32, mut sweep: Option<Sweep>) {
    let config = MindConfig {
        modules: vec![shape()],
        pool_bytes: POOL,
        ..MindConfig::default()
    };
    let mind = Mind::spawn(config, Arc::new(Nowhere)).unwrap();
    let mut times = [0.0; 5];
    for tick in 0..100 {
        token(&mind, tick, &mut times, &mut None).await;
    }
    let stats = mind.cache_stats().await.unwrap();
    const ASKS: u32 = 100_000;
    let start = Instant::now();
    for _ in 0..ASKS {
        std::hint::black_box(mind.cache_stats().await.unwrap());
    }
    let ask = micros(start) / f64::from(ASKS);
    let start = Instant::now();
    for _ in 0..ASKS {
        std::hint::black_box(mind.unconsolidated_episodes().await.unwrap());
    }
    let small = micros(start) / f64::from(ASKS);
    times = [0.0; 5];
    for tick in 100..100 + u64::from(tokens) {
        token(&mind, tick, &mut times, &mut sweep).await;
    }
    let [apply, routes, leases, learn, all] = times.map(|t| t / f64::from(tokens));
    println!("{name}: ask {small:.2} us (with totals of the cache {ask:.2} us)");
    println!(
        "  a token: {all:.0} us = begin {apply:.0} + {LAYERS} routes {routes:.0} + leases {leases:.0} + learn {learn:.0} + building the messages"
    );
    let after = mind.cache_stats().await.unwrap();
    println!(
        "  misses a token: {}",
        (after.misses - stats.misses) / u64::from(tokens)
    );
    mind.shutdown().await;
}

fn main() {
    let one = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    one.block_on(measure("one thread", 300, None));
    let cold = Some(Sweep::new());
    one.block_on(measure("one thread, with caches full of weights", 30, cold));
    let several = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    several.block_on(measure("two threads", 300, None));
    let mut router = Router::new(&shape(), RoutingPolicy::Salient);
    let message = route(0, 0, &Residency::default());
    let start = Instant::now();
    for _ in 0..10_000 {
        std::hint::black_box(router.route(&message).unwrap());
    }
    println!(
        "a router's core without its actor: {:.2} us a row",
        micros(start) / 1e4
    );
}
