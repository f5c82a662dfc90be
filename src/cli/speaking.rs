//! Options of commands that speak their answers, and where the sound goes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{CliError, Printer, human_bytes};
use crate::core::request::VoiceChoice;
use crate::core::speech::{MOST_CODES, SPEAKER, SpeechEnded, Spoken};
use crate::events::{AudioEvent, Event, EventKind};
use crate::media::wav::WavWriter;
use crate::model::speech::choice::MAX_CODES;
use crate::model::speech::{PromptError, SAMPLE_RATE_HZ};
use crate::store::WeightSource;

/// Options of the voice.
#[derive(Args, Clone, Debug, Default)]
pub struct VoiceArgs {
    /// Whose voice [default: Ethan]
    #[arg(long, value_name = "NAME")]
    speaker: Option<String>,
    /// Codes of the speech at most: one more than frames of 80 ms [default: 4096]
    #[arg(long, value_name = "N")]
    max_codes: Option<usize>,
    /// The most probable code always, as with --exact; else they are drawn as released, by the seed of the sampling
    #[arg(long)]
    speak_greedy: bool,
}

impl VoiceArgs {
    /// The first of these options that is given.
    fn given(&self) -> Option<&'static str> {
        let speaker = self.speaker.as_ref().map(|_| "--speaker");
        let codes = self.max_codes.map(|_| "--max-codes");
        let greedy = self.speak_greedy.then_some("--speak-greedy");
        speaker.or(codes).or(greedy)
    }

    /// Codes of one turn.
    fn codes(&self) -> Result<usize, CliError> {
        let codes = self.max_codes.unwrap_or(MAX_CODES);
        match (2..=MOST_CODES).contains(&codes) {
            true => Ok(codes),
            false => Err(CliError::request(format!(
                "--max-codes is {codes}; expected 2 to {MOST_CODES}: the last one is no sound"
            ))),
        }
    }

    /// The voice; `exact` is the answer's.
    fn choice(&self, exact: bool) -> VoiceChoice {
        VoiceChoice {
            speaker: self.speaker.clone(),
            max_codes: self.max_codes,
            greedy: exact || self.speak_greedy,
        }
    }
}

/// An option of the voice where nothing is spoken.
fn without_speech(option: &str, hint: &str) -> CliError {
    CliError::request(format!(
        "{option} is of the voice, but nothing is to be spoken: {hint}, or leave {option} out"
    ))
}

/// Refuses a voice that the model does not have, before anything is asked; that a model has none at all is said as it is opened.
pub fn check_speaker(source: &dyn WeightSource, name: &str) -> Result<(), PromptError> {
    let Some(talker) = &source.config().talker else {
        return Ok(());
    };
    if talker.speaker_id.contains_key(&name.to_lowercase()) {
        return Ok(());
    }
    Err(PromptError::Speaker {
        name: name.to_owned(),
        known: talker.speaker_id.keys().cloned().collect(),
    })
}

/// Refuses answers that are too short to be spoken.
pub fn check_spoken_tokens(max_tokens: usize) -> Result<(), CliError> {
    match max_tokens {
        0 | 1 => Err(CliError::request(format!(
            "--max-tokens is {max_tokens}; an answer that is spoken has at least 2: its last one is never said"
        ))),
        _ => Ok(()),
    }
}

/// Options of a command that speaks one answer.
#[derive(Args, Debug, Default)]
pub struct SpeakArgs {
    /// Speak the answer into this file too: WAV, 24 kHz, mono, 16 bits
    #[arg(long, value_name = "OUT.wav")]
    speak: Option<PathBuf>,
    #[command(flatten)]
    voice: VoiceArgs,
}

impl SpeakArgs {
    /// What is to be spoken, with its file begun; none where nothing is.
    pub fn begin(&self, exact: bool) -> Result<Option<SpeechFile<'_>>, CliError> {
        let Some(path) = &self.speak else {
            return match self.voice.given() {
                Some(option) => Err(without_speech(option, "say --speak OUT.wav")),
                None => Ok(None),
            };
        };
        let codes = self.voice.codes()?;
        let file = WavWriter::create(path, SAMPLE_RATE_HZ);
        Ok(Some(SpeechFile {
            choice: self.voice.choice(exact),
            codes,
            path,
            file: Some(file.map_err(|error| CliError::Request(error.into()))?),
        }))
    }
}

/// Speech on its way into a file, which gets its name when it is whole and on disk.
pub struct SpeechFile<'a> {
    /// How.
    pub choice: VoiceChoice,
    /// Codes at most.
    pub codes: usize,
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

impl SpeechFile<'_> {
    /// A piece of the sound.
    pub fn write(&mut self, audio: &AudioEvent) -> Result<(), CliError> {
        match &mut self.file {
            Some(file) => Ok(file.write(&audio.pcm)?),
            None => Ok(()),
        }
    }

    /// The sound is whole.
    pub fn finish(&mut self) -> Result<(), CliError> {
        match self.file.take() {
            Some(file) => Ok(file.finish()?),
            None => Ok(()),
        }
    }

    /// What was spoken, in words.
    pub fn tell(&self, spoken: &Spoken, printer: &Printer) {
        tell(self.path, spoken, printer);
    }

    /// For the report.
    pub fn report<'a>(&'a self, spoken: &'a Spoken) -> SpeechReport<'a> {
        SpeechReport {
            path: self.path,
            speaker: self.choice.speaker.as_deref().unwrap_or(SPEAKER),
            spoken,
        }
    }
}

/// What was spoken into a file, in words.
pub fn tell(path: &Path, spoken: &Spoken, printer: &Printer) {
    printer.note(format_args!(
        "{}: {:.2} s of sound made in {:.2} s, {:.2} times as fast as it is heard; the talker: {:.1} % hits, {} read a frame",
        path.display(),
        spoken.sound_seconds,
        spoken.made_in_seconds,
        spoken.real_time_factor,
        spoken.hit_rate * 100.0,
        human_bytes(spoken.bytes_per_frame as u64),
    ));
    match spoken.ended {
        SpeechEnded::Depletion => {
            printer.warn("the speech ended because the energy was used up (depletion)");
        }
        SpeechEnded::Interrupted => printer.warn("the speech was broken off"),
        SpeechEnded::End | SpeechEnded::Length => {}
    }
}

/// Options of a command that speaks several answers.
#[derive(Args, Clone, Debug, Default)]
pub struct SpeakFolderArgs {
    /// Speak: every answer that is to be spoken goes into this folder as answer-NUMBER.wav (24 kHz, mono, 16 bits)
    #[arg(long, value_name = "FOLDER")]
    speak: Option<PathBuf>,
    #[command(flatten)]
    voice: VoiceArgs,
}

impl SpeakFolderArgs {
    /// Whether a folder is named.
    pub fn is_asked(&self) -> bool {
        self.speak.is_some()
    }

    /// Refuses options of the voice where `speaks` says that nothing will be spoken; `hint` is what to say then.
    pub fn check_needed(&self, speaks: bool, hint: &str) -> Result<(), CliError> {
        match self.voice.given().filter(|_| !speaks) {
            Some(option) => Err(without_speech(option, hint)),
            None => Ok(()),
        }
    }

    /// Refuses a voice that the model does not have.
    pub fn check(&self, source: &dyn WeightSource) -> Result<(), CliError> {
        let speaker = self.voice.speaker.as_deref();
        let checked = speaker.map_or(Ok(()), |name| check_speaker(source, name));
        checked.map_err(CliError::request)
    }

    /// Codes of one answer that memory is planned for.
    pub fn codes(&self) -> Result<usize, CliError> {
        self.voice.codes()
    }

    /// The voice of answers that name none; `exact` is theirs.
    pub fn choice(&self, exact: bool) -> VoiceChoice {
        self.voice.choice(exact)
    }

    /// The folder, which is made if it is not there.
    pub fn folder(&self) -> Result<SpeechFolder, CliError> {
        if let Some(folder) = &self.speak {
            std::fs::create_dir_all(folder).map_err(|error| {
                CliError::request(format!("--speak: {}: {error}", folder.display()))
            })?;
        }
        Ok(SpeechFolder {
            folder: self.speak.clone(),
            open: BTreeMap::new(),
        })
    }
}

/// Answers on their way into the files of a folder.
#[derive(Default)]
pub struct SpeechFolder {
    /// None: the sound is heard by nobody.
    folder: Option<PathBuf>,
    open: BTreeMap<u64, WavWriter>,
}

impl SpeechFolder {
    /// The file of an answer.
    pub fn path(&self, request: u64) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        Some(folder.join(format!("answer-{request}.wav")))
    }

    /// Takes the sound out of an event.
    pub fn hear(&mut self, event: &Event) -> Result<(), CliError> {
        match &event.kind {
            EventKind::Audio(audio) => {
                let Some(path) = self.path(audio.request) else {
                    return Ok(());
                };
                let file = match self.open.entry(audio.request) {
                    Entry::Occupied(open) => open.into_mut(),
                    Entry::Vacant(none) => none.insert(WavWriter::create(&path, SAMPLE_RATE_HZ)?),
                };
                file.write(&audio.pcm)?;
            }
            EventKind::Spoken(spoken) => {
                if let Some(file) = self.open.remove(&spoken.request) {
                    file.finish()?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
