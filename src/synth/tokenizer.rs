//! A tokenizer that needs no training: one token a byte, and the special tokens of the released model.

use serde_json::{Map, Value, json};

use super::Recipe;
use super::recipe::SPECIAL_TOKENS;

/// The visible character that stands for a byte in a byte-level vocabulary: itself where it is printable, otherwise the
/// next unused one from U+0100 on. Every byte-level tokenizer uses this table.
pub(super) fn byte_characters() -> Vec<char> {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut substitutes = '\u{100}'..='\u{200}';
    let character = |byte: u8| {
        if printable(byte) {
            char::from(byte)
        } else {
            substitutes.next().unwrap_or('?')
        }
    };
    (0..=u8::MAX).map(character).collect()
}

/// The text of `tokenizer.json`: byte `b` is token `b`.
pub(super) fn tokenizer_json(recipe: &Recipe) -> String {
    let mut vocab = Map::new();
    for (id, character) in byte_characters().into_iter().enumerate() {
        vocab.insert(character.to_string(), Value::from(id));
    }
    // In the vocabulary as well: added tokens that it lacks would be numbered from its size on.
    for token in SPECIAL_TOKENS {
        vocab.insert(token.to_owned(), Value::from(recipe.special_id(token)));
    }
    let added = |token: &&str| {
        json!({
            "id": recipe.special_id(token), "content": token, "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": SPECIAL_TOKENS.iter().map(added).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [],
        },
    });
    format!("{tokenizer}\n")
}

/// The text of `tokenizer_config.json`.
pub(super) fn tokenizer_config_json() -> String {
    let config = json!({
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    });
    format!("{config:#}\n")
}

/// ChatML with placeholders for media, without a default system prompt.
const CHAT_TEMPLATE: &str = concat!(
    "{%- for message in messages %}",
    "{{- '<|im_start|>' + message.role + '\\n' }}",
    "{%- if message.content is string %}{{- message.content }}",
    "{%- else %}{%- for content in message.content %}",
    "{%- if content.type == 'image' or 'image' in content or 'image_url' in content %}",
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' }}",
    "{%- elif content.type == 'audio' or 'audio' in content or 'audio_url' in content %}",
    "{{- '<|audio_start|><|audio_pad|><|audio_end|>' }}",
    "{%- elif content.type == 'video' or 'video' in content %}",
    "{{- '<|vision_start|><|video_pad|><|vision_end|>' }}",
    "{%- elif content.type == 'text' %}{{- content.text }}{%- endif %}",
    "{%- endfor %}{%- endif %}",
    "{{- '<|im_end|>\\n' }}{%- endfor %}",
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}",
);

/// The text of `chat_template.json`.
pub(super) fn chat_template_json() -> String {
    format!("{:#}\n", json!({ "chat_template": CHAT_TEMPLATE }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_special_tokens_go_through_the_tokenizer_unchanged() {
        let recipe = Recipe {
            vocab_size: 1000,
            ..Recipe::qwen3_omni_30b(1)
        };
        let tokenizer = tokenizers::Tokenizer::from_bytes(tokenizer_json(&recipe)).unwrap();
        let text = "<|im_start|>user\nüber 好!<|im_end|>";
        let encoding = tokenizer.encode(text, false).unwrap();
        let ids = encoding.get_ids();
        assert_eq!(ids[0], 988);
        assert_eq!(ids[1], u32::from(b'u'));
        assert_eq!(ids[ids.len() - 1], 989);
        assert_eq!(ids.len(), "user\nüber 好!".len() + 2);
        assert_eq!(tokenizer.decode(ids, false).unwrap(), text);
        assert_eq!(tokenizer.token_to_id("<|audio_pad|>"), Some(999));
    }
}
