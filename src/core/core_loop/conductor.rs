//! The running loop: its parts, and who asks for them.

use sage_actors::protocol::{State, TokenOrigin};

use super::account::Account;
use super::context::Context;
use super::conversation::ConversationTurns;
use super::heed::Heeding;
use super::queue::Queue;
use super::recall::Recall;
use super::sleeping::Dreaming;
use super::telling::MemoryNews;
use super::usage::Usage;
use crate::core::episodes::Uses;
use crate::core::orient::{Arrivals, Orientation};
use crate::core::sampling::Sampling;
use crate::core::segment::SegmentBuilder;
use crate::core::speech::{CollectedTurn, TurnStyle};
use crate::core::{Engine, EngineError};
use crate::events::{DreamEvent, ExpertsEvent, Summary};
use crate::text::{Text, stop_tokens};
use crate::trace::Tape;

/// How answers are given unless a request says otherwise.
#[derive(Clone, Debug)]
pub struct AnswerPolicy {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens of an answer at most.
    pub answer_tokens: usize,
}

/// What the loop is in the middle of: handed from one tick to the next.
pub(super) struct Present {
    /// What the next tick is to sense of this one.
    pub(super) carried: Arrivals,
    /// Whose words the carried segment is.
    pub(super) carried_source: String,
    /// How the tick before was run.
    pub(super) before: Option<Orientation>,
    /// Which domain the mind was told of last, and in which state.
    pub(super) domain: Option<(String, State)>,
}

/// The segment of the model's own words, and who worked on it.
pub(super) struct OwnWords {
    pub(super) segment: SegmentBuilder,
    pub(super) uses: Uses,
}

/// What is counted of the run; no decision hears of it.
pub(super) struct Books {
    pub(super) account: Account,
    pub(super) usage: Usage,
    pub(super) recall: Recall,
    /// Misses that had been read ahead, as the cache counted last.
    pub(super) waits_avoided: u64,
}

/// Who hears of the run, and whom it heeds.
pub(super) struct Outside {
    pub(super) tape: Option<Tape>,
    pub(super) heeding: Heeding,
}

/// The running loop.
pub struct CoreLoop {
    pub(super) engine: Engine,
    /// None where the model has no tokenizer: then only token ids are read and answered.
    pub(super) text: Option<Text>,
    pub(super) policy: AnswerPolicy,
    /// The model's own end tokens.
    pub(super) stop: Vec<u32>,
    pub(super) context: Context,
    pub(super) conversation: ConversationTurns,
    pub(super) queue: Queue,
    pub(super) present: Present,
    pub(super) minding: Minding,
    pub(super) outside: Outside,
}

/// What goes on beside requests: own words, sleep, and the books.
pub(super) struct Minding {
    pub(super) own: OwnWords,
    pub(super) dreaming: Dreaming,
    pub(super) news: MemoryNews,
    pub(super) books: Books,
}

impl AsMut<Engine> for CoreLoop {
    fn as_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }
}

impl CoreLoop {
    /// A loop around an opened engine.
    ///
    /// # Errors
    /// When the system has no memory for the context, or the model's end tokens cannot be read.
    pub fn new(
        engine: Engine,
        text: Option<Text>,
        policy: AnswerPolicy,
    ) -> Result<Self, EngineError> {
        let context = Context::new(&engine)?;
        let account = Account::new(&engine.plan);
        let stop = stop_tokens(&*engine.source)?;
        let usage = Usage::new(&engine);
        let segment = SegmentBuilder::new(TokenOrigin::Generated, engine.text_config().hidden_size);
        let dreaming = Dreaming::new(&engine);
        Ok(Self {
            engine,
            text,
            policy,
            stop,
            context,
            conversation: ConversationTurns::default(),
            queue: Queue::default(),
            present: Present {
                carried: Arrivals::default(),
                carried_source: String::new(),
                before: None,
                domain: None,
            },
            minding: Minding {
                own: OwnWords {
                    segment,
                    uses: Uses::default(),
                },
                dreaming,
                news: MemoryNews::default(),
                books: Books {
                    account,
                    usage,
                    recall: Recall::default(),
                    waits_avoided: 0,
                },
            },
            outside: Outside {
                tape: None,
                heeding: Heeding::default(),
            },
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine, for instruments that look at it beside the loop.
    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Tokenizer and template; none where the model has none.
    pub fn text(&self) -> Option<&Text> {
        self.text.as_ref()
    }

    /// The state in force; Wake before the first tick.
    pub fn state(&self) -> State {
        self.orientation()
            .map_or(State::Wake, |orientation| orientation.directives.state)
    }

    /// How the last tick was run; none before the first.
    pub fn orientation(&self) -> Option<&Orientation> {
        self.present.before.as_ref()
    }

    /// What the loop remembers of its own doings.
    pub fn recall(&self) -> &Recall {
        &self.minding.books.recall
    }

    /// What a talker would hear of the turn that the context holds, of which so many tokens are its prompt; none where the engine
    /// does not speak.
    pub fn last_turn(&self, prompt_tokens: usize) -> Option<CollectedTurn> {
        let style = self
            .orientation()
            .map_or_else(TurnStyle::default, TurnStyle::of);
        let rows = self.context.turn_rows(prompt_tokens, style)?;
        Some(CollectedTurn::from(rows))
    }

    /// What the run took so far; expectations are the scenario's to add.
    ///
    /// # Errors
    /// When the cache's actor failed.
    pub async fn summary(&self) -> Result<Summary, EngineError> {
        let stats = self.engine.mind.cache_stats().await?;
        let dreamt = DreamEvent {
            saved_bytes: stats.habits_saved_bytes,
            ..self.minding.dreaming.total.clone()
        };
        let account = &self.minding.books.account;
        Ok(account.summary(&self.engine, stats.waits_avoided, dreamt))
    }

    /// Keeps what was learned, if a ledger is in use; nothing is learned afterwards.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub async fn flush_ledger(&mut self) -> Result<(), EngineError> {
        self.engine.flush_ledger().await
    }

    /// Which experts worked on whose tokens so far.
    pub fn experts(&self) -> ExpertsEvent {
        self.minding.books.usage.event()
    }

    /// Ends the actors.
    pub async fn shutdown(self) {
        self.engine.shutdown().await;
    }
}
