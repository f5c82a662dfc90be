//! The one place where a model is opened to run: source, memory, mind, ledger, recording and loop.

use crate::input::{Attributed, Fault};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sage_actors::trust::Ledger;
use sage_actors::trust::store::LedgerStore;

use super::mode::mode;
use super::opening::{self, EngineOptions};
use super::recording::{self, RecordingError};
use super::run::Session;
use crate::core::core_loop::{AnswerPolicy, CoreLoop};
use crate::core::sampling::Sampling;
use crate::core::{Engine, EngineError};
use crate::events::{Event, EventKind, RunMode};
use crate::ledger::{LedgerError, LedgerFile, LedgerSummary};
use crate::settings::{SamplingSettings, SessionSettings, Settings};
use crate::store::WeightSource;
use crate::text::Text;
use crate::trace::SensorMode;

/// Tokens of context of a conversation where nothing else is asked for, as far as the model goes.
pub const CONTEXT_TOKENS: usize = 2048;

/// Everything that a session is opened with.
pub struct SessionPlan {
    /// Memory, mind, senses and voice.
    pub engine: EngineOptions,
    /// Tokenizer and template; none: only token ids are read.
    pub text: Option<Text>,
    /// How answers are given unless a request says otherwise.
    pub answers: AnswerPolicy,
    /// The system message of the conversation.
    pub system: Option<String>,
    /// What is learned outlives the session.
    pub learning: Learning,
    /// The session is recorded.
    pub recording: Option<RecordingPlan>,
}

/// Where a session's trust comes from, and where it is kept.
#[derive(Default)]
pub enum Learning {
    /// It begins anew and is forgotten.
    #[default]
    Forgotten,
    /// Of this file, which is made if it is not there.
    Kept(PathBuf),
    /// Of a ledger that has seen so many ticks: what is learned goes into a store of the caller's.
    Resumed(Box<Ledger>, Box<dyn LedgerStore>, u64),
}

/// How a session is recorded.
#[derive(Clone, Debug)]
pub struct RecordingPlan {
    /// The file; one that stands there is not touched.
    pub path: PathBuf,
    /// With the router logits: then the mind can be asked again without the model.
    pub logits: bool,
    /// What it is of: the scenario's name, or the host's.
    pub name: String,
    /// Where sensor readings come from.
    pub sensors: SensorMode,
}

/// Why a session cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The model, the memory or the mind.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The trust ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

impl From<SamplingSettings> for Sampling {
    fn from(settings: SamplingSettings) -> Self {
        Self {
            temperature: settings.temperature,
            top_p: settings.top_p,
            top_k: settings.top_k,
            seed: settings.seed,
        }
    }
}

impl SessionPlan {
    /// Of an engine that is opened so, with answers as the settings say.
    pub fn new(engine: EngineOptions, settings: &Settings) -> Self {
        Self {
            answers: AnswerPolicy {
                sampling: settings.sampling.into(),
                answer_tokens: settings.session.answer_tokens,
            },
            ..Self::of_engine(engine)
        }
    }

    /// Of an engine that is opened so: nothing is kept or recorded, and answers are the most probable ones.
    pub fn of_engine(engine: EngineOptions) -> Self {
        Self {
            engine,
            text: None,
            answers: AnswerPolicy {
                sampling: Sampling::GREEDY,
                answer_tokens: 1,
            },
            system: None,
            learning: Learning::Forgotten,
            recording: None,
        }
    }
}

/// Tokens of context as the settings say; else [`CONTEXT_TOKENS`], or what the model was made for.
pub fn context_tokens(settings: &SessionSettings, source: &dyn WeightSource) -> usize {
    let longest = source.config().thinker.text.max_position_embeddings;
    let declared = settings.context_tokens;
    declared.unwrap_or(CONTEXT_TOKENS.min(longest))
}

impl Session {
    /// Opens a session. Call inside a current-thread runtime; `progress` hears of loaded layers, and so do those who listen to
    /// `loading` by way of `tracing`.
    ///
    /// # Errors
    /// When the limit is below the floor or above the machine, weights are missing or damaged, an actor cannot start, or the
    /// ledger or the recording cannot be used.
    pub async fn open(
        source: Arc<dyn WeightSource>,
        plan: SessionPlan,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self, OpenError> {
        let degrade = plan.engine.degrade;
        let progress = |layers_done, layers| {
            let kind = EventKind::Loading {
                layers_done,
                layers,
            };
            Event { tick: 0, kind }.emit();
            progress(layers_done, layers);
        };
        let mut engine = opening::open(source, plan.engine, progress).await?;
        let mut mode = mode(&engine)?;
        let mut torn_bytes = 0;
        let about = match plan.learning {
            Learning::Forgotten => None,
            Learning::Kept(path) => {
                let (about, torn) = attach_ledger(&mut engine, &mut mode, &path).await?;
                torn_bytes = torn;
                Some(about)
            }
            Learning::Resumed(ledger, store, ticks) => {
                engine.attach_ledger(*ledger, store, ticks).await?;
                None
            }
        };
        let tape = match &plan.recording {
            None => None,
            Some(recording) => {
                let text = plan.text.as_ref();
                let header = recording::RecordingDetails {
                    name: recording.name.clone(),
                    sampling: plan.answers.sampling,
                    answer_tokens: plan.answers.answer_tokens,
                    degrade,
                    sensors: recording.sensors,
                    logits: recording.logits,
                    system: plan.system.clone(),
                    control_tokens: text.is_some_and(Text::allows_control_tokens),
                    template_args: text
                        .map_or_else(Default::default, |text| text.template().args().clone()),
                };
                let begun = recording::begin(&recording.path, &engine, header, about.as_ref());
                Some(begun.await?)
            }
        };
        let mut core = CoreLoop::new(engine, plan.text, plan.answers)?;
        if plan.system.is_some() {
            core.converse(plan.system);
        }
        if let Some(tape) = tape {
            core.record(tape);
        }
        Ok(Self::new(core, mode, torn_bytes))
    }
}

/// Puts the ledger at `path` in use, and into the line that says which mode runs; made if it is not there. Call before the
/// first step. Answers what it is, and the bytes at its log's end that were no whole entry.
async fn attach_ledger(
    engine: &mut Engine,
    mode: &mut RunMode,
    path: &Path,
) -> Result<(LedgerSummary, u64), OpenError> {
    // The ledger of this run has not learned anything yet.
    let fresh = engine.mind.trust_state().await.map_err(EngineError::from)?;
    let (file, ledger) = LedgerFile::open_for(path, &mode.fingerprint, &fresh)?;
    let (about, torn_bytes) = (file.about().clone(), file.torn_bytes());
    engine
        .attach_ledger(ledger, Box::new(file), about.tick)
        .await?;
    mode.text += &about.words(path);
    mode.ledger = Some(path.to_owned());
    Ok((about, torn_bytes))
}

impl Attributed for OpenError {
    fn fault(&self) -> Fault {
        match self {
            Self::Engine(error) => error.fault(),
            Self::Ledger(error) => error.fault(),
            Self::Recording(error) => error.fault(),
        }
    }
}
