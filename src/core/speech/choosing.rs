//! How a turn is spoken, and what came of it.

use serde::Serialize;

use crate::core::sampling::Sampling;
use crate::events::SpeechEnded;
use crate::model::speech::choice;

/// Sets the codes' random numbers apart from the words'.
const CODES: u64 = 0x636f_6465_735f_3830;

/// How codes are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choosing {
    /// A frame's first code: the talker's.
    pub first: Sampling,
    /// Its other codes: the code predictor's.
    pub rest: Sampling,
}

impl Choosing {
    /// The most probable code, always: of the talker and so of the code predictor too.
    pub const GREEDY: Self = Self {
        first: Sampling::GREEDY,
        rest: Sampling::GREEDY,
    };

    /// As the released pipeline chooses. An answer's tokens may be drawn by the same seed: the codes have their own numbers.
    pub fn released(seed: u64) -> Self {
        let seed = seed ^ CODES;
        Self {
            first: Sampling {
                temperature: choice::TEMPERATURE,
                top_p: 1.0,
                top_k: choice::TOP_K,
                seed,
            },
            rest: Sampling {
                temperature: choice::REST_TEMPERATURE,
                top_p: choice::REST_TOP_P,
                top_k: choice::REST_TOP_K,
                seed,
            },
        }
    }
}

/// How a turn is to be spoken.
#[derive(Clone, Debug)]
pub struct SpeechRequest {
    /// Whose voice; upper and lower case are the same.
    pub speaker: String,
    /// How codes are chosen.
    pub choosing: Choosing,
    /// Codes at most, the end code included: one more than frames of 80 ms.
    pub max_codes: usize,
    /// The code that ends speech, where it is not the model's own.
    pub end: Option<u32>,
}

/// What was spoken, and what it took.
#[derive(Clone, Debug, Serialize)]
pub struct Spoken {
    /// Why it ended.
    pub ended: SpeechEnded,
    /// The talker's codes, the last one not vocoded.
    #[serde(skip)]
    pub tokens: Vec<u32>,
    /// All codes, `[groups, frames]`.
    #[serde(skip)]
    pub codes: Vec<u32>,
    /// Ids of the talker's prompt, which count for positions only.
    #[serde(skip)]
    pub prompt_ids: Vec<u32>,
    /// Rows of the talker's prompt.
    pub prompt_rows: usize,
    /// Frames of 80 ms.
    pub frames: usize,
    /// Samples of the sound, 24 000 a second.
    pub samples: usize,
    /// How long the sound is.
    pub sound_seconds: f64,
    /// How long it took to make it.
    pub made_in_seconds: f64,
    /// Of that the talker, its prompt included.
    pub talker_seconds: f64,
    /// Of that the code predictor.
    pub code_predictor_seconds: f64,
    /// Of that the vocoder.
    pub vocoder_seconds: f64,
    /// Sound by time: above 1 it is made faster than it is heard.
    pub real_time_factor: f64,
    /// Until the first samples were there.
    pub time_to_first_sound_ms: f64,
    /// The talker's routed experts that were resident, frames only.
    #[serde(skip)]
    pub hits: u64,
    /// Those that were not.
    #[serde(skip)]
    pub misses: u64,
    /// Share of the talker's routed experts that were resident, frames only.
    pub hit_rate: f64,
    /// Logical bytes of the others, per frame.
    pub bytes_per_frame: f64,
    /// Logical bytes missed in all, the prompt included.
    pub miss_bytes: u64,
    /// Drive of the turn, which shared memory between thinker and talker.
    pub drive: f32,
    /// Ticks that passed without a frame.
    pub idle_ticks: u32,
}
