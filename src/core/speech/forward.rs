//! One step through the talker: attention here, experts by way of the mind.

use sage_actors::protocol::{Module, ModuleDirective, Phase, Tick};

use crate::core::experts::{Felt, SparseLayer, SparseStep};
use crate::core::forward::{Forward, Probe, report};
use crate::core::{Engine, EngineError};
use crate::kernels::pointwise::add_scaled;
use crate::model::{KvCache, Positions};

/// Rows on their way through the talker.
pub(super) struct TalkerStep {
    /// `[tokens, hidden]`.
    pub rows: Vec<f32>,
    pub positions: Positions,
    pub phase: Phase,
    /// When the step begins.
    pub tick: Tick,
    /// The talker's own.
    pub directive: ModuleDirective,
    /// Salience of the turn that is spoken.
    pub felt: Felt,
}

impl Engine {
    /// Runs rows through the talker; the cache then holds them. [`Forward::normed`] is `[tokens, talker hidden]`.
    ///
    /// # Errors
    /// When the cache is full, an expert cannot be read, or an actor failed.
    pub(super) async fn run_talker(
        &mut self,
        kv: &mut KvCache,
        talker_step: TalkerStep,
        mut probe: Option<&mut dyn Probe>,
    ) -> Result<Forward, EngineError> {
        let voice = self.voice()?;
        let talker = &voice.talker;
        let tokens = talker_step.positions.len();
        let needed = kv.len() + tokens;
        if needed > kv.capacity() {
            let capacity = kv.capacity();
            return Err(EngineError::ContextFull { needed, capacity });
        }
        let step = SparseStep {
            module: Module::Talker,
            phase: talker_step.phase,
            tick: talker_step.tick,
            expert: talker.expert,
            lookahead: talker_step.directive.lookahead,
            felt: talker_step.felt,
            spans: &[],
        };
        let mut out = Forward {
            worked: vec![Vec::new(); tokens],
            ..Forward::default()
        };
        // No lease has told of the first layer: the one before was of another step, or of the thinker.
        let first = self.mind.residency(voice.layers[0]);
        let mut residency = self.asked.time(1, first).await?;
        let angles = talker.angles(&talker_step.positions);
        let mut x = talker_step.rows;
        for number in 0..talker.layers.len() {
            talker.attend(number, &mut x, kv, &angles, &mut self.scratch);
            let normed = talker.feed_forward_input(number, &x);
            let layer = SparseLayer {
                number,
                normed: &normed,
                logits: talker.router_logits(number, &normed, &mut self.scratch),
            };
            self.run_sparse(&step, layer, &mut residency, &mut x, &mut out, &mut probe)
                .await?;
            let shared = talker.shared(number, &normed, &mut self.scratch);
            add_scaled(&mut x, &shared, 1.0);
            report(&mut probe, &format!("talker.layer_out.{number}"), &x);
        }
        kv.advance(tokens);
        out.normed = talker.final_norm(&x);
        report(&mut probe, "talker.final_norm", &out.normed);
        out.router_entropy /= (tokens * voice.layers.len()) as f32;
        self.book(tokens, &talker_step.directive, &out);
        Ok(out)
    }

    /// Compute in units of one exact token of the thinker, by the bytes of the experts at work.
    fn book(&mut self, tokens: usize, directive: &ModuleDirective, out: &Forward) {
        let unit = self.mind_config.modules.first();
        let unit = unit.map_or(1, |shape| shape.exact_token_bytes().max(1));
        let talker = self.mind_config.shape(Module::Talker);
        let each = talker.map_or(0, |shape| shape.layers.len() as u64 * shape.expert_bytes);
        let active = tokens as u64 * u64::from(directive.k) * each;
        self.spent.compute_units += active as f64 / unit as f64;
        self.spent.miss_bytes += out.miss_bytes;
    }
}
