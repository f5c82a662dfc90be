//! What the thinker read and wrote in one turn, as far as the talker hears of it.

use crate::core::layers::RoutingSalience;
use crate::core::orient::Orientation;
use crate::core::perception::Features;
use crate::core::step_result::Forward;
use crate::model::positions::MediaGrids;

/// What a turn is like that is spoken: its drive shares memory, its salience goes into the talker's routers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TurnStyle {
    /// Drive in force when the answer was given, in [0, 1].
    pub drive: f32,
    /// Salience of that moment.
    pub felt: RoutingSalience,
}

impl TurnStyle {
    /// As it is now.
    pub fn of(orientation: &Orientation) -> Self {
        let report = &orientation.report;
        Self {
            drive: orientation.directives.drive,
            felt: RoutingSalience {
                salience_t: report.salience_t,
                surprise_t: report.surprise_t,
                reward: report.salience.reward,
            },
        }
    }
}

/// What the talker hears of a turn before it speaks.
///
/// Of the answer's tokens only the embeddings are heard, and of its last one nothing: it is never fed.
#[derive(Clone, Copy, Debug)]
pub struct TurnRows<'a> {
    /// The prompt, placeholders repeated.
    pub ids: &'a [u32],
    /// Its input embeddings with media merged, `[tokens, thinker hidden]`.
    pub embeddings: &'a [f32],
    /// Its hidden states at `accept_hidden_layer`, likewise.
    pub hidden: &'a [f32],
    /// Input embeddings of the answer's tokens that were fed, `[answer - 1, thinker hidden]`.
    pub generated: &'a [f32],
    /// What the turn is like.
    pub style: TurnStyle,
}

/// A turn of the thinker's that is run apart from the loop: collected step by step, from an engine that speaks.
#[derive(Clone, Debug, Default)]
pub struct CollectedTurn {
    /// The prompt, placeholders repeated.
    pub ids: Vec<u32>,
    /// Its input embeddings with media merged, `[tokens, thinker hidden]`.
    pub embeddings: Vec<f32>,
    /// Its hidden states at `accept_hidden_layer`, likewise.
    pub hidden: Vec<f32>,
    /// Input embeddings of the answer's tokens that were fed, `[answer - 1, thinker hidden]`.
    pub generated: Vec<f32>,
    /// Sounds and pictures of the prompt.
    pub grids: MediaGrids,
    /// What the turn is like.
    pub style: TurnStyle,
}

impl From<TurnRows<'_>> for CollectedTurn {
    fn from(rows: TurnRows<'_>) -> Self {
        Self {
            ids: rows.ids.to_vec(),
            embeddings: rows.embeddings.to_vec(),
            hidden: rows.hidden.to_vec(),
            generated: rows.generated.to_vec(),
            grids: MediaGrids::default(),
            style: rows.style,
        }
    }
}

impl CollectedTurn {
    /// A turn that begins with this prompt; room for `answer_tokens` tokens of `hidden` numbers is taken once.
    pub fn new(
        ids: &[u32],
        features: Option<&Features>,
        answer_tokens: usize,
        hidden: usize,
    ) -> Self {
        Self {
            embeddings: Vec::with_capacity(ids.len() * hidden),
            hidden: Vec::with_capacity(ids.len() * hidden),
            generated: Vec::with_capacity(answer_tokens * hidden),
            grids: features.map(Features::grids).unwrap_or_default(),
            ids: ids.to_vec(),
            style: TurnStyle::default(),
        }
    }

    /// What the talker hears of it.
    pub fn rows(&self) -> TurnRows<'_> {
        TurnRows {
            ids: &self.ids,
            embeddings: &self.embeddings,
            hidden: &self.hidden,
            generated: &self.generated,
            style: self.style,
        }
    }

    /// A step of the prompt.
    pub fn read(&mut self, step: &Forward) {
        self.embeddings.extend_from_slice(&step.heard.embeds);
        self.hidden.extend_from_slice(&step.heard.accepted);
    }

    /// A step of the answer.
    pub fn wrote(&mut self, step: &Forward) {
        self.generated.extend_from_slice(&step.heard.embeds);
    }
}
