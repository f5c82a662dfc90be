//! A model that has words and a voice: the fixture that speaks, with a tokenizer of bytes and pairs of letters.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::copied;
use super::runs::root;

/// Control tokens of the fixture's `config.json`, from this id on.
const FIRST_CONTROL_TOKEN: usize = 480;

const CONTROL_TOKENS: [&str; 12] = [
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

/// Roles and their tokens in the fixture's `config.json`: the talker knows a turn by them.
const ROLES: [(&str, usize); 3] = [("system", 18), ("user", 72), ("assistant", 91)];

/// The fixture `tiny-omni`, which hears, sees and speaks, with words. What it says is noise, and the same noise every time.
pub fn speaking_model() -> TempDir {
    let folder = copied("tiny-omni");
    let own = root().join("models/tiny");
    let text = fs::read_to_string(own.join("tokenizer.json")).expect("a tokenizer");
    let mut tokenizer: Value = serde_json::from_str(&text).expect("JSON");
    let (words, merges) = words();
    let vocabulary = words.iter().enumerate();
    let vocabulary: serde_json::Map<String, Value> = vocabulary
        .map(|(id, word)| (word.clone(), id.into()))
        .collect();
    tokenizer["model"]["vocab"] = vocabulary.into();
    tokenizer["model"]["merges"] = json!(merges);
    let control = CONTROL_TOKENS.iter().enumerate().map(|(at, word)| {
        json!({ "id": FIRST_CONTROL_TOKEN + at, "content": word, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true })
    });
    tokenizer["added_tokens"] = control.collect();
    let write =
        |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write("tokenizer.json", &tokenizer.to_string());
    let template = fs::read_to_string(own.join("chat_template.json")).expect("a template");
    write("chat_template.json", &template);
    folder
}

/// Every byte as byte-level BPE spells it, the roles with what they are merged from, and pairs of letters, which no merge
/// makes: only the model says them.
fn words() -> (Vec<String>, Vec<[String; 2]>) {
    let mut words = bytes();
    let mut merges = Vec::new();
    let mut more = Vec::new();
    for (role, id) in ROLES {
        for end in 2..=role.len() {
            merges.push([role[..end - 1].to_owned(), role[end - 1..end].to_owned()]);
            if end < role.len() {
                more.push(role[..end].to_owned());
            }
        }
        more.push(std::mem::replace(&mut words[id], role.to_owned()));
    }
    let letters = || 'a'..='z';
    let pairs = letters().flat_map(|a| letters().map(move |b| format!("{a}{b}")));
    let pairs: Vec<String> = pairs.filter(|pair| !more.contains(pair)).collect();
    words.extend(more);
    let left = FIRST_CONTROL_TOKEN - words.len();
    words.extend(pairs.into_iter().take(left));
    (words, merges)
}

/// The characters that stand for bytes: what can be printed for itself, the rest from U+0100 on.
fn bytes() -> Vec<String> {
    let printed = (33..127).chain(161..173).chain(174..256);
    let printed: Vec<u32> = printed.collect();
    let others = (0..256u32).filter(|byte| !printed.contains(byte)).count() as u32;
    let codes = printed.into_iter().chain(256..256 + others);
    let character = |code| char::from_u32(code).expect("a character").to_string();
    codes.map(character).collect()
}

/// The samples of a WAV file as SAGE writes it: 24 000 a second, one channel, 16 bits.
pub fn samples(file: &Path) -> Vec<i16> {
    let wav = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!((&wav[..4], &wav[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
    let number = |at: usize| u32::from_le_bytes(wav[at..at + 4].try_into().expect("4 bytes"));
    assert_eq!(number(4) as usize, wav.len() - 8, "the size of the file");
    assert_eq!((number(24), &wav[36..40]), (24_000, &b"data"[..]));
    assert_eq!(number(40) as usize, wav.len() - 44, "the size of its data");
    let (samples, rest) = wav[44..].as_chunks::<2>();
    assert!(rest.is_empty());
    samples.iter().map(|s| i16::from_le_bytes(*s)).collect()
}

/// A recording whose digests vouch for what was changed in it: each line's is of the digest before it and its own event.
pub fn vouched(text: &str) -> String {
    let mut chain = [0u8; 16];
    let mut lines = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.strip_prefix("{\"event\":").expect("a line");
        let (event, _) = line.rsplit_once(",\"digest\":").expect("a digest");
        let mut hasher = blake3::Hasher::new();
        let before = if number < 2 { [0; 16] } else { chain };
        hasher.update(&before).update(event.as_bytes());
        chain.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        let digest: String = chain.iter().map(|byte| format!("{byte:02x}")).collect();
        lines += &format!("{{\"event\":{event},\"digest\":\"{digest}\"}}\n");
    }
    lines
}
