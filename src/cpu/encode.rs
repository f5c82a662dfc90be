//! Sounds and pictures through the towers alone: no decoder is loaded, no expert read, and no mind asked, for of a tower that
//! runs once nothing is worth keeping. It reads every piece when its turn comes and lets it go, unless it is told to keep all.

use sage_actors::protocol::Modality;

use super::towers::TowerSet;
use crate::core::memory::resident_set;
use crate::core::perception::{DecodedMedia, Features, PerceptionError};
use crate::store::WeightSource;

/// What is encoded of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// `[tokens, hidden]`: rows that would stand for it among a prompt's embeddings.
    pub rows: Vec<f32>,
    /// Of every deepstack level the same shape; none of a sound.
    pub deepstack: Vec<Vec<f32>>,
    /// Tokens that it takes in a prompt.
    pub tokens: usize,
    /// The thinker's width.
    pub hidden: usize,
}

/// The embeddings of one observation, in the order of its sounds and of its pictures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    /// Of sounds. Those of one observation are padded to the longest among them, as the reference has it.
    pub sounds: Vec<Embedding>,
    /// Of pictures.
    pub pictures: Vec<Embedding>,
    /// Bytes of the towers' weights that were read.
    pub read_bytes: u64,
}

/// Towers without a decoder behind them.
pub struct Encoder<'a> {
    source: &'a dyn WeightSource,
    towers: TowerSet,
    hidden: usize,
}

impl<'a> Encoder<'a> {
    /// Of the senses named; no weight is read.
    ///
    /// # Errors
    /// When the model has no such tower, or only some of its tensors.
    pub fn new(source: &'a dyn WeightSource, senses: &[Modality]) -> Result<Self, PerceptionError> {
        Ok(Self {
            source,
            towers: TowerSet::new(source, senses)?,
            hidden: source.config().thinker.text.hidden_size,
        })
    }

    /// Bytes of all weights of these towers.
    pub fn weight_bytes(&self) -> u64 {
        self.towers.total_bytes()
    }

    /// Bytes that encoding takes at most beside the process itself and the files: one piece of a tower, what it computes with,
    /// decoding, and what comes of it, for sounds of `most_tokens` tokens and pictures of as many.
    pub fn work_bytes(&self, most_tokens: usize) -> u64 {
        self.towers.floor_bytes(most_tokens, self.hidden)
    }

    /// Bytes that the process has now.
    pub fn process_bytes() -> u64 {
        resident_set().0
    }

    /// From now on every piece of these towers stays in memory once it was read.
    #[cfg(feature = "cli")]
    pub fn keep_weights(&mut self) {
        self.towers.keep(usize::MAX, usize::MAX);
    }

    /// Encodes what was decoded.
    ///
    /// # Errors
    /// When a weight cannot be read, or something came for which there is no tower.
    pub fn encode(&mut self, sensed: &DecodedMedia) -> Result<Embeddings, PerceptionError> {
        let Features { clips, images, .. } = &sensed.features;
        let mut ignored = |_: &str, _: &[f32]| ();
        let heard = self.towers.hear(self.source, clips, &mut ignored)?;
        let seen = self.towers.look(self.source, images, "", &mut ignored)?;
        let hidden = self.hidden;
        let sounds = cut(&heard, &sensed.sound_tokens, hidden);
        let pictures = cut(&seen.merged, &sensed.picture_tokens, hidden);
        let levels: Vec<Vec<Vec<f32>>> = seen
            .deepstack
            .iter()
            .map(|level| cut(level, &sensed.picture_tokens, hidden))
            .collect();
        let embedding = |rows: Vec<f32>, deepstack| Embedding {
            tokens: rows.len() / hidden,
            hidden,
            rows,
            deepstack,
        };
        Ok(Embeddings {
            sounds: sounds
                .into_iter()
                .map(|rows| embedding(rows, Vec::new()))
                .collect(),
            pictures: pictures
                .into_iter()
                .enumerate()
                .map(|(at, rows)| {
                    let deepstack = levels.iter().map(|level| level[at].clone());
                    embedding(rows, deepstack.collect())
                })
                .collect(),
            read_bytes: self.towers.bytes_read(),
        })
    }
}

/// Rows `[tokens of all, hidden]`, one piece for each.
fn cut(rows: &[f32], tokens: &[usize], hidden: usize) -> Vec<Vec<f32>> {
    let mut first = 0;
    let one = |tokens: &usize| {
        let begin = first * hidden;
        first += tokens;
        rows[begin..first * hidden].to_vec()
    };
    tokens.iter().map(one).collect()
}
