//! Episodic memory: the directions of the last segments' mean hidden states, and what came of them.

use std::collections::VecDeque;

use crate::protocol::Pruned;

/// Episodes kept.
const LENGTH: usize = 512;
/// Episodes of a cosine above this are nearly alike: one of them says what both do.
const ALIKE: f32 = 0.98;
/// Episodes that an expectation is taken from.
const NEAREST: usize = 10;

#[derive(Clone, Debug)]
struct Episode {
    /// Hidden state at length 1.
    direction: Vec<f32>,
    /// Feedback on its turn, in [0, 1], once there was any.
    outcome: Option<f32>,
    /// Episodes that were merged into it, itself included.
    merged: f32,
}

impl Episode {
    /// Takes over the outcome of an episode nearly alike, each weighing as many episodes as it stands for. The
    /// direction stays: it differs by less than what counts as alike.
    fn absorb(&mut self, other: &Episode) {
        self.outcome = match (self.outcome, other.outcome) {
            (Some(a), Some(b)) => {
                Some((a * self.merged + b * other.merged) / (self.merged + other.merged))
            }
            (a, b) => a.or(b),
        };
        self.merged += other.merged;
    }
}

/// A ring of episodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Episodes {
    ring: VecDeque<Episode>,
    /// Newest episodes that no feedback has marked: those of the turn.
    turn: usize,
    inserted: u32,
}

impl Episodes {
    /// Cosine of a hidden state with every episode, oldest first; empty if the state has no direction.
    pub fn cosines(&self, hidden: &[f32]) -> Vec<f32> {
        let Some(direction) = normalise(hidden) else {
            return Vec::new();
        };
        self.ring
            .iter()
            .map(|episode| dot(&direction, &episode.direction).clamp(-1.0, 1.0))
            .collect()
    }

    /// Mean outcome of the 10 nearest episodes that have one, weighted by similarity; 0.5 if there is none.
    pub fn expected_outcome(&self, cosines: &[f32]) -> f32 {
        let mut near: Vec<(f32, f32)> = cosines
            .iter()
            .zip(&self.ring)
            .filter_map(|(cosine, episode)| episode.outcome.map(|outcome| (*cosine, outcome)))
            .collect();
        // A stable sort: of equals the older comes first.
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        near.truncate(NEAREST);
        let (mut weights, mut sum) = (0.0f32, 0.0f32);
        for (cosine, outcome) in near {
            weights += cosine.max(0.0);
            sum += cosine.max(0.0) * outcome;
        }
        if weights > 0.0 {
            (sum / weights).clamp(0.0, 1.0)
        } else {
            0.5
        }
    }

    /// Remembers a hidden state; one without direction is nothing to remember.
    pub fn insert(&mut self, hidden: &[f32]) {
        let Some(direction) = normalise(hidden) else {
            return;
        };
        if self.ring.len() == LENGTH {
            self.ring.pop_front();
        }
        self.ring.push_back(Episode {
            direction,
            outcome: None,
            merged: 1.0,
        });
        self.turn = (self.turn + 1).min(LENGTH);
        self.inserted = self.inserted.saturating_add(1);
    }

    /// Marks the episodes since the feedback before this one.
    pub fn mark(&mut self, outcome: f32) {
        for episode in self.ring.iter_mut().rev().take(self.turn) {
            episode.outcome = Some(outcome);
        }
        self.turn = 0;
    }

    /// Merges every episode into the oldest one that it is nearly alike.
    pub fn prune(&mut self) -> Pruned {
        let first_of_turn = self.ring.len() - self.turn.min(self.ring.len());
        let mut kept: VecDeque<Episode> = VecDeque::with_capacity(self.ring.len());
        let mut merged = 0;
        for (at, episode) in std::mem::take(&mut self.ring).into_iter().enumerate() {
            let alike = |other: &&mut Episode| dot(&other.direction, &episode.direction) > ALIKE;
            if let Some(older) = kept.iter_mut().find(alike) {
                older.absorb(&episode);
                merged += 1;
                self.turn -= usize::from(at >= first_of_turn);
            } else {
                kept.push_back(episode);
            }
        }
        self.ring = kept;
        Pruned {
            merged,
            kept: self.ring.len() as u32,
        }
    }

    /// Insertions so far.
    pub fn inserted(&self) -> u32 {
        self.inserted
    }
}

/// At length 1; none if there is no direction.
pub(super) fn normalise(hidden: &[f32]) -> Option<Vec<f32>> {
    let length = libm::sqrtf(dot(hidden, hidden));
    (length.is_finite() && length > 0.0).then(|| hidden.iter().map(|x| x / length).collect())
}

/// Sum over eight lanes, then over the lanes in order: the same bits whatever the vector width.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (mut xs, mut ys) = (a.chunks_exact(8), b.chunks_exact(8));
    for (x, y) in (&mut xs).zip(&mut ys) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    let rest = xs
        .remainder()
        .iter()
        .zip(ys.remainder())
        .fold(0.0f32, |sum, (x, y)| sum + x * y);
    lanes.iter().fold(0.0f32, |sum, lane| sum + lane) + rest
}
