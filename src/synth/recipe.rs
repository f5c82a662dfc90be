//! The dimensions of a synthetic model and its configuration files.

use serde_json::{Value, json};

use super::RELEASED_CONFIG;
use crate::formats::WeightFormat;
use crate::store::FormatRule;

/// Special tokens in the order of their ids, which are the last of the vocabulary.
pub(super) const SPECIAL_TOKENS: [&str; 13] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
    "<|audio_pad|>",
];

/// 256 bytes and the special tokens.
pub const MIN_VOCAB_SIZE: usize = 256 + SPECIAL_TOKENS.len();

/// What a synthetic thinker is made from. Equal recipes make equal bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Decoder layers, all sparse.
    pub layers: usize,
    /// Rows of the embedding table, at least [`MIN_VOCAB_SIZE`].
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Experts a layer.
    pub experts: usize,
    /// Experts a token.
    pub experts_per_token: usize,
    /// Inner width of an expert.
    pub moe_intermediate_size: usize,
    /// Whether it has the released model's audio tower, put out at the thinker's width.
    pub audio: bool,
    /// Whether it has the released model's vision tower, likewise.
    pub vision: bool,
    /// Seed of the weights.
    pub seed: u64,
    /// Layers of the released model's talker, code predictor and vocoder beside the thinker; none without them.
    pub talker_layers: Option<usize>,
    /// How weights are stored that no rule covers.
    pub format: WeightFormat,
    /// How others are.
    pub rules: Vec<FormatRule>,
}

impl Recipe {
    /// The dimensions of the released thinker, with this many layers.
    pub fn qwen3_omni_30b(layers: usize) -> Self {
        Self {
            layers,
            vocab_size: 152_064,
            hidden_size: 2048,
            heads: 32,
            kv_heads: 4,
            head_dim: 128,
            experts: 128,
            experts_per_token: 8,
            moe_intermediate_size: 768,
            audio: false,
            vision: false,
            seed: 0,
            talker_layers: None,
            format: WeightFormat::BF16,
            rules: Vec::new(),
        }
    }

    /// The id of a special token: they take the last ids of the vocabulary.
    pub(super) fn special_id(&self, token: &str) -> usize {
        let first = self.vocab_size.saturating_sub(SPECIAL_TOKENS.len());
        first
            + SPECIAL_TOKENS
                .iter()
                .position(|&special| special == token)
                .unwrap_or(0)
    }

    /// The text of `config.json`.
    // Long: one line for each key of the file.
    pub(super) fn config_json(&self) -> String {
        let id = |token: &str| self.special_id(token);
        let dtype = self.format.config_name().unwrap_or("bfloat16");
        // The real model's split of 64 frequencies, 24 + 20 + 20, in proportion.
        let half = self.head_dim / 2;
        let space = half * 5 / 16;
        let text = json!({
            "model_type": "qwen3_omni_moe_text",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.moe_intermediate_size,
            "moe_intermediate_size": self.moe_intermediate_size,
            "shared_expert_intermediate_size": 0,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "num_experts": self.experts,
            "num_experts_per_tok": self.experts_per_token,
            "norm_topk_prob": true,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "rms_norm_eps": 1e-6,
            "hidden_act": "silu",
            "attention_bias": false,
            "sliding_window": null,
            "tie_word_embeddings": false,
            "max_position_embeddings": 65536,
            "rope_theta": 1_000_000,
            "rope_scaling": {
                "mrope_section": [half - 2 * space, space, space],
                "interleaved": true,
                "rope_type": "default",
            },
        });
        let mut config = json!({
            "architectures": ["Qwen3OmniMoeForConditionalGeneration"],
            "model_type": "qwen3_omni_moe",
            "dtype": dtype,
            "enable_audio_output": false,
            "im_start_token_id": id("<|im_start|>"),
            "im_end_token_id": id("<|im_end|>"),
            "tts_pad_token_id": id("<tts_pad>"),
            "tts_bos_token_id": id("<tts_text_bos>"),
            "tts_eos_token_id": id("<tts_text_eod>"),
            "system_token_id": u32::from(b's'),
            "user_token_id": u32::from(b'u'),
            "assistant_token_id": u32::from(b'a'),
            "thinker_config": {
                "model_type": "qwen3_omni_moe_thinker",
                "dtype": dtype,
                "audio_token_id": id("<|audio_pad|>"),
                "image_token_id": id("<|image_pad|>"),
                "video_token_id": id("<|video_pad|>"),
                "audio_start_token_id": id("<|audio_start|>"),
                "audio_end_token_id": id("<|audio_end|>"),
                "vision_start_token_id": id("<|vision_start|>"),
                "vision_end_token_id": id("<|vision_end|>"),
                "position_id_per_seconds": 13,
                "text_config": text,
            },
        });
        let released: Value = serde_json::from_str(RELEASED_CONFIG).unwrap_or_default();
        for (there, tower, width) in [
            (self.audio, "audio_config", "output_dim"),
            (self.vision, "vision_config", "out_hidden_size"),
        ] {
            if there {
                let mut of_tower = released["thinker_config"][tower].clone();
                of_tower[width] = self.hidden_size.into();
                config["thinker_config"][tower] = of_tower;
            }
        }
        if let Some(layers) = self.talker_layers {
            self.add_talker(&mut config, &released, layers);
        }
        format!("{config:#}\n")
    }

    /// The released talker, code predictor and vocoder, fitted to this thinker.
    fn add_talker(&self, config: &mut Value, released: &Value, layers: usize) {
        let mut talker = released["talker_config"].clone();
        talker["thinker_hidden_size"] = self.hidden_size.into();
        // Half way through the thinker, as in the released model.
        talker["accept_hidden_layer"] = (self.layers / 2).into();
        talker["text_config"]["num_hidden_layers"] = layers.into();
        for (key, token) in [
            ("audio_token_id", "<|audio_pad|>"),
            ("image_token_id", "<|image_pad|>"),
            ("video_token_id", "<|video_pad|>"),
            ("audio_start_token_id", "<|audio_start|>"),
            ("vision_start_token_id", "<|vision_start|>"),
        ] {
            talker[key] = self.special_id(token).into();
        }
        config["enable_audio_output"] = true.into();
        config["talker_config"] = talker;
        config["code2wav_config"] = released["code2wav_config"].clone();
    }

    /// The text of `generation_config.json`.
    pub(super) fn generation_config_json(&self) -> String {
        let config = json!({
            "eos_token_id": self.special_id("<|im_end|>"),
            "pad_token_id": self.special_id("<|endoftext|>"),
        });
        format!("{config:#}\n")
    }
}
