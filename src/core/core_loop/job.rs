//! A request that the loop has accepted, and how far it is.

use sage_actors::protocol::Segment;

use super::meter::Meter;
use super::percept::Percept;
use super::telling::Telling;
use crate::core::reading::{Answering, PrefillRun};
use crate::core::request::{ContextKind, Request, RequestKind};
use crate::core::speech::Speaking;
use crate::text::TextStream;

pub(super) enum Stage {
    /// Nothing is read yet.
    Waiting(Vec<u32>),
    Reading(PrefillRun),
    Answering(Answering, TextStream),
    /// It is answered in words, and the words are being spoken.
    Speaking(Box<Speaking>),
}

pub(super) struct Job {
    pub(super) id: u64,
    pub(super) request: Request,
    /// What is asked or read, in words.
    pub(super) text: String,
    pub(super) answer: String,
    pub(super) stage: Stage,
    /// Ticks that it waited for attention.
    pub(super) waited: u32,
    /// What it perceives beside words.
    pub(super) percept: Option<Percept>,
    pub(super) meter: Meter,
    /// Tokens of its whole prompt, what the context held of it already included.
    pub(super) prompt_tokens: usize,
    /// Of a text that is told: what is left of it.
    pub(super) telling: Telling,
    /// What resembles the question was brought back.
    pub(super) recalled: bool,
    /// Of a turn that will be remembered: what reading its question measured.
    pub(super) asked: Option<Segment>,
}

impl Job {
    pub(super) fn new(id: u64, request: Request, tokens: Vec<u32>) -> Self {
        let media = request.content.media();
        let percept = (!media.is_empty()).then(|| Percept::new(media.to_vec()));
        Self {
            id,
            text: request.content.text().unwrap_or_default(),
            request,
            answer: String::new(),
            stage: Stage::Waiting(tokens),
            waited: 0,
            percept,
            meter: Meter::default(),
            prompt_tokens: 0,
            telling: Telling::default(),
            recalled: false,
            asked: None,
        }
    }

    /// What it is called in events and reports.
    pub(super) fn kind(&self) -> &'static str {
        self.request.kind()
    }

    /// Where it comes from.
    pub(super) fn source(&self) -> &str {
        &self.request.source
    }

    pub(super) fn want(&self) -> RequestKind {
        self.request.want
    }

    pub(super) fn is_request(&self) -> bool {
        self.request.is_answered()
    }

    /// Whether it continues the conversation: what is to be read is found when it begins.
    pub(super) fn is_turn(&self) -> bool {
        self.request.context == ContextKind::Conversation
    }

    /// Whether it is a text that is read into the conversation.
    pub(super) fn is_told(&self) -> bool {
        self.is_turn() && !self.is_request()
    }

    /// Tokens that are to be read before it begins.
    pub(super) fn waiting_tokens(&self) -> usize {
        match &self.stage {
            Stage::Waiting(tokens) => tokens.len(),
            Stage::Reading(_) | Stage::Answering(..) | Stage::Speaking(_) => 0,
        }
    }

    pub(super) fn is_started(&self) -> bool {
        !matches!(self.stage, Stage::Waiting(_))
    }

    /// Whether its answer is being given, in words or in sound.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.stage, Stage::Answering(..) | Stage::Speaking(_))
    }

    pub(super) fn speaking(&self) -> Option<&Speaking> {
        match &self.stage {
            Stage::Speaking(speaking) => Some(speaking),
            Stage::Waiting(_) | Stage::Reading(_) | Stage::Answering(..) => None,
        }
    }

    /// Forgets what was read: the cache holds another context now.
    pub(super) fn begin_again(&mut self) {
        if self.is_turn() && matches!(self.stage, Stage::Reading(_)) {
            self.stage = Stage::Waiting(Vec::new());
        } else if let Stage::Reading(reading) = &mut self.stage {
            reading.begin_again();
            self.meter.begin_reading();
        }
    }

    /// Texts of one source share a context, and so do the turns of the conversation; every other request has its own, and so
    /// has what is only heard or seen.
    pub(super) fn context_name(&self) -> String {
        match self.request.context {
            ContextKind::Conversation => "conversation".to_owned(),
            ContextKind::Source => format!("text {}", self.source()),
            ContextKind::Own => format!("request {}", self.id),
        }
    }

    /// Tokens that its next step adds to the context.
    pub(super) fn next_tokens(&self, chunk_tokens: usize) -> usize {
        match &self.stage {
            Stage::Waiting(tokens) => tokens.len().min(chunk_tokens),
            Stage::Reading(reading) => reading.left().min(chunk_tokens),
            // An answer ends by itself when the context is full.
            Stage::Answering(..) | Stage::Speaking(_) => 0,
        }
    }
}
