//! Rules of what stays where not everything has room.

use sage_actors::config::{MemoryConfig, Named, Retention};

/// One of the five numbers of salience.
const NUMBERS: usize = 5;

/// A rule of what stays in the context and in the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecallArm {
    /// A context that has room for everything.
    Unlimited,
    /// The newest segments, and nothing comes back.
    Recency,
    /// A uniform sample, and nothing comes back.
    Uniform,
    /// The most salient segments, and nothing comes back.
    Salience,
    /// The newest segments are kept in memory; a question brings back what resembles it.
    Similarity,
    /// A uniform sample is kept in memory; a question brings back what resembles it.
    UniformSimilarity,
    /// The settings' own: the most salient are kept in memory, and a question brings back what resembles it.
    Mind,
    /// As the mind's, by one of the five numbers alone.
    Only(usize),
    /// As the mind's, without one of the five numbers.
    Without(usize),
}

impl RecallArm {
    /// What the arm makes of the settings' memory.
    pub(super) fn apply(self, memory: &mut MemoryConfig) {
        let salient = Retention::Salience;
        memory.retention = match self {
            Self::Unlimited => Retention::Off,
            Self::Recency | Self::Similarity => Retention::Recency,
            Self::Uniform | Self::UniformSimilarity => Retention::Uniform,
            Self::Salience | Self::Mind | Self::Only(_) | Self::Without(_) => salient,
        };
        match self {
            Self::Recency => (memory.recent_share, memory.recall_share) = (1.0, 0.0),
            Self::Uniform | Self::Salience => memory.recall_share = 0.0,
            Self::Similarity => memory.recent_share = 1.0,
            Self::Only(number) => {
                let weight = memory.weights[number];
                memory.weights = [0.0; NUMBERS];
                memory.weights[number] = weight;
            }
            Self::Without(number) => memory.weights[number] = 0.0,
            Self::Unlimited | Self::UniformSimilarity | Self::Mind => {}
        }
    }
}

impl Named for RecallArm {
    const ALL: &'static [Self] = &[
        Self::Unlimited,
        Self::Recency,
        Self::Uniform,
        Self::Salience,
        Self::Similarity,
        Self::UniformSimilarity,
        Self::Mind,
        Self::Only(0),
        Self::Only(1),
        Self::Only(2),
        Self::Only(3),
        Self::Only(4),
        Self::Without(0),
        Self::Without(1),
        Self::Without(2),
        Self::Without(3),
        Self::Without(4),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Unlimited => "unlimited",
            Self::Recency => "recency",
            Self::Uniform => "uniform",
            Self::Salience => "salience",
            Self::Similarity => "similarity",
            Self::UniformSimilarity => "uniform-similarity",
            Self::Mind => "mind",
            Self::Only(0) => "only-surprise",
            Self::Only(1) => "only-novelty",
            Self::Only(2) => "only-arousal",
            Self::Only(3) => "only-reward",
            Self::Only(_) => "only-conflict",
            Self::Without(0) => "without-surprise",
            Self::Without(1) => "without-novelty",
            Self::Without(2) => "without-arousal",
            Self::Without(3) => "without-reward",
            Self::Without(_) => "without-conflict",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Unlimited => "A context that has room for everything",
            Self::Recency => "The newest segments stay, nothing comes back",
            Self::Uniform => "A uniform sample stays, nothing comes back",
            Self::Salience => "The most salient segments stay, nothing comes back",
            Self::Similarity => {
                "The newest are in memory, a question brings back what resembles it"
            }
            Self::UniformSimilarity => "A uniform sample is in memory, likewise",
            Self::Mind => "The most salient are in memory, likewise: the settings' own weights",
            Self::Only(_) => "As mind, by this number alone",
            Self::Without(_) => "As mind, without this number",
        }
    }
}
