//! The parts that speak equal the reference implementation on every speech golden, module by module.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

#[path = "speech/golden.rs"]
mod golden;
#[path = "speech/prompt.rs"]
mod prompt;
#[path = "speech/talker.rs"]
mod talker;
#[path = "speech/vocoder.rs"]
mod vocoder;
#[path = "speech/voice.rs"]
mod voice;
