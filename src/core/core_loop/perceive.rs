//! Sounds and pictures in the loop: what of them waits, how they felt as they arrived, and when they are perceived.

use std::sync::Arc;

use sage_actors::protocol::{Modality, Senses};

use super::CoreLoop;
use super::job::Job;
use crate::core::perception::{Sensed, expand, placeholder, senses_of};
use crate::core::scene::Scene;
use crate::core::{EngineError, Orientation};
use crate::events::{Event, EventKind, PerceivedEvent};
use crate::media::medium::{Medium, MediumKind};

/// What a job is to perceive. While it waits it holds the files alone: what they are decoded to is many times as large.
pub(super) struct Percept {
    media: Vec<Medium>,
    /// Salience by modality in the tick of its arrival: known from then on, so that how the prompt is cut into steps changes nothing.
    felt: Option<Senses>,
}

impl Percept {
    pub(super) fn new(media: Vec<Medium>) -> Self {
        Self { media, felt: None }
    }

    /// What it is in the first place.
    pub(super) fn kind(&self) -> Option<MediumKind> {
        self.media.first().map(|medium| medium.kind)
    }

    /// Bytes of its files.
    pub(super) fn file_bytes(&self) -> usize {
        self.media.iter().map(|medium| medium.bytes().len()).sum()
    }
}

impl CoreLoop {
    /// Modalities of what waits, is being read or answered.
    pub(super) fn perceiving(&self) -> Vec<Modality> {
        if self.engine.towers.senses().is_empty() {
            return Vec::new();
        }
        let mut all: Vec<Modality> = self
            .jobs
            .iter()
            .filter_map(|job| job.percept.as_ref())
            .flat_map(|percept| senses_of(&percept.media))
            .collect();
        if !self.jobs.is_empty() {
            all.push(Modality::Text);
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What arrived in this tick keeps how it felt.
    pub(super) fn feel(&mut self, orientation: &Orientation) {
        let percepts = self.jobs.iter_mut().filter_map(|job| job.percept.as_mut());
        for percept in percepts.filter(|percept| percept.felt.is_none()) {
            percept.felt = orientation.report.senses;
        }
    }

    /// The prompt of an observation with sounds and pictures, placeholders repeated.
    pub(super) fn sensed_tokens(
        &self,
        media: &[Medium],
        sensed: &Sensed,
        text: &str,
        spoken: bool,
    ) -> Result<Vec<u32>, EngineError> {
        let config = &self.engine.source.config().thinker;
        let mut places = Vec::new();
        for medium in media {
            places.extend(placeholder(config, medium.kind)?);
        }
        let asks = spoken || !text.is_empty();
        let tokens = if spoken {
            let tokens = sensed.sound_tokens.iter().chain(&sensed.picture_tokens);
            let places = self.text.spelled(&places)?;
            self.spoken_prompt(&places, text, tokens.sum())?
        } else if !asks {
            places
        } else {
            let places = self.text.spelled(&places)?;
            self.prompt(self.goal.as_deref(), &places, text)?
        };
        let tokens = expand(config, &tokens, sensed);
        // Where control tokens are allowed a question may have written out places that nothing is given for.
        self.engine.media_positions(&tokens, &sensed.features)?;
        let answer_tokens = if asks { self.answer_tokens } else { 0 };
        self.fits(tokens.len() + answer_tokens)?;
        Ok(tokens)
    }

    /// Perceives what a job is about to read.
    pub(super) fn perceive(
        &mut self,
        job: &Job,
        tokens: &[u32],
        orientation: &Orientation,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Option<Arc<Scene>>, EngineError> {
        let Some(percept) = &job.percept else {
            return Ok(None);
        };
        let before = Modality::SENSES.map(|sense| self.engine.towers.usage(sense));
        let features = self.engine.sense(&percept.media, 0.0)?.features;
        let scene = self
            .engine
            .perceive(tokens, &features, percept.felt, &mut |_, _| {})?;
        for (modality, before) in Modality::SENSES.into_iter().zip(before) {
            let after = self.engine.towers.usage(modality);
            let of = |m: &&Modality| **m == modality;
            let tokens = scene.modalities.iter().filter(of).count();
            if tokens == 0 {
                continue;
            }
            let read = after.counts.since(before.counts);
            sink(Event {
                tick: orientation.tick,
                kind: EventKind::Perceived(PerceivedEvent {
                    id: job.id,
                    source: job.source.clone(),
                    modality,
                    tokens,
                    pieces_kept: read.hits,
                    pieces_read: read.misses,
                    bytes_read: read.bytes_read,
                    resident_bytes: after.resident_bytes,
                    weight_bytes: after.weight_bytes,
                }),
            });
            self.account.perceived(read.bytes_read);
        }
        Ok(Some(scene))
    }

    /// Towers whose share is another than in the tick before.
    pub(super) fn tower_changes(&self, orientation: &Orientation) -> Vec<EventKind> {
        let share = |orientation: &Orientation, modality| {
            let towers = &orientation.directives.towers;
            let found = towers.iter().find(|tower| tower.modality == modality);
            found.map_or((0, 0.0), |tower| (tower.weight_bytes, tower.drive))
        };
        let mut changes = Vec::new();
        for modality in self.engine.towers.senses() {
            let (weight_bytes, drive) = share(orientation, modality);
            let before = self.before.as_ref().map(|before| share(before, modality).0);
            if before.unwrap_or(0) != weight_bytes {
                changes.push(EventKind::Tower {
                    modality,
                    weight_bytes,
                    drive,
                });
            }
        }
        changes
    }
}
