//! What is said aloud.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why speech ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpeechEnded {
    /// The model's own end code, or an answer of one token, of which nothing is heard.
    End,
    /// As many codes as were asked for.
    Length,
    /// The mind ran out of energy, or stayed in a state in which the talker sleeps.
    Depletion,
    /// It was cancelled, or an alarm took its place.
    Interrupted,
}

/// See [`super::EventKind::Audio`].
#[derive(Clone, Debug, Serialize)]
pub struct AudioEvent {
    /// Of the request whose answer it is.
    pub request: u64,
    /// Samples in it, 24 000 a second, one channel.
    pub samples: usize,
    /// BLAKE3 of the samples as 32-bit floats, little-endian: the same in every run of the same inputs.
    pub blake3: String,
    /// The samples themselves, in [-1, 1]; only for those who hear the event, not in what is written.
    #[serde(skip)]
    pub pcm: Arc<[f32]>,
}

/// See [`super::EventKind::Spoken`].
#[derive(Clone, Debug, Serialize)]
pub struct SpokenEvent {
    /// Of the request whose answer it is.
    pub request: u64,
    /// Why it ended.
    pub ended: SpeechEnded,
    /// Frames of 80 ms.
    pub frames: usize,
    /// Samples, 24 000 a second.
    pub samples: usize,
    /// BLAKE3 of the codes `[groups, frames]`, 32 bits each, little-endian.
    pub codes_blake3: String,
    /// The talker's routed experts that were resident, frames only.
    pub hits: u64,
    /// Those that were not.
    pub misses: u64,
    /// Logical bytes missed, the talker's prompt included.
    pub miss_bytes: u64,
    /// Ticks that passed without a frame.
    pub idle_ticks: u32,
}
