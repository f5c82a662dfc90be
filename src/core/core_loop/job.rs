//! Work that the loop has accepted.

use super::perceive::Percept;
use crate::core::reading::{Answering, Reading};
use crate::text::Stream;

/// What a job ends with; greater is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    /// It is only read.
    Nothing,
    /// An answer.
    Answer,
    /// An answer to a threat.
    AlarmAnswer,
}

impl Want {
    fn name(self) -> &'static str {
        match self {
            Want::Nothing => "text",
            Want::Answer => "question",
            Want::AlarmAnswer => "alarm",
        }
    }
}

pub(super) enum Stage {
    /// Nothing is read yet.
    Waiting(Vec<u32>),
    Reading(Reading),
    Answering(Answering, Stream),
}

pub(super) struct Job {
    pub(super) id: u64,
    pub(super) want: Want,
    pub(super) source: String,
    pub(super) text: String,
    pub(super) answer: String,
    pub(super) stage: Stage,
    /// Ticks that it waited for attention.
    pub(super) waited: u32,
    /// It continues the conversation: what is to be read is found when it begins.
    pub(super) turn: bool,
    /// What it perceives beside words.
    pub(super) percept: Option<Percept>,
}

impl Job {
    pub(super) fn new(id: u64, want: Want, source: String, text: String, tokens: Vec<u32>) -> Self {
        Self {
            id,
            want,
            source,
            text,
            answer: String::new(),
            stage: Stage::Waiting(tokens),
            waited: 0,
            turn: false,
            percept: None,
        }
    }

    /// What it is called in events and reports: what is only heard or seen is no text.
    pub(super) fn kind(&self) -> &'static str {
        let sensed = self.percept.as_ref().and_then(Percept::kind);
        match (self.want, sensed) {
            (Want::Nothing, Some(kind)) => kind.name(),
            (want, _) => want.name(),
        }
    }

    pub(super) fn is_request(&self) -> bool {
        self.want != Want::Nothing
    }

    /// Tokens that are to be read before it begins.
    pub(super) fn waiting_tokens(&self) -> usize {
        match &self.stage {
            Stage::Waiting(tokens) => tokens.len(),
            Stage::Reading(_) | Stage::Answering(..) => 0,
        }
    }

    pub(super) fn is_started(&self) -> bool {
        !matches!(self.stage, Stage::Waiting(_))
    }

    pub(super) fn is_answering(&self) -> bool {
        matches!(self.stage, Stage::Answering(..))
    }

    /// Forgets what was read: the cache holds another context now.
    pub(super) fn begin_again(&mut self) {
        if self.turn && matches!(self.stage, Stage::Reading(_)) {
            self.stage = Stage::Waiting(Vec::new());
        } else if let Stage::Reading(reading) = &mut self.stage {
            reading.begin_again();
        }
    }

    /// Texts of one source share a context, and so do the turns of the conversation; every other request has its own, and so
    /// has what is only heard or seen.
    pub(super) fn context_name(&self) -> String {
        match self.want {
            Want::Answer if self.turn => "conversation".to_owned(),
            Want::Nothing if self.percept.is_none() => format!("text {}", self.source),
            _ => format!("request {}", self.id),
        }
    }

    /// Tokens that its next step adds to the context.
    pub(super) fn next_tokens(&self, chunk_tokens: usize) -> usize {
        match &self.stage {
            Stage::Waiting(tokens) => tokens.len().min(chunk_tokens),
            Stage::Reading(reading) => reading.left().min(chunk_tokens),
            // An answer ends by itself when the context is full.
            Stage::Answering(..) => 0,
        }
    }
}
