//! The loop: sense, salience, state, budget, think, learn — one tick at a time.
//!
//! A tick reads one chunk, decodes one token, or idles. Observations wait in an inbox until the next tick takes them
//! all; requests are served by urgency of kind (an alarm before a question before a text), then in order of arrival.

mod account;
mod conversation;
mod dream;
mod job;
mod limits;
mod periods;
pub mod recall;
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
use super::reading::{Ended, SegmentBuilder, stop_tokens};
use super::sampling::Sampling;
use super::text::{Message, Text};
use super::{Engine, EngineError};
use crate::events::{Event, EventKind, ExpertsEvent, Observed, SalienceEvent, Summary};
use crate::model::KvCache;
use crate::trace::Tape;

use account::Account;
use conversation::Conversation;
use dream::Dreaming;
use job::{Job, Want};
use recall::Recall;
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
}

/// An answer that the loop gave.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Of [`CoreLoop::submit`].
    pub id: u64,
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
    /// Tokens of the conversation's context, as far as the cache holds them.
    held: Vec<u32>,
    recall: Recall,
    inbox: VecDeque<(u64, Observation)>,
    jobs: VecDeque<Job>,
    own: SegmentBuilder,
    carried: Arrivals,
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
            held: Vec::new(),
            recall: Recall::default(),
            inbox: VecDeque::new(),
            jobs: VecDeque::new(),
            own,
            carried: Arrivals::default(),
            before: None,
            dreaming,
            domain: None,
            own_uses: Uses::default(),
            account,
            usage,
            next_id: 0,
            tape: None,
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

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.jobs.is_empty()
    }

    /// Hands an observation to the next tick; returns its number.
    pub fn submit(&mut self, observation: Observation) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.record_input(id, &observation);
        self.inbox.push_back((id, observation));
        id
    }

    /// One tick. `sink` hears of every event in order; the answers that were completed are returned.
    ///
    /// # Errors
    /// When an observation does not fit into the context, an expert cannot be read, or an actor failed.
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
        self.receive(&mut arrivals, sink)?;
        arrivals.open_requests = self.jobs.iter().filter(|job| job.is_request()).count() as u32;
        arrivals.reading = !self.jobs.is_empty();
        arrivals.alarm = self.jobs.iter().any(|job| job.want == Want::AlarmAnswer);
        let feedback = arrivals.feedback;
        let sensed = recall::Sensed::of(&arrivals);
        let orientation = self.engine.orient(arrivals).await?;
        self.recall.oriented(&orientation, sensed);
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

    /// Takes everything out of the inbox.
    fn receive(
        &mut self,
        arrivals: &mut Arrivals,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        while let Some((id, observation)) = self.inbox.pop_front() {
            let of_body = match &observation {
                Observation::Sensor(reading) => reading.is_of_body(),
                Observation::Limit { .. } => true,
                _ => false,
            };
            arrivals.events_in += u32::from(!of_body);
            let mut seen = Observed {
                id,
                kind: "text",
                source: String::new(),
                urgency: 0.0,
                text: None,
                value: None,
                level: None,
                tokens: 0,
            };
            let turn = matches!(observation, Observation::Turn { .. });
            let (want, source, text, urgency) = match observation {
                Observation::Text {
                    source,
                    text,
                    urgency,
                } => (Want::Nothing, source, text, urgency),
                Observation::Question {
                    source,
                    text,
                    urgency,
                }
                | Observation::Turn {
                    source,
                    text,
                    urgency,
                } => (Want::Answer, source, text, urgency),
                Observation::Alarm {
                    source,
                    text,
                    urgency,
                } => (Want::AlarmAnswer, source, text, urgency),
                Observation::Sensor(reading) => {
                    (seen.kind, seen.value) = ("sensor", Some(reading.value));
                    seen.level = reading.level;
                    seen.source.clone_from(&reading.name);
                    arrivals.sensors.push(reading);
                    sink(Event {
                        tick: self.engine.tick(),
                        kind: EventKind::Observation(seen),
                    });
                    continue;
                }
                Observation::Limit { source, limit } => {
                    let change = self.engine.impose_limit(limit);
                    self.report_limit(source, change, sink);
                    continue;
                }
                Observation::Feedback(value) => {
                    (seen.kind, seen.value) = ("feedback", Some(f64::from(value)));
                    arrivals.feedback = Some(value);
                    sink(Event {
                        tick: self.engine.tick(),
                        kind: EventKind::Observation(seen),
                    });
                    continue;
                }
            };
            let tokens = if turn {
                self.turn_tokens(&text)?
            } else {
                self.tokens_of(want, &text)?
            };
            arrivals.tokens_in += tokens.len() as u32;
            arrivals.urgency = arrivals.urgency.max(urgency);
            seen.kind = want.name();
            (seen.urgency, seen.tokens) = (urgency, tokens.len());
            seen.source.clone_from(&source);
            seen.text = Some(text.clone());
            sink(Event {
                tick: self.engine.tick(),
                kind: EventKind::Observation(seen),
            });
            self.enqueue(Job {
                turn,
                ..Job::new(id, want, source, text, tokens)
            });
        }
        Ok(())
    }

    fn tokens_of(&self, want: Want, text: &str) -> Result<Vec<u32>, EngineError> {
        if want == Want::Nothing {
            let tokens = self.text.encode(text)?;
            return if tokens.is_empty() {
                Err(EngineError::EmptyPrompt)
            } else {
                Ok(tokens)
            };
        }
        let messages = [Message {
            role: "user",
            content: text.to_owned(),
        }];
        let tokens = self.text.encode(&self.text.render(&messages)?)?;
        let needed = tokens.len() + self.answer_tokens;
        if needed > self.kv.capacity() {
            return Err(EngineError::ContextFull {
                needed,
                capacity: self.kv.capacity(),
            });
        }
        Ok(tokens)
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
        emit(EventKind::Salience(SalienceEvent::of(orientation)));
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
