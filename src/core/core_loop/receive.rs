//! The beginning of a tick: what waits in the inbox is taken, or refused.

use super::job::{Job, Want};
use super::perceive::Percept;
use super::{CoreLoop, Observation};
use crate::core::{Arrivals, EngineError};
use crate::events::{Event, EventKind, Observed};
use crate::text::Message;

/// An observation that could not be taken.
#[derive(Debug)]
pub struct Refusal {
    /// Its number.
    pub id: u64,
    /// Why.
    pub error: EngineError,
}

impl CoreLoop {
    /// What the last tick refused, once. Whoever scripts observations ends the run with the first of them; a host goes on.
    pub fn take_refused(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.refused)
    }

    /// Takes everything out of the inbox.
    pub(super) fn receive(&mut self, arrivals: &mut Arrivals, sink: &mut dyn FnMut(Event)) {
        self.refused.clear();
        while let Some((id, observation)) = self.inbox.pop_front() {
            let (kind, source) = (observation.kind(), observation.source().to_owned());
            if let Err(error) = self.take(id, observation, arrivals, sink) {
                let kind = EventKind::Refused {
                    id,
                    kind,
                    source,
                    reason: error.to_string(),
                };
                let tick = self.engine.tick();
                sink(Event { tick, kind });
                self.refused.push(Refusal { id, error });
            }
        }
    }

    fn take(
        &mut self,
        id: u64,
        observation: Observation,
        arrivals: &mut Arrivals,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        if let Some(problem) = observation.unsound() {
            return Err(EngineError::Unsound(problem));
        }
        let mut seen = Observed {
            id,
            kind: observation.kind(),
            source: observation.source().to_owned(),
            urgency: observation.urgency(),
            text: observation.words().map(str::to_owned),
            value: None,
            level: None,
            tokens: 0,
            perceived: Vec::new(),
        };
        let mut job = None;
        match &observation {
            Observation::Sensor(reading) => {
                (seen.value, seen.level) = (Some(reading.value), reading.level);
                arrivals.sensors.push(reading.clone());
            }
            Observation::Feedback(value) => {
                seen.value = Some(f64::from(*value));
                arrivals.feedback = Some(*value);
            }
            Observation::Limit { source, limit } => {
                let change = self.engine.impose_limit(*limit);
                self.report_limit(source.clone(), change, sink);
                return Ok(());
            }
            Observation::Goal { text, .. } => seen.tokens = self.pursue(text)?,
            Observation::Text { source, text, .. } => {
                let tokens = self.text.encode_untrusted(text)?;
                if tokens.is_empty() {
                    return Err(EngineError::EmptyPrompt);
                }
                job = Some(Job::new(
                    id,
                    Want::Nothing,
                    source.clone(),
                    text.clone(),
                    tokens,
                ));
            }
            Observation::Question { source, text, .. } => {
                let tokens = self.request_tokens(self.goal.as_deref(), text)?;
                job = Some(Job::new(
                    id,
                    Want::Answer,
                    source.clone(),
                    text.clone(),
                    tokens,
                ));
            }
            Observation::Sensed {
                source,
                media,
                text,
                spoken,
                alarm,
                urgency,
            } => {
                let sensed = self.engine.sense(media, *urgency)?;
                let tokens = self.sensed_tokens(media, &sensed, text.trim(), *spoken)?;
                let want = match (alarm, text.trim()) {
                    (true, _) => Want::AlarmAnswer,
                    (false, "") if !spoken => Want::Nothing,
                    (false, _) => Want::Answer,
                };
                seen.perceived = sensed.observed(media);
                arrivals.stimuli.extend(sensed.stimuli.iter().cloned());
                let plain = Job::new(id, want, source.clone(), text.clone(), tokens);
                job = Some(Job {
                    percept: Some(Percept::new(media.clone())),
                    ..plain
                });
            }
            Observation::Turn { source, text, .. } => {
                let tokens = self.turn_tokens(text)?;
                let turn = Job::new(id, Want::Answer, source.clone(), text.clone(), tokens);
                job = Some(Job { turn: true, ..turn });
            }
            Observation::Alarm { source, text, .. } => {
                let tokens = self.request_tokens(self.goal.as_deref(), text)?;
                job = Some(Job::new(
                    id,
                    Want::AlarmAnswer,
                    source.clone(),
                    text.clone(),
                    tokens,
                ));
            }
        }
        arrivals.events_in += u32::from(!observation.is_of_body());
        arrivals.urgency = arrivals.urgency.max(observation.urgency());
        if let Some(job) = &job {
            seen.tokens = job.waiting_tokens();
            arrivals.tokens_in += seen.tokens as u32;
        }
        sink(Event {
            tick: self.engine.tick(),
            kind: EventKind::Observation(seen),
        });
        if let Some(job) = job {
            self.enqueue(job);
        }
        Ok(())
    }

    /// Puts a goal in force, or none for an empty text; returns the tokens that it has.
    fn pursue(&mut self, text: &str) -> Result<usize, EngineError> {
        if text.trim().is_empty() {
            self.goal = None;
            return Ok(0);
        }
        // A goal that leaves no room for any question would refuse all that follow.
        self.request_tokens(Some(text), "?")?;
        self.goal = Some(text.to_owned());
        Ok(self.text.encode_untrusted(text)?.len())
    }

    /// The prompt of a request that stands for itself.
    fn request_tokens(&self, goal: Option<&str>, text: &str) -> Result<Vec<u32>, EngineError> {
        if text.trim().is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let tokens = self.prompt(goal, "", text)?;
        self.fits(tokens.len() + self.answer_tokens)?;
        Ok(tokens)
    }

    /// A prompt of one message, under a goal or none: `places` of sounds and pictures, then what somebody says.
    pub(super) fn prompt(
        &self,
        goal: Option<&str>,
        places: &str,
        said: &str,
    ) -> Result<Vec<u32>, EngineError> {
        let system = goal.into_iter().map(|goal| Message::new("system", goal));
        let user = Message::new("user", format!("{places}{said}"));
        let messages: Vec<Message> = system.chain([user]).collect();
        Ok(self.text.prompt_tokens(&messages, places)?)
    }

    /// Whether so many tokens have room in the context.
    pub(super) fn fits(&self, needed: usize) -> Result<(), EngineError> {
        let capacity = self.kv.capacity();
        if needed > capacity {
            return Err(EngineError::ContextFull { needed, capacity });
        }
        Ok(())
    }
}
