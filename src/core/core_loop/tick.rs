//! One tick of the loop.

use sage_actors::protocol::State;

use super::answer::Completed;
use super::conductor::CoreLoop;
use super::job::Job;
use super::{recall, record};
use crate::core::EngineError;
use crate::core::drive;
use crate::core::orient::{Arrivals, Orientation};
use crate::core::request::RequestKind;
use crate::events::{Ended, Event, EventKind, SalienceEvent};

/// States that are too shallow to read a request in, and how long to wait for a deeper one.
pub(crate) const SETTLE_TICKS: u32 = 16;

impl CoreLoop {
    /// One tick. `sink` hears of every event in order; what was completed is returned. An observation that cannot be taken is
    /// refused with an event, and the loop goes on: see [`CoreLoop::take_refused`].
    ///
    /// # Errors
    /// When an expert cannot be read, or an actor failed.
    pub async fn tick(&mut self, sink: &mut dyn FnMut(Event)) -> Result<Completed, EngineError> {
        let Some(tape) = self.outside.tape.clone() else {
            return self.turn(sink).await;
        };
        let mut both = |event: Event| {
            record::event(&tape, &event);
            sink(event);
        };
        let completed = self.turn(&mut both).await?;
        tape.check()?;
        Ok(completed)
    }

    async fn turn(&mut self, sink: &mut dyn FnMut(Event)) -> Result<Completed, EngineError> {
        let mut completed = Completed::default();
        let source = std::mem::take(&mut self.present.carried_source);
        let arrivals = self.sense(&mut completed, sink)?;
        let feedback = arrivals.feedback;
        if self.remembers() && feedback.is_some() {
            self.minding.news.feedback = feedback;
        }
        let sensed = recall::TickSummary::of(&arrivals);
        let act = async |core: &mut Self, orientation: &Orientation| {
            core.feel(orientation);
            let books = &mut core.minding.books;
            books.recall.oriented(orientation, sensed, source);
            let (plan, tick) = (&core.engine.plan, core.engine.tick());
            books.account.periods.obeyed(plan, tick);
            core.report_orientation(orientation, sink);
            if feedback.is_some() {
                core.engine
                    .learn(orientation, Vec::new(), Vec::new(), feedback)
                    .await?;
            }
            core.act(orientation, &mut completed, sink).await?;
            core.minding.books.account.periods.sample();
            Ok::<(), EngineError>(())
        };
        let (orientation, ()) = drive::turn(self, arrivals, act).await?;
        self.present.before = Some(orientation);
        Ok(completed)
    }

    /// What the mind is told of in this tick.
    fn sense(
        &mut self,
        completed: &mut Completed,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Arrivals, EngineError> {
        let mut arrivals = std::mem::take(&mut self.present.carried);
        self.receive(&mut arrivals, completed, sink)?;
        let jobs = &self.queue.jobs;
        arrivals.open_requests = jobs.iter().filter(|job| job.is_request()).count() as u32;
        arrivals.reading = !jobs.is_empty();
        arrivals.alarm = jobs
            .iter()
            .any(|job| job.want() == RequestKind::AlarmAnswer);
        arrivals.spoken_drive = jobs
            .front()
            .and_then(Job::speaking)
            .map(|speaking| speaking.drive());
        arrivals.perceiving = self.perceiving();
        Ok(arrivals)
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
        if !self.present.before.as_ref().is_some_and(same) {
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
        let tick = self.engine.tick();
        self.minding.books.account.enter(orientation, tick);
    }

    /// Runs one step of the first job, or idles.
    async fn act(
        &mut self,
        orientation: &Orientation,
        completed: &mut Completed,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        let Some(mut job) = self.queue.jobs.pop_front() else {
            // What was read may have been cancelled.
            self.engine.progress().end();
            return self.idle(orientation, sink).await;
        };
        let directives = &orientation.directives;
        if directives.end_answer && job.is_answering() {
            return self.end(job, Ended::Depletion, completed, sink);
        }
        let shallow = !matches!(directives.state, State::Focus | State::Threat);
        if job.is_request() && !job.is_started() && shallow && job.waited < SETTLE_TICKS {
            // A request is read when the mind attends to it; a few ticks later in the worst case.
            job.waited += 1;
            self.put_off(job);
            return Ok(());
        }
        if job.speaking().is_some() {
            let started = std::time::Instant::now();
            self.speak(job, orientation, completed, sink).await?;
            self.minding.books.account.time(started.elapsed());
            return Ok(());
        }
        if !directives.may_step {
            self.put_off(job);
            return Ok(());
        }
        let started = std::time::Instant::now();
        let done = self.step(&mut job, orientation, sink).await?;
        self.minding.books.account.time(started.elapsed());
        match done {
            Some(ended) => self.end(job, ended, completed, sink),
            None => {
                self.queue.jobs.push_front(job);
                Ok(())
            }
        }
    }

    /// A tick passes before the job's next step.
    pub(super) fn put_off(&mut self, job: Job) {
        self.queue.jobs.push_front(job);
        self.engine.idle(1);
    }

    /// A tick in which nothing waits.
    async fn idle(
        &mut self,
        orientation: &Orientation,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        self.sleep(orientation, sink).await?;
        self.engine.idle(1);
        if orientation.directives.state == State::Dream {
            // What is believed ages while it is gone over.
            self.engine
                .learn(orientation, Vec::new(), Vec::new(), None)
                .await?;
        }
        Ok(())
    }
}
