//! The beginning of a tick: what waits in the inbox is taken, or refused.

use super::answer::{Answer, Completed};
use super::conductor::CoreLoop;
use super::job::Job;
use super::observation::Observation;
use super::percept::Percept;
use super::queue::{Abandoned, Refusal, Submitted, Waiting};
use crate::core::perception::{DecodedMedia, Features};
use crate::core::request::{Request, RequestKind};
use crate::core::{Arrivals, EngineError};
use crate::events::{Ended, Event, EventKind, Observed};

impl CoreLoop {
    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.queue.inbox.is_empty() && self.queue.jobs.is_empty()
    }

    /// Whether an answer is being given: some of its words may be out already.
    pub fn is_answering(&self) -> bool {
        self.queue.jobs.iter().any(Job::is_answering)
    }

    /// What was submitted and is not done.
    pub fn waiting(&self) -> Waiting {
        self.queue.waiting()
    }

    /// Hands an observation to the next tick; returns its number.
    pub fn submit(&mut self, observation: impl Into<Observation>) -> u64 {
        let id = self.queue.next_id;
        self.submit_as(id, observation.into());
        id
    }

    /// As [`CoreLoop::submit`], under a number that the host has given it; no two may have the same.
    pub fn submit_as(&mut self, id: u64, observation: Observation) {
        self.submit_decoded(id, observation, None);
    }

    /// As [`CoreLoop::submit`], its sounds and pictures decoded already.
    pub fn submit_sensed(&mut self, request: Request, sensed: Option<Features>) -> u64 {
        let id = self.queue.next_id;
        self.submit_decoded(id, Observation::from(request), sensed);
        id
    }

    fn submit_decoded(&mut self, id: u64, observation: Observation, decoded: Option<Features>) {
        self.queue.next_id = self.queue.next_id.max(id.saturating_add(1));
        self.record_input(id, &observation);
        self.queue.inbox.push_back(Submitted {
            id,
            observation,
            decoded,
        });
    }

    /// Gives up everything that waits or is under way. Every request ends with an answer that says so.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn abandon(&mut self, sink: &mut dyn FnMut(Event)) -> Result<Abandoned, EngineError> {
        let mut completed = Completed::default();
        for job in self.queue.take_out(Job::is_request) {
            self.end(job, Ended::Interrupted, &mut completed, sink)?;
        }
        let unread = self.queue.jobs.drain(..);
        let unread = unread.map(|job| (job.id, job.kind(), job.request.source));
        Ok(Abandoned {
            completed,
            unread: unread.collect(),
        })
    }

    /// What the last tick refused, once. Whoever scripts observations ends the run with the first of them; a host goes on.
    pub fn take_refused(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.queue.refused)
    }

    /// Takes everything out of the inbox.
    pub(super) fn receive(
        &mut self,
        arrivals: &mut Arrivals,
        completed: &mut Completed,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        self.queue.refused.clear();
        while let Some(submitted) = self.queue.inbox.pop_front() {
            let (id, observation) = (submitted.id, &submitted.observation);
            let (kind, source) = (observation.kind(), observation.source().to_owned());
            let request = observation.request().map(|_| id);
            if let Observation::Cancel { request, .. } = observation {
                let request = *request;
                self.cancel(request, completed, sink)?;
                continue;
            }
            if let Err(error) = self.take(submitted, arrivals, sink) {
                let kind = EventKind::Refused {
                    id,
                    request,
                    kind,
                    source,
                    reason: error.to_string(),
                };
                let tick = self.engine.tick();
                sink(Event { tick, kind });
                self.queue.refused.push(Refusal { id, error });
            }
        }
        self.hush(completed, sink)
    }

    /// Ends one request with what there is of its answer; one that is done, or never was, is left as it is.
    fn cancel(
        &mut self,
        request: u64,
        completed: &mut Completed,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        for job in self.queue.take_out(|job| job.id == request) {
            if job.is_request() {
                self.end(job, Ended::Interrupted, completed, sink)?;
                continue;
            }
            let kind = EventKind::Refused {
                id: job.id,
                request: Some(job.id),
                kind: job.kind(),
                source: job.request.source,
                reason: "it was cancelled before it was read to its end".to_owned(),
            };
            let tick = self.engine.tick();
            sink(Event { tick, kind });
        }
        Ok(())
    }

    fn take(
        &mut self,
        submitted: Submitted,
        arrivals: &mut Arrivals,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        let Submitted {
            id,
            observation,
            decoded,
        } = submitted;
        if let Some(problem) = observation.unsound() {
            return Err(EngineError::Unsound(problem));
        }
        let mut seen = Observed {
            id,
            request: observation.request().map(|_| id),
            kind: observation.kind(),
            source: observation.source().to_owned(),
            urgency: observation.urgency(),
            text: observation.words(),
            value: None,
            level: None,
            tokens: 0,
            perceived: Vec::new(),
        };
        let (of_body, urgency) = (observation.is_of_body(), observation.urgency());
        let mut job = None;
        match observation {
            Observation::Sensor(reading) => {
                (seen.value, seen.level) = (Some(reading.value), reading.level);
                arrivals.sensors.push(reading);
            }
            Observation::Feedback(value) => {
                seen.value = Some(f64::from(value));
                arrivals.feedback = Some(value);
            }
            Observation::Limit { source, limit } => {
                let change = self.engine.impose_limit(limit);
                self.report_limit(source, change, sink);
                return Ok(());
            }
            Observation::Goal { text, .. } => seen.tokens = self.pursue(&text)?,
            Observation::Cancel { .. } => return Ok(()),
            Observation::Forget { .. } => self.forget(),
            Observation::Request(request) => {
                let accepted = self.accept(id, *request, decoded, &mut seen, arrivals)?;
                job = Some(accepted);
            }
        }
        arrivals.events_in += u32::from(!of_body);
        arrivals.urgency = arrivals.urgency.max(urgency);
        if let Some(job) = &job {
            seen.tokens = job.waiting_tokens();
            arrivals.tokens_in += seen.tokens as u32;
        }
        sink(Event {
            tick: self.engine.tick(),
            kind: EventKind::Observation(seen),
        });
        if let Some(job) = job {
            self.queue.enqueue(job);
        }
        Ok(())
    }

    /// The job that a request becomes; what of it is heard or seen goes into `seen` and `arrivals`.
    fn accept(
        &self,
        id: u64,
        request: Request,
        decoded: Option<Features>,
        seen: &mut Observed,
        arrivals: &mut Arrivals,
    ) -> Result<Job, EngineError> {
        let media = request.content.media();
        let sensed = match media.is_empty() {
            true => None,
            false => Some(self.engine.sense(media, request.urgency)?),
        };
        let tokens = self.prompt_of(&request, sensed.as_ref())?;
        if let Some(voice) = &request.voice {
            self.check_voice(voice, &request, &tokens)?;
        }
        if let Some(DecodedMedia { stimuli, .. }) = &sensed {
            arrivals.stimuli.extend(stimuli.iter().cloned());
        }
        if let Some(sensed) = &sensed {
            seen.perceived = sensed.observed(media);
        }
        let mut job = Job::new(id, request, tokens);
        job.percept = job
            .percept
            .map(|percept: Percept| percept.of_decoded(decoded));
        Ok(job)
    }

    /// Puts a goal in force, or none for an empty text; returns the tokens that it has.
    fn pursue(&mut self, text: &str) -> Result<usize, EngineError> {
        if text.trim().is_empty() {
            self.conversation.set_goal(None);
            return Ok(0);
        }
        let before = self.conversation.set_goal(Some(text.to_owned()));
        // A goal that leaves no room for any question would refuse all that follow.
        let question = self.prompt_of(&Request::question("", "?"), None);
        if let Err(error) = question {
            self.conversation.set_goal(before);
            return Err(error);
        }
        Ok(self.tokenizer()?.encode_untrusted(text)?.len())
    }
}

impl Answer {
    /// Whether it was given to a threat.
    pub fn is_of_alarm(&self) -> bool {
        self.want == RequestKind::AlarmAnswer
    }
}
