//! The thread on which the loop lives: it opens the model, ticks when it is told to or by itself, and ends in order.
//!
//! Engine and actors live on one current-thread runtime, where an ask costs least, and a host's own runtime is never
//! blocked by arithmetic.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sage_actors::protocol::{State, Tick, TokenOrigin};
use tokio::sync::{mpsc, oneshot, watch};

use super::counts::ObservationCounts;
use super::error::{BuildError, SageError};
use super::hearing::Hearing;
use super::inbox::{Bound, Waiter};
use super::open::{Learning, RecordingPlan, SessionPlan, context_tokens};
use super::ports::{Action, Effector, Sensor};
use super::run::Session;
use super::shared::{Shared, Status};
use crate::core::EngineError;
use crate::core::core_loop::{Abandoned, Heed, Observation, SETTLE_TICKS};
use crate::core::request::VoiceChoice;
use crate::events::{Event, EventKind, Summary};
use crate::sensors::Live;
use crate::session::opening::EngineOptions;
use crate::settings::Settings;
use crate::store::open_model;
use crate::text::Text;
use crate::text::template::TemplateArgs;

/// Everything that was asked for and found sound.
pub(super) struct DriverPlan {
    pub(super) model: PathBuf,
    pub(super) engine: EngineOptions,
    pub(super) settings: Settings,
    pub(super) ledger: Option<PathBuf>,
    pub(super) recording: Option<RecordingPlan>,
    /// How answers are spoken; none: they are not.
    pub(super) voice: Option<VoiceChoice>,
    pub(super) control_tokens: bool,
    pub(super) template_args: TemplateArgs,
    pub(super) sensors: Vec<Polled>,
    pub(super) live: Option<Live>,
    pub(super) effectors: Vec<Box<dyn Effector>>,
    pub(super) pace: Duration,
    pub(super) bound: Bound,
}

/// A sensor and when it is due.
pub(super) struct Polled {
    sensor: Box<dyn Sensor>,
    next: Tick,
}

impl Polled {
    pub(super) fn new(sensor: Box<dyn Sensor>) -> Self {
        Self { sensor, next: 0 }
    }

    fn due(&mut self, tick: Tick) -> Option<Observation> {
        if tick < self.next {
            return None;
        }
        self.next = tick + u64::from(self.sensor.every_ticks().max(1));
        let reading = self.sensor.read(tick)?;
        Some(reading.of(self.sensor.name()))
    }
}

/// What a host tells the thread.
#[derive(Debug)]
pub(super) enum DriverCommand {
    /// One tick.
    Tick(oneshot::Sender<Result<Ticked, SageError>>),
    /// Tick by yourself from now on.
    Run,
    /// End, after the answer that is being given or at once.
    Shutdown { finish: bool },
}

/// What came of one tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticked {
    /// When it began.
    pub tick: Tick,
    /// The state in force.
    pub state: State,
    /// What was done, in order.
    pub actions: Vec<Action>,
}

/// How it all ended.
#[derive(Clone, Debug)]
pub struct SessionOutcome {
    /// Ticks that passed.
    pub ticks: Tick,
    /// Where the observations went.
    pub counts: ObservationCounts,
    /// What the run took, state by state.
    pub summary: Summary,
}

pub(super) type OutcomeSender = watch::Sender<Option<Result<SessionOutcome, SageError>>>;

/// Whoever still listens hears that it is over, however the thread ends.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.inbox().closed = true;
        self.0.events.close();
        self.0.actions.close();
        self.0.asks().close();
    }
}

/// The thread's work from beginning to end.
pub(super) fn live(
    plan: DriverPlan,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<DriverCommand>,
    ready: oneshot::Sender<Result<(), BuildError>>,
    done: OutcomeSender,
) {
    let _closing = Closing(Arc::clone(&shared));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let what = "cannot start the loop's runtime";
            let reason = error.to_string();
            let _ = ready.send(Err(BuildError::System { what, reason }));
            return;
        }
    };
    let outcome = runtime.block_on(async {
        let driver = match Driver::open(plan, shared).await {
            Ok(driver) => driver,
            Err(error) => {
                let _ = ready.send(Err(error));
                return None;
            }
        };
        // If nobody waits any more there is no one to command either, and the loop ends at once.
        let _ = ready.send(Ok(()));
        Some(driver.drive(commands).await)
    });
    drop(runtime);
    if let Some(outcome) = outcome {
        done.send_replace(Some(outcome));
    }
}

/// What waits outside, as the loop asks for it while it reads.
struct Door(Arc<Shared>);

impl Heed for Door {
    fn due(&self, _: Tick) -> Option<Tick> {
        None
    }

    fn waits(&self) -> bool {
        self.0.inbox().is_urgent()
    }
}

/// Opens the session that was planned.
async fn open(plan: &DriverPlan) -> Result<Session, BuildError> {
    let source = Arc::from(open_model(&plan.model).map_err(EngineError::from)?);
    let text = Text::load_with(&*source, plan.template_args.clone()).map_err(EngineError::from)?;
    let context_tokens = context_tokens(&plan.settings.session, &*source);
    let answer_tokens = plan.settings.session.answer_tokens;
    if answer_tokens >= context_tokens {
        return Err(BuildError::Value {
            name: "answer_tokens",
            value: format!("{answer_tokens} in a context of {context_tokens}"),
            expected: "fewer than .context_tokens, so that a question fits beside its answer",
        });
    }
    let engine = EngineOptions {
        context_tokens,
        ..plan.engine.clone()
    };
    let session = SessionPlan {
        text: Some(text.allowing_control_tokens(plan.control_tokens)),
        learning: plan
            .ledger
            .clone()
            .map_or(Learning::Forgotten, Learning::Kept),
        recording: plan.recording.clone(),
        ..SessionPlan::new(engine, &plan.settings)
    };
    Ok(Session::open(source, session, |_, _| ()).await?)
}

struct Driver {
    core: Session,
    shared: Arc<Shared>,
    hearing: Hearing,
    sensors: Vec<Polled>,
    live: Option<Live>,
    effectors: Vec<Box<dyn Effector>>,
    /// Ticks that an answer and its speech may take at most.
    answer_ticks: u64,
    voice: Option<VoiceChoice>,
    pace: Duration,
    /// Ticks in a row in which nothing was done.
    passed: u32,
}

impl Driver {
    async fn open(plan: DriverPlan, shared: Arc<Shared>) -> Result<Self, BuildError> {
        let mut core = open(&plan).await?;
        let mode = core.mode().clone();
        core.heed(Box::new(Door(Arc::clone(&shared))));
        let mut hearing = Hearing::new(Arc::clone(&shared));
        let kind = EventKind::Mode(mode.clone());
        let _ = shared.mode.set(mode);
        let _ = shared.reads.set(Arc::clone(core.engine().source.reads()));
        hearing.hear(Event { tick: 0, kind });
        Ok(Self {
            hearing,
            shared,
            sensors: plan.sensors,
            live: plan.live,
            effectors: plan.effectors,
            // One tick a token; one a frame, and some for what the talker reads.
            answer_ticks: (plan.settings.session.answer_tokens + plan.engine.codes) as u64
                + core.engine().context_tokens() as u64,
            core,
            voice: plan.voice,
            pace: plan.pace,
            passed: 0,
        })
    }

    async fn drive(
        mut self,
        mut commands: mpsc::Receiver<DriverCommand>,
    ) -> Result<SessionOutcome, SageError> {
        // Who lets go of every handle wants it to end.
        let last = || DriverCommand::Shutdown { finish: true };
        let mut free = false;
        let ended = loop {
            let command = if !free {
                Some(commands.recv().await.unwrap_or_else(last))
            } else if self.rests() {
                tokio::select! {
                    command = commands.recv() => Some(command.unwrap_or_else(last)),
                    () = self.shared.wake.notified() => None,
                    () = tokio::time::sleep(self.pace) => None,
                }
            } else {
                match commands.try_recv() {
                    Ok(command) => Some(command),
                    Err(mpsc::error::TryRecvError::Empty) => None,
                    Err(mpsc::error::TryRecvError::Disconnected) => Some(last()),
                }
            };
            match command {
                None => {
                    if let Err(error) = self.tick().await {
                        break Err(error);
                    }
                }
                Some(DriverCommand::Run) => free = true,
                Some(DriverCommand::Tick(reply)) => {
                    let ticked = self.tick().await;
                    let failed = ticked.as_ref().err().cloned();
                    let _ = reply.send(ticked);
                    if let Some(error) = failed {
                        break Err(error);
                    }
                }
                Some(DriverCommand::Shutdown { finish }) => break Ok(finish),
            }
        };
        match ended {
            Ok(finish) => self.end(finish).await,
            Err(error) => {
                // Of a run that failed the ledger's log keeps what was learned.
                self.shared.inbox().close();
                self.tell_shed(self.core.engine().tick());
                self.deliver();
                self.core.abort().await;
                Err(error)
            }
        }
    }

    /// Whether there is nothing to do but let time pass. A request that waits for the mind's attention gets the ticks that
    /// it needs for that at full speed; a loop that has no energy recovers at the pace of an idle one.
    fn rests(&self) -> bool {
        self.passed > 0 && (self.shared.inbox().is_idle() || self.passed > SETTLE_TICKS)
    }

    async fn tick(&mut self) -> Result<Ticked, SageError> {
        let tick = self.core.engine().tick();
        self.sense(tick);
        self.step().await?;
        let state = self.core.state();
        let actions = self.deliver();
        Ok(Ticked {
            tick,
            state,
            actions,
        })
    }

    /// Readings that are due, as observations like any other.
    fn sense(&mut self, tick: Tick) {
        let readings = self
            .sensors
            .iter_mut()
            .filter_map(|polled| polled.due(tick));
        let mut readings: Vec<Observation> = readings.collect();
        if let Some(live) = &mut self.live {
            readings.extend(live.due(tick).into_iter().map(Observation::Sensor));
            // They are for people; nobody reads them here.
            drop(live.take_notes());
        }
        for reading in readings {
            self.shared.offer_own(reading);
        }
    }

    /// One tick of the loop itself.
    async fn step(&mut self) -> Result<(), SageError> {
        let tick = self.core.engine().tick();
        self.hearing.worked = false;
        self.admit(tick);
        let hearing = &mut self.hearing;
        let completed = self.core.tick(&mut |event| hearing.hear(event)).await?;
        self.hearing.complete(tick, completed);
        // They were told.
        drop(self.core.take_refused());
        self.passed = match self.hearing.worked {
            true => 0,
            false => self.passed.saturating_add(1),
        };
        let mut inbox = self.shared.inbox();
        if let Some(last) = self.core.recall().segments.back()
            && last.tick == tick
            && last.origin == TokenOrigin::Observed
        {
            inbox.running.learn(&last.source, last.report.salience_t);
        }
        inbox.hold(self.core.waiting());
        drop(inbox);
        self.shared.tell(Status {
            tick: self.core.engine().tick(),
            state: self.core.state(),
        });
        Ok(())
    }

    /// The one place where observations enter the loop: what is given to it here, in this order and at this tick, is all
    /// that a recording needs of the outside.
    fn admit(&mut self, tick: Tick) {
        let taken = self.shared.inbox().take();
        self.tell_shed(tick);
        for Waiter {
            id,
            observation,
            answer,
            ..
        } in taken
        {
            if let Some(answer) = answer.filter(|answer| self.hearing.answered != Some(*answer)) {
                let last = self
                    .hearing
                    .answered
                    .map_or("none".to_owned(), |id| id.to_string());
                let reason = format!(
                    "feedback on the answer to {answer}, but the last answer is to {last}: the mind credits only its last answer"
                );
                let kind = EventKind::Refused {
                    id,
                    request: None,
                    kind: observation.kind(),
                    source: String::new(),
                    reason,
                };
                let event = Event { tick, kind };
                self.core.record_host(&event);
                self.hearing.hear(event);
                continue;
            }
            let observation = match (&self.voice, observation.request()) {
                (Some(voice), Some(request)) if request.voice.is_none() => {
                    observation.spoken_by(voice.clone())
                }
                _ => observation,
            };
            if let Some(request) = observation.request().filter(|r| r.is_answered()) {
                self.hearing.expect(id, request.voice.is_some());
            }
            self.core.submit_as(id, observation);
        }
    }

    /// Tells what was shed since the tick before.
    fn tell_shed(&mut self, tick: Tick) {
        let core = &self.core;
        self.hearing
            .tell_shed(tick, &mut |event| core.record_host(event));
    }

    /// Lets every effector hear of every action; what comes of it is observed.
    fn deliver(&mut self) -> Vec<Action> {
        let actions = self.hearing.take_actions();
        for action in &actions {
            for effector in &mut self.effectors {
                for observation in effector.act(action) {
                    self.shared.offer_own(observation);
                }
            }
        }
        actions
    }

    /// Takes no more, finishes the answer that is being given or breaks it off, keeps what was learned, ends the actors.
    async fn end(mut self, finish: bool) -> Result<SessionOutcome, SageError> {
        self.shared.inbox().close();
        let ended = self.wind_up(finish).await;
        self.deliver();
        let kept = match &ended {
            Ok(_) => self.core.flush_ledger().await.map_err(SageError::from),
            Err(_) => Ok(()),
        };
        self.core.abort().await;
        let summary = ended?;
        kept?;
        let counts = self.shared.inbox().counts();
        let ticks = self.shared.status().tick;
        Ok(SessionOutcome {
            ticks,
            counts,
            summary,
        })
    }

    async fn wind_up(&mut self, finish: bool) -> Result<Summary, SageError> {
        // An answer takes one tick a token; more than that and the mind does not let it go on.
        let most = self.answer_ticks + u64::from(SETTLE_TICKS);
        let mut steps = 0;
        while finish && self.core.is_answering() && steps < most {
            self.step().await?;
            steps += 1;
        }
        let tick = self.core.engine().tick();
        self.tell_shed(tick);
        // What is given up now was not decided by the mind.
        self.core.end_recording()?;
        let hearing = &mut self.hearing;
        let abandoned = self.core.abandon(&mut |event| hearing.hear(event))?;
        let Abandoned { completed, unread } = abandoned;
        self.hearing.complete(tick, completed);
        for (id, kind, source) in unread {
            let kind = EventKind::Refused {
                id,
                request: Some(id),
                kind,
                source,
                reason: "the loop ended before it was read".to_owned(),
            };
            self.hearing.hear(Event { tick, kind });
        }
        self.shared.inbox().hold(self.core.waiting());
        let summary = self.core.summary().await?;
        for kind in [
            EventKind::Experts(self.core.experts()),
            EventKind::Summary(summary.clone()),
        ] {
            self.hearing.hear(Event { tick, kind });
        }
        Ok(summary)
    }
}
