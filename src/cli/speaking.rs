//! Options of commands that speak their answer, and what they say of it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{CliError, Printer, human_bytes};
use crate::core::speech::{
    Choosing, MOST_CODES, SPEAKER, Said, SpeechEnded, SpeechError, SpeechRequest, Spoken, speak,
};
use crate::core::{Engine, EngineError};
use crate::media::wav::{WavError, WavWriter};
use crate::model::code2wav::SAMPLE_RATE_HZ;
use crate::model::talker::choice::MAX_CODES;

/// Options of speech.
#[derive(Args, Debug, Default)]
pub struct SpeakArgs {
    /// Speak the answer into this file too: WAV, 24 kHz, mono, 16 bits
    #[arg(long, value_name = "OUT.wav")]
    speak: Option<PathBuf>,
    /// Whose voice [default: Ethan]
    #[arg(long, value_name = "NAME", requires = "speak")]
    speaker: Option<String>,
    /// Codes of the speech at most: one more than frames of 80 ms [default: 4096]
    #[arg(long, value_name = "N", requires = "speak")]
    max_codes: Option<usize>,
    /// The most probable code always, as with --exact; else they are drawn as released, by --seed
    #[arg(long, requires = "speak")]
    speak_greedy: bool,
}

/// Speech to be made, and its file.
pub struct Speech<'a> {
    /// How.
    pub request: SpeechRequest,
    path: &'a Path,
    /// None once it has its name.
    file: Option<WavWriter>,
}

/// What is said of it.
#[derive(Serialize)]
pub struct SpeechReport<'a> {
    #[serde(serialize_with = "crate::input::path_as_text")]
    path: &'a Path,
    speaker: &'a str,
    #[serde(flatten)]
    spoken: &'a Spoken,
}

impl SpeakArgs {
    /// Codes of one turn, where the answer is spoken.
    pub fn codes(&self) -> Option<usize> {
        let codes = self.max_codes.unwrap_or(MAX_CODES);
        self.speak.as_ref().map(|_| codes)
    }

    /// What is to be spoken, with its file begun; none where nothing is. `exact` and `seed` are the answer's.
    pub fn begin(
        &self,
        max_tokens: usize,
        exact: bool,
        seed: u64,
    ) -> Result<Option<Speech<'_>>, CliError> {
        let (Some(path), Some(max_codes)) = (&self.speak, self.codes()) else {
            return Ok(None);
        };
        if max_tokens < 2 {
            return Err(CliError::request(format!(
                "--max-tokens is {max_tokens}; an answer that is spoken has at least 2: its last one is never said"
            )));
        }
        if !(2..=MOST_CODES).contains(&max_codes) {
            return Err(CliError::request(format!(
                "--max-codes is {max_codes}; expected 2 to {MOST_CODES}: the last one is no sound"
            )));
        }
        let file = WavWriter::create(path, SAMPLE_RATE_HZ);
        Ok(Some(Speech {
            request: SpeechRequest {
                speaker: self.speaker.as_deref().unwrap_or(SPEAKER).to_owned(),
                choosing: if exact || self.speak_greedy {
                    Choosing::GREEDY
                } else {
                    Choosing::released(seed)
                },
                max_codes,
                end: None,
            },
            path,
            file: Some(file.map_err(|error| CliError::Request(error.into()))?),
        }))
    }
}

impl Speech<'_> {
    /// Speaks the turn into the file, which gets its name when it is whole and on disk.
    pub async fn speak(
        &mut self,
        engine: &mut Engine,
        said: Option<&Said>,
    ) -> Result<Spoken, CliError> {
        let said = said.ok_or(EngineError::from(SpeechError::Mute))?;
        let mut file = self.file.take();
        let spoken = speak(engine, said, &self.request, None, |samples| {
            let file = file.as_mut();
            file.map_or(Ok(()), |file| file.write(samples).map_err(CliError::from))
        });
        let spoken = spoken.await?;
        if let Some(file) = file {
            file.finish()?;
        }
        Ok(spoken)
    }

    /// What was spoken, in words.
    pub fn tell(&self, spoken: &Spoken, printer: &Printer) {
        printer.note(format_args!(
            "{}: {:.2} s of sound made in {:.2} s, {:.2} times as fast as it is heard; the talker: {:.1} % hits, {} read a frame",
            self.path.display(),
            spoken.sound_seconds,
            spoken.made_in_seconds,
            spoken.real_time_factor,
            spoken.hit_rate * 100.0,
            human_bytes(spoken.bytes_per_frame as u64),
        ));
        if spoken.ended == SpeechEnded::Depletion {
            printer.warn("the speech ended because the energy was used up (depletion)");
        }
    }

    /// For the report.
    pub fn report<'a>(&'a self, spoken: &'a Spoken) -> SpeechReport<'a> {
        SpeechReport {
            path: self.path,
            speaker: &self.request.speaker,
            spoken,
        }
    }
}

impl From<WavError> for CliError {
    fn from(error: WavError) -> Self {
        CliError::Failed(error.into())
    }
}
