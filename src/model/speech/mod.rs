//! What speech is said in: prompts, frames, chunks of sound, and how codes are chosen. Plain data and its rules; weights and
//! products are the talker's, the code predictor's and the vocoder's.

pub mod choice;

use std::ops::Range;

/// Samples of a second of the waveform.
pub const SAMPLE_RATE_HZ: u32 = 24_000;

/// Frames that the released pipeline decodes at a time.
pub const CHUNK_FRAMES: usize = 300;

/// Frames before a chunk that it decodes too, and drops.
pub const LEFT_CONTEXT_FRAMES: usize = 25;

/// What the thinker read and wrote.
#[derive(Clone, Copy, Debug)]
pub struct ThinkerTurn<'a> {
    /// The thinker's prompt, `[tokens]`: segments that begin with `<|im_start|>` and a role. What is before the first one
    /// is not heard.
    pub ids: &'a [u32],
    /// Input embeddings of the prompt, `[tokens, thinker hidden]`; rows of placeholders are not used.
    pub embeddings: &'a [f32],
    /// Hidden states of the prompt at `accept_hidden_layer`, that is the output of decoder layer
    /// `accept_hidden_layer - 1`, not normed, `[tokens, thinker hidden]`. Only rows of placeholders are used; may be
    /// empty where a user's segments hold none.
    pub hidden: &'a [f32],
    /// Input embeddings of the generated tokens but the last, which no one was fed: `[generated - 1, thinker hidden]`.
    pub generated: &'a [f32],
    /// Thinker embeddings of the three tokens of spoken text: padding, begin, end, `[3, thinker hidden]`.
    pub tts: &'a [f32],
    /// Whose voice; upper and lower case are the same.
    pub speaker: &'a str,
}

/// The talker's prompt, and the text that is added to it step by step.
#[derive(Clone, Debug, PartialEq)]
pub struct TalkerPrompt {
    /// Rows to feed, `[tokens, hidden]`.
    pub rows: Vec<f32>,
    /// Their ids, `[tokens]`, which count for positions only.
    pub ids: Vec<u32>,
    /// Text of the steps that follow, `[generated - 1, hidden]`; its end included.
    pub trailing: Vec<f32>,
    /// Text of every later step, `[hidden]`.
    pub tts_pad: Vec<f32>,
}

impl TalkerPrompt {
    /// Text to be added to the frame of step `step` (from 0) before it is fed back, `[hidden]`.
    pub fn text_row(&self, step: usize) -> &[f32] {
        let hidden = self.tts_pad.len();
        let row = self.trailing.chunks_exact(hidden).nth(step);
        row.unwrap_or(&self.tts_pad)
    }
}

/// Why there is nothing to speak.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// The answer is too short.
    #[error(
        "the answer has fewer than 2 tokens, and its last one is never spoken: there is nothing to say; let the thinker write more, or answer in text"
    )]
    TooShort,
    /// No such voice.
    #[error("speaker {name:?} is not in talker_config.speaker_id: give one of {}", known.join(", "))]
    Speaker {
        /// The name asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The prompt does not end where an answer begins.
    #[error(
        "the prompt ends with {found:?}, expected [{im_start}, {assistant}, a line break] and nothing behind it: render it with the generation prompt and without an empty thinking block"
    )]
    Ending {
        /// The last segment, or what there is of it.
        found: Vec<u32>,
        /// `<|im_start|>`.
        im_start: u32,
        /// The assistant's role.
        assistant: u32,
    },
    /// A segment of nobody's.
    #[error(
        "token {id} after <|im_start|> at {at} is no role, expected {system} (system), {user} (user) or {assistant} (assistant)"
    )]
    Role {
        /// The token.
        id: u32,
        /// Where the segment begins.
        at: usize,
        /// Role of the system.
        system: u32,
        /// Role of the user.
        user: u32,
        /// Role of the assistant.
        assistant: u32,
    },
    /// Rows that do not belong to the tokens.
    #[error(
        "{found} numbers of {what} were given, expected {expected}: rows of {width} for {rows} tokens"
    )]
    Rows {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
        /// Tokens.
        rows: usize,
        /// The thinker's hidden size.
        width: usize,
    },
}

/// The rest of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Codes of the groups 1, 2, ….
    pub codes: Vec<u32>,
    /// The first code's embedding plus those of all others, `[hidden]`: what the talker hears next, but for the text.
    pub embedding_sum: Vec<f32>,
}

/// Why codes cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodesError {
    /// Not a table of `groups` rows.
    #[error(
        "{found} codes are not {groups} groups of {frames} frames: give [groups, frames], row-major"
    )]
    Shape {
        /// How many there are.
        found: usize,
        /// Codec groups.
        groups: usize,
        /// Frames asked for.
        frames: usize,
    },
    /// A code without a vector.
    #[error(
        "code {code} of group {group} in frame {frame} is beyond the codebook of {codebook_size}: special codec tokens are not sound"
    )]
    Code {
        /// The code.
        code: u32,
        /// Its group.
        group: usize,
        /// Its frame.
        frame: usize,
        /// Codes of one group.
        codebook_size: usize,
    },
    /// Chunks of no frames.
    #[error(
        "chunks of 0 frames would never end: give at least 1 (the released pipeline uses {CHUNK_FRAMES})"
    )]
    NoChunk,
}

/// A piece of a clip: decoded with `context` frames before it, whose samples are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VocoderChunk {
    /// Frames before the piece that are decoded with it.
    pub context: usize,
    /// The piece's own frames.
    pub frames: Range<usize>,
}

/// Cuts a clip of `frames` frames as the reference implementation does: the whole beginning is context while it is no
/// longer than `left_context` frames. Chunks of 0 frames give none.
pub fn chunks(
    frames: usize,
    chunk: usize,
    left_context: usize,
) -> impl Iterator<Item = VocoderChunk> {
    let count = frames
        .checked_div(chunk)
        .map_or(0, |_| frames.div_ceil(chunk));
    (0..count).map(move |at| {
        let start = at * chunk;
        VocoderChunk {
            context: left_context.min(start),
            frames: start..frames.min(start + chunk),
        }
    })
}
