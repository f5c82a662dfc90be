//! Every tensor that a configuration calls for: name, shape, component and role, in module order.

use super::ModelConfig;
use super::component::{Component, ExpertMatrix, Role};
use super::config::{
    AudioConfig, Code2WavConfig, CodePredictorConfig, TalkerConfig, TextConfig, VisionConfig,
};

/// One tensor that the configuration calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// Full name, as in the checkpoint.
    pub name: String,
    /// Part of the model that it is loaded with.
    pub component: Component,
    /// Dimensions that follow from config.json, outermost first.
    pub shape: Vec<usize>,
    /// Which weights of the component it is.
    pub role: Role,
}

/// Every tensor that `config` calls for, in module order.
pub fn expected_tensors(config: &ModelConfig) -> Vec<ExpectedTensor> {
    let mut table = Table {
        tensors: Vec::new(),
        component: Component::Audio,
    };
    if let Some(audio) = &config.thinker.audio {
        table.audio(audio);
    }
    if let Some(vision) = &config.thinker.vision {
        table.component = Component::Vision;
        table.vision(vision);
    }
    table.component = Component::Thinker;
    table.thinker(&config.thinker.text);
    if let Some(talker) = &config.talker {
        table.component = Component::Talker;
        table.talker(talker);
    }
    if let Some(code2wav) = &config.code2wav {
        table.component = Component::Code2Wav;
        table.code2wav(code2wav);
    }
    table.tensors
}

/// The dimensions of one attention block.
struct Attention {
    hidden: usize,
    query: usize,
    key: usize,
    head_dim: usize,
    bias: bool,
    qk_norm: bool,
}

impl Attention {
    fn of(text: &TextConfig) -> Self {
        Self {
            hidden: text.hidden_size,
            query: text.num_attention_heads * text.head_dim,
            key: text.num_key_value_heads * text.head_dim,
            head_dim: text.head_dim,
            bias: text.attention_bias,
            qk_norm: true,
        }
    }
}

struct Table {
    tensors: Vec<ExpectedTensor>,
    component: Component,
}

impl Table {
    fn push(&mut self, name: String, shape: &[usize], role: Role) {
        self.tensors.push(ExpectedTensor {
            name,
            component: self.component,
            shape: shape.to_vec(),
            role,
        });
    }

    fn plain(&mut self, name: String, shape: &[usize]) {
        self.push(name, shape, Role::Other);
    }

    fn weight(&mut self, module: &str, shape: &[usize]) {
        self.plain(format!("{module}.weight"), shape);
    }

    fn weight_bias(&mut self, module: &str, shape: &[usize], bias: usize) {
        self.weight(module, shape);
        self.plain(format!("{module}.bias"), &[bias]);
    }

    fn linear(&mut self, module: &str, out: usize, input: usize, bias: bool) {
        self.weight(module, &[out, input]);
        if bias {
            self.plain(format!("{module}.bias"), &[out]);
        }
    }

    fn attention(&mut self, module: &str, a: &Attention) {
        self.linear(&format!("{module}.q_proj"), a.query, a.hidden, a.bias);
        self.linear(&format!("{module}.k_proj"), a.key, a.hidden, a.bias);
        self.linear(&format!("{module}.v_proj"), a.key, a.hidden, a.bias);
        self.linear(&format!("{module}.o_proj"), a.hidden, a.query, a.bias);
        if a.qk_norm {
            self.weight(&format!("{module}.q_norm"), &[a.head_dim]);
            self.weight(&format!("{module}.k_norm"), &[a.head_dim]);
        }
    }

    fn gated_mlp(
        &mut self,
        module: &str,
        hidden: usize,
        intermediate: usize,
        role: impl Fn(ExpertMatrix) -> Role,
    ) {
        for part in ExpertMatrix::ALL {
            let name = format!("{module}.{}.weight", part.name());
            self.push(name, &part.shape(hidden, intermediate), role(part));
        }
    }

    fn experts(&mut self, module: &str, layer: usize, text: &TextConfig) {
        self.push(
            format!("{module}.gate.weight"),
            &[text.num_experts, text.hidden_size],
            Role::Router { layer },
        );
        for expert in 0..text.num_experts {
            let name = format!("{module}.experts.{expert}");
            let role = |part| Role::Expert {
                layer,
                expert,
                part,
            };
            self.gated_mlp(&name, text.hidden_size, text.moe_intermediate_size, role);
        }
    }

    fn layer_norms(&mut self, layer: &str, hidden: usize) {
        self.weight(&format!("{layer}.input_layernorm"), &[hidden]);
        self.weight(&format!("{layer}.post_attention_layernorm"), &[hidden]);
    }

    fn thinker(&mut self, text: &TextConfig) {
        let hidden = text.hidden_size;
        self.weight("thinker.model.embed_tokens", &[text.vocab_size, hidden]);
        for n in 0..text.num_hidden_layers {
            let layer = format!("thinker.model.layers.{n}");
            self.attention(&format!("{layer}.self_attn"), &Attention::of(text));
            if text.is_sparse(n) {
                self.experts(&format!("{layer}.mlp"), n, text);
            } else {
                self.gated_mlp(
                    &format!("{layer}.mlp"),
                    hidden,
                    text.intermediate_size,
                    |_| Role::Other,
                );
            }
            self.layer_norms(&layer, hidden);
        }
        self.weight("thinker.model.norm", &[hidden]);
        if !text.tie_word_embeddings {
            self.weight("thinker.lm_head", &[text.vocab_size, hidden]);
        }
    }

    fn audio(&mut self, audio: &AudioConfig) {
        let (base, d, ds) = (
            "thinker.audio_tower",
            audio.d_model,
            audio.downsample_hidden_size,
        );
        for n in 0..audio.encoder_layers {
            let layer = format!("{base}.layers.{n}");
            for projection in ["k_proj", "v_proj", "q_proj", "out_proj"] {
                self.linear(&format!("{layer}.self_attn.{projection}"), d, d, true);
            }
            self.weight_bias(&format!("{layer}.self_attn_layer_norm"), &[d], d);
            self.linear(&format!("{layer}.fc1"), audio.encoder_ffn_dim, d, true);
            self.linear(&format!("{layer}.fc2"), d, audio.encoder_ffn_dim, true);
            self.weight_bias(&format!("{layer}.final_layer_norm"), &[d], d);
        }
        self.weight_bias(&format!("{base}.ln_post"), &[d], d);
        self.weight_bias(&format!("{base}.conv2d1"), &[ds, 1, 3, 3], ds);
        self.weight_bias(&format!("{base}.conv2d2"), &[ds, ds, 3, 3], ds);
        self.weight_bias(&format!("{base}.conv2d3"), &[ds, ds, 3, 3], ds);
        self.linear(
            &format!("{base}.conv_out"),
            d,
            ds * audio.downsampled_mel_bins(),
            false,
        );
        self.linear(&format!("{base}.proj1"), d, d, true);
        self.linear(&format!("{base}.proj2"), audio.output_dim, d, true);
    }

    fn vision(&mut self, vision: &VisionConfig) {
        let (base, hidden, patch) = ("thinker.visual", vision.hidden_size, vision.patch_size);
        let merged = hidden * vision.spatial_merge_size * vision.spatial_merge_size;
        let merger = |table: &mut Self, module: &str, norm: usize| {
            table.weight_bias(&format!("{module}.ln_q"), &[norm], norm);
            table.linear(&format!("{module}.mlp.0"), merged, merged, true);
            table.linear(
                &format!("{module}.mlp.2"),
                vision.out_hidden_size,
                merged,
                true,
            );
        };
        for level in 0..vision.deepstack_visual_indexes.len() {
            merger(self, &format!("{base}.merger_list.{level}"), merged);
        }
        let kernel = [
            hidden,
            vision.in_channels,
            vision.temporal_patch_size,
            patch,
            patch,
        ];
        self.weight_bias(&format!("{base}.patch_embed.proj"), &kernel, hidden);
        self.weight(
            &format!("{base}.pos_embed"),
            &[vision.num_position_embeddings, hidden],
        );
        for n in 0..vision.depth {
            let block = format!("{base}.blocks.{n}");
            self.weight_bias(&format!("{block}.norm1"), &[hidden], hidden);
            self.weight_bias(&format!("{block}.norm2"), &[hidden], hidden);
            self.linear(&format!("{block}.attn.qkv"), 3 * hidden, hidden, true);
            self.linear(&format!("{block}.attn.proj"), hidden, hidden, true);
            self.linear(
                &format!("{block}.mlp.linear_fc1"),
                vision.intermediate_size,
                hidden,
                true,
            );
            self.linear(
                &format!("{block}.mlp.linear_fc2"),
                hidden,
                vision.intermediate_size,
                true,
            );
        }
        merger(self, &format!("{base}.merger"), hidden);
    }

    fn talker(&mut self, talker: &TalkerConfig) {
        let (text, hidden) = (&talker.text, talker.text.hidden_size);
        for n in 0..text.num_hidden_layers {
            let layer = format!("talker.model.layers.{n}");
            self.attention(&format!("{layer}.self_attn"), &Attention::of(text));
            self.experts(&format!("{layer}.mlp"), n, text);
            let shared = text.shared_expert_intermediate_size;
            self.gated_mlp(
                &format!("{layer}.mlp.shared_expert"),
                hidden,
                shared,
                |_| Role::Other,
            );
            self.linear(&format!("{layer}.mlp.shared_expert_gate"), 1, hidden, false);
            self.layer_norms(&layer, hidden);
        }
        self.weight("talker.model.norm", &[hidden]);
        self.weight("talker.model.codec_embedding", &[text.vocab_size, hidden]);
        for projection in ["text_projection", "hidden_projection"] {
            let module = format!("talker.{projection}");
            self.linear(
                &format!("{module}.linear_fc1"),
                text.intermediate_size,
                talker.thinker_hidden_size,
                true,
            );
            self.linear(
                &format!("{module}.linear_fc2"),
                hidden,
                text.intermediate_size,
                true,
            );
        }
        self.linear("talker.codec_head", text.vocab_size, hidden, false);
        self.code_predictor(&talker.code_predictor);
    }

    fn code_predictor(&mut self, config: &CodePredictorConfig) {
        let (base, hidden) = ("talker.code_predictor", config.hidden_size);
        let attention = Attention {
            hidden,
            query: config.num_attention_heads * config.head_dim,
            key: config.num_key_value_heads * config.head_dim,
            head_dim: config.head_dim,
            bias: config.attention_bias,
            qk_norm: true,
        };
        for n in 0..config.num_hidden_layers {
            let layer = format!("{base}.model.layers.{n}");
            self.attention(&format!("{layer}.self_attn"), &attention);
            self.gated_mlp(
                &format!("{layer}.mlp"),
                hidden,
                config.intermediate_size,
                |_| Role::Other,
            );
            self.layer_norms(&layer, hidden);
        }
        self.weight(&format!("{base}.model.norm"), &[hidden]);
        for table in ["model.codec_embedding", "lm_head"] {
            for group in 0..config.num_code_groups - 1 {
                self.weight(
                    &format!("{base}.{table}.{group}"),
                    &[config.vocab_size, hidden],
                );
            }
        }
    }

    fn code2wav(&mut self, config: &Code2WavConfig) {
        let (base, hidden) = ("code2wav.pre_transformer", config.hidden_size);
        let attention = Attention {
            hidden,
            query: hidden,
            key: config.num_key_value_heads * config.head_dim(),
            head_dim: config.head_dim(),
            bias: config.attention_bias,
            qk_norm: false,
        };
        for n in 0..config.num_hidden_layers {
            let layer = format!("{base}.layers.{n}");
            self.attention(&format!("{layer}.self_attn"), &attention);
            self.gated_mlp(
                &format!("{layer}.mlp"),
                hidden,
                config.intermediate_size,
                |_| Role::Other,
            );
            self.layer_norms(&layer, hidden);
            self.plain(format!("{layer}.self_attn_layer_scale.scale"), &[hidden]);
            self.plain(format!("{layer}.mlp_layer_scale.scale"), &[hidden]);
        }
        self.weight(&format!("{base}.norm"), &[hidden]);
        self.weight(
            "code2wav.code_embedding",
            &[config.codebook_size * config.num_quantizers, hidden],
        );
        for (stage, &ratio) in config.upsampling_ratios.iter().enumerate() {
            let stage = format!("code2wav.upsample.{stage}");
            self.weight_bias(&format!("{stage}.0.conv"), &[hidden, hidden, ratio], hidden);
            self.plain(format!("{stage}.1.gamma"), &[hidden]);
            self.weight_bias(&format!("{stage}.1.dwconv.conv"), &[hidden, 1, 7], hidden);
            self.weight_bias(&format!("{stage}.1.norm"), &[hidden], hidden);
            self.linear(&format!("{stage}.1.pwconv1"), 4 * hidden, hidden, true);
            self.linear(&format!("{stage}.1.pwconv2"), hidden, 4 * hidden, true);
        }
        self.vocoder(config);
    }

    /// The convolutional decoder that ends in the waveform.
    fn vocoder(&mut self, config: &Code2WavConfig) {
        let snake = |table: &mut Self, module: &str, channels: usize| {
            table.plain(format!("{module}.alpha"), &[channels]);
            table.plain(format!("{module}.beta"), &[channels]);
        };
        let mut channels = config.decoder_dim;
        self.weight_bias(
            "code2wav.decoder.0.conv",
            &[channels, config.hidden_size, 7],
            channels,
        );
        for (index, &rate) in config.upsample_rates.iter().enumerate() {
            let block = format!("code2wav.decoder.{}.block", index + 1);
            let halved = channels / 2;
            snake(self, &format!("{block}.0"), channels);
            self.weight_bias(
                &format!("{block}.1.conv"),
                &[channels, halved, 2 * rate],
                halved,
            );
            for unit in 2..5 {
                let unit = format!("{block}.{unit}");
                snake(self, &format!("{unit}.act1"), halved);
                self.weight_bias(&format!("{unit}.conv1.conv"), &[halved, halved, 7], halved);
                snake(self, &format!("{unit}.act2"), halved);
                self.weight_bias(&format!("{unit}.conv2.conv"), &[halved, halved, 1], halved);
            }
            channels = halved;
        }
        let rates = config.upsample_rates.len();
        snake(self, &format!("code2wav.decoder.{}", rates + 1), channels);
        self.weight_bias(
            &format!("code2wav.decoder.{}.conv", rates + 2),
            &[1, channels, 7],
            1,
        );
    }
}
