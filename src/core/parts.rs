//! What an engine is made of, beside the mind and the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use sage_actors::cache::StateCliff;
use sage_actors::protocol::{ExpertKey, LayerKey, Module, SensorReading, Spent, Tick};

use super::asked::ActorLatency;
use super::limit::{LimitOrigin, LimitPolicy};
use super::ports::{Decoder, ExpertHost, Towers, Voice};
use crate::input::{KvPrecision, Limit};
use crate::progress::WorkProgress;

/// What computes, behind the core's ports.
pub struct Body {
    /// The thinker's always-resident part.
    pub thinker: Arc<dyn Decoder>,
    /// Where routed experts are, of every module.
    pub experts: Arc<dyn ExpertHost>,
    /// What hears and sees.
    pub towers: Box<dyn Towers>,
    /// What speaks; none unless it was asked for.
    pub voice: Option<Arc<dyn Voice>>,
    /// How far reading and perceiving are, as the towers say it too.
    pub progress: Arc<WorkProgress>,
}

impl Body {
    /// A module's decoder; none of a talker where nothing speaks.
    pub(super) fn decoder(&self, module: Module) -> Option<Arc<dyn Decoder>> {
        match module {
            Module::Thinker => Some(Arc::clone(&self.thinker)),
            Module::Talker => self.voice.as_ref().map(|voice| voice.decoder()),
        }
    }
}

/// How work is cut, as memory was planned for it.
#[derive(Clone, Copy, Debug)]
pub struct WorkSizes {
    /// Tokens of a prefill chunk.
    pub chunk_tokens: usize,
    /// Experts of a lease window.
    pub window_experts: usize,
    /// Tokens of context.
    pub context_tokens: usize,
    /// How keys and values are kept unless a request says otherwise.
    pub kv: KvPrecision,
    /// Tokens that one sound or image may take.
    pub media_tokens: usize,
    /// Whether experts are read ahead.
    pub read_ahead: bool,
}

/// The limit in force, and where it comes from.
#[derive(Clone, Debug)]
pub struct LimitInForce {
    /// The limit that the model was opened with: as it was asked for, or chosen, in bytes.
    pub limit: Limit,
    /// Where the limit in force comes from.
    pub origin: LimitOrigin,
    /// Whether the machine is looked at when it changes.
    pub policy: LimitPolicy,
}

/// Which routed experts there are.
#[derive(Clone, Debug)]
pub struct ExpertMap {
    /// Sparse layers of the thinker, in order.
    pub thinker: Vec<LayerKey>,
    /// Sparse layers of the talker, in order; none where nothing speaks.
    pub talker: Vec<LayerKey>,
    /// Experts that the store lacks and the run does without.
    pub absent: BTreeSet<ExpertKey>,
    /// What every state's pool holds of one token's experts.
    pub cliffs: Vec<StateCliff>,
}

impl ExpertMap {
    /// Sparse layers of a module, in order.
    pub fn layers_of(&self, module: Module) -> &[LayerKey] {
        match module {
            Module::Thinker => &self.thinker,
            Module::Talker => &self.talker,
        }
    }

    /// The sparse layer that runs behind `key`: behind a module's last one its first.
    pub(super) fn layer_after(&self, key: LayerKey) -> LayerKey {
        let layers = self.layers_of(key.module);
        let after = layers.iter().find(|layer| **layer > key);
        after.or(layers.first()).copied().unwrap_or(key)
    }
}

/// Logical time, and what it was spent on since the mind was told of it.
#[derive(Debug, Default)]
pub(super) struct Clock {
    tick: Tick,
    oriented_at: Tick,
    spent: Spent,
    asked: ActorLatency,
    /// Last known levels of outside reserves, by sensor.
    levels: BTreeMap<String, f64>,
}

impl Clock {
    /// Ticks that have passed.
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// Lets ticks pass.
    pub fn pass(&mut self, ticks: u64) {
        self.tick += ticks;
    }

    /// Ticks since this was last asked.
    pub fn begin_step(&mut self) -> u32 {
        let ticks = u32::try_from(self.tick - self.oriented_at).unwrap_or(u32::MAX);
        self.oriented_at = self.tick;
        ticks
    }

    /// Notes what sensors say of reserves.
    pub fn note_levels(&mut self, sensors: &[SensorReading]) {
        for sensor in sensors {
            if let Some(level) = sensor.level {
                self.levels.insert(sensor.name.clone(), level);
            }
        }
    }

    /// Last known levels of outside reserves.
    pub fn levels(&self) -> Vec<f64> {
        self.levels.values().copied().collect()
    }

    /// Notes compute in units of one exact token of the thinker, and bytes that had to be read.
    pub fn spend(&mut self, compute_units: f64, miss_bytes: u64) {
        self.spent.compute_units += compute_units;
        self.spent.miss_bytes += miss_bytes;
    }

    /// What was spent since this was last asked.
    pub fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    /// Awaits an answer of actors that takes `asks` asks.
    pub async fn ask<T>(&mut self, asks: u64, answer: impl Future<Output = T>) -> T {
        self.asked.time(asks, answer).await
    }

    /// What asking the mind has taken.
    pub fn asked(&self) -> ActorLatency {
        self.asked
    }
}
