//! What the loop is in the middle of while it sleeps.

use std::collections::BTreeSet;

use sage_actors::metabolic::energy::Bucket;
use sage_actors::metabolic::pace::{CAPACITY_UNITS, ReadingAccount};

use crate::core::Engine;
use crate::core::episodes::Episodes;
use crate::core::shadow::{self, AblationSegment, Shadow};
use crate::events::DreamEvent;

/// A piece of an episode that is being scored.
pub(super) struct Piece {
    pub(super) episode: u64,
    pub(super) segment: AblationSegment,
    pub(super) denied: BTreeSet<(u16, u16)>,
    pub(super) batches: usize,
}

/// The loop's sleeping part.
pub(super) struct Dreaming {
    pub(super) episodes: Episodes,
    /// Made when it is needed first.
    pub(super) shadow: Option<Shadow>,
    pub(super) piece: Option<Piece>,
    pub(super) bucket: Bucket,
    /// What scoring may read.
    pub(super) account: ReadingAccount,
    /// Whether memory is to be pruned when no episode is left.
    pub(super) unpruned: bool,
    /// Since the last event.
    pub(super) since: DreamEvent,
    /// Since the start.
    pub(super) total: DreamEvent,
}

impl Dreaming {
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            episodes: Episodes::new(shadow::segment_tokens(engine.text_config())),
            shadow: None,
            piece: None,
            bucket: Bucket::full(CAPACITY_UNITS),
            account: ReadingAccount::default(),
            unpruned: false,
            since: DreamEvent::default(),
            total: DreamEvent::default(),
        }
    }

    /// Gives up scoring what waits.
    pub(super) fn pass_over(&mut self) {
        self.piece = None;
        self.since.unscored += self.episodes.pass_over();
    }

    /// Whether the mind has habits to go by.
    pub(super) fn has_consolidated(&self) -> bool {
        self.total.episodes > 0
    }
}
