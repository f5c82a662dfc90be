//! What was used when, and which resident leaves when room is needed: the policies with their memory.
//!
//! Knows nothing of slots, leases or bytes: the pool asks it whom it parts with first, and so does the replay of
//! recorded routing.

use std::sync::Arc;

use super::eviction::{self, Decay};
use super::mixture::Mixture;
use crate::config::{EvictionPolicy, ModuleShape};
use crate::protocol::{LayerTrust, Tick};

/// What is known of one expert, resident or not.
#[derive(Clone, Copy, Debug, Default)]
struct ExpertHistory {
    /// Share of tokens that used it: a moving average, as of `clock`.
    frequency: f64,
    /// Tokens that its layer had run when `frequency` was brought up to date.
    clock: u64,
    /// Tokens that used it since the start; they survive its eviction.
    uses: u64,
    /// Number of the turn that used it last.
    last_turn: u64,
    /// Position of its layer among the sparse layers: spares a division where every resident is looked at.
    rank: u32,
}

#[derive(Clone, Debug, Default)]
struct LayerUsage {
    /// Tokens that the layer has run.
    clock: u64,
    last_tick: Option<Tick>,
    /// What the ledger believes of its experts; the prior under every policy but `trust`.
    trust: Arc<LayerTrust>,
}

/// The use of every expert of one module, under one policy. Experts are numbered rank · experts + expert.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    policy: EvictionPolicy,
    experts: u32,
    used: Vec<ExpertHistory>,
    layers: Vec<LayerUsage>,
    now: usize,
    memory: PolicyMemory,
    /// Share of the present domain's tokens that use each expert; none where its habits are not known.
    habits: Option<Arc<[f32]>>,
    scratch: Vec<(usize, u32)>,
}

/// The turns in which residents were last used: what `trust` normalises age by; nothing to the other policies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ages {
    oldest: u64,
    newest: u64,
}

/// What a policy remembers beyond counts and turns.
#[derive(Clone, Debug)]
enum PolicyMemory {
    None,
    /// Frequencies of use, of one half-life.
    Frequency(Decay),
    /// Chances of use, learned.
    Chance(Mixture),
}

impl Usage {
    /// Nothing used yet.
    pub fn new(policy: EvictionPolicy, shape: &ModuleShape) -> Self {
        let (layers, experts) = (shape.layers.len(), shape.experts);
        let memory = match policy {
            EvictionPolicy::Horizon { half_life_tokens } => {
                PolicyMemory::Frequency(Decay::new(half_life_tokens))
            }
            EvictionPolicy::Learned => {
                PolicyMemory::Chance(Mixture::new(layers, experts, shape.k_trained))
            }
            EvictionPolicy::Lru | EvictionPolicy::Lfu | EvictionPolicy::Trust => PolicyMemory::None,
        };
        let layer = LayerUsage {
            trust: Arc::new(LayerTrust::prior(experts)),
            ..LayerUsage::default()
        };
        let cells = (0..layers as u32).flat_map(|rank| {
            let cell = ExpertHistory {
                rank,
                ..ExpertHistory::default()
            };
            std::iter::repeat_n(cell, usize::from(experts))
        });
        Self {
            policy,
            experts: u32::from(experts),
            used: cells.collect(),
            layers: vec![layer; layers],
            now: 0,
            memory,
            habits: None,
            scratch: Vec::new(),
        }
    }

    /// Takes over what the ledger believes of the layer of this rank.
    pub fn set_trust(&mut self, rank: usize, trust: &Arc<LayerTrust>) {
        self.layers[rank].trust = Arc::clone(trust);
    }

    /// Takes over the habits of the domain that follows; none: nothing is known of it.
    pub fn expect(&mut self, habits: Option<Arc<[f32]>>) {
        self.habits = habits;
    }

    /// A layer uses experts for `tokens` tokens: `uses` names them, with how many of the tokens used each. Turns of
    /// one tick (the windows of a chunk) count its tokens once. `turn` numbers the turns of all modules, from 1.
    pub fn turn(&mut self, turn: u64, tick: Tick, rank: usize, tokens: u32, uses: &[(u32, u32)]) {
        let tokens = tokens.max(1);
        self.now = rank;
        let layer = &mut self.layers[rank];
        let again = layer.last_tick == Some(tick);
        if !again {
            layer.last_tick = Some(tick);
            layer.clock += u64::from(tokens);
        }
        let clock = layer.clock;
        for (index, uses) in uses {
            let used = &mut self.used[*index as usize];
            used.last_turn = turn;
            let uses = (*uses).min(tokens);
            used.uses = used.uses.saturating_add(u64::from(uses));
            if let PolicyMemory::Frequency(decay) = &self.memory {
                let before = used.frequency * decay.of(clock - used.clock);
                let fresh = 1.0 - decay.of(u64::from(tokens));
                used.frequency = (before + fresh * f64::from(uses) / f64::from(tokens)).min(1.0);
                used.clock = clock;
            }
        }
        if let PolicyMemory::Chance(mixture) = &mut self.memory {
            let first = rank as u32 * self.experts;
            self.scratch.clear();
            let own = uses.iter().map(|(index, n)| ((index - first) as usize, *n));
            self.scratch.extend(own);
            let passed = if again { 0 } else { tokens };
            mixture.turn(rank, passed, tokens, &self.scratch);
        }
    }

    /// The `count` of the residents that the policy parts with first, the first of them first, into `victims`;
    /// of those only that `may_go`.
    pub fn choose(
        &self,
        residents: &[u32],
        may_go: impl Fn(u32) -> bool,
        count: usize,
        victims: &mut Vec<(f64, u32)>,
    ) {
        self.choose_counting(self.habits.as_deref(), residents, may_go, count, victims);
    }

    /// As [`Usage::choose`], as if nothing were known of the domain.
    pub fn choose_without_habits(
        &self,
        residents: &[u32],
        may_go: impl Fn(u32) -> bool,
        count: usize,
        victims: &mut Vec<(f64, u32)>,
    ) {
        self.choose_counting(None, residents, may_go, count, victims);
    }

    fn choose_counting(
        &self,
        habits: Option<&[f32]>,
        residents: &[u32],
        may_go: impl Fn(u32) -> bool,
        count: usize,
        victims: &mut Vec<(f64, u32)>,
    ) {
        let ages = match self.counts_ages() {
            true => self.ages(residents.iter().copied()),
            false => Ages::default(),
        };
        let residents = residents.iter().copied().filter(|index| may_go(*index));
        let scored = residents.map(|index| (self.score_counting(habits, index, ages), index));
        eviction::farthest(scored, count, victims);
    }

    /// How gladly the policy parts with an expert, of whom `ages` is about everyone resident. Between two turns of a layer
    /// its experts keep their order, as long as no habits are counted in.
    #[inline]
    pub fn score(&self, index: u32, ages: Ages) -> f64 {
        self.score_counting(self.habits.as_deref(), index, ages)
    }

    /// The same with these habits of the domain counted in, if any.
    #[inline]
    fn score_counting(&self, habits: Option<&[f32]>, index: u32, ages: Ages) -> f64 {
        let layers = self.layers.len();
        let at = &self.used[index as usize];
        let p = match (self.policy, &self.memory) {
            (EvictionPolicy::Lfu, _) => {
                return eviction::lfu(self.to_layer(at), layers, at.uses);
            }
            (EvictionPolicy::Trust, _) => return self.distrust(index, ages),
            (_, PolicyMemory::None) => return -(at.last_turn as f64),
            (_, PolicyMemory::Frequency(decay)) => {
                let passed = self.layers[at.rank as usize].clock - at.clock;
                at.frequency * decay.of(passed)
            }
            (_, PolicyMemory::Chance(mixture)) => {
                mixture.chance(at.rank as usize, self.expert(index, at))
            }
        };
        let p = habits.map_or(p, |habits| eviction::expected(p, habits[index as usize]));
        eviction::horizon(self.to_layer(at), layers, p)
    }

    /// Whether the policy asks how old all residents are.
    pub fn counts_ages(&self) -> bool {
        matches!(self.policy, EvictionPolicy::Trust)
    }

    /// The turns in which the residents were last used.
    pub fn ages(&self, residents: impl Iterator<Item = u32>) -> Ages {
        let turns = residents.map(|index| self.used[index as usize].last_turn);
        let (oldest, newest) = turns.fold((u64::MAX, 0), |(oldest, newest), turn| {
            (oldest.min(turn), newest.max(turn))
        });
        Ages { oldest, newest }
    }

    #[inline]
    fn expert(&self, index: u32, used: &ExpertHistory) -> usize {
        (index - used.rank * self.experts) as usize
    }

    /// Of `trust`: the score of a resident, age being normalised over all of them.
    fn distrust(&self, index: u32, ages: Ages) -> f64 {
        let used = &self.used[index as usize];
        let trust = &self.layers[used.rank as usize].trust;
        let expert = self.expert(index, used);
        // Age counts turns since the last use. The experts of a module are all of one size: that term is 0.
        let age = ages.newest - used.last_turn;
        let age = eviction::share(age, 0, ages.newest - ages.oldest);
        eviction::trust(age, trust.convergence[expert], trust.stability[expert], 0.0)
    }

    /// Layer steps to the next turn of an expert's layer, in 1..=N.
    #[inline]
    fn to_layer(&self, used: &ExpertHistory) -> usize {
        let rank = used.rank as usize;
        if rank > self.now {
            rank - self.now
        } else {
            rank + self.layers.len() - self.now
        }
    }
}
