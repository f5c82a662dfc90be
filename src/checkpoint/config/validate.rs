//! What must hold between the values of a configuration, so that the code behind it need not ask again.

use super::parse::{TEXT, THINKER};
use super::{
    AudioConfig, Code2WavConfig, CodePredictorConfig, ModelConfig, ModelConfigError, TalkerConfig,
    TextConfig, ThinkerConfig, VisionConfig,
};

type Checked = Result<(), ModelConfigError>;

/// Bounds on counts: far above any model, low enough that a table of every tensor stays small.
const MAX_LAYERS: usize = 512;
const MAX_EXPERTS: usize = 1024;
const MAX_LIST: usize = 64;

fn check(holds: bool, key: String, value: impl ToString, expected: impl Into<String>) -> Checked {
    if holds {
        return Ok(());
    }
    Err(ModelConfigError::Invalid {
        key,
        value: value.to_string(),
        expected: expected.into(),
    })
}

fn at_most(key: String, value: usize, limit: usize) -> Checked {
    check(value <= limit, key, value, format!("at most {limit}"))
}

fn equal(key: String, value: usize, other_key: &str, other: usize) -> Checked {
    check(
        value == other,
        key,
        value,
        format!("{other}, as `{other_key}`"),
    )
}

pub(super) fn model(config: &ModelConfig) -> Checked {
    let prefix = thinker_prefix(&config.model_type);
    thinker(prefix, &text_path(&config.model_type), &config.thinker)?;
    let vocab = config.thinker.text.vocab_size;
    token("im_end_token_id", config.im_end_token_id, vocab)?;
    for &id in &config.eos_token_ids {
        token("eos_token_id", Some(id), vocab)?;
    }
    if let Some(talker) = &config.talker {
        self::talker(talker, &config.thinker)?;
        token("im_start_token_id", Some(config.im_start_token_id), vocab)?;
        token("tts_pad_token_id", Some(config.tts_pad_token_id), vocab)?;
        token("tts_bos_token_id", Some(config.tts_bos_token_id), vocab)?;
        token("tts_eos_token_id", Some(config.tts_eos_token_id), vocab)?;
    }
    if let Some(code2wav) = &config.code2wav {
        self::code2wav(code2wav, config.talker.as_ref())?;
    }
    Ok(())
}

/// What stands before the thinker's keys.
fn thinker_prefix(model_type: &str) -> &'static str {
    match model_type {
        THINKER | TEXT => "",
        _ => "thinker_config.",
    }
}

/// What stands before the keys of the thinker's decoder.
fn text_path(model_type: &str) -> String {
    match model_type {
        TEXT => String::new(),
        _ => format!("{}text_config.", thinker_prefix(model_type)),
    }
}

fn token(key: &str, id: Option<u32>, vocab: usize) -> Checked {
    let fits = id.is_none_or(|id| (id as usize) < vocab);
    check(
        fits,
        key.to_owned(),
        id.unwrap_or(0),
        format!("below the vocabulary size {vocab}"),
    )
}

fn thinker(prefix: &str, text_path: &str, config: &ThinkerConfig) -> Checked {
    text(text_path, &config.text)?;
    if let Some(audio) = &config.audio {
        self::audio(prefix, text_path, audio, config)?;
    }
    if let Some(vision) = &config.vision {
        self::vision(prefix, text_path, vision, config)?;
    }
    Ok(())
}

/// A token that the thinker's keys must name.
fn required_token(prefix: &str, key: &str, id: Option<u32>, vocab: usize) -> Checked {
    match id {
        None => Err(ModelConfigError::Missing {
            key: format!("{prefix}{key}"),
            expected: "a token id",
        }),
        some => token(&format!("{prefix}{key}"), some, vocab),
    }
}

fn audio(prefix: &str, text_path: &str, audio: &AudioConfig, config: &ThinkerConfig) -> Checked {
    let hidden_key = &format!("{text_path}hidden_size");
    let vocab = config.text.vocab_size;
    let path = |key: &str| format!("{prefix}audio_config.{key}");
    at_most(path("encoder_layers"), audio.encoder_layers, MAX_LAYERS)?;
    divides(
        path("d_model"),
        audio.d_model,
        audio.encoder_attention_heads,
        "encoder_attention_heads",
    )?;
    check(
        audio.d_model >= 4,
        path("d_model"),
        audio.d_model,
        "at least 4",
    )?;
    check(
        audio.d_model.is_multiple_of(2),
        path("d_model"),
        audio.d_model,
        "an even number",
    )?;
    equal(
        path("output_dim"),
        audio.output_dim,
        hidden_key,
        config.text.hidden_size,
    )?;
    let window = audio.n_window.saturating_mul(2);
    check(
        audio.n_window_infer >= window,
        path("n_window_infer"),
        audio.n_window_infer,
        "at least 2 * n_window",
    )?;
    required_token(prefix, "audio_token_id", config.audio_token_id, vocab)?;
    Ok(())
}

fn vision(prefix: &str, text_path: &str, vision: &VisionConfig, config: &ThinkerConfig) -> Checked {
    let hidden_key = &format!("{text_path}hidden_size");
    let vocab = config.text.vocab_size;
    let path = |key: &str| format!("{prefix}vision_config.{key}");
    at_most(path("depth"), vision.depth, MAX_LAYERS)?;
    divides(
        path("hidden_size"),
        vision.hidden_size,
        vision.num_heads,
        "num_heads",
    )?;
    let head = vision.hidden_size / vision.num_heads;
    check(
        head.is_multiple_of(4),
        path("hidden_size"),
        vision.hidden_size,
        "a multiple of 4 * num_heads",
    )?;
    equal(
        path("out_hidden_size"),
        vision.out_hidden_size,
        hidden_key,
        config.text.hidden_size,
    )?;
    let side = vision.num_position_embeddings.isqrt();
    let square = side * side == vision.num_position_embeddings;
    check(
        square,
        path("num_position_embeddings"),
        vision.num_position_embeddings,
        "a square number",
    )?;
    at_most(
        path("spatial_merge_size"),
        vision.spatial_merge_size,
        MAX_LIST,
    )?;
    let levels = &vision.deepstack_visual_indexes;
    at_most(
        path("deepstack_visual_indexes"),
        levels.len(),
        config.text.num_hidden_layers,
    )?;
    let inside =
        levels.iter().all(|&index| index < vision.depth) && levels.is_sorted_by(|a, b| a < b);
    check(
        inside,
        path("deepstack_visual_indexes"),
        format!("{levels:?}"),
        "ascending indices below depth",
    )?;
    required_token(prefix, "image_token_id", config.image_token_id, vocab)?;
    required_token(prefix, "video_token_id", config.video_token_id, vocab)?;
    if config.position_id_per_seconds.is_none() {
        let key = format!("{prefix}position_id_per_seconds");
        return Err(ModelConfigError::Missing {
            key,
            expected: "the positions of one second",
        });
    }
    Ok(())
}

fn divides(key: String, value: usize, divisor: usize, divisor_key: &str) -> Checked {
    check(
        value.is_multiple_of(divisor),
        key,
        value,
        format!("a multiple of {divisor_key} = {divisor}"),
    )
}

fn text(path: &str, text: &TextConfig) -> Checked {
    let path = |key: &str| format!("{path}{key}");
    at_most(
        path("num_hidden_layers"),
        text.num_hidden_layers,
        MAX_LAYERS,
    )?;
    at_most(path("num_experts"), text.num_experts, MAX_EXPERTS)?;
    divides(
        path("num_attention_heads"),
        text.num_attention_heads,
        text.num_key_value_heads,
        "num_key_value_heads",
    )?;
    check(
        text.head_dim.is_multiple_of(2),
        path("head_dim"),
        text.head_dim,
        "an even number",
    )?;
    let section: usize = text.mrope_section.iter().sum();
    let expected = format!("numbers that sum to head_dim / 2 = {}", text.head_dim / 2);
    let shown = format!("{:?}", text.mrope_section);
    check(
        section == text.head_dim / 2,
        path("rope_scaling.mrope_section"),
        shown,
        expected,
    )?;
    let step = text.decoder_sparse_step;
    check(step >= 1, path("decoder_sparse_step"), step, "at least 1")?;
    if text.num_experts > 0 {
        let k = text.num_experts_per_tok;
        let expected = format!("from 1 to num_experts = {}", text.num_experts);
        check(
            (1..=text.num_experts).contains(&k),
            path("num_experts_per_tok"),
            k,
            expected,
        )?;
        let inner = text.moe_intermediate_size;
        check(
            inner >= 1,
            path("moe_intermediate_size"),
            inner,
            "at least 1",
        )?;
    }
    if text.sparse_layers().count() < text.num_hidden_layers {
        check(
            text.intermediate_size >= 1,
            path("intermediate_size"),
            0,
            "at least 1, for the dense layers",
        )?;
    }
    Ok(())
}

fn talker(talker: &TalkerConfig, thinker: &ThinkerConfig) -> Checked {
    let path = |key: &str| format!("talker_config.{key}");
    text("talker_config.text_config.", &talker.text)?;
    let (hidden_key, hidden) = (
        "thinker_config.text_config.hidden_size",
        thinker.text.hidden_size,
    );
    equal(
        path("thinker_hidden_size"),
        talker.thinker_hidden_size,
        hidden_key,
        hidden,
    )?;
    at_most(
        path("accept_hidden_layer"),
        talker.accept_hidden_layer,
        thinker.text.num_hidden_layers,
    )?;
    let experts = talker.text.num_experts;
    check(
        experts >= 1,
        path("text_config.num_experts"),
        experts,
        "at least 1",
    )?;
    let shared = talker.text.shared_expert_intermediate_size;
    check(
        shared >= 1,
        path("text_config.shared_expert_intermediate_size"),
        shared,
        "at least 1",
    )?;
    let inner = talker.text.intermediate_size;
    check(
        inner >= 1,
        path("text_config.intermediate_size"),
        inner,
        "at least 1",
    )?;
    let codes = talker.text.vocab_size;
    let special = [
        ("codec_pad_id", talker.codec_pad_id),
        ("codec_bos_id", talker.codec_bos_id),
        ("codec_eos_token_id", talker.codec_eos_token_id),
        ("codec_nothink_id", talker.codec_nothink_id),
        ("codec_think_bos_id", talker.codec_think_bos_id),
        ("codec_think_eos_id", talker.codec_think_eos_id),
    ];
    for (key, id) in special {
        token(&path(key), Some(id), codes)?;
    }
    for (name, &id) in &talker.speaker_id {
        token(&path(&format!("speaker_id.{name}")), Some(id), codes)?;
    }
    let groups = talker.num_code_groups;
    check(
        (2..=MAX_LIST).contains(&groups),
        path("num_code_groups"),
        groups,
        format!("from 2 to {MAX_LIST}"),
    )?;
    code_predictor(&talker.code_predictor, talker)
}

fn code_predictor(config: &CodePredictorConfig, talker: &TalkerConfig) -> Checked {
    let path = |key: &str| format!("talker_config.code_predictor_config.{key}");
    at_most(
        path("num_hidden_layers"),
        config.num_hidden_layers,
        MAX_LAYERS,
    )?;
    let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
    divides(
        path("num_attention_heads"),
        heads,
        kv_heads,
        "num_key_value_heads",
    )?;
    check(
        config.head_dim.is_multiple_of(2),
        path("head_dim"),
        config.head_dim,
        "an even number",
    )?;
    let (groups_key, groups) = ("talker_config.num_code_groups", talker.num_code_groups);
    equal(
        path("num_code_groups"),
        config.num_code_groups,
        groups_key,
        groups,
    )?;
    let (hidden_key, hidden) = (
        "talker_config.text_config.hidden_size",
        talker.text.hidden_size,
    );
    equal(path("hidden_size"), config.hidden_size, hidden_key, hidden)
}

fn code2wav(config: &Code2WavConfig, talker: Option<&TalkerConfig>) -> Checked {
    let path = |key: &str| format!("code2wav_config.{key}");
    at_most(
        path("num_hidden_layers"),
        config.num_hidden_layers,
        MAX_LAYERS,
    )?;
    divides(
        path("hidden_size"),
        config.hidden_size,
        config.num_attention_heads,
        "num_attention_heads",
    )?;
    let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
    divides(
        path("num_attention_heads"),
        heads,
        kv_heads,
        "num_key_value_heads",
    )?;
    check(
        config.head_dim().is_multiple_of(2),
        path("hidden_size"),
        config.hidden_size,
        "heads of even width",
    )?;
    for (key, strides) in [
        ("upsample_rates", &config.upsample_rates),
        ("upsampling_ratios", &config.upsampling_ratios),
    ] {
        at_most(path(key), strides.len(), 16)?;
        let sound = strides.iter().all(|stride| (1..=MAX_LIST).contains(stride));
        check(
            sound,
            path(key),
            format!("{strides:?}"),
            format!("strides from 1 to {MAX_LIST}"),
        )?;
    }
    let halvings = 1_usize << config.upsample_rates.len();
    divides(
        path("decoder_dim"),
        config.decoder_dim,
        halvings,
        "2^(number of upsample_rates)",
    )?;
    let groups = config.num_quantizers;
    at_most(path("num_quantizers"), groups, MAX_LIST)?;
    match talker {
        Some(talker) => equal(
            path("num_quantizers"),
            groups,
            "talker_config.num_code_groups",
            talker.num_code_groups,
        ),
        None => Ok(()),
    }
}
