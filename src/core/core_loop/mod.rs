//! The loop: sense, salience, state, budget, think, learn — one tick at a time.
//!
//! A tick reads one chunk, decodes one token, or idles. Observations wait in an inbox until the next tick takes them
//! all; requests are served by urgency of kind (an alarm before a question before a text), then in order of arrival.

mod account;
mod conversation;
mod dream;
mod heed;
mod job;
mod limits;
mod observation;
mod perceive;
mod periods;
mod queue;
pub mod recall;
mod receive;
mod record;
mod step;
mod usage;

use std::collections::VecDeque;

use sage_actors::protocol::{Origin, SensorReading, State};
use serde::{Deserialize, Serialize};

use super::Limit;
use super::episodes::Uses;
use super::generate::SETTLE_TICKS;
use super::orient::{Arrivals, Orientation};
use super::sampling::Sampling;
use super::segment::SegmentBuilder;
use super::{Engine, EngineError};
use crate::events::Ended;
use crate::events::{Event, EventKind, ExpertsEvent, SalienceEvent, Summary};
use crate::media::medium::Medium;
use crate::model::KvCache;
use crate::text::{Text, stop_tokens};
use crate::trace::Tape;

use account::Account;
use conversation::Conversation;
use dream::Dreaming;
use heed::Heeding;
pub use heed::{HEARD_WITHIN_TOKENS, Heed};
use job::{Job, Want};
pub use queue::{Abandoned, Waiting};
use recall::Recall;
pub use receive::Refusal;
use usage::Usage;

/// What the outside tells the loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation {
    /// A text to read.
    Text {
        /// Texts of one source continue one another.
        source: String,
        /// The text.
        text: String,
        /// Declared urgency, in [0, 1].
        urgency: f32,
    },
    /// A question to answer.
    Question {
        /// Who asks.
        source: String,
        /// The question.
        text: String,
        /// Declared urgency.
        urgency: f32,
    },
    /// A question that continues the conversation: what was said before stays in the context.
    Turn {
        /// Who asks.
        source: String,
        /// The question.
        text: String,
        /// Declared urgency.
        urgency: f32,
    },
    /// A threat that has to be answered.
    Alarm {
        /// Who raises it.
        source: String,
        /// What is asked.
        text: String,
        /// Declared urgency.
        urgency: f32,
    },
    /// Something heard or seen, and what is asked about it.
    Sensed {
        /// Where it comes from.
        source: String,
        /// Sounds and pictures, in the order that they are perceived in.
        media: Vec<Medium>,
        /// The question; empty: it is only perceived, or asks by itself.
        text: String,
        /// What is asked is in the sound: it is answered as a turn of the conversation would be.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        spoken: bool,
        /// A threat that has to be answered.
        alarm: bool,
        /// Declared urgency.
        urgency: f32,
    },
    /// A sensor's reading.
    Sensor(SensorReading),
    /// Feedback on the last answer, in [-1, 1].
    Feedback(f32),
    /// The memory that there is for the process from now on; a fact, which may be less than what must be there.
    Limit {
        /// Who says so.
        source: String,
        /// How much.
        limit: Limit,
    },
    /// A standing instruction: the system message of the requests that follow, until another takes its place. An empty
    /// text clears it.
    Goal {
        /// Whose.
        source: String,
        /// The instruction.
        text: String,
        /// Declared urgency.
        urgency: f32,
    },
}

/// An answer that the loop gave.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Of [`CoreLoop::submit`].
    pub id: u64,
    /// Who asked.
    pub source: String,
    /// The question.
    pub question: String,
    /// The answer.
    pub text: String,
    /// Why it ended.
    pub ended: Ended,
}

/// The running loop.
pub struct CoreLoop {
    engine: Engine,
    text: Text,
    sampling: Sampling,
    stop: Vec<u32>,
    answer_tokens: usize,
    kv: KvCache,
    /// Whose context the cache holds.
    context: Option<String>,
    conversation: Conversation,
    /// The host's standing instruction.
    goal: Option<String>,
    /// Tokens of the conversation's context, as far as the cache holds them.
    held: Vec<u32>,
    recall: Recall,
    inbox: VecDeque<(u64, Observation)>,
    jobs: VecDeque<Job>,
    /// What the last tick could not take.
    refused: Vec<Refusal>,
    own: SegmentBuilder,
    carried: Arrivals,
    /// Whose words the carried segment is.
    carried_source: String,
    before: Option<Orientation>,
    dreaming: Dreaming,
    /// Which domain the mind was told of last, and in which state.
    domain: Option<(String, State)>,
    /// Who worked on the present segment of own words.
    own_uses: Uses,
    account: Account,
    usage: Usage,
    next_id: u64,
    tape: Option<Tape>,
    heeding: Heeding,
}

impl CoreLoop {
    /// A loop around an opened engine.
    ///
    /// # Errors
    /// When the system has no memory for the context.
    pub fn new(
        engine: Engine,
        text: Text,
        sampling: Sampling,
        answer_tokens: usize,
    ) -> Result<Self, EngineError> {
        let kv = engine.new_sequence()?;
        let account = Account::new(&engine.plan);
        let stop = stop_tokens(&*engine.source)?;
        let usage = Usage::new(&engine);
        let own = SegmentBuilder::new(Origin::Generated, engine.thinker.config.hidden_size);
        let dreaming = Dreaming::new(&engine);
        Ok(Self {
            engine,
            text,
            sampling,
            stop,
            answer_tokens,
            kv,
            context: None,
            conversation: Conversation::default(),
            goal: None,
            held: Vec::new(),
            recall: Recall::default(),
            inbox: VecDeque::new(),
            jobs: VecDeque::new(),
            refused: Vec::new(),
            own,
            carried: Arrivals::default(),
            carried_source: String::new(),
            before: None,
            dreaming,
            domain: None,
            own_uses: Uses::default(),
            account,
            usage,
            next_id: 0,
            tape: None,
            heeding: Heeding::default(),
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The state in force; Wake before the first tick.
    pub fn state(&self) -> State {
        self.before
            .as_ref()
            .map_or(State::Wake, |orientation| orientation.directives.state)
    }

    /// How the last tick was run; none before the first.
    pub fn orientation(&self) -> Option<&Orientation> {
        self.before.as_ref()
    }

    /// What the loop remembers of its own doings.
    pub fn recall(&self) -> &Recall {
        &self.recall
    }

    /// One tick. `sink` hears of every event in order; the answers that were completed are returned. An observation that
    /// cannot be taken is refused with an event, and the loop goes on: see [`CoreLoop::take_refused`].
    ///
    /// # Errors
    /// When an expert cannot be read, or an actor failed.
    pub async fn tick(&mut self, sink: &mut dyn FnMut(Event)) -> Result<Vec<Answer>, EngineError> {
        let Some(tape) = self.tape.clone() else {
            return self.turn(sink).await;
        };
        let mut both = |event: Event| {
            record::event(&tape, &event);
            sink(event);
        };
        let answers = self.turn(&mut both).await?;
        tape.check()?;
        Ok(answers)
    }

    async fn turn(&mut self, sink: &mut dyn FnMut(Event)) -> Result<Vec<Answer>, EngineError> {
        let mut arrivals = std::mem::take(&mut self.carried);
        let source = std::mem::take(&mut self.carried_source);
        self.receive(&mut arrivals, sink);
        arrivals.open_requests = self.jobs.iter().filter(|job| job.is_request()).count() as u32;
        arrivals.reading = !self.jobs.is_empty();
        arrivals.alarm = self.jobs.iter().any(|job| job.want == Want::AlarmAnswer);
        arrivals.perceiving = self.perceiving();
        let feedback = arrivals.feedback;
        let sensed = recall::Sensed::of(&arrivals);
        let orientation = self.engine.orient(arrivals).await?;
        self.feel(&orientation);
        self.recall.oriented(&orientation, sensed, source);
        let (plan, tick) = (&self.engine.plan, self.engine.tick());
        self.account.periods.obeyed(plan, tick);
        self.report_orientation(&orientation, sink);
        if feedback.is_some() {
            self.engine
                .learn(&orientation, Vec::new(), Vec::new(), feedback)
                .await?;
        }
        let answers = self.act(&orientation, sink).await?;
        self.account.periods.sample();
        self.before = Some(orientation);
        Ok(answers)
    }

    /// Behind everything of the same or greater urgency of kind; what is under way is not interrupted in an answer.
    fn enqueue(&mut self, job: Job) {
        let at = self
            .jobs
            .iter()
            .position(|other| other.want < job.want && !other.is_answering());
        self.jobs.insert(at.unwrap_or(self.jobs.len()), job);
    }

    fn report_orientation(&mut self, orientation: &Orientation, sink: &mut dyn FnMut(Event)) {
        let tick = orientation.tick;
        let mut emit = |kind| sink(Event { tick, kind });
        emit(EventKind::Salience(SalienceEvent::from(orientation)));
        if let Some(change) = orientation.directives.transition {
            emit(EventKind::State {
                from: change.from,
                to: change.to,
                cause: change.cause,
            });
        }
        let directive = orientation.directive;
        let same = |before: &Orientation| {
            let before = before.directive;
            (before.k, before.expert_bytes, before.state)
                == (directive.k, directive.expert_bytes, directive.state)
        };
        if !self.before.as_ref().is_some_and(same) {
            emit(EventKind::Directive {
                module: directive.module,
                k: directive.k,
                expert_bytes: directive.expert_bytes,
                lambda: directive.lambda,
                beta: directive.beta,
                miss_bytes_per_token: directive.miss_bytes_per_token,
            });
        }
        for tower in self.tower_changes(orientation) {
            sink(Event { tick, kind: tower });
        }
        self.account.enter(orientation, self.engine.tick());
    }

    /// Runs one step of the first job, or idles.
    async fn act(
        &mut self,
        orientation: &Orientation,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Vec<Answer>, EngineError> {
        let Some(mut job) = self.jobs.pop_front() else {
            self.sleep(orientation, sink).await?;
            self.engine.idle(1);
            if orientation.directives.state == State::Dream {
                // What is believed ages while it is gone over.
                self.engine
                    .learn(orientation, Vec::new(), Vec::new(), None)
                    .await?;
            }
            return Ok(Vec::new());
        };
        if orientation.directives.end_answer && job.is_answering() {
            return Ok(vec![self.finish(job, Ended::Depletion, sink)?]);
        }
        let shallow = !matches!(orientation.directives.state, State::Focus | State::Threat);
        if job.is_request() && !job.is_started() && shallow && job.waited < SETTLE_TICKS {
            // A request is read when the mind attends to it; a few ticks later in the worst case.
            job.waited += 1;
            self.jobs.push_front(job);
            self.engine.idle(1);
            return Ok(Vec::new());
        }
        if !orientation.directives.may_step {
            self.jobs.push_front(job);
            self.engine.idle(1);
            return Ok(Vec::new());
        }
        let started = std::time::Instant::now();
        let done = self.step(&mut job, orientation, sink).await?;
        self.account.time(started.elapsed());
        match done {
            Some(ended) => Ok(self.complete(job, ended, sink)?.into_iter().collect()),
            None => {
                self.jobs.push_front(job);
                Ok(Vec::new())
            }
        }
    }

    /// What the run took so far; expectations are the scenario's to add.
    ///
    /// # Errors
    /// When the cache's actor failed.
    pub async fn summary(&self) -> Result<Summary, EngineError> {
        let stats = self.engine.mind.cache_stats().await?;
        let dreamt = self.dreaming.total.clone();
        Ok(self
            .account
            .summary(&self.engine, stats.waits_avoided, dreamt))
    }

    /// Keeps what was learned, if a ledger is in use; nothing is learned afterwards.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub async fn keep(&mut self) -> Result<(), EngineError> {
        self.engine.keep().await
    }

    /// Which experts worked on whose tokens so far.
    pub fn experts(&self) -> ExpertsEvent {
        self.usage.event()
    }

    /// Ends the actors.
    pub async fn shutdown(self) {
        self.engine.shutdown().await;
    }
}
