//! What arrives becomes numbers: the mel spectrum of a sound, the tokens of a text, the prompt of a question.
//!
//! `cargo bench --bench inputs` runs them all, `cargo bench --bench inputs -- mel` those whose name says so, and
//! `cargo bench --bench inputs -- --test` each of them once.

#![allow(clippy::unwrap_used)] // a benchmark stops at the first thing that is wrong

use std::path::{Path, PathBuf};

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use sage::media::sound::{RATE_HZ, Sound, log_mel};
use sage::store::open_model;
use sage::text::{Message, Text};

fn main() {
    divan::main();
}

/// A file of the model in the repository.
fn of_model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models/tiny")
        .join(name)
}

fn text() -> Text {
    let model = open_model(of_model("")).unwrap();
    Text::load(&*model).unwrap()
}

/// The log-mel spectrum of so many seconds of sound; an item is a frame of 10 ms.
#[divan::bench(args = [1, 10, 60], max_time = 2)]
fn mel_seconds(bencher: Bencher<'_, '_>, seconds: usize) {
    let samples = (0..seconds * RATE_HZ as usize)
        .map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5)
        .collect();
    let sound = Sound { samples };
    let frames = log_mel(&sound).unwrap().frames;
    bencher
        .counter(ItemsCount::new(frames))
        .bench_local(|| log_mel(&sound).unwrap());
}

/// About 20 kB of a novel, of a program and of Spanish: plain text, as a source says it.
#[divan::bench(args = ["austen", "python", "spanish"], max_time = 2)]
fn tokens(bencher: Bencher<'_, '_>, name: &str) {
    let (tokenizer, file) = (text(), of_model(&format!("heldout/{name}.txt")));
    let said = std::fs::read_to_string(file).unwrap();
    bencher
        .counter(BytesCount::of_str(&said))
        .bench_local(|| tokenizer.encode_untrusted(&said).unwrap());
}

/// A conversation of so many messages, from the template to its tokens.
#[divan::bench(args = [1, 31], max_time = 2)]
fn prompt_messages(bencher: Bencher<'_, '_>, count: usize) {
    let text = text();
    let roles = ["user", "assistant"];
    let messages: Vec<Message> = (0..count)
        .map(|i| Message::new(roles[i % 2], "Tom lives in Oslo. Helen lives in Milan."))
        .collect();
    bencher.bench_local(|| text.prompt_tokens(&messages, "").unwrap());
}
