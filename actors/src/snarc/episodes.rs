//! Episodic memory: the directions of the last segments' mean hidden states, and what came of them.

use std::collections::VecDeque;

/// Episodes kept.
const LENGTH: usize = 512;
/// Episodes that an expectation is taken from.
const NEAREST: usize = 10;

#[derive(Clone, Debug)]
struct Episode {
    /// Hidden state at length 1.
    direction: Vec<f32>,
    /// Feedback on its turn, in [0, 1], once there was any.
    outcome: Option<f32>,
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
