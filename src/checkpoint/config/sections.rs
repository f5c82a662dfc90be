//! The model and its parts, as the sections of `config.json` state them.

use std::collections::BTreeMap;

/// The whole model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// `qwen3_omni_moe`, `qwen3_omni_moe_thinker` (its thinker saved alone) or `qwen3_moe` (a decoder of text alone).
    pub model_type: String,
    /// Whether the checkpoint speaks: talker and code2wav are present.
    pub enable_audio_output: bool,
    /// `<|im_start|>`; like the ids of roles and of the talker's text below, asked for by a talker alone.
    pub im_start_token_id: u32,
    /// `<|im_end|>`, which ends an answer; none where config.json cannot state it: a thinker saved alone, and `qwen3_moe`.
    pub im_end_token_id: Option<u32>,
    /// `eos_token_id` of config.json, which ends an answer where generation_config.json says nothing else.
    pub eos_token_ids: Vec<u32>,
    /// Text padding fed to the talker once the text has run out.
    pub tts_pad_token_id: u32,
    /// Start of the text fed to the talker.
    pub tts_bos_token_id: u32,
    /// End of the text fed to the talker.
    pub tts_eos_token_id: u32,
    /// The token after `<|im_start|>` in a system segment.
    pub system_token_id: u32,
    /// The token after `<|im_start|>` in a user segment.
    pub user_token_id: u32,
    /// The token after `<|im_start|>` in an assistant segment.
    pub assistant_token_id: u32,
    /// The part that reads, looks, listens and writes.
    pub thinker: ThinkerConfig,
    /// The part that turns text into codec frames; only if `enable_audio_output`.
    pub talker: Option<TalkerConfig>,
    /// The vocoder; only if `enable_audio_output`.
    pub code2wav: Option<Code2WavConfig>,
}

impl ModelConfig {
    /// The token that ends an answer by this file: `<|im_end|>`, else the first `eos_token_id`.
    pub fn end_token_id(&self) -> Option<u32> {
        self.im_end_token_id
            .or_else(|| self.eos_token_ids.first().copied())
    }

    /// Says whether the weights have an output head of their own. One that is there is used, whatever
    /// `tie_word_embeddings` says, as in transformers; answers with a sentence where that matters.
    pub(crate) fn settle_head(&mut self, has_head: bool) -> Option<&'static str> {
        let tied = &mut self.thinker.text.tie_word_embeddings;
        if !(*tied && has_head) {
            return None;
        }
        *tied = false;
        Some(
            "config.json ties the output head to the embedding (tie_word_embeddings), and the weights hold an lm_head of \
             their own: that lm_head is used",
        )
    }
}

/// `thinker_config`.
#[derive(Debug, Clone, PartialEq)]
pub struct ThinkerConfig {
    /// The decoder.
    pub text: TextConfig,
    /// The audio tower.
    pub audio: Option<AudioConfig>,
    /// The vision tower.
    pub vision: Option<VisionConfig>,
    /// Placeholder of one audio embedding; present whenever the audio tower is.
    pub audio_token_id: Option<u32>,
    /// Placeholder of one image embedding; present whenever the vision tower is.
    pub image_token_id: Option<u32>,
    /// Placeholder of one video embedding; present whenever the vision tower is.
    pub video_token_id: Option<u32>,
    /// Before audio placeholders.
    pub audio_start_token_id: Option<u32>,
    /// After audio placeholders.
    pub audio_end_token_id: Option<u32>,
    /// Before image or video placeholders.
    pub vision_start_token_id: Option<u32>,
    /// After image or video placeholders.
    pub vision_end_token_id: Option<u32>,
    /// Positions that one second of video or audio takes; stated whenever the vision tower is present.
    pub position_id_per_seconds: Option<f32>,
}

/// A decoder of the thinker or the talker.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; independent of `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Experts of a sparse layer; 0 when every layer is dense.
    pub num_experts: usize,
    /// Experts that one token uses.
    pub num_experts_per_tok: usize,
    /// Inner width of one expert.
    pub moe_intermediate_size: usize,
    /// Inner width of a dense layer (in the talker: of its projections).
    pub intermediate_size: usize,
    /// Inner width of the talker's shared expert; 0 where there is none.
    pub shared_expert_intermediate_size: usize,
    /// Whether the chosen experts' weights are rescaled to sum to one.
    pub norm_topk_prob: bool,
    /// Every how many layers one is sparse.
    pub decoder_sparse_step: usize,
    /// Layers that are dense whatever `decoder_sparse_step` says.
    pub mlp_only_layers: Vec<usize>,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Rotary frequencies that follow time, height and width; sums to `head_dim / 2`. All follow time in a decoder of text
    /// alone, whose tokens stand at the same place on all three axes.
    pub mrope_section: [usize; 3],
    /// Whether the attention projections have biases.
    pub attention_bias: bool,
    /// Whether the embedding table serves as the output head too.
    pub tie_word_embeddings: bool,
    /// Longest sequence the model was made for, in tokens.
    pub max_position_embeddings: usize,
}

impl TextConfig {
    /// Whether `layer` routes its tokens to experts.
    pub fn is_sparse(&self, layer: usize) -> bool {
        self.num_experts > 0
            && !self.mlp_only_layers.contains(&layer)
            && (layer + 1).is_multiple_of(self.decoder_sparse_step)
    }

    /// The sparse layers, ascending.
    pub fn sparse_layers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.num_hidden_layers).filter(|&layer| self.is_sparse(layer))
    }
}

/// `thinker_config.audio_config`.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioConfig {
    /// Width of the encoder.
    pub d_model: usize,
    /// Encoder layers.
    pub encoder_layers: usize,
    /// Attention heads.
    pub encoder_attention_heads: usize,
    /// Inner width of the feed-forward blocks.
    pub encoder_ffn_dim: usize,
    /// Mel bins of the input.
    pub num_mel_bins: usize,
    /// Channels of the three convolutions.
    pub downsample_hidden_size: usize,
    /// Half a chunk, in mel frames.
    pub n_window: usize,
    /// Attention window at inference, in mel frames.
    pub n_window_infer: usize,
    /// Width of the output, equal to the thinker's `hidden_size`.
    pub output_dim: usize,
}

impl AudioConfig {
    /// Mel bins left after the three convolutions of stride 2: halved three times, rounding up.
    pub fn downsampled_mel_bins(&self) -> usize {
        (0..3).fold(self.num_mel_bins, |bins, _| bins.div_ceil(2))
    }
}

/// `thinker_config.vision_config`.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Blocks.
    pub depth: usize,
    /// Width of the tower.
    pub hidden_size: usize,
    /// Inner width of the feed-forward blocks.
    pub intermediate_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Frames of a patch.
    pub temporal_patch_size: usize,
    /// Side of the square of patches merged into one token.
    pub spatial_merge_size: usize,
    /// Colour channels.
    pub in_channels: usize,
    /// Rows of the learned position table; a square number.
    pub num_position_embeddings: usize,
    /// Blocks whose output is also added inside the thinker.
    pub deepstack_visual_indexes: Vec<usize>,
    /// Width of the output, equal to the thinker's `hidden_size`.
    pub out_hidden_size: usize,
}

/// `talker_config`.
#[derive(Debug, Clone, PartialEq)]
pub struct TalkerConfig {
    /// The decoder; `text.vocab_size` counts codec tokens.
    pub text: TextConfig,
    /// The decoder of the remaining codec groups.
    pub code_predictor: CodePredictorConfig,
    /// Index into the thinker's hidden states (0 is the embedding) that the talker listens to.
    pub accept_hidden_layer: usize,
    /// Codec groups of a frame.
    pub num_code_groups: usize,
    /// Width of the thinker's hidden states.
    pub thinker_hidden_size: usize,
    /// As in the vision tower.
    pub spatial_merge_size: usize,
    /// As in the thinker.
    pub position_id_per_seconds: f32,
    /// Codec padding.
    pub codec_pad_id: u32,
    /// Codec begin.
    pub codec_bos_id: u32,
    /// Codec end, which ends speech.
    pub codec_eos_token_id: u32,
    /// Marks an answer without thinking.
    pub codec_nothink_id: u32,
    /// Opens the (empty) thinking part.
    pub codec_think_bos_id: u32,
    /// Closes the (empty) thinking part.
    pub codec_think_eos_id: u32,
    /// Lower-case speaker names and their codec tokens.
    pub speaker_id: BTreeMap<String, u32>,
}

/// `talker_config.code_predictor_config`: a dense decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct CodePredictorConfig {
    /// Codes of one group.
    pub vocab_size: usize,
    /// Width of the residual stream, equal to the talker's.
    pub hidden_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Inner width of the feed-forward blocks.
    pub intermediate_size: usize,
    /// Codec groups of a frame; tables and heads are one fewer.
    pub num_code_groups: usize,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the (plain, one-dimensional) rotary frequencies.
    pub rope_theta: f32,
    /// Whether the attention projections have biases.
    pub attention_bias: bool,
}

/// `code2wav_config`.
#[derive(Debug, Clone, PartialEq)]
pub struct Code2WavConfig {
    /// Width of the transformer.
    pub hidden_size: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Query heads; a head is `hidden_size / num_attention_heads` wide.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Inner width of the feed-forward blocks.
    pub intermediate_size: usize,
    /// Codes of one group.
    pub codebook_size: usize,
    /// Codec groups.
    pub num_quantizers: usize,
    /// Keys that a query sees, itself included.
    pub sliding_window: usize,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Channels of the first convolution; halved by every decoder block.
    pub decoder_dim: usize,
    /// Strides of the decoder blocks.
    pub upsample_rates: Vec<usize>,
    /// Strides of the stages between transformer and decoder.
    pub upsampling_ratios: Vec<usize>,
    /// Whether the attention projections have biases.
    pub attention_bias: bool,
}

impl Code2WavConfig {
    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}
