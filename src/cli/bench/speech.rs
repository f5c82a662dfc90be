//! Answers that are spoken, and whose work took the time.

use serde::Serialize;

use super::figures::{ends, median};
use crate::checkpoint::ModelConfig;
use crate::checkpoint::config::TalkerConfig;
use crate::cli::CliError;
use crate::core::request::VoiceChoice;
use crate::core::speech::{MOST_CODES, SPEAKER, Spoken};
use crate::cpu::voice::can_speak;
use crate::store::WeightSource;

/// Frames of a second of speech, each of 80 ms.
const FRAMES_A_SECOND: f64 = 12.5;

/// Seconds of speech where nothing else is asked for.
pub(super) const SPEECH_SECONDS: f64 = 4.0;

/// What is measured of a spoken answer, or something of it over all rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct SpeechFigures<T> {
    pub sound_seconds: T,
    /// Seconds of sound in a second of work, from the last word of the answer to the last sample.
    pub real_time_factor: T,
    /// From the last word of the answer to the first samples.
    pub time_to_first_sound_ms: T,
    /// The talker's.
    pub hit_rate: T,
    pub bytes_per_frame: T,
    pub shares: SpeechShares<T>,
}

/// Shares of the time from the prompt's first token to the last sample.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct SpeechShares<T> {
    /// Reading the prompt and answering in words.
    pub thinker: T,
    pub talker: T,
    pub code_predictor: T,
    pub vocoder: T,
    /// The mind, and the loop.
    pub rest: T,
}

impl SpeechFigures<f64> {
    /// Of an answer that took so many seconds in all.
    pub fn of(spoken: &Spoken, whole_seconds: f64) -> Self {
        let share = |seconds: f64| (seconds / whole_seconds).clamp(0.0, 1.0);
        let thinker = whole_seconds - spoken.made_in_seconds;
        let parts = spoken.talker_seconds + spoken.code_predictor_seconds + spoken.vocoder_seconds;
        Self {
            sound_seconds: spoken.sound_seconds,
            real_time_factor: spoken.real_time_factor,
            time_to_first_sound_ms: spoken.time_to_first_sound_ms,
            hit_rate: spoken.hit_rate,
            bytes_per_frame: spoken.bytes_per_frame,
            shares: SpeechShares {
                thinker: share(thinker),
                talker: share(spoken.talker_seconds),
                code_predictor: share(spoken.code_predictor_seconds),
                vocoder: share(spoken.vocoder_seconds),
                rest: share(spoken.made_in_seconds - parts),
            },
        }
    }
}

impl<T> SpeechFigures<T> {
    fn over(rounds: &[SpokenRound], figure: impl Fn(Vec<f64>) -> T) -> Self {
        let of = |field: fn(&SpeechFigures<f64>) -> f64| {
            figure(rounds.iter().map(|round| field(&round.figures)).collect())
        };
        Self {
            sound_seconds: of(|round| round.sound_seconds),
            real_time_factor: of(|round| round.real_time_factor),
            time_to_first_sound_ms: of(|round| round.time_to_first_sound_ms),
            hit_rate: of(|round| round.hit_rate),
            bytes_per_frame: of(|round| round.bytes_per_frame),
            shares: SpeechShares {
                thinker: of(|round| round.shares.thinker),
                talker: of(|round| round.shares.talker),
                code_predictor: of(|round| round.shares.code_predictor),
                vocoder: of(|round| round.shares.vocoder),
                rest: of(|round| round.shares.rest),
            },
        }
    }
}

/// One answer that was spoken.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpokenRound {
    pub figures: SpeechFigures<f64>,
    /// Frames of 80 ms; fewer than were asked for where the model ended its speech.
    pub frames: usize,
}

/// Figures of spoken answers.
#[derive(Debug, Serialize)]
pub(super) struct BenchSpeech {
    pub prompt_tokens: usize,
    pub answer_tokens: usize,
    /// Of every round.
    pub frames: Vec<usize>,
    #[serde(flatten)]
    pub median: SpeechFigures<f64>,
    pub spread: SpeechFigures<[f64; 2]>,
}

impl BenchSpeech {
    pub fn new(prompt_tokens: usize, answer_tokens: usize, rounds: &[SpokenRound]) -> Self {
        Self {
            prompt_tokens,
            answer_tokens,
            frames: rounds.iter().map(|round| round.frames).collect(),
            median: SpeechFigures::over(rounds, median),
            spread: SpeechFigures::over(rounds, ends),
        }
    }
}

/// Codes of so many seconds of speech, the end code included.
///
/// # Errors
/// When they are not to be spoken in one turn.
pub(super) fn codes(seconds: f64) -> Result<usize, CliError> {
    let most_seconds = (MOST_CODES - 1) as f64 / FRAMES_A_SECOND;
    if !(seconds > 0.0 && seconds <= most_seconds) {
        return Err(CliError::request(format!(
            "--speech-seconds is {seconds}, expected more than 0 and at most {most_seconds}"
        )));
    }
    Ok((seconds * FRAMES_A_SECOND).ceil() as usize + 1)
}

/// Refuses a model that cannot speak.
pub(super) fn check(source: &dyn WeightSource) -> Result<(), CliError> {
    if can_speak(source) {
        return Ok(());
    }
    Err(CliError::request(format!(
        "{} cannot speak: --speech needs a talker, a code predictor and a vocoder, and it lacks at least one of them; extract all components of a checkpoint that has them, make such a store with `sage synth --talker`, or leave --speech out",
        source.folder().display()
    )))
}

/// A voice that the model has: the released pipeline's, or its first.
pub(super) fn voice(talker: Option<&TalkerConfig>) -> VoiceChoice {
    let speakers = talker.map(|talker| &talker.speaker_id);
    let speaker = speakers.and_then(|speakers| {
        let usual = SPEAKER.to_lowercase();
        let known = speakers.contains_key(&usual);
        speakers.keys().next().filter(|_| !known).cloned()
    });
    VoiceChoice {
        speaker,
        max_codes: None,
        greedy: false,
    }
}

/// Tokens that stand around what is said, in a prompt that an answer can be spoken to.
pub(super) const TURN_TOKENS: usize = 8;

/// A user's turn with these tokens, and the beginning of an answer.
pub(super) fn turn(config: &ModelConfig, said: &[u32]) -> Vec<u32> {
    // Any token may stand for a line break, which the talker only counts.
    let line = said.first().copied().unwrap_or(0);
    let begin = config.im_start_token_id;
    let end = config.im_end_token_id.unwrap_or(line);
    let before = [begin, config.user_token_id, line];
    let after = [end, line, begin, config.assistant_token_id, line];
    [&before[..], said, &after].concat()
}
