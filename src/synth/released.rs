//! The small files beside the weights of the released model, in its form: vocabulary and merges in files of their own, and
//! no tokenizer.json. The vocabulary is a minimal one, a token a byte; special tokens have their released ids.

use serde_json::{Map, Value, json};

use super::tokenizer::{byte_characters, chat_template_json};

/// Special tokens that follow one another from this id on.
const FIRST_SPECIAL_ID: u64 = 151_643;

const SPECIAL_TOKENS: [&str; 33] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
    "<tts_text_bos_single>",
    "<|audio_pad|>",
];

/// Tokens that stand for nothing but themselves in text, although they have ids of their own.
const PLAIN: [&str; 12] = [
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
];

/// Every small file but config.json, by name.
pub(super) fn files() -> [(&'static str, String); 6] {
    [
        ("generation_config.json", generation_config()),
        ("preprocessor_config.json", preprocessor_config()),
        ("vocab.json", vocab()),
        ("merges.txt", "#version: 0.2\n".to_owned()),
        ("tokenizer_config.json", tokenizer_config()),
        ("chat_template.json", chat_template_json()),
    ]
}

fn vocab() -> String {
    let characters = byte_characters().into_iter().enumerate();
    let vocab: Map<String, Value> = characters
        .map(|(id, character)| (character.to_string(), Value::from(id)))
        .collect();
    format!("{}\n", Value::Object(vocab))
}

fn tokenizer_config() -> String {
    let mut added = Map::new();
    for (id, token) in (FIRST_SPECIAL_ID..).zip(SPECIAL_TOKENS) {
        added.insert(
            id.to_string(),
            json!({
                "content": token, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
                "special": !PLAIN.contains(&token),
            }),
        );
    }
    let config = json!({
        "add_bos_token": false,
        "add_prefix_space": false,
        "added_tokens_decoder": added,
        "audio_bos_token": "<|audio_start|>",
        "audio_eos_token": "<|audio_end|>",
        "audio_token": "<|audio_pad|>",
        "bos_token": null,
        "clean_up_tokenization_spaces": false,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "image_token": "<|image_pad|>",
        "model_max_length": 131_072,
        "pad_token": "<|endoftext|>",
        "processor_class": "Qwen3OmniMoeProcessor",
        "split_special_tokens": false,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": null,
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
    });
    format!("{config:#}\n")
}

fn generation_config() -> String {
    let config = json!({
        "talker_max_new_tokens": 4096,
        "talker_repetition_penalty": 1.05,
        "talker_temperature": 0.9,
        "talker_top_k": 50,
        "talker_top_p": 1.0,
    });
    format!("{config:#}\n")
}

fn preprocessor_config() -> String {
    let config = json!({
        "chunk_length": 300,
        "dither": 0.0,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 128,
        "hop_length": 160,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "max_pixels": 12_845_056,
        "merge_size": 2,
        "min_pixels": 3136,
        "n_fft": 400,
        "n_samples": 4_800_000,
        "nb_max_frames": 30_000,
        "padding_side": "right",
        "padding_value": 0.0,
        "patch_size": 16,
        "processor_class": "Qwen3OmniMoeProcessor",
        "return_attention_mask": true,
        "sampling_rate": 16_000,
        "temporal_patch_size": 2,
    });
    format!("{config:#}\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_have_the_ids_that_the_configuration_states() {
        let released: Value = serde_json::from_str(super::super::RELEASED_CONFIG).unwrap();
        let config: Value = serde_json::from_str(&tokenizer_config()).unwrap();
        for (key, token) in [
            ("/im_start_token_id", "<|im_start|>"),
            ("/im_end_token_id", "<|im_end|>"),
            ("/tts_pad_token_id", "<tts_pad>"),
            ("/tts_eos_token_id", "<tts_text_eod>"),
            ("/thinker_config/image_token_id", "<|image_pad|>"),
            ("/thinker_config/video_token_id", "<|video_pad|>"),
            ("/thinker_config/audio_token_id", "<|audio_pad|>"),
            ("/thinker_config/audio_start_token_id", "<|audio_start|>"),
            ("/thinker_config/vision_end_token_id", "<|vision_end|>"),
        ] {
            let id = released.pointer(key).unwrap().to_string();
            assert_eq!(
                config["added_tokens_decoder"][id]["content"], token,
                "{key}"
            );
        }
    }
}
