//! The decoder that turns what the thinker wrote into codec tokens.

mod prompt;

use sage_actors::protocol::Module;

use super::attention::{Attention, Projection};
use super::axes::Positions;
use super::experts::{ExpertScratch, ExpertShape, GatedBlock};
use super::kv::{KvCache, KvShape};
use super::load::{LoadError, Loader, expert_shape, resident_bytes};
use super::rope::{Angles, RotaryTable};
use super::talker_config::{CODE_PREDICTOR_PREFIX, config_of};
use crate::checkpoint::config::{TalkerConfig, TextConfig};
use crate::checkpoint::{Component, ModelConfig};
use crate::formats::WeightFormat;
use crate::kernels::Matrix;
use crate::kernels::pointwise::{rms_norm_rows, sigmoid, silu};
use crate::spans;
use crate::store::WeightSource;

pub use super::speech::{PromptError, TalkerPrompt, ThinkerTurn, choice};

/// One decoder layer but its routed experts.
#[derive(Debug)]
pub struct TalkerLayer {
    /// `input_layernorm`.
    pub input_norm: Vec<f32>,
    /// `self_attn`.
    pub attention: Attention,
    /// `post_attention_layernorm`.
    pub post_norm: Vec<f32>,
    /// `mlp.gate`, `[experts, hidden]`.
    pub router: Matrix,
    /// `mlp.shared_expert`.
    pub shared_expert: GatedBlock,
    /// `mlp.shared_expert_gate`, `[1, hidden]`.
    pub shared_expert_gate: Matrix,
}

/// `fc2(silu(fc1(x)))`: from the thinker's width to the talker's.
#[derive(Debug)]
pub struct ResizeMlp {
    /// `linear_fc1`.
    pub fc1: Projection,
    /// `linear_fc2`.
    pub fc2: Projection,
}

impl ResizeMlp {
    fn load(loader: &Loader<'_>, name: &str, config: &TalkerConfig) -> Result<Self, LoadError> {
        let (inner, from) = (config.text.intermediate_size, config.thinker_hidden_size);
        let projection = |layer: &str, out, input| {
            loader.projection(&format!("talker.{name}.{layer}"), out, input, true)
        };
        Ok(Self {
            fc1: projection("linear_fc1", inner, from)?,
            fc2: projection("linear_fc2", config.text.hidden_size, inner)?,
        })
    }

    /// x `[rows, thinker hidden]`, returns `[rows, talker hidden]`.
    pub fn apply(&self, x: &[f32], scratch: &mut ExpertScratch) -> Vec<f32> {
        let rows = x.len() / self.fc1.weight.cols();
        let mut inner = self.fc1.apply(x, rows, &mut scratch.transposed);
        inner.iter_mut().for_each(|x| *x = silu(*x));
        self.fc2.apply(&inner, rows, &mut scratch.transposed)
    }
}

/// Text tokens that the talker's prompt is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptTokens {
    /// `<|im_start|>`.
    pub im_start: u32,
    /// Role of segments that are not heard.
    pub system: u32,
    /// Role of segments that are heard.
    pub user: u32,
    /// Role of answers.
    pub assistant: u32,
    /// Text padding.
    pub tts_pad: u32,
    /// Start of the text that is spoken.
    pub tts_bos: u32,
    /// Its end.
    pub tts_eos: u32,
    /// Placeholders of audio, image and video, those that the model has.
    pub media: Vec<u32>,
}

impl PromptTokens {
    fn of(config: &ModelConfig) -> Self {
        let thinker = &config.thinker;
        let media = [
            thinker.audio_token_id,
            thinker.image_token_id,
            thinker.video_token_id,
        ];
        Self {
            im_start: config.im_start_token_id,
            system: config.system_token_id,
            user: config.user_token_id,
            assistant: config.assistant_token_id,
            tts_pad: config.tts_pad_token_id,
            tts_bos: config.tts_bos_token_id,
            tts_eos: config.tts_eos_token_id,
            media: media.into_iter().flatten().collect(),
        }
    }

    /// The three whose thinker embeddings [`ThinkerTurn::tts`] asks for, in its order.
    pub fn tts(&self) -> [u32; 3] {
        [self.tts_pad, self.tts_bos, self.tts_eos]
    }
}

/// The always-resident part of the talker; its code predictor is a module of its own.
#[derive(Debug)]
pub struct Talker {
    /// The configuration.
    pub config: TalkerConfig,
    /// Text tokens of its prompt.
    pub tokens: PromptTokens,
    /// `codec_embedding`, `[codes, hidden]`.
    pub codec_embedding: Matrix,
    /// Decoder layers in the order in which they run.
    pub layers: Vec<TalkerLayer>,
    /// `model.norm`.
    pub norm: Vec<f32>,
    /// `codec_head`, `[codes, hidden]`.
    pub codec_head: Matrix,
    /// For embeddings of text.
    pub text_projection: ResizeMlp,
    /// For hidden states of media.
    pub hidden_projection: ResizeMlp,
    /// Shape of a routed expert.
    pub expert: ExpertShape,
    /// Frequencies by which positions turn queries and keys.
    pub rotary: RotaryTable,
}

impl Talker {
    /// Shape of the routed experts, and bytes of everything else that [`Self::load`] will read.
    ///
    /// # Errors
    /// When the model has no talker, or a tensor that the configuration asks for is missing.
    pub fn sizes(source: &dyn WeightSource) -> Result<(ExpertShape, u64), LoadError> {
        let config = &config_of(source)?.text;
        let bytes = resident_bytes(source, |tensor| {
            tensor.component == Component::Talker && !tensor.name.starts_with(CODE_PREDICTOR_PREFIX)
        })?;
        Ok((expert_shape(config), bytes))
    }

    /// Loads everything of the talker but its routed experts and its code predictor; `progress` hears of every finished
    /// layer.
    ///
    /// # Errors
    /// When the model has none, or a tensor is missing, misshapen, damaged, or stored in a format without kernels.
    pub fn load(
        source: &dyn WeightSource,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self, LoadError> {
        let config = config_of(source)?.clone();
        let loader = Loader::new(source);
        let text = &config.text;
        let codes = |name: &str| loader.matrix(name, text.vocab_size, text.hidden_size);
        let mut layers = Vec::with_capacity(text.num_hidden_layers);
        for at in 0..text.num_hidden_layers {
            let _span = spans::load(Module::Talker, at).entered();
            layers.push(layer(&loader, at, text)?);
            progress(at + 1, text.num_hidden_layers);
        }
        Ok(Self {
            tokens: PromptTokens::of(source.config()),
            codec_embedding: codes("talker.model.codec_embedding.weight")?,
            layers,
            norm: loader.vector("talker.model.norm.weight", text.hidden_size)?,
            codec_head: codes("talker.codec_head.weight")?,
            text_projection: ResizeMlp::load(&loader, "text_projection", &config)?,
            hidden_projection: ResizeMlp::load(&loader, "hidden_projection", &config)?,
            expert: expert_shape(text),
            rotary: RotaryTable::new(text.head_dim, text.rope_theta, text.mrope_section),
            config,
        })
    }

    /// A cache for `capacity` tokens, of keys and values as they are computed.
    ///
    /// # Errors
    /// The system's, when it cannot map the memory.
    pub fn cache(&self, capacity: usize) -> std::io::Result<KvCache> {
        let text = &self.config.text;
        let shape = KvShape {
            layers: self.layers.len(),
            heads: text.num_key_value_heads,
            dim: text.head_dim,
            format: WeightFormat::F32,
        };
        KvCache::new(shape, capacity)
    }

    /// Embedding of a codec token, `[hidden]`. Panics on an id beyond the vocabulary: callers check.
    pub fn embed_code(&self, code: u32) -> Vec<f32> {
        let mut out = vec![0.0; self.config.text.hidden_size];
        let table = self.codec_embedding.view();
        table.widen_row(code as usize, &mut out);
        out
    }

    /// Adds the attention of layer `layer` to `x` `[rows, hidden]`, with the keys and values of the layer in place `at` of the
    /// cache.
    pub fn attend(
        &self,
        layer: usize,
        at: usize,
        x: &mut [f32],
        kv: &mut KvCache,
        angles: &Angles,
        scratch: &mut ExpertScratch,
    ) {
        let _span = spans::attention(Module::Talker, layer).entered();
        let block = &self.layers[layer];
        block.attention.add_to(
            x,
            &block.input_norm,
            at,
            kv,
            angles,
            &mut scratch.transposed,
        );
    }

    /// Input of layer `layer`'s experts: `post_attention_layernorm(x)`.
    pub fn feed_forward_input(&self, layer: usize, x: &[f32]) -> Vec<f32> {
        self.normed(x, &self.layers[layer].post_norm)
    }

    /// Router logits `[rows, experts]`.
    pub fn router_logits(
        &self,
        layer: usize,
        normed: &[f32],
        scratch: &mut ExpertScratch,
    ) -> Vec<f32> {
        self.layers[layer]
            .router
            .product(normed, &mut scratch.transposed)
    }

    /// `sigmoid(shared_expert_gate(x)) * shared_expert(x)` of normed rows: what every token gets beside its routed
    /// experts, `[rows, hidden]`.
    pub fn shared(&self, layer: usize, normed: &[f32], scratch: &mut ExpertScratch) -> Vec<f32> {
        let (block, hidden) = (&self.layers[layer], self.config.text.hidden_size);
        let gates = block
            .shared_expert_gate
            .product(normed, &mut scratch.transposed);
        let mut out = block.shared_expert.apply(normed, gates.len(), scratch);
        for (out, gate) in out.chunks_exact_mut(hidden).zip(&gates) {
            let gate = sigmoid(*gate);
            out.iter_mut().for_each(|x| *x *= gate);
        }
        out
    }

    /// `model.norm(x)`, `[rows, hidden]`: what [`Self::codec_logits`] and the code predictor take.
    pub fn final_norm(&self, x: &[f32]) -> Vec<f32> {
        self.normed(x, &self.norm)
    }

    /// Logits `[rows, codes]` of normed rows, as they are: [`choice`] has what is done to them.
    pub fn codec_logits(&self, normed: &[f32], scratch: &mut ExpertScratch) -> Vec<f32> {
        self.codec_head.product(normed, &mut scratch.transposed)
    }

    /// Cosines and sines for `positions`.
    pub fn angles(&self, positions: &Positions) -> Angles {
        self.rotary.angles(positions)
    }

    fn normed(&self, x: &[f32], weight: &[f32]) -> Vec<f32> {
        rms_norm_rows(x, weight, self.config.text.rms_norm_eps)
    }
}

fn layer(loader: &Loader<'_>, at: usize, config: &TextConfig) -> Result<TalkerLayer, LoadError> {
    let prefix = format!("talker.model.layers.{at}");
    let hidden = config.hidden_size;
    let vector = |name: &str| loader.vector(&format!("{prefix}.{name}.weight"), hidden);
    let gate = |name: &str, rows| loader.matrix(&format!("{prefix}.mlp.{name}"), rows, hidden);
    Ok(TalkerLayer {
        input_norm: vector("input_layernorm")?,
        attention: loader.decoder_attention(&format!("{prefix}.self_attn"), config)?,
        post_norm: vector("post_attention_layernorm")?,
        router: gate("gate.weight", config.num_experts)?,
        shared_expert: loader.gated(
            &format!("{prefix}.mlp.shared_expert"),
            hidden,
            config.shared_expert_intermediate_size,
        )?,
        shared_expert_gate: gate("shared_expert_gate.weight", 1)?,
    })
}
