//! The expert cache against a model of it: random histories of leases, releases, reading ahead, budgets that grow,
//! shrink and vanish, reads that end well or badly, refused requests, and the end. Both the plain struct and the real
//! actor must do what the model does, and hold what every policy promises.
//!
//! `SAGE_MODEL_CASES=100000 cargo test --release -p sage-actors --test cache_model` looks at more histories.

#![allow(clippy::unwrap_used, clippy::panic)] // an integration test

mod reference;
mod subject;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use kameo::actor::Spawn;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestError, TestRunner};
use sage_actors::EvictionPolicy;
use sage_actors::cache::actor::ExpertCache;
use sage_actors::cache::{Cache, CacheError};
use sage_actors::protocol::*;
use tokio::runtime::Runtime;

use reference::{Answer, Message, Model};
use subject::{Failure, Subject};
use world::{Body, Op, Slot, Wrong};

/// A cache, the model of it, and what both have done so far.
struct Play<'a> {
    subject: Subject<'a>,
    model: Model,
    body: Arc<Body>,
    tick: Tick,
    /// Leases that are out, the oldest first, with their experts' slots.
    out: Vec<(LeaseId, Vec<(ExpertKey, SlotId)>)>,
    /// The view of the last directive.
    taught: u8,
    /// Bytes in each demand pool after the operation before.
    held: BTreeMap<Module, u64>,
}

fn layer_key(module: usize, layer: usize) -> LayerKey {
    let shape = &world::shapes()[module];
    LayerKey {
        module: shape.module,
        layer: shape.layers[layer % shape.layers.len()],
    }
}

fn lease_request(
    tick: Tick,
    layer: LayerKey,
    next_layer: LayerKey,
    experts: &[u16],
) -> LeaseRequest {
    let used = |expert: &u16| Use {
        expert: *expert,
        tokens: 1,
    };
    LeaseRequest {
        tick,
        phase: Phase::Decode,
        layer,
        tokens: 1,
        uses: experts.iter().map(used).collect(),
        upcoming: Vec::new(),
        next_layer,
    }
}

impl Play<'_> {
    /// The message that an operation is; none if it is the body's own affair, or asks for nothing.
    fn message(&mut self, op: &Op) -> Option<Message> {
        Some(match op {
            Op::Lease {
                module,
                layer,
                uses,
                tokens,
                tick_ends,
            } => {
                self.tick += u64::from(*tick_ends);
                let (layer, next_layer) =
                    (layer_key(*module, *layer), layer_key(*module, layer + 1));
                let used = |(expert, of): (&u16, &u32)| Use {
                    expert: *expert,
                    tokens: (*of).min(*tokens),
                };
                Message::Lease(LeaseRequest {
                    tick: self.tick,
                    phase: if *tokens == 1 {
                        Phase::Decode
                    } else {
                        Phase::Prefill
                    },
                    layer,
                    tokens: *tokens,
                    uses: uses.iter().map(used).collect(),
                    upcoming: Vec::new(),
                    next_layer,
                })
            }
            Op::Release(at) => Message::Release(self.out.get(*at)?.0),
            Op::Prefetch {
                module,
                layer,
                experts,
            } => Message::Prefetch(layer_key(*module, *layer), experts.clone()),
            Op::Budgets {
                thinker,
                talker,
                taught,
            } => {
                self.taught = *taught;
                let directives = world::directives(self.tick, *thinker, *talker);
                Message::Apply(directives, Arc::new(world::view(*taught)))
            }
            Op::FinishRead(at) | Op::FailRead(at) => {
                self.body.end_read(*at);
                return None;
            }
            Op::Wrong(wrong) => self.wrong(*wrong),
        })
    }

    fn wrong(&self, wrong: Wrong) -> Message {
        let (thinker, talker) = (layer_key(0, 0), layer_key(1, 1));
        let nowhere = LayerKey {
            layer: 3,
            ..thinker
        };
        let lease = |layer, next, experts: &[u16]| {
            Message::Lease(lease_request(self.tick, layer, next, experts))
        };
        let unbounded = world::Budget {
            k: 2,
            demand: 12,
            speculation: 2,
            odd: 0,
            miss_bytes: None,
        };
        let directives = world::directives(self.tick, Some(unbounded), Some(unbounded));
        let mut view = world::view(self.taught);
        match wrong {
            Wrong::Layer => lease(nowhere, thinker, &[0]),
            Wrong::NextLayer => lease(thinker, nowhere, &[0]),
            Wrong::Expert => lease(talker, talker, &[0, 5]),
            Wrong::Twice => lease(thinker, thinker, &[1, 2, 1]),
            Wrong::TooMany => lease(thinker, thinker, &[0, 1, 2, 3, 4]),
            Wrong::NeverLeased => Message::Release(LeaseId(u64::MAX)),
            Wrong::ReleasedAgain => {
                let out: BTreeSet<u64> = self.out.iter().map(|(id, _)| id.0).collect();
                let again = (0..).find(|id| !out.contains(id));
                Message::Release(LeaseId(again.unwrap_or(u64::MAX)))
            }
            Wrong::PrefetchLayer => Message::Prefetch(nowhere, vec![0]),
            Wrong::PrefetchExpert => Message::Prefetch(thinker, vec![0, 6]),
            Wrong::LayerOfView => {
                view.layers.remove(&layer_key(0, 2));
                Message::Apply(directives, Arc::new(view))
            }
            Wrong::ExpertOfView => {
                view.layers.insert(talker, Arc::new(LayerTrust::prior(4)));
                Message::Apply(directives, Arc::new(view))
            }
        }
    }

    /// Asks the cache; keeps the slots of a lease.
    fn ask(&mut self, message: &Message) -> Result<Answer, Failure> {
        match message {
            Message::Apply(directives, trust) => {
                self.subject.apply(directives, trust).map(Answer::Residency)
            }
            Message::Prefetch(layer, experts) => self
                .subject
                .prefetch(*layer, experts)
                .map(|()| Answer::Done),
            Message::Release(id) => {
                self.subject.release(*id)?;
                self.out.retain(|(other, _)| other != id);
                Ok(Answer::Done)
            }
            Message::Lease(request) => {
                let lease = self.subject.lease(request)?;
                let layer = request.layer;
                let slot = |leased: &LeasedExpert| {
                    let expert = leased.expert;
                    (ExpertKey { layer, expert }, leased.slot)
                };
                let slots = lease.experts.iter().map(slot).collect();
                self.out.push((lease.id, slots));
                let hits = lease
                    .experts
                    .iter()
                    .map(|leased| (leased.expert, leased.hit));
                Ok(Answer::Lease {
                    id: lease.id,
                    hits: hits.collect(),
                    miss_bytes: lease.miss_bytes,
                    next: lease.next,
                })
            }
        }
    }

    /// What must hold after a message that was obeyed, and after what is none.
    fn check(&mut self, message: Option<&Message>) -> TestCaseResult {
        same("totals", &self.subject.stats(), &Ok(self.model.stats()))?;
        same("faults", &self.body.faults(), &Vec::new())?;
        let memory = self.body.0.lock().unwrap();
        let pinned = self.model.pinned();
        for (module, pool) in &self.model.pools {
            let held = |speculative: bool| -> BTreeSet<ExpertKey> {
                let slots = memory.slots.values();
                let slots = slots.filter(|slot| slot.speculative == speculative);
                let keys = slots.map(|slot| slot.key);
                keys.filter(|key| key.layer.module == *module).collect()
            };
            same("experts in the demand pool", &held(false), &pool.resident)?;
            let ahead = pool.ahead.iter().copied().collect();
            same("experts read ahead", &held(true), &ahead)?;
            // The limit, counted in slots of the body. What was pinned when the budget shrank may stand above it
            // until the module's next lease or the next directive.
            let slots = |speculative: bool| {
                let slots = memory.slots.values();
                let slots = slots.filter(|slot| slot.key.layer.module == *module);
                let slots = slots.filter(|slot| slot.speculative == speculative);
                pool.bytes(slots.map(|slot| &slot.key))
            };
            let here = pinned.iter().filter(|key| key.layer.module == *module);
            let spared = match message {
                Some(Message::Apply(..)) => pool.bytes(here),
                Some(Message::Lease(request)) if request.layer.module == *module => 0,
                _ => self.held.get(module).copied().unwrap_or(0),
            };
            prop_assert!(slots(false) <= pool.capacity.max(spared), "above the limit");
            prop_assert!(slots(true) <= pool.speculation, "read ahead above its pool");
            self.held.insert(*module, slots(false));
            if let Subject::Plain(cache) = &self.subject {
                let resident: BTreeSet<_> = cache.resident(*module).into_iter().collect();
                same("resident experts", &resident, &pool.resident)?;
            }
        }
        for (id, experts) in &self.out {
            for (key, slot) in experts {
                let leased = Slot {
                    key: *key,
                    speculative: false,
                };
                let what = format!("what {slot:?} of {id:?} holds");
                same(&what, &memory.slots.get(slot), &Some(&leased))?;
            }
        }
        let out: BTreeMap<LeaseId, Vec<ExpertKey>> = self
            .out
            .iter()
            .map(|(id, experts)| (*id, experts.iter().map(|(key, _)| *key).collect()))
            .collect();
        same("leases that are out", &out, &self.model.leases)
    }
}

/// The cache's answer and the model's.
fn same<T: PartialEq + Debug>(what: &str, cache: &T, model: &T) -> TestCaseResult {
    prop_assert!(
        cache == model,
        "{what}\n   cache: {cache:?}\n   model: {model:?}"
    );
    Ok(())
}

/// Plays a history. An actor stops at its first refused request: those are left out unless `refuse`.
fn play(
    runtime: Option<&Runtime>,
    policy: EvictionPolicy,
    ops: &[Op],
    refuse: bool,
) -> TestCaseResult {
    let body = Arc::new(Body::default());
    let cache = Cache::new(
        &world::config(policy),
        Arc::clone(&body) as Arc<dyn ExpertSource>,
    );
    let subject = match runtime {
        None => Subject::Plain(cache),
        Some(runtime) => {
            let actor = runtime.block_on(async { ExpertCache::spawn(ExpertCache(cache)) });
            Subject::Actor(runtime, actor)
        }
    };
    let mut play = Play {
        subject,
        model: Model::new(policy),
        body,
        tick: 1,
        out: Vec::new(),
        taught: 0,
        held: BTreeMap::new(),
    };
    for (at, op) in ops.iter().enumerate() {
        let step = || format!("operation {at}, {op:?}");
        let in_step = |error: TestCaseError| TestCaseError::fail(format!("{}: {error}", step()));
        let Some(message) = play.message(op) else {
            play.check(None).map_err(in_step)?;
            continue;
        };
        let expected = play.model.answer(&message).map_err(Failure::Refused);
        if expected.is_err() && runtime.is_some() && !refuse {
            continue;
        }
        let answer = play.ask(&message);
        same("the answer", &answer, &expected).map_err(in_step)?;
        if expected.is_err() && runtime.is_some() {
            break;
        }
        let obeyed = expected.is_ok().then_some(&message);
        play.check(obeyed).map_err(in_step)?;
    }
    let left = play.body.0.lock().unwrap().slots.clone();
    if runtime.is_some() {
        same(
            "after the end",
            &play.subject.close(),
            &Err(Failure::Stopped),
        )?;
    } else {
        for (id, _) in std::mem::take(&mut play.out) {
            same("the release at the end", &play.subject.release(id), &Ok(()))?;
        }
    }
    let now = play.body.0.lock().unwrap().slots.clone();
    same("memory after the end", &now, &left)
}

/// Histories to look at: as many as the environment says, else a few seconds' worth.
fn cases(default: u32) -> ProptestConfig {
    let cases = match std::env::var("SAGE_MODEL_CASES") {
        Err(_) => default,
        Ok(text) => match text.parse() {
            Ok(cases) => cases,
            Err(_) => panic!("SAGE_MODEL_CASES is `{text}`; expected a number of cases"),
        },
    };
    ProptestConfig {
        cases,
        max_shrink_iters: 20_000,
        // The failure's message holds its whole history.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn run(default: u32, runtime: Option<&Runtime>) {
    let histories = (world::policy(), world::ops(), any::<bool>());
    let checked = TestRunner::new(cases(default)).run(&histories, |(policy, ops, refuse)| {
        play(runtime, policy, &ops, refuse)
    });
    match checked {
        Ok(()) => {}
        Err(TestError::Fail(reason, (policy, ops, refuse))) => {
            let history: Vec<String> = ops.iter().map(|op| format!("  {op:?}")).collect();
            let history = history.join("\n");
            panic!("{reason}\nunder {policy:?}, refused requests played: {refuse}\n{history}");
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_cache_does_what_the_model_does() {
    run(8000, None);
}

#[test]
fn the_actor_does_what_the_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    run(4000, Some(&runtime));
}

/// The histories are worth their name: they hit, miss, evict, read ahead, are refused and shrink under leases.
#[test]
fn the_histories_reach_everything() {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut runner = TestRunner::deterministic();
    let histories = (world::policy(), world::ops());
    for _ in 0..300 {
        let tree = histories.new_tree(&mut runner).unwrap();
        let (policy, ops) = proptest::strategy::ValueTree::current(&tree);
        let body = Arc::new(Body::default());
        let source = Arc::clone(&body) as Arc<dyn ExpertSource>;
        let mut play = Play {
            subject: Subject::Plain(Cache::new(&world::config(policy), source)),
            model: Model::new(policy),
            body,
            tick: 1,
            out: Vec::new(),
            taught: 0,
            held: BTreeMap::new(),
        };
        let mut count = |what, times: u64| *seen.entry(what).or_default() += times as u32;
        for op in &ops {
            let Some(message) = play.message(op) else {
                continue;
            };
            let answer = play.ask(&message);
            let _ = play.model.answer(&message);
            if let Err(Failure::Refused(error)) = answer {
                count(
                    match error {
                        CacheError::NoRoom { .. } => "no room",
                        _ => "another refusal",
                    },
                    1,
                );
            }
            let pools = play.model.pools.values();
            let over = pools.filter(|pool| pool.bytes(&pool.resident) > pool.capacity);
            count("over a smaller budget", over.count() as u64);
            count("several leases out", u64::from(play.out.len() > 2));
        }
        let stats = play.subject.stats().unwrap();
        count("hits", stats.hits);
        count("misses", stats.misses);
        count("evictions", stats.evictions);
        count("waits avoided", stats.waits_avoided);
    }
    for what in [
        "hits",
        "misses",
        "evictions",
        "waits avoided",
        "no room",
        "another refusal",
        "over a smaller budget",
        "several leases out",
    ] {
        assert!(
            seen.get(what).copied().unwrap_or(0) >= 100,
            "{what}: {seen:?}"
        );
    }
}
