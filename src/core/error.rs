//! Why the engine stopped.

use crate::input::{Attributed, Fault, KvPrecision};
use sage_actors::MindError;

use super::limit::{AboveMachine, LimitError};
use super::memory::BelowFloor;
use super::perception::PerceptionError;
use super::ports::{DecoderError, ExpertReadError, HostError, LostHost, module_name};
use super::speech::SpeechError;
use crate::store::{LoadError, StoreError};

/// Why the engine stopped.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store or checkpoint.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An expert could not be read.
    #[error(transparent)]
    Read(#[from] ExpertReadError),
    /// What hosts the experts is gone.
    #[error(transparent)]
    HostLost(#[from] LostHost),
    /// What decodes is gone.
    #[error(transparent)]
    Decoder(DecoderError),
    /// The limit is below the floor.
    #[error(transparent)]
    BelowFloor(#[from] BelowFloor),
    /// The limit is above what the machine has.
    #[error(transparent)]
    AboveMachine(#[from] AboveMachine),
    /// A sound or a picture.
    #[error(transparent)]
    Perception(#[from] PerceptionError),
    /// Speech.
    #[error(transparent)]
    Speech(#[from] SpeechError),
    /// An actor failed.
    #[error(transparent)]
    Mind(#[from] MindError),
    /// Text.
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
    /// The system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// More tokens than the declared context.
    #[error(
        "{needed} tokens do not fit into the declared context of {capacity}: shorten the text, or declare a longer context"
    )]
    ContextFull {
        /// Tokens that there would be.
        needed: usize,
        /// Tokens that fit.
        capacity: usize,
    },
    /// More context than the model was made for.
    #[error(
        "a context of {context_tokens} tokens is beyond the model's {max_position_embeddings}: declare less, or ask for a shorter answer"
    )]
    ContextTooLong {
        /// Declared.
        context_tokens: usize,
        /// Of config.json.
        max_position_embeddings: usize,
    },
    /// Keys and values of this model are not whole blocks.
    #[error(
        "keys and values cannot be kept in {precision}: the model's heads have {head_dim} numbers, not whole blocks of 32; take bf16 or f32"
    )]
    NoKvBlocks {
        /// Asked for.
        precision: KvPrecision,
        /// Of config.json.
        head_dim: usize,
    },
    /// Nothing to answer.
    #[error("the prompt is empty: there is nothing to answer")]
    EmptyPrompt,
    /// An observation that says what cannot be.
    #[error("{0}")]
    Unsound(String),
    /// A token that the model does not have.
    #[error("token id {id} is beyond the model's vocabulary of {vocabulary}")]
    UnknownToken {
        /// Token id that was found.
        id: u32,
        /// Number of token ids that the model knows.
        vocabulary: usize,
    },
    /// What was learned cannot be kept.
    #[error("{0}")]
    Ledger(sage_actors::trust::store::StoreFailure),
    /// The run cannot be recorded.
    #[error(transparent)]
    Trace(#[from] crate::trace::TraceError),
    /// The mind gave the thinker no budget.
    #[error(
        "the metabolic controller gave the thinker no directive: this is a fault of the program, please report it"
    )]
    NoDirective,
    /// A partial store that lacks a whole layer of experts.
    #[error(
        "the store has no expert of {component} layer {layer}: extract at least one of each layer"
    )]
    NoExpert {
        /// Name of the part of the model that it belongs to.
        component: &'static str,
        /// Number of the decoder layer, from 0.
        layer: usize,
    },
    /// The record of an expert does not have the model's shape.
    #[error(
        "the record of {component} expert {expert} of layer {layer} is too short for its shape: extract it again"
    )]
    ShortRecord {
        /// Name of the part of the model that it belongs to.
        component: &'static str,
        /// Number of the decoder layer, from 0.
        layer: u16,
        /// Number of the expert in its layer.
        expert: u16,
    },
}

impl Attributed for EngineError {
    fn fault(&self) -> Fault {
        match self {
            Self::Load(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Perception(error) => error.fault(),
            Self::Speech(error) => error.fault(),
            Self::Text(error) => error.fault(),
            Self::Mind(error) => error.fault(),
            Self::Trace(error) => error.fault(),
            Self::BelowFloor(_)
            | Self::AboveMachine(_)
            | Self::ContextFull { .. }
            | Self::ContextTooLong { .. }
            | Self::NoKvBlocks { .. }
            | Self::EmptyPrompt
            | Self::Unsound(_)
            | Self::UnknownToken { .. }
            | Self::NoExpert { .. }
            | Self::ShortRecord { .. } => Fault::Request,
            Self::Read(_)
            | Self::HostLost(_)
            | Self::Decoder(_)
            | Self::System { .. }
            | Self::Ledger(_)
            | Self::NoDirective => Fault::Run,
        }
    }
}

impl Attributed for MindError {
    fn fault(&self) -> Fault {
        match self {
            Self::Config(_) => Fault::Request,
            Self::NoRuntime
            | Self::Stopped(_)
            | Self::Cache(_)
            | Self::Trust(_)
            | Self::Route { .. }
            | Self::UnknownLayer(_) => Fault::Run,
        }
    }
}

impl From<DecoderError> for EngineError {
    fn from(error: DecoderError) -> Self {
        match error {
            DecoderError::Memory { what, source } => Self::System {
                what: what.to_owned(),
                source,
            },
            DecoderError::Weights(error) => Self::Store(error),
            lost => Self::Decoder(lost),
        }
    }
}

impl From<HostError> for EngineError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Read(error) => error.into(),
            HostError::Lost(lost) => lost.into(),
            HostError::Rows(error) => error.into(),
            HostError::ShortRecord(key) => Self::ShortRecord {
                component: module_name(key.layer.module),
                layer: key.layer.layer,
                expert: key.expert,
            },
            HostError::System { what, source } => Self::System {
                what: what.to_owned(),
                source,
            },
        }
    }
}

impl From<LimitError> for EngineError {
    fn from(error: LimitError) -> Self {
        match error {
            LimitError::BelowFloor(error) => error.into(),
            LimitError::AboveMachine(error) => error.into(),
        }
    }
}
