//! What a host holds: the loop that it ticks, and the handle by which any task speaks to it.

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::Arc;

use sage_actors::protocol::{State, Tick};
use tokio::sync::{mpsc, oneshot, watch};

use super::asks::Reply;
use super::counts::ObservationCounts;
use super::driver::{DriverCommand, DriverPlan, SessionOutcome, Ticked, live};
use super::error::{AskError, BuildError, ObserveError, SageError};
use super::request_events::RequestEvents;
use super::shared::Shared;
use super::stream::{Actions, Telemetry};
use crate::core::core_loop::Observation;
use crate::events::RunMode;
use crate::reads::ReadBytes;

/// Commands that wait; each host task waits for its own.
const COMMANDS: usize = 16;

/// Speaks to a loop from any task or thread; clones speak to the same one. When the last of them, and the [`Sage`], is
/// dropped, the loop ends as by [`Handle::shutdown`], but nobody waits for it.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<DriverCommand>,
    done: watch::Receiver<Option<Result<SessionOutcome, SageError>>>,
}

impl Handle {
    /// Hands an observation to the loop; never waits. Returns its number, by which its answer names it. A request that is
    /// taken on here ends in exactly one [`super::Action::Say`] or [`super::Action::Unanswered`].
    ///
    /// # Errors
    /// When it says what cannot be, is shed at the door (counted), or the loop has ended. One that does not fit the context
    /// is refused later, with an event.
    pub fn observe(&self, observation: Observation) -> Result<u64, ObserveError> {
        self.shared.offer(observation, None)
    }

    /// Hands a question to the loop and awaits its answer, in words and, where it is spoken, in sound. If the future is dropped the
    /// question is cancelled.
    ///
    /// # Errors
    /// When it is no question, is not taken on, or will not be answered.
    pub async fn ask(&self, question: impl Into<Observation>) -> Result<Reply, AskError> {
        let question = question.into();
        let Some(request) = question.request().filter(|request| request.is_answered()) else {
            return Err(AskError::NotAQuestion);
        };
        let spoken = self.shared.speaks || request.voice.is_some();
        let (id, told) = {
            // The loop answers no sooner than it may tell.
            let mut asks = self.shared.asks();
            let id = self.shared.offer(question, None)?;
            (id, asks.open(id, spoken))
        };
        let mut cancelling = Cancelling {
            shared: Some(Arc::clone(&self.shared)),
            id,
        };
        let told = told.await;
        cancelling.shared = None;
        match told {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(why)) => Err(AskError::Unanswered { id, why }),
            Err(_) => Err(AskError::Ended { id }),
        }
    }

    /// Cancels one request: one that waits is let go, one under way ends with what there is of its answer. Whether the loop could
    /// be told.
    pub fn cancel(&self, request: u64) -> bool {
        self.shared.cancel(request)
    }

    /// Hands a request to the loop; its own events follow, from now to its last word and sound.
    ///
    /// # Errors
    /// As [`Handle::observe`].
    pub fn stream(&self, request: impl Into<Observation>) -> Result<RequestEvents, ObserveError> {
        let request = request.into();
        if !request.is_request() {
            let problem = "it asks for no answer, so it has no last event; expected a question";
            return Err(ObserveError::Unsound(problem.to_owned()));
        }
        let voice = request
            .request()
            .is_some_and(|request| request.voice.is_some());
        let events = self.shared.events.subscribe();
        let id = self.shared.offer(request, None)?;
        let spoken = voice || self.shared.speaks;
        Ok(RequestEvents::new(id, spoken, events))
    }

    /// What an answer was worth, in [-1, 1]: of the question `answer`, or of the last one (`None`). The mind credits only
    /// its last answer: feedback that comes after a later one is refused, with an event.
    ///
    /// # Errors
    /// As [`Handle::observe`].
    pub fn feedback(
        &self,
        answer: impl Into<Option<u64>>,
        value: f32,
    ) -> Result<u64, ObserveError> {
        self.shared
            .offer(Observation::Feedback(value), answer.into())
    }

    /// Every event from now on. Each call makes a stream of its own.
    pub fn telemetry(&self) -> Telemetry {
        self.shared.events.subscribe()
    }

    /// Every action from now on. Each call makes a stream of its own.
    pub fn actions(&self) -> Actions {
        self.shared.actions.subscribe()
    }

    /// Which mode runs: the limit, what must be in memory, the policies.
    pub fn mode(&self) -> Option<&RunMode> {
        self.shared.mode.get()
    }

    /// The state in force after the last tick; Wake before the first.
    pub fn state(&self) -> State {
        self.shared.status().state
    }

    /// Ticks that have passed.
    pub fn tick_count(&self) -> Tick {
        self.shared.status().tick
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.shared.inbox().is_idle()
    }

    /// Where the observations went so far.
    pub fn counts(&self) -> ObservationCounts {
        self.shared.inbox().counts()
    }

    /// What was read from disk so far, by purpose. It depends on the moment; nothing in the loop depends on it.
    pub fn read_bytes(&self) -> ReadBytes {
        let reads = self.shared.reads.get();
        reads.map_or(ReadBytes::default(), |reads| reads.bytes())
    }

    /// Ends the loop: it takes no more observations, finishes the answer that it is giving, says of every other request that
    /// it stays unanswered, keeps the ledger, and ends the actors. All who call it are told the same.
    ///
    /// # Errors
    /// When the loop failed, now or before.
    pub async fn shutdown(&self) -> Result<SessionOutcome, SageError> {
        self.end(true).await
    }

    /// As [`Handle::shutdown`], but an answer under way is broken off.
    ///
    /// # Errors
    /// When the loop failed, now or before.
    pub async fn shutdown_now(&self) -> Result<SessionOutcome, SageError> {
        self.end(false).await
    }

    /// Waits until the loop has ended, for whatever reason.
    ///
    /// # Errors
    /// When the loop failed.
    pub async fn ended(&self) -> Result<SessionOutcome, SageError> {
        let mut done = self.done.clone();
        match done.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(SageError::Gone)),
            Err(_) => Err(SageError::Gone),
        }
    }

    async fn end(&self, finish: bool) -> Result<SessionOutcome, SageError> {
        // If it cannot be told, it has ended already.
        let _ = self.commands.send(DriverCommand::Shutdown { finish }).await;
        self.ended().await
    }
}

/// Cancels a question whose asker has gone.
struct Cancelling {
    shared: Option<Arc<Shared>>,
    id: u64,
}

impl Drop for Cancelling {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.asks().forget(self.id);
            shared.cancel(self.id);
        }
    }
}

/// A loop that is ticked by its host, until [`Sage::run`] lets it run. Everything that a [`Handle`] does, it does too.
pub struct Sage {
    handle: Handle,
    /// A tick whose caller did not wait for it.
    under_way: Option<oneshot::Receiver<Result<Ticked, SageError>>>,
}

impl Sage {
    pub(super) async fn start(
        plan: DriverPlan,
        bounds: (usize, usize),
        goal: Option<String>,
        threads: Option<NonZeroUsize>,
    ) -> Result<Self, BuildError> {
        let shared = Arc::new(Shared::new(plan.bound, bounds, plan.voice.is_some()));
        let (commands, heard) = mpsc::channel(COMMANDS);
        let (ready, opened) = oneshot::channel();
        let (done, outcome) = watch::channel(None);
        let system = |what, reason: String| BuildError::System { what, reason };
        // The pool is this loop's alone: two loops in one process do not disturb each other.
        let pool = threads.map(|threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads.get())
                .build()
        });
        let pool = pool.transpose();
        let pool = pool.map_err(|e| system("cannot start the threads", e.to_string()))?;
        let theirs = Arc::clone(&shared);
        let life = move || live(plan, theirs, heard, ready, done);
        std::thread::Builder::new()
            .name("sage".to_owned())
            .spawn(move || match pool {
                Some(pool) => pool.install(life),
                None => life(),
            })
            .map_err(|e| system("cannot start the loop's thread", e.to_string()))?;
        opened.await.unwrap_or(Err(BuildError::Gone))?;
        let handle = Handle {
            shared,
            commands,
            done: outcome,
        };
        if let Some(goal) = goal {
            // The first of all cannot be one too many.
            let _ = handle.observe(Observation::goal("host", goal));
        }
        Ok(Self {
            handle,
            under_way: None,
        })
    }

    /// One tick: reads a chunk, decodes a token, or lets time pass. Returns what was done in it. If the future is dropped
    /// the tick happens all the same, and the next call returns what came of it.
    ///
    /// # Errors
    /// When an expert cannot be read or an actor failed: the loop has ended then. [`SageError::Ended`] after a shutdown.
    pub async fn tick(&mut self) -> Result<Ticked, SageError> {
        if self.under_way.is_none() {
            let (reply, ticked) = oneshot::channel();
            if self
                .handle
                .commands
                .send(DriverCommand::Tick(reply))
                .await
                .is_err()
            {
                return Err(self.why_ended().await);
            }
            self.under_way = Some(ticked);
        }
        let ticked = match &mut self.under_way {
            Some(ticked) => ticked.await,
            None => return Err(SageError::Gone),
        };
        self.under_way = None;
        match ticked {
            Ok(ticked) => ticked,
            Err(_) => Err(self.why_ended().await),
        }
    }

    async fn why_ended(&self) -> SageError {
        self.handle.ended().await.err().unwrap_or(SageError::Ended)
    }

    /// Lets the loop tick by itself from now on: without pause while there is something to do, else once in
    /// [`super::Builder::idle_pace`].
    pub fn run(self) -> Handle {
        // If it cannot be told, it is ending or has ended, and the handle says why.
        let _ = self.handle.commands.try_send(DriverCommand::Run);
        self.handle
    }

    /// A handle for other tasks.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Deref for Sage {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}
