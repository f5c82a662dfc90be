//! What of the events is shown while a conversation is held, and what a turn took.

use std::time::Instant;

use sage_actors::protocol::State;

use super::super::live::{condensed, forgotten, limit_line, lost, name, recalled};
use super::super::speaking::{SpeechFolder, tell};
use super::super::watch::WorkWatch;
use super::super::{CliError, Printer};
use super::reply::CommandReply;
use crate::core::core_loop::{CoreLoop, SpokenAnswer};
use crate::events::Ended;
use crate::events::{Event, EventKind, Observed, ObservedMedium};
use crate::reads::ReadBytes;
use crate::text::template::{AnswerPiece, Thinking};

/// What is shown of it all.
pub(super) struct Show<'a> {
    pub(super) printer: &'a Printer,
    /// Output that could not be written ends the conversation at the next line.
    pub(super) trouble: Option<CliError>,
    /// The file that is being heard or seen.
    pub(super) file: Option<String>,
    /// As every answer begins.
    pub(super) thinking: Thinking,
    /// Of the answer that is shown.
    pub(super) answer: Thinking,
    /// Whether the last that was shown was a thought.
    pub(super) thought: bool,
    /// Where spoken answers go.
    pub(super) speech: SpeechFolder,
    /// How far reading is, until there is something to show.
    pub(super) watch: WorkWatch,
}

/// What hearing or seeing took, words and an answer about it apart.
#[derive(Default)]
pub(super) struct PerceptionTally {
    tokens: usize,
    hits: u64,
    misses: u64,
}

impl PerceptionTally {
    pub(super) fn add(&mut self, kind: &EventKind) {
        match kind {
            EventKind::Read { tokens, .. } => self.tokens += tokens,
            EventKind::Cache(cache) => {
                self.hits += cache.hits;
                self.misses += cache.misses;
            }
            _ => {}
        }
    }
}

/// Whether something may be written for it.
fn is_shown(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::Mode(_)
            | EventKind::Observation(_)
            | EventKind::Token { .. }
            | EventKind::Answer { .. }
            | EventKind::Limit(_)
            | EventKind::Forgotten { .. }
            | EventKind::Condensed { .. }
            | EventKind::Recalled { .. }
            | EventKind::Refused { .. }
            | EventKind::Shed { .. }
            | EventKind::Missed { .. }
    )
}

impl Show<'_> {
    pub(super) fn event(&mut self, event: &Event) {
        event.emit();
        if self.trouble.is_none() {
            self.trouble = self.try_event(event).err();
        }
    }

    pub(super) fn checked(&mut self) -> Result<(), CliError> {
        self.trouble.take().map_or(Ok(()), Err)
    }

    fn told(&mut self, shown: impl IntoIterator<Item = AnswerPiece>) -> Result<(), CliError> {
        for shown in shown {
            match shown {
                AnswerPiece::Thought(text) => {
                    self.printer.thought(&text);
                    self.thought = true;
                }
                AnswerPiece::Said(text) => {
                    if std::mem::take(&mut self.thought) {
                        self.printer.end_thought();
                    }
                    self.printer.part(&text)?;
                }
            }
        }
        Ok(())
    }

    fn try_event(&mut self, event: &Event) -> Result<(), CliError> {
        let printer = self.printer;
        self.speech.hear(event)?;
        if printer.is_json() {
            return printer.json(event);
        }
        if is_shown(&event.kind) {
            self.watch.clear();
        }
        match &event.kind {
            EventKind::Mode(mode) => printer.note(format_args!("mode: {}", mode.text)),
            EventKind::Token { text, .. } => {
                let shown = self.answer.push(text);
                self.told(shown)?;
            }
            EventKind::Answer { ended, .. } => {
                let shown = self.answer.finish();
                self.told(shown)?;
                self.answer = self.thinking.clone();
                self.thought = false;
                printer.line("")?;
                if let Some(why) = broken_off(*ended) {
                    printer.note(format_args!("({why})"));
                }
            }
            EventKind::Observation(observed) => self.taken(observed)?,
            EventKind::Limit(limit) => printer.line(limit_line(limit))?,
            EventKind::Forgotten { turns, left, .. } => printer.note(forgotten(*turns, *left)),
            EventKind::Condensed { segments, left, .. } => {
                printer.note(condensed(*segments, *left))
            }
            EventKind::Recalled { segments, .. } => printer.note(recalled(*segments)),
            kind => {
                if let Some(text) = lost(kind) {
                    printer.note(text);
                }
            }
        }
        Ok(())
    }

    /// What was taken of a file: the command's answer where nothing else answers it.
    fn taken(&self, observed: &Observed) -> Result<(), CliError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        for medium in &observed.perceived {
            let line = taken(file, medium);
            match observed.kind {
                "question" => self.printer.note(line),
                _ => self.printer.line(line)?,
            }
        }
        Ok(())
    }

    pub(super) fn reply(&self, reply: &CommandReply) -> Result<(), CliError> {
        match reply {
            reply if self.printer.is_json() => self.printer.json(reply),
            CommandReply::Refused { .. } => {
                self.printer.note(reply);
                Ok(())
            }
            reply => self.printer.line(reply),
        }
    }

    /// What was spoken, and where it is.
    pub(super) fn spoken(&self, spoken: &SpokenAnswer) {
        if let Some(path) = self.speech.path(spoken.id) {
            tell(&path, &spoken.spoken, self.printer);
        }
    }

    /// What the turn took, in one line.
    pub(super) fn status(
        &self,
        core: &CoreLoop,
        asks: bool,
        heard: &PerceptionTally,
        started: Instant,
        read_before: ReadBytes,
    ) {
        let work = &core.recall().work;
        // What is only seen is no request: the loop remembers the work on the last of those.
        let (tokens, hits, misses) = match asks {
            true => (work.tokens, work.hits, work.misses),
            false => (heard.tokens, heard.hits, heard.misses),
        };
        let k = core.orientation().map_or(0, |last| last.directive.k);
        let leased = (hits + misses).max(1);
        let state: State = core.state();
        self.printer.aside(format_args!(
            "{} k {k}, hits {:.0} %, read {}, {:.1} tokens/s",
            name(&state),
            hits as f64 / leased as f64 * 100.0,
            core.engine().read_bytes().since(read_before),
            tokens as f64 / started.elapsed().as_secs_f64().max(1e-9),
        ));
    }
}

/// What was taken of a file, in its own numbers.
fn taken(file: &str, medium: &ObservedMedium) -> String {
    let plain = |letter: char| {
        if letter.is_control() {
            '\u{fffd}'
        } else {
            letter
        }
    };
    let file: String = file.chars().map(plain).collect();
    let tokens = match medium.tokens {
        1 => "1 token".to_owned(),
        tokens => format!("{tokens} tokens"),
    };
    match (medium.pixels, medium.seconds) {
        (Some([width, height]), _) => format!(
            "saw {file}: {width} × {height} pixels, {tokens}, brightness {:.2}",
            medium.level
        ),
        (None, seconds) => format!(
            "heard {file}: {:.2} s, {tokens}, {:.0} dB",
            seconds.unwrap_or(0.0),
            medium.level
        ),
    }
}

/// Why an answer is not whole; none for one that is.
fn broken_off(ended: Ended) -> Option<&'static str> {
    match ended {
        Ended::Stop => None,
        Ended::Length => Some("cut off: that is all of --max-tokens"),
        Ended::Context => Some("cut off: the context is full"),
        Ended::Depletion => Some("broken off: the energy is used up; /why says by what"),
        Ended::Interrupted => Some("interrupted"),
    }
}
