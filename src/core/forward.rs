//! One step through the thinker: attention here, experts by way of the mind.

use sage_actors::protocol::{Module, Phase, Residency, Selection, Used, Worked};

use super::experts::{Felt, SparseLayer, SparseStep};
use super::orient::Orientation;
use super::scene::Scene;
use super::speech::Accepted;
use super::{Engine, EngineError};
use crate::model::{KvCache, Positions};

/// Hears of every intermediate result; for comparing with a reference.
pub trait Probe {
    /// A tensor by the golden files' name, row-major.
    fn tensor(&mut self, name: &str, values: &[f32]);
    /// The experts that a layer's router chose.
    fn selection(&mut self, layer: usize, selection: &Selection);
}

/// What a step gave, and what it took.
#[derive(Debug, Default)]
pub struct Forward {
    /// Final hidden states after `model.norm`, `[tokens, hidden]`.
    pub normed: Vec<f32>,
    /// Mean over tokens and sparse layers of the router's entropy, normalised by ln E.
    pub router_entropy: f32,
    /// Sum over the tokens of each run of another modality, and the mean over sparse layers, of the router's entropy.
    pub span_entropies: Vec<f32>,
    /// Who worked on each token.
    pub worked: Vec<Vec<Worked>>,
    /// How many of the step's tokens each expert worked on, layer by layer.
    pub used: Vec<Used>,
    /// Mixing weight of each expert that worked, summed over the step's tokens.
    pub gates: Vec<Worked>,
    /// Router mass that experts were denied.
    pub denied: Vec<Worked>,
    /// Sum over layers and tokens of the denied router mass.
    pub denied_mass: f32,
    /// Choices of the exact router that were not admitted.
    pub denied_count: usize,
    /// Leased experts that were resident.
    pub hits: u64,
    /// Leased experts that were not.
    pub misses: u64,
    /// Logical bytes of the misses.
    pub miss_bytes: u64,
    /// It was given up between two layers: there are no hidden states, and the cache holds none of its tokens.
    pub given_up: bool,
    /// Input embeddings, media merged, `[tokens, hidden]`; where the engine speaks.
    pub embeds: Vec<f32>,
    /// Hidden states that the talker listens to, `[tokens, hidden]`; where the engine speaks.
    pub accepted: Vec<f32>,
}

/// New tokens of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Fed<'a> {
    /// Their ids.
    pub tokens: &'a [u32],
    /// The scene that they are a part of, and the number of their first in it; none for words alone.
    pub scene: Option<(&'a Scene, usize)>,
}

impl<'a> Fed<'a> {
    /// Words.
    pub fn words(tokens: &'a [u32]) -> Self {
        Self {
            tokens,
            scene: None,
        }
    }

    fn in_scene(&self) -> Option<(&'a Scene, std::ops::Range<usize>)> {
        let (scene, first) = self.scene?;
        Some((scene, first..first + self.tokens.len()))
    }
}

impl Engine {
    /// Runs new tokens of one sequence, prefill or decode, under the orientation's directive; the cache then holds
    /// them. The result for a token does not depend on how a prompt is cut into steps when the policy is exact.
    ///
    /// # Errors
    /// When the context is full, a token is unknown, an expert cannot be read, or an actor failed.
    pub async fn forward(
        &mut self,
        kv: &mut KvCache,
        tokens: &[u32],
        phase: Phase,
        orientation: &Orientation,
        probe: Option<&mut dyn Probe>,
    ) -> Result<Forward, EngineError> {
        let fed = Fed::words(tokens);
        self.forward_fed(kv, fed, phase, orientation, probe).await
    }

    /// As [`Engine::forward`], for tokens that may be a part of a scene.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub async fn forward_fed(
        &mut self,
        kv: &mut KvCache,
        fed: Fed<'_>,
        phase: Phase,
        orientation: &Orientation,
        probe: Option<&mut dyn Probe>,
    ) -> Result<Forward, EngineError> {
        let never = &mut |_| false;
        self.forward_unless(kv, fed, phase, orientation, probe, never)
            .await
    }

    /// As [`Engine::forward_fed`], unless `interrupt`, which is asked before every layer, says that it is to be given up.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub async fn forward_unless(
        &mut self,
        kv: &mut KvCache,
        fed: Fed<'_>,
        phase: Phase,
        orientation: &Orientation,
        mut probe: Option<&mut dyn Probe>,
        interrupt: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Forward, EngineError> {
        let Fed { tokens, .. } = fed;
        self.check(kv, tokens)?;
        let hidden = self.thinker.config.hidden_size;
        let scene = fed.in_scene();
        let mut x = self.thinker.embed(tokens);
        let mut spans = Vec::new();
        if let Some((scene, of)) = &scene {
            scene.embed(of.clone(), &mut x, hidden);
            spans = scene.spans(of.clone());
        }
        report(&mut probe, "thinker.inputs_embeds", &x);
        let positions = match &scene {
            Some((scene, of)) => scene.positions.of(of.clone()),
            None => Positions::text_from(kv.next_position(), tokens.len()),
        };
        let angles = self.thinker.angles(&positions);
        let mut out = Forward {
            worked: vec![Vec::new(); tokens.len()],
            ..Forward::default()
        };
        let accepted = self.voice.as_ref().map(|voice| voice.accepted());
        if accepted.is_some() {
            out.embeds = x.clone();
        }
        let step = SparseStep {
            module: Module::Thinker,
            phase,
            tick: orientation.tick,
            expert: self.thinker.expert,
            lookahead: orientation.directive.lookahead,
            felt: felt(orientation, phase),
            spans: &spans,
        };
        let mut residency = orientation.residency.clone();
        let layers = self.thinker.layers.len();
        for layer in 0..layers {
            if interrupt(layer) {
                let share = layer as f64 / layers as f64;
                self.note_spent(tokens.len() as f64 * share, orientation, &out);
                out.given_up = true;
                return Ok(out);
            }
            self.thinker
                .attend(layer, &mut x, kv, &angles, &mut self.scratch);
            self.feed_forward(&step, layer, &mut residency, &mut x, &mut out, &mut probe)
                .await?;
            report(&mut probe, &format!("thinker.layer_out.{layer}"), &x);
            if accepted == Some(Accepted::After(layer)) {
                out.accepted = x.clone();
            }
            if let Some((scene, of)) = &scene
                && scene.deepen(layer, of.clone(), &mut x, hidden)
            {
                report(&mut probe, &format!("thinker.layer_in.{}", layer + 1), &x);
            }
        }
        kv.advance(tokens.len());
        if let Some((scene, of)) = &scene
            && of.end == scene.modalities.len()
        {
            kv.set_position_delta(scene.position_delta);
        }
        out.normed = self.thinker.final_norm(&x);
        report(&mut probe, "thinker.final_norm", &out.normed);
        match accepted {
            Some(Accepted::Embedding) => out.accepted = out.embeds.clone(),
            Some(Accepted::Normed) => out.accepted = out.normed.clone(),
            _ => {}
        }
        out.router_entropy /= (tokens.len() * self.sparse_layers.len().max(1)) as f32;
        self.tick += tokens.len() as u64;
        self.note_spent(tokens.len() as f64, orientation, &out);
        Ok(out)
    }

    /// What comes behind the attention of a decoder layer of the thinker, dense or sparse, added to `x` `[tokens, hidden]`.
    pub(super) async fn feed_forward(
        &mut self,
        step: &SparseStep<'_>,
        number: usize,
        residency: &mut Residency,
        x: &mut [f32],
        out: &mut Forward,
        probe: &mut Option<&mut dyn Probe>,
    ) -> Result<(), EngineError> {
        let normed = self.thinker.feed_forward_input(number, x);
        if let Some(added) = self.thinker.dense(number, &normed, &mut self.scratch) {
            x.iter_mut().zip(&added).for_each(|(x, added)| *x += added);
            return Ok(());
        }
        let router = self
            .thinker
            .router_logits(number, &normed, &mut self.scratch);
        let Some(logits) = router else {
            return Ok(());
        };
        let normed = &normed[..];
        let layer = SparseLayer {
            number,
            normed,
            logits,
        };
        self.run_sparse(step, layer, residency, x, out, probe).await
    }

    pub(super) fn check(&self, kv: &KvCache, tokens: &[u32]) -> Result<(), EngineError> {
        let needed = kv.len() + tokens.len();
        if needed > kv.capacity() {
            return Err(EngineError::ContextFull {
                needed,
                capacity: kv.capacity(),
            });
        }
        let vocabulary = self.thinker.config.vocab_size;
        match tokens.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(EngineError::UnknownToken {
                id: *id,
                vocabulary,
            }),
            None => Ok(()),
        }
    }

    fn note_spent(&mut self, tokens: f64, orientation: &Orientation, out: &Forward) {
        let trained = self.thinker.config.num_experts_per_tok as f64;
        self.spent.compute_units += tokens * f64::from(orientation.directive.k) / trained;
        self.spent.miss_bytes += out.miss_bytes;
    }
}

pub(super) fn report(probe: &mut Option<&mut dyn Probe>, name: &str, values: &[f32]) {
    if let Some(probe) = probe.as_deref_mut() {
        probe.tensor(name, values);
    }
}

/// Words that are read carry the words' own salience; those that are said carry that of the whole segment before them.
pub(super) fn felt(orientation: &Orientation, phase: Phase) -> Felt {
    let report = &orientation.report;
    let words = report.senses.filter(|_| phase == Phase::Prefill);
    let (salience_t, surprise_t) = words.map_or((report.salience_t, report.surprise_t), |senses| {
        (senses.text.salience_t, senses.text.surprise_t)
    });
    Felt {
        salience_t,
        surprise_t,
        reward: report.salience.reward,
    }
}
