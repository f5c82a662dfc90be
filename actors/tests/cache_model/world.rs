//! What the cache is asked, at random, and the memory that it is told to use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use sage_actors::protocol::*;
use sage_actors::{EvictionPolicy, ExpertRun, MindConfig, ModuleShape};

pub const WINDOW: u16 = 3;

/// Two modules whose experts differ in number and size, as a thinker's and a talker's do; the thinker's also among themselves.
pub fn shapes() -> Vec<ModuleShape> {
    let shape = |module, layers: &[u16], experts, expert_bytes| ModuleShape {
        module,
        layers: layers.to_vec(),
        experts,
        k_trained: 2,
        norm_topk_prob: true,
        expert_bytes,
        smaller: Vec::new(),
    };
    let run = |layer, first, experts, bytes| ExpertRun {
        layer,
        first,
        experts,
        bytes,
    };
    let thinker = ModuleShape {
        smaller: vec![run(4, 0, 6, 60), run(5, 1, 2, 35)],
        ..shape(Module::Thinker, &[1, 4, 5], 6, 100)
    };
    vec![thinker, shape(Module::Talker, &[0, 2], 5, 70)]
}

pub fn config(eviction: EvictionPolicy) -> MindConfig {
    MindConfig {
        modules: shapes(),
        eviction,
        window_experts: WINDOW,
        ..MindConfig::default()
    }
}

pub fn policy() -> impl Strategy<Value = EvictionPolicy> {
    let horizon = EvictionPolicy::Horizon {
        half_life_tokens: 3.0,
    };
    prop::sample::select(vec![
        EvictionPolicy::Lru,
        EvictionPolicy::Lfu,
        EvictionPolicy::Trust,
        horizon,
        EvictionPolicy::Learned,
    ])
}

/// What one module may use; sizes in experts and in hundredths of one, as limits are no multiples of an expert.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub k: u16,
    pub demand: u64,
    pub speculation: u64,
    pub odd: u64,
    pub miss_bytes: Option<u64>,
}

/// One thing that happens to the cache. Modules and layers are numbers that wrap around.
#[derive(Clone, Debug)]
pub enum Op {
    Lease {
        module: usize,
        layer: usize,
        uses: BTreeMap<u16, u32>,
        tokens: u32,
        tick_ends: bool,
    },
    /// Of the so-manieth lease that is out.
    Release(usize),
    Prefetch {
        module: usize,
        layer: usize,
        experts: Vec<u16>,
    },
    /// A directive; a module without a budget sleeps. `taught` is what the ledger believes.
    Budgets {
        thinker: Option<Budget>,
        talker: Option<Budget>,
        taught: u8,
    },
    /// The so-manieth read under way ends well.
    FinishRead(usize),
    /// It fails: the body's affair, no decision of the cache.
    FailRead(usize),
    Wrong(Wrong),
}

/// Requests that are refused.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    Layer,
    NextLayer,
    Expert,
    Twice,
    TooMany,
    NeverLeased,
    ReleasedAgain,
    PrefetchLayer,
    PrefetchExpert,
    /// A view of trust without the thinker's last layer.
    LayerOfView,
    /// A view of trust without the talker's last expert.
    ExpertOfView,
}

fn budget() -> impl Strategy<Value = Budget> {
    let miss = prop::option::of(0u64..900);
    (1u16..=4, 0u64..13, 0u64..4, 0u64..100, miss).prop_map(
        |(k, demand, speculation, odd, miss_bytes)| Budget {
            k,
            demand,
            speculation,
            odd,
            miss_bytes,
        },
    )
}

fn wrong() -> impl Strategy<Value = Wrong> {
    prop::sample::select(vec![
        Wrong::Layer,
        Wrong::NextLayer,
        Wrong::Expert,
        Wrong::Twice,
        Wrong::TooMany,
        Wrong::NeverLeased,
        Wrong::ReleasedAgain,
        Wrong::PrefetchLayer,
        Wrong::PrefetchExpert,
        Wrong::LayerOfView,
        Wrong::ExpertOfView,
    ])
}

/// A history. The thinker's budget is mostly roomy, so that leases are mostly granted and experts really come and go.
pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Low numbers are likelier: what is never used again shows nothing.
    let expert = || prop_oneof![3 => 0u16..3, 1 => 0u16..5];
    let module = || prop_oneof![3 => Just(0usize), 1 => Just(1usize)];
    let uses = prop::collection::btree_map(expert(), 1u32..=4, 0..=3);
    let lease = (module(), 0usize..3, uses, 1u32..=4, any::<bool>()).prop_map(
        |(module, layer, uses, tokens, tick_ends)| Op::Lease {
            module,
            layer,
            uses,
            tokens,
            tick_ends,
        },
    );
    let prefetch = (module(), 0usize..3, prop::collection::vec(expert(), 0..5)).prop_map(
        |(module, layer, experts)| Op::Prefetch {
            module,
            layer,
            experts,
        },
    );
    let budgets = (
        prop::option::weighted(0.9, budget()),
        prop::option::weighted(0.7, budget()),
        0u8..4,
    )
        .prop_map(|(thinker, talker, taught)| Op::Budgets {
            thinker,
            talker,
            taught,
        });
    let op = prop_oneof![
        12 => lease,
        9 => (0usize..4).prop_map(Op::Release),
        3 => prefetch,
        2 => budgets,
        2 => (0usize..6).prop_map(Op::FinishRead),
        1 => (0usize..6).prop_map(Op::FailRead),
        1 => wrong().prop_map(Op::Wrong),
    ];
    prop::collection::vec(op, 1..100)
}

/// What the ledger believes of an expert: the prior, or something that differs from one to the next.
fn belief(key: ExpertKey, taught: u8) -> (f32, f32) {
    if taught == 0 {
        return (0.5, 0.5);
    }
    let mixed = u32::from(key.expert) * 7 + u32::from(key.layer.layer) * 3 + u32::from(taught) * 5;
    ((mixed % 11) as f32 / 10.0, (mixed % 5) as f32 / 4.0)
}

pub fn view(taught: u8) -> TrustView {
    let mut view = TrustView::default();
    for shape in shapes() {
        for layer in shape.keys() {
            let mut trust = LayerTrust::prior(shape.experts);
            for expert in 0..shape.experts {
                let (convergence, stability) = belief(ExpertKey { layer, expert }, taught);
                trust.convergence[usize::from(expert)] = convergence;
                trust.stability[usize::from(expert)] = stability;
            }
            view.layers.insert(layer, Arc::new(trust));
        }
    }
    view
}

pub fn directives(tick: Tick, thinker: Option<Budget>, talker: Option<Budget>) -> Directives {
    let directive = |(shape, budget): (ModuleShape, Option<Budget>)| {
        let budget = budget?;
        let bytes = |experts: u64| experts * shape.expert_bytes + budget.odd % shape.expert_bytes;
        Some(ModuleDirective {
            module: shape.module,
            epoch: 0,
            state: State::Focus,
            k: budget.k,
            reading_k: None,
            router_mass: 1.0,
            expert_bytes: bytes(budget.demand),
            speculation_bytes: bytes(budget.speculation),
            miss_bytes_per_token: budget.miss_bytes,
            lambda: 0.0,
            beta: 0.0,
            focus_weight: 0.0,
            lookahead: 0,
        })
    };
    let modules = shapes().into_iter().zip([thinker, talker]);
    Directives {
        towers: Vec::new(),
        epoch: 0,
        tick,
        state: State::Focus,
        transition: None,
        energy: Energy::default(),
        drive: 0.0,
        may_step: true,
        end_answer: false,
        tokens_max: None,
        modules: modules.filter_map(directive).collect(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub key: ExpertKey,
    pub speculative: bool,
}

#[derive(Debug, Default)]
pub struct Memory {
    pub slots: BTreeMap<SlotId, Slot>,
    /// Reads under way. A slot may have moved on before its read ends.
    reads: Vec<(SlotId, ExpertKey)>,
    admitting: bool,
    open: bool,
    most: BTreeMap<Module, usize>,
    /// What the cache did that a body cannot follow.
    pub faults: Vec<String>,
}

/// A body that holds no bytes, only which slot is whose.
#[derive(Default)]
pub struct Body(pub Mutex<Memory>);

impl Body {
    fn told(&self, tell: impl FnOnce(&mut Memory) -> Result<(), String>) {
        let mut memory = self.0.lock().unwrap();
        memory.open = true;
        if let Err(fault) = tell(&mut memory) {
            memory.faults.push(fault);
        }
    }

    /// Ends a read; what it fills may have moved on, and no decision hears of it.
    pub fn end_read(&self, at: usize) {
        let mut memory = self.0.lock().unwrap();
        if !memory.reads.is_empty() {
            let at = at % memory.reads.len();
            memory.reads.remove(at);
        }
    }

    /// What is wrong by itself: orders that cannot be obeyed, a decision left open, a slot number out of reach.
    pub fn faults(&self) -> Vec<String> {
        let memory = self.0.lock().unwrap();
        let mut faults = memory.faults.clone();
        if memory.open {
            faults.push("a decision without `settle`".into());
        }
        for (slot, held) in &memory.slots {
            let most = memory.most.get(&held.key.layer.module).copied();
            if (slot.0 & 0xff_ffff) as usize >= most.unwrap_or(0) {
                faults.push(format!(
                    "{slot:?} although never more than {most:?} were held"
                ));
            }
        }
        faults
    }
}

impl ExpertSource for Body {
    fn admit(&self, key: ExpertKey, slot: SlotId, speculative: bool) {
        self.told(|memory| {
            memory.admitting = true;
            memory.reads.push((slot, key));
            let before = memory.slots.insert(slot, Slot { key, speculative });
            let module = key.layer.module;
            let held = memory.slots.values();
            let held = held.filter(|slot| slot.key.layer.module == module).count();
            let most = memory.most.entry(module).or_default();
            *most = (*most).max(held);
            match before {
                None => Ok(()),
                Some(before) => Err(format!("{key:?} into {slot:?}, which holds {before:?}")),
            }
        });
    }

    fn promote(&self, slot: SlotId) {
        self.told(|memory| match memory.slots.get_mut(&slot) {
            Some(held) if held.speculative => {
                held.speculative = false;
                Ok(())
            }
            held => Err(format!("{slot:?} taken over although it is {held:?}")),
        });
    }

    fn evict(&self, slot: SlotId) {
        self.told(|memory| match memory.slots.remove(&slot) {
            Some(_) if !memory.admitting => Ok(()),
            held => Err(format!(
                "{slot:?} evicted after an admission, or empty: {held:?}"
            )),
        });
    }

    fn settle(&self) {
        self.told(|_| Ok(()));
        let mut memory = self.0.lock().unwrap();
        (memory.open, memory.admitting) = (false, false);
    }
}
