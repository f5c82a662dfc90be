//! The parts that speak, with every routed expert at hand: what the engine does, without the mind.

use sage::checkpoint::{Component, ExpertMatrix, expert_tensor_name};
use sage::core::sampling::argmax;
use sage::formats::GatedFormats;
use sage::host_memory::Mapped;
use sage::kernels::pointwise::add_scaled;
use sage::model::experts::{ExpertScratch, Gated};
use sage::model::talker::{TalkerPrompt, choice};
use sage::model::{Code2Wav, CodePredictor, KvCache, Positions, Talker};
use sage::store::WeightSource;

/// Hears of intermediate results by the golden files' names.
pub type Probe<'a> = &'a mut dyn FnMut(&str, Seen<'_>);

pub enum Seen<'a> {
    Numbers(&'a [f32]),
    Ids(&'a [u32]),
}

pub struct Voice {
    pub talker: Talker,
    pub predictor: CodePredictor,
    pub vocoder: Code2Wav,
    /// By layer and expert: gate, up, down.
    experts: Vec<Vec<(Mapped, GatedFormats)>>,
}

/// What a run of the whole loop gave, step by step.
#[derive(Default)]
pub struct Speech {
    pub hidden: Vec<f32>,
    pub logits: Vec<f32>,
    pub inputs: Vec<f32>,
    pub residual_logits: Vec<f32>,
    pub tokens: Vec<u32>,
    /// `[frames][groups]`.
    pub frames: Vec<Vec<u32>>,
    /// Positions of the decode steps.
    pub positions: Vec<Positions>,
}

impl Speech {
    /// `[groups, frames]`.
    pub fn codes(&self) -> Vec<u32> {
        let groups = self.frames.first().map_or(0, Vec::len);
        let group = |group: usize| self.frames.iter().map(move |frame| frame[group]);
        (0..groups).flat_map(group).collect()
    }
}

/// When to stop, and how strongly to avoid repetition.
pub struct Limits {
    pub end: u32,
    pub tokens: usize,
    pub penalty: f32,
}

impl Voice {
    pub fn open(source: &dyn WeightSource) -> Self {
        let talker = Talker::load(source, |_, _| ()).expect("a talker");
        let (layers, shape) = (talker.layers.len(), talker.expert);
        let expert = |layer: usize, expert: usize| {
            let gate = expert_tensor_name(Component::Talker, layer, expert, ExpertMatrix::Gate);
            let gate = source.tensor(&gate.expect("a name")).expect("a gate");
            let format = GatedFormats::all(gate.dtype);
            let bytes = shape.bytes(format).expect("a size");
            let mut record = Mapped::new(bytes).expect("memory");
            let part_bytes = bytes / 3;
            for (at, part) in ExpertMatrix::ALL.into_iter().enumerate() {
                let name = expert_tensor_name(Component::Talker, layer, expert, part);
                let buffer = &mut record.pages_mut()[at * part_bytes..(at + 1) * part_bytes];
                source
                    .read_tensor(&name.expect("a name"), buffer)
                    .expect("an expert");
            }
            (record, format)
        };
        let count = talker.config.text.num_experts;
        let layer = |layer| (0..count).map(|at| expert(layer, at)).collect();
        Self {
            experts: (0..layers).map(layer).collect(),
            predictor: CodePredictor::load(source).expect("a code predictor"),
            vocoder: Code2Wav::load(source).expect("a vocoder"),
            talker,
        }
    }

    /// Rows x through all layers; the states after the final norm.
    pub fn forward(
        &self,
        mut x: Vec<f32>,
        positions: &Positions,
        kv: &mut KvCache,
        probe: Probe<'_>,
    ) -> Vec<f32> {
        let mut scratch = ExpertScratch::default();
        let angles = self.talker.angles(positions);
        for layer in 0..self.talker.layers.len() {
            self.talker
                .attend(layer, layer, &mut x, kv, &angles, &mut scratch);
            let normed = self.talker.feed_forward_input(layer, &x);
            let logits = self.talker.router_logits(layer, &normed, &mut scratch);
            probe(
                &format!("talker.router_logits.{layer}"),
                Seen::Numbers(&logits),
            );
            let (chosen, weights) = self.route(&logits);
            probe(&format!("talker.topk_index.{layer}"), Seen::Ids(&chosen));
            probe(
                &format!("talker.topk_weight.{layer}"),
                Seen::Numbers(&weights),
            );
            self.run_experts(layer, &normed, &chosen, &weights, &mut x);
            let shared = self.talker.shared(layer, &normed, &mut scratch);
            add_scaled(&mut x, &shared, 1.0);
            probe(&format!("talker.layer_out.{layer}"), Seen::Numbers(&x));
        }
        kv.advance(positions.len());
        let normed = self.talker.final_norm(&x);
        probe("talker.final_norm", Seen::Numbers(&normed));
        normed
    }

    /// Experts and weights of every row, `[rows, k]`, most probable first.
    fn route(&self, logits: &[f32]) -> (Vec<u32>, Vec<f32>) {
        let text = &self.talker.config.text;
        let (mut chosen, mut weights) = (Vec::new(), Vec::new());
        for logits in logits.chunks_exact(text.num_experts) {
            let mut probabilities = logits.to_vec();
            softmax(&mut probabilities);
            let mut order: Vec<u32> = (0..logits.len() as u32).collect();
            order.sort_by(|a, b| probabilities[*b as usize].total_cmp(&probabilities[*a as usize]));
            order.truncate(text.num_experts_per_tok);
            let kept: Vec<f32> = order.iter().map(|at| probabilities[*at as usize]).collect();
            let sum = if text.norm_topk_prob {
                kept.iter().sum()
            } else {
                1.0
            };
            weights.extend(kept.iter().map(|weight| weight / sum));
            chosen.extend(order);
        }
        (chosen, weights)
    }

    fn run_experts(
        &self,
        layer: usize,
        normed: &[f32],
        chosen: &[u32],
        weights: &[f32],
        x: &mut [f32],
    ) {
        let (shape, k) = (
            self.talker.expert,
            self.talker.config.text.num_experts_per_tok,
        );
        let mut scratch = ExpertScratch::default();
        let mut out = vec![0.0; shape.hidden];
        for (row, input) in normed.chunks_exact(shape.hidden).enumerate() {
            let mut work: Vec<(u32, f32)> = (row * k..(row + 1) * k)
                .map(|at| (chosen[at], weights[at]))
                .collect();
            work.sort_by_key(|(expert, _)| *expert);
            for (expert, weight) in work {
                let (record, format) = &self.experts[layer][expert as usize];
                let expert =
                    Gated::of_record(record.bytes(), shape, *format).expect("a whole record");
                expert.apply(input, 1, &mut out, &mut scratch);
                let x = &mut x[row * shape.hidden..(row + 1) * shape.hidden];
                add_scaled(x, &out, weight);
            }
        }
    }

    /// The whole loop, greedy.
    pub fn speak(&self, prompt: &TalkerPrompt, positions: &Positions, limits: &Limits) -> Speech {
        let hidden = self.talker.config.text.hidden_size;
        let ordinary = |at: usize| positions.axes.iter().map(move |axis| axis[at]);
        let last = (0..positions.len()).flat_map(ordinary).fold(0.0, f32::max);
        let delta = last + 1.0 - positions.len() as f32;
        let mut kv = self
            .talker
            .cache(positions.len() + limits.tokens)
            .expect("memory");
        let mut cache = self.predictor.cache().expect("memory");
        let mut scratch = ExpertScratch::default();
        let mut speech = Speech::default();
        let normed = self.forward(prompt.rows.clone(), positions, &mut kv, &mut |_, _| ());
        let mut state = normed[normed.len() - hidden..].to_vec();
        loop {
            let mut logits = self.talker.codec_logits(&state, &mut scratch);
            speech.hidden.extend(&state);
            speech.logits.extend(&logits);
            choice::penalise(&mut logits, &speech.tokens, limits.penalty);
            choice::suppress(&mut logits, self.talker.config.codec_eos_token_id);
            let first = argmax(&logits);
            speech.tokens.push(first);
            if first == limits.end || speech.tokens.len() == limits.tokens {
                return speech;
            }
            let embedding = self.talker.embed_code(first);
            let mut choose = |_: usize, logits: &[f32]| {
                speech.residual_logits.extend(logits);
                argmax(logits)
            };
            let frame = self
                .predictor
                .frame(&state, &embedding, &mut cache, &mut choose);
            let mut x = frame.embedding_sum;
            add_scaled(&mut x, prompt.text_row(speech.frames.len()), 1.0);
            speech.inputs.extend(&x);
            speech.frames.push([vec![first], frame.codes].concat());
            let axis = vec![kv.len() as f32 + delta];
            let at = Positions {
                axes: [axis.clone(), axis.clone(), axis],
            };
            state = self.forward(x, &at, &mut kv, &mut |_, _| ());
            speech.positions.push(at);
        }
    }
}

/// Scores as probabilities.
fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = libm::expf(*score - max);
    }
    let sum: f32 = scores.iter().sum();
    for score in scores.iter_mut() {
        *score /= sum;
    }
}
