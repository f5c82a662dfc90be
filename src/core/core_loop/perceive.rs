//! Sounds and pictures in the loop: what of them waits, how they felt as they arrived, and when they are perceived.

use std::sync::Arc;

use sage_actors::protocol::{Modality, Tick};

use super::conductor::CoreLoop;
use super::job::Job;
use crate::core::perception::senses_of;
use crate::core::scene::Scene;
use crate::core::{EngineError, Orientation};
use crate::events::{Event, EventKind, PerceivedEvent};
use crate::progress::{TowerListener, Work, WorkProgress};

/// Tells who waits how far the towers are.
struct PieceTeller<'a> {
    progress: Arc<WorkProgress>,
    tick: Tick,
    request: u64,
    sink: &'a mut dyn FnMut(Event),
}

impl TowerListener for PieceTeller<'_> {
    fn piece(&mut self, at: usize, pieces: usize) {
        let work = Work::Perceiving;
        self.progress.step(work, at as u64, 1, pieces as u64);
        (self.sink)(Event {
            tick: self.tick,
            kind: EventKind::Perceiving {
                request: self.request,
                pieces_done: at,
                pieces,
            },
        });
    }
}

impl CoreLoop {
    /// Modalities of what waits, is being read or answered.
    pub(super) fn perceiving(&self) -> Vec<Modality> {
        if self.engine.towers().senses().is_empty() {
            return Vec::new();
        }
        let mut all: Vec<Modality> = self
            .queue
            .jobs
            .iter()
            .filter_map(|job| job.percept.as_ref())
            .flat_map(|percept| senses_of(&percept.media))
            .collect();
        if !self.queue.jobs.is_empty() {
            all.push(Modality::Text);
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What arrived in this tick keeps how it felt.
    pub(super) fn feel(&mut self, orientation: &Orientation) {
        let percepts = self
            .queue
            .jobs
            .iter_mut()
            .filter_map(|job| job.percept.as_mut());
        for percept in percepts.filter(|percept| percept.felt.is_none()) {
            percept.felt = orientation.report.senses;
        }
    }

    /// Perceives what a job is about to read.
    pub(super) fn perceive(
        &mut self,
        job: &mut Job,
        tokens: &[u32],
        orientation: &Orientation,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Option<Arc<Scene>>, EngineError> {
        let Some(percept) = &mut job.percept else {
            return Ok(None);
        };
        let before = Modality::SENSES.map(|sense| self.engine.towers().usage(sense));
        let features = match percept.decoded.take() {
            Some(decoded) => decoded,
            None => self.engine.sense(&percept.media, 0.0)?.features,
        };
        percept.grids = features.grids();
        let mut teller = PieceTeller {
            progress: Arc::clone(self.engine.progress()),
            tick: orientation.tick,
            request: job.id,
            sink: &mut *sink,
        };
        let scene = self
            .engine
            .perceive(tokens, &features, percept.felt, &mut teller)?;
        self.engine.progress().end();
        for (modality, before) in Modality::SENSES.into_iter().zip(before) {
            let after = self.engine.towers().usage(modality);
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
                    request: job.id,
                    source: job.request.source.clone(),
                    modality,
                    tokens,
                    pieces_kept: read.hits,
                    pieces_read: read.misses,
                    bytes_read: read.bytes_read,
                    resident_bytes: after.resident_bytes,
                    weight_bytes: after.weight_bytes,
                }),
            });
            self.minding.books.account.perceived(read.bytes_read);
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
        for modality in self.engine.towers().senses() {
            let (weight_bytes, drive) = share(orientation, modality);
            let before = self
                .present
                .before
                .as_ref()
                .map(|before| share(before, modality).0);
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
