//! From JSON to the structures, section by section.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::Fields;
use super::{
    AudioConfig, Code2WavConfig, CodePredictorConfig, ModelConfig, ModelConfigError, TalkerConfig,
    TextConfig, ThinkerConfig, VisionConfig,
};

type Parsed<T> = Result<T, ModelConfigError>;

const OMNI: &str = "qwen3_omni_moe";
pub(super) const THINKER: &str = "qwen3_omni_moe_thinker";
pub(super) const TEXT: &str = "qwen3_moe";
const MODEL_TYPES: &str = "qwen3_omni_moe, qwen3_omni_moe_thinker, qwen3_moe";

pub(super) fn model(json: &Value) -> Parsed<ModelConfig> {
    let root = Fields::root(json)?;
    let Some(model_type) = root.get("model_type") else {
        return Err(root.missing(
            "model_type",
            "the kind of model (qwen3_omni_moe, qwen3_omni_moe_thinker or qwen3_moe)",
        ));
    };
    match model_type.as_str() {
        Some(OMNI) => omni(&root),
        Some(THINKER) => silent(THINKER, &root, thinker(&root)?),
        Some(TEXT) => silent(TEXT, &root, text_alone(&root)?),
        _ => Err(root.unsupported("model_type", model_type, MODEL_TYPES)),
    }
}

fn omni(root: &Fields) -> Parsed<ModelConfig> {
    let thinker = root
        .section("thinker_config")?
        .ok_or_else(|| root.missing("thinker_config", "the thinker's configuration"))?;
    let enable_audio_output = root.flag("enable_audio_output")?.unwrap_or(true);
    let speech = |key| {
        if enable_audio_output {
            root.section(key)
        } else {
            Ok(None)
        }
    };
    let thinker = self::thinker(&thinker)?;
    let im_end = root.token("im_end_token_id")?.unwrap_or(IM_END);
    Ok(ModelConfig {
        enable_audio_output,
        im_end_token_id: Some(im_end),
        eos_token_ids: Vec::new(),
        talker: speech("talker_config")?
            .map(|section| talker(&section))
            .transpose()?,
        code2wav: speech("code2wav_config")?
            .map(|section| code2wav(&section))
            .transpose()?,
        ..silent(OMNI, root, thinker)?
    })
}

/// These ids have the same value in the released file and as the writer's default, so a file may leave them out.
const IM_END: u32 = 151_645;

/// A model of a thinker and nothing else, which ends its answers as `root` says.
fn silent(model_type: &str, root: &Fields, thinker: ThinkerConfig) -> Parsed<ModelConfig> {
    let token = |key, absent| root.token(key).map(|id| id.unwrap_or(absent));
    Ok(ModelConfig {
        model_type: model_type.to_owned(),
        enable_audio_output: false,
        im_start_token_id: token("im_start_token_id", 151_644)?,
        im_end_token_id: root.token("im_end_token_id")?,
        eos_token_ids: root.tokens("eos_token_id")?,
        tts_pad_token_id: token("tts_pad_token_id", 151_671)?,
        tts_bos_token_id: token("tts_bos_token_id", 151_672)?,
        tts_eos_token_id: token("tts_eos_token_id", 151_673)?,
        system_token_id: token("system_token_id", 8_948)?,
        user_token_id: token("user_token_id", 872)?,
        assistant_token_id: token("assistant_token_id", 77_091)?,
        thinker,
        talker: None,
        code2wav: None,
    })
}

/// `qwen3_moe`: the decoder's configuration is the whole file, and positions have one axis.
fn text_alone(root: &Fields) -> Parsed<ThinkerConfig> {
    Ok(ThinkerConfig {
        text: text(root, Axes::One)?,
        audio: None,
        vision: None,
        audio_token_id: None,
        image_token_id: None,
        video_token_id: None,
        audio_start_token_id: None,
        audio_end_token_id: None,
        vision_start_token_id: None,
        vision_end_token_id: None,
        position_id_per_seconds: None,
    })
}

fn thinker(section: &Fields) -> Parsed<ThinkerConfig> {
    let text = section
        .section("text_config")?
        .ok_or_else(|| section.missing("text_config", "the decoder's configuration"))?;
    let mut text = self::text(&text, Axes::Three)?;
    // Writers put this flag on either level; whichever sets it means it.
    text.tie_word_embeddings |= section.flag("tie_word_embeddings")?.unwrap_or(false);
    Ok(ThinkerConfig {
        text,
        audio: section
            .section("audio_config")?
            .map(|audio| self::audio(&audio))
            .transpose()?,
        vision: section
            .section("vision_config")?
            .map(|vision| self::vision(&vision))
            .transpose()?,
        audio_token_id: section.token("audio_token_id")?,
        image_token_id: section.token("image_token_id")?,
        video_token_id: section.token("video_token_id")?,
        audio_start_token_id: section.token("audio_start_token_id")?,
        audio_end_token_id: section.token("audio_end_token_id")?,
        vision_start_token_id: section.token("vision_start_token_id")?,
        vision_end_token_id: section.token("vision_end_token_id")?,
        position_id_per_seconds: section.positive("position_id_per_seconds")?,
    })
}

/// Axes of a decoder's positions.
#[derive(Clone, Copy, PartialEq)]
enum Axes {
    One,
    /// Time, height and width.
    Three,
}

fn text(section: &Fields, axes: Axes) -> Parsed<TextConfig> {
    section.only("hidden_act", "silu")?;
    // A window that nothing says is used is unused in `qwen3_moe`.
    if axes == Axes::Three || section.flag("use_sliding_window")? == Some(true) {
        refuse_sliding_window(section)?;
    }
    if let Some(false) = section.flag("use_qk_norm")? {
        return Err(section.unsupported("use_qk_norm", &Value::from(false), "true"));
    }
    let experts_key = ["num_experts", "num_local_experts"]
        .into_iter()
        .find(|key| section.get(key).is_some());
    let num_experts = match experts_key {
        Some(key) => section.whole(key)?,
        None => {
            return Err(section.missing(
                "num_experts",
                "the experts of a sparse layer (or num_local_experts)",
            ));
        }
    };
    let (rope_theta, rope) = rotary(section)?;
    let head_dim = head_dim(section)?;
    let mrope_section = match axes {
        Axes::One => [head_dim / 2, 0, 0],
        Axes::Three => mrope_section(section, rope)?,
    };
    let norm_topk_prob = section.flag("norm_topk_prob")?;
    Ok(TextConfig {
        vocab_size: section.dimension("vocab_size")?,
        hidden_size: section.dimension("hidden_size")?,
        num_hidden_layers: section.dimension("num_hidden_layers")?,
        num_attention_heads: section.dimension("num_attention_heads")?,
        num_key_value_heads: section.dimension("num_key_value_heads")?,
        head_dim,
        num_experts,
        num_experts_per_tok: section.whole("num_experts_per_tok")?,
        moe_intermediate_size: section.whole("moe_intermediate_size")?,
        intermediate_size: section.whole("intermediate_size")?,
        shared_expert_intermediate_size: section.whole_or("shared_expert_intermediate_size", 0)?,
        // Required: writers disagree on its default, and a wrong guess only shows as worse answers.
        norm_topk_prob: norm_topk_prob
            .ok_or_else(|| section.missing("norm_topk_prob", "true or false"))?,
        decoder_sparse_step: section.whole_or("decoder_sparse_step", 1)?,
        mlp_only_layers: section.wholes("mlp_only_layers")?.unwrap_or_default(),
        rms_norm_eps: section.positive("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta,
        mrope_section,
        attention_bias: section.flag("attention_bias")?.unwrap_or(false),
        tie_word_embeddings: section.flag("tie_word_embeddings")?.unwrap_or(false),
        max_position_embeddings: section.dimension("max_position_embeddings")?,
    })
}

fn mrope_section(section: &Fields, rope: Option<(&'static str, Fields)>) -> Parsed<[usize; 3]> {
    let (rope_key, rope) =
        rope.ok_or_else(|| section.missing("rope_scaling.mrope_section", "three whole numbers"))?;
    let mrope = rope
        .wholes("mrope_section")?
        .ok_or_else(|| rope.missing("mrope_section", "three whole numbers"))?;
    <[usize; 3]>::try_from(mrope).map_err(|list| {
        section.invalid(
            &format!("{rope_key}.mrope_section"),
            &Value::from(list),
            "three whole numbers",
        )
    })
}

fn refuse_sliding_window(section: &Fields) -> Parsed<()> {
    match (
        section.flag("use_sliding_window")?,
        section.get("sliding_window"),
    ) {
        // An unused window size beside `use_sliding_window: false` means nothing.
        (Some(true) | None, Some(value)) => {
            Err(section.unsupported("sliding_window", value, "null"))
        }
        _ => Ok(()),
    }
}

fn head_dim(section: &Fields) -> Parsed<usize> {
    if section.get("head_dim").is_some() {
        return section.dimension("head_dim");
    }
    let (hidden, heads) = (
        section.dimension("hidden_size")?,
        section.dimension("num_attention_heads")?,
    );
    if !hidden.is_multiple_of(heads) {
        return Err(section.missing(
            "head_dim",
            "the width of a head (hidden_size is no multiple of the heads)",
        ));
    }
    Ok(hidden / heads)
}

/// The rotary base, and the object that holds the other rotary settings with its key.
#[allow(clippy::type_complexity)]
fn rotary<'a>(section: &Fields<'a>) -> Parsed<(f32, Option<(&'static str, Fields<'a>)>)> {
    let mut found = None;
    for key in ["rope_parameters", "rope_scaling"] {
        if found.is_none() {
            found = section.section(key)?.map(|rope| (key, rope));
        }
    }
    let mut theta = section.positive("rope_theta")?;
    if let Some((_, rope)) = &found {
        rope.only("rope_type", "default")?;
        // Some writers repeat the type under its old key, where "mrope" was another name of the same thing.
        if rope.get("type").and_then(Value::as_str) != Some("mrope") {
            rope.only("type", "default")?;
        }
        match rope.positive("partial_rotary_factor")? {
            Some(factor) if factor != 1.0 => {
                return Err(rope.unsupported("partial_rotary_factor", &Value::from(factor), "1.0"));
            }
            _ => {}
        }
        theta = rope.positive("rope_theta")?.or(theta);
    }
    let theta =
        theta.ok_or_else(|| section.missing("rope_theta", "the base of the rotary frequencies"))?;
    Ok((theta, found))
}

fn audio(section: &Fields) -> Parsed<AudioConfig> {
    section.only("activation_function", "gelu")?;
    Ok(AudioConfig {
        d_model: section.dimension("d_model")?,
        encoder_layers: section.dimension("encoder_layers")?,
        encoder_attention_heads: section.dimension("encoder_attention_heads")?,
        encoder_ffn_dim: section.dimension("encoder_ffn_dim")?,
        num_mel_bins: section.dimension("num_mel_bins")?,
        downsample_hidden_size: section.dimension("downsample_hidden_size")?,
        n_window: section.dimension("n_window")?,
        n_window_infer: section.dimension("n_window_infer")?,
        output_dim: section.dimension("output_dim")?,
    })
}

fn vision(section: &Fields) -> Parsed<VisionConfig> {
    section.only("hidden_act", "gelu_pytorch_tanh")?;
    Ok(VisionConfig {
        depth: section.dimension("depth")?,
        hidden_size: section.dimension("hidden_size")?,
        intermediate_size: section.dimension("intermediate_size")?,
        num_heads: section.dimension("num_heads")?,
        patch_size: section.dimension("patch_size")?,
        temporal_patch_size: section.dimension("temporal_patch_size")?,
        spatial_merge_size: section.dimension("spatial_merge_size")?,
        in_channels: section.dimension("in_channels")?,
        num_position_embeddings: section.dimension("num_position_embeddings")?,
        deepstack_visual_indexes: section.wholes("deepstack_visual_indexes")?.ok_or_else(|| {
            section.missing("deepstack_visual_indexes", "a list of block indices")
        })?,
        out_hidden_size: section.dimension("out_hidden_size")?,
    })
}

fn talker(section: &Fields) -> Parsed<TalkerConfig> {
    let part = |key| {
        section
            .section(key)?
            .ok_or_else(|| section.missing(key, "a configuration"))
    };
    // Writers differ in whether the codec ids say `token`.
    let codec = |name: &str| {
        let (short, long) = (format!("codec_{name}_id"), format!("codec_{name}_token_id"));
        let id = section
            .token(&short)?
            .map_or_else(|| section.token(&long), |id| Ok(Some(id)))?;
        id.ok_or_else(|| section.missing(&short, "a codec token id"))
    };
    let position_id_per_seconds = section.positive("position_id_per_seconds")?;
    Ok(TalkerConfig {
        text: text(&part("text_config")?, Axes::Three)?,
        code_predictor: code_predictor(&part("code_predictor_config")?)?,
        accept_hidden_layer: section.whole("accept_hidden_layer")?,
        num_code_groups: section.dimension("num_code_groups")?,
        thinker_hidden_size: section.dimension("thinker_hidden_size")?,
        spatial_merge_size: section.dimension("spatial_merge_size")?,
        position_id_per_seconds: position_id_per_seconds
            .ok_or_else(|| section.missing("position_id_per_seconds", "a number"))?,
        codec_pad_id: codec("pad")?,
        codec_bos_id: codec("bos")?,
        codec_eos_token_id: codec("eos")?,
        codec_nothink_id: codec("nothink")?,
        codec_think_bos_id: codec("think_bos")?,
        codec_think_eos_id: codec("think_eos")?,
        speaker_id: speakers(section)?,
    })
}

fn speakers(section: &Fields) -> Parsed<BTreeMap<String, u32>> {
    let Some(speakers) = section.section("speaker_id")? else {
        return Ok(BTreeMap::new());
    };
    let Some(Value::Object(names)) = section.get("speaker_id") else {
        return Ok(BTreeMap::new());
    };
    let mut table = BTreeMap::new();
    for name in names.keys() {
        if let Some(id) = speakers.token(name)? {
            table.insert(name.to_lowercase(), id);
        }
    }
    Ok(table)
}

fn code_predictor(section: &Fields) -> Parsed<CodePredictorConfig> {
    section.only("hidden_act", "silu")?;
    refuse_sliding_window(section)?;
    Ok(CodePredictorConfig {
        vocab_size: section.dimension("vocab_size")?,
        hidden_size: section.dimension("hidden_size")?,
        num_hidden_layers: section.dimension("num_hidden_layers")?,
        num_attention_heads: section.dimension("num_attention_heads")?,
        num_key_value_heads: section.dimension("num_key_value_heads")?,
        head_dim: head_dim(section)?,
        intermediate_size: section.dimension("intermediate_size")?,
        num_code_groups: section.dimension("num_code_groups")?,
        rms_norm_eps: section.positive("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta: rotary(section)?.0,
        attention_bias: section.flag("attention_bias")?.unwrap_or(false),
    })
}

fn code2wav(section: &Fields) -> Parsed<Code2WavConfig> {
    section.only("hidden_act", "silu")?;
    let strides = |key| {
        section
            .wholes(key)?
            .ok_or_else(|| section.missing(key, "a list of strides"))
    };
    Ok(Code2WavConfig {
        hidden_size: section.dimension("hidden_size")?,
        num_hidden_layers: section.dimension("num_hidden_layers")?,
        num_attention_heads: section.dimension("num_attention_heads")?,
        num_key_value_heads: section.dimension("num_key_value_heads")?,
        intermediate_size: section.dimension("intermediate_size")?,
        codebook_size: section.dimension("codebook_size")?,
        num_quantizers: section.dimension("num_quantizers")?,
        sliding_window: section.dimension("sliding_window")?,
        rms_norm_eps: section.positive("rms_norm_eps")?.unwrap_or(1e-5),
        rope_theta: rotary(section)?.0,
        decoder_dim: section.dimension("decoder_dim")?,
        upsample_rates: strides("upsample_rates")?,
        upsampling_ratios: strides("upsampling_ratios")?,
        attention_bias: section.flag("attention_bias")?.unwrap_or(false),
    })
}
