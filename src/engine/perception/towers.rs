//! The towers that a run has, and what the mind lets them keep in memory.

use sage_actors::config::TowerShape;
use sage_actors::protocol::{Modality, TowerDirective};

use super::PerceptionError;
use super::sense::decoding_bytes;
use crate::media::picture::Patches;
use crate::media::sound::{MEL_BINS, Mel};
use crate::model::audio::{self, AudioTower};
use crate::model::pieces::PieceCounts;
use crate::model::vision::{self, Encoded, VisionTower};
use crate::store::WeightSource;

/// What a tower holds and has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TowerUse {
    /// Bytes of its weights that are in memory.
    pub resident_bytes: u64,
    /// Bytes that it may keep.
    pub weight_bytes: u64,
    /// Pieces that were in memory, those that were read, and their bytes, since the start.
    pub counts: PieceCounts,
}

/// The towers of a run; one that is missing was not asked for.
#[derive(Debug, Default)]
pub struct Towers {
    audio: Option<AudioTower>,
    vision: Option<VisionTower>,
    uses: [TowerUse; 2],
    /// Bytes that were read and that the energy's books do not know of yet.
    unbooked_bytes: u64,
}

impl Towers {
    /// Those that `senses` names; no weight is read.
    ///
    /// # Errors
    /// When the model has no such tower, or only some of its tensors.
    pub fn new(source: &dyn WeightSource, senses: &[Modality]) -> Result<Self, PerceptionError> {
        let mut towers = Self::default();
        if senses.contains(&Modality::Audio) {
            let tower = AudioTower::new(source)?;
            let tower = tower.filter(|tower| tower.config().num_mel_bins == MEL_BINS);
            towers.audio = Some(tower.ok_or(NO_EARS)?);
        }
        if senses.contains(&Modality::Vision) {
            towers.vision = Some(VisionTower::new(source)?.ok_or(NO_EYES)?);
        }
        Ok(towers)
    }

    /// Modalities that can be perceived.
    pub fn senses(&self) -> Vec<Modality> {
        self.shapes().iter().map(|shape| shape.modality).collect()
    }

    /// As the mind knows them.
    pub fn shapes(&self) -> Vec<TowerShape> {
        let audio = self.audio.as_ref().map(|tower| TowerShape {
            modality: Modality::Audio,
            bytes: tower.pieces().total_bytes(),
            piece_bytes: tower.pieces().largest_bytes(),
        });
        let vision = self.vision.as_ref().map(|tower| TowerShape {
            modality: Modality::Vision,
            bytes: tower.pieces().total_bytes(),
            piece_bytes: tower.pieces().largest_bytes(),
        });
        audio.into_iter().chain(vision).collect()
    }

    /// Bytes that perceiving takes with no share of the pool at all: one piece, activations, what is handed on, and decoding, for
    /// sounds of `most_tokens` tokens and pictures of as many. Only one tower runs at a time.
    pub fn floor_bytes(&self, most_tokens: usize, hidden: usize) -> u64 {
        let audio = self.audio.as_ref().map_or(0, |tower| {
            let frames = most_tokens.div_ceil(13) * 100;
            tower.pieces().largest_bytes() + audio::workspace_bytes(tower.config(), frames)
        });
        let vision = self.vision.as_ref().map_or(0, |tower| {
            let config = tower.config();
            let patches = most_tokens * config.spatial_merge_size * config.spatial_merge_size;
            tower.pieces().largest_bytes() + vision::workspace_bytes(config, patches)
        });
        if self.audio.is_none() && self.vision.is_none() {
            return 0;
        }
        let config = self.vision.as_ref().map(VisionTower::config);
        let levels = config.map_or(0, |config| config.deepstack_visual_indexes.len());
        // What was perceived of the observation that is read, by both senses, and of one that it interrupted.
        let rows =
            usize::from(self.audio.is_some()) + usize::from(self.vision.is_some()) * (1 + levels);
        let scenes = 2 * (most_tokens * hidden * rows * size_of::<f32>()) as u64;
        audio.max(vision) + scenes + decoding_bytes(self.audio.is_some(), config, most_tokens)
    }

    /// Bytes of all weights.
    pub fn total_bytes(&self) -> u64 {
        self.shapes().iter().map(|shape| shape.bytes).sum()
    }

    /// Obeys the mind: what a tower may not keep goes back to the system.
    pub fn obey(&mut self, directives: &[TowerDirective]) {
        let of = |modality| {
            let found = directives.iter().find(|d| d.modality == modality);
            found.map_or(0, |directive| directive.weight_bytes)
        };
        if let Some(tower) = &mut self.audio {
            tower.pieces_mut().set_budget(of(Modality::Audio));
        }
        if let Some(tower) = &mut self.vision {
            tower.pieces_mut().set_budget(of(Modality::Vision));
        }
        for (at, modality) in Modality::SENSES.into_iter().enumerate() {
            self.uses[at].weight_bytes = of(modality);
        }
        self.note();
    }

    /// What a tower holds and has read.
    pub fn usage(&self, modality: Modality) -> TowerUse {
        let at = Modality::SENSES.iter().position(|sense| *sense == modality);
        at.map(|at| self.uses[at]).unwrap_or_default()
    }

    /// Bytes that were read since the last time this was asked.
    pub(super) fn take_unbooked_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.unbooked_bytes)
    }

    /// The audio tower.
    pub(super) fn ears(&self) -> Result<&AudioTower, PerceptionError> {
        self.audio.as_ref().ok_or(DEAF)
    }

    /// The vision tower.
    pub(super) fn eyes(&self) -> Result<&VisionTower, PerceptionError> {
        self.vision.as_ref().ok_or(BLIND)
    }

    /// Rows of all clips, one after the other, `[tokens, hidden]`.
    pub(super) fn hear(
        &mut self,
        source: &dyn WeightSource,
        clips: &[Mel],
        probe: &mut dyn FnMut(&str, &[f32]),
    ) -> Result<Vec<f32>, PerceptionError> {
        if clips.is_empty() {
            return Ok(Vec::new());
        }
        let tower = self.audio.as_mut().ok_or(DEAF)?;
        let clips: Vec<&Mel> = clips.iter().collect();
        let heard = tower.encode(source, &clips, probe)?.concat();
        self.note();
        Ok(heard)
    }

    /// Rows of all pictures, or of all videos; `name` goes before the names that the probe hears.
    pub(super) fn look(
        &mut self,
        source: &dyn WeightSource,
        patches: &Patches,
        name: &str,
        probe: &mut dyn FnMut(&str, &[f32]),
    ) -> Result<Encoded, PerceptionError> {
        if patches.is_empty() {
            return Ok(Encoded::default());
        }
        let tower = self.vision.as_mut().ok_or(BLIND)?;
        let view = vision::Patches {
            values: &patches.values,
            grids: &patches.grids,
        };
        let mut named = |tensor: &str, values: &[f32]| probe(&format!("{name}.{tensor}"), values);
        let seen = tower.encode(source, &view, &mut named)?;
        self.note();
        Ok(seen)
    }

    /// Books what the towers read.
    fn note(&mut self) {
        let audio = self.audio.as_mut().map(|tower| {
            let pieces = tower.pieces_mut();
            (pieces.take_counts(), pieces.resident_bytes())
        });
        let vision = self.vision.as_mut().map(|tower| {
            let pieces = tower.pieces_mut();
            (pieces.take_counts(), pieces.resident_bytes())
        });
        for (uses, (counts, resident_bytes)) in self
            .uses
            .iter_mut()
            .zip([audio.unwrap_or_default(), vision.unwrap_or_default()])
        {
            uses.resident_bytes = resident_bytes;
            uses.counts.hits += counts.hits;
            uses.counts.misses += counts.misses;
            uses.counts.bytes_read += counts.bytes_read;
            self.unbooked_bytes += counts.bytes_read;
        }
    }
}

pub(super) const NO_EARS: PerceptionError = PerceptionError::NoTower {
    tower: "audio tower (of 128 mel bins)",
    what: "sound",
};

pub(super) const NO_EYES: PerceptionError = PerceptionError::NoTower {
    tower: "vision tower",
    what: "picture",
};

const DEAF: PerceptionError = PerceptionError::Asleep {
    what: "a sound",
    tower: "its audio tower",
    hint: "memory has to be planned for it (in a program: `.hears()`; in chat: --hear)",
};

const BLIND: PerceptionError = PerceptionError::Asleep {
    what: "a picture",
    tower: "its vision tower",
    hint: "memory has to be planned for it (in a program: `.sees()`; in chat: --see)",
};
