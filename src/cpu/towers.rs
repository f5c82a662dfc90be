//! The towers that a run has, and what the mind lets them keep in memory.

use std::sync::Arc;

use sage_actors::config::TowerShape;
use sage_actors::protocol::{Modality, TowerDirective};

use crate::core::perception::{decoding_bytes, most_seconds};
use crate::core::ports::{
    BLIND, DEAF, EncodedImages, NO_EARS, NO_EYES, TowerError, TowerUse, Towers,
};
use crate::media::picture::ImagePatches;
use crate::media::sound::Mel;
use crate::model::audio::{self, AudioTower};
use crate::model::pieces::Pieces;
use crate::model::vision::{self, VisionError, VisionTower};
use crate::progress::TowerListener;
use crate::store::WeightSource;

/// Towers of which every piece is read when its turn comes, unless it may stay; one that is missing was not asked for.
pub struct TowerSet {
    audio: Option<AudioTower>,
    vision: Option<VisionTower>,
}

/// The towers of a run, with the source that their pieces are read from.
pub struct CpuTowers {
    source: Arc<dyn WeightSource>,
    set: TowerSet,
    /// What the mind said last.
    obeyed: Vec<TowerDirective>,
}

fn shape<P>(modality: Modality, pieces: &Pieces<P>) -> TowerShape {
    TowerShape {
        modality,
        piece_bytes: pieces.sizes().to_vec(),
    }
}

impl TowerSet {
    /// Those that `senses` names; no weight is read.
    ///
    /// # Errors
    /// When the model has no such tower, or only some of its tensors.
    pub fn new(source: &dyn WeightSource, senses: &[Modality]) -> Result<Self, TowerError> {
        let (mut audio, mut vision) = (None, None);
        if senses.contains(&Modality::Audio) {
            audio = Some(AudioTower::new(source)?.ok_or(NO_EARS)?);
        }
        if senses.contains(&Modality::Vision) {
            vision = Some(VisionTower::new(source)?.ok_or(NO_EYES)?);
        }
        Ok(Self { audio, vision })
    }

    /// As the mind knows them: a shape for every modality that can be perceived.
    pub fn shapes(&self) -> Vec<TowerShape> {
        let audio = self.audio.as_ref();
        let audio = audio.map(|tower| shape(Modality::Audio, tower.pieces()));
        let vision = self.vision.as_ref();
        let vision = vision.map(|tower| shape(Modality::Vision, tower.pieces()));
        audio.into_iter().chain(vision).collect()
    }

    /// Bytes that perceiving takes with no share of the pool at all: one piece, activations, what is handed on, and decoding, for
    /// sounds of `most_tokens` tokens and pictures of as many. Only one tower runs at a time.
    pub fn floor_bytes(&self, most_tokens: usize, hidden: usize) -> u64 {
        let audio = self.audio.as_ref().map_or(0, |tower| {
            let frames = most_seconds(most_tokens) as usize * 100;
            let largest = shape(Modality::Audio, tower.pieces()).largest_piece_bytes();
            largest + audio::workspace_bytes(tower.config(), frames)
        });
        let vision = self.vision.as_ref().map_or(0, |tower| {
            let config = tower.config();
            let patches = most_tokens * config.spatial_merge_size * config.spatial_merge_size;
            let largest = shape(Modality::Vision, tower.pieces()).largest_piece_bytes();
            largest + vision::workspace_bytes(config, patches)
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

    /// Bytes that all towers have read since the start.
    pub(super) fn bytes_read(&self) -> u64 {
        let audio = self.audio.as_ref().map(|tower| tower.pieces().counts());
        let vision = self.vision.as_ref().map(|tower| tower.pieces().counts());
        let counts = audio.into_iter().chain(vision);
        counts.map(|counts| counts.bytes_read).sum()
    }

    /// Bytes of all weights.
    pub fn total_bytes(&self) -> u64 {
        self.shapes().iter().map(TowerShape::bytes).sum()
    }

    /// From now on the first so many pieces of each tower stay in memory; what is beyond goes at once.
    pub(super) fn keep(&mut self, of_audio: usize, of_vision: usize) {
        if let Some(tower) = &mut self.audio {
            tower.pieces_mut().keep(of_audio);
        }
        if let Some(tower) = &mut self.vision {
            tower.pieces_mut().keep(of_vision);
        }
    }

    /// Rows of all clips, one after the other, `[tokens, hidden]`.
    pub(super) fn hear(
        &mut self,
        source: &dyn WeightSource,
        clips: &[Mel],
        listener: &mut dyn TowerListener,
    ) -> Result<Vec<f32>, TowerError> {
        if clips.is_empty() {
            return Ok(Vec::new());
        }
        let tower = self.audio.as_mut().ok_or(DEAF)?;
        let clips: Vec<&Mel> = clips.iter().collect();
        Ok(tower.encode(source, &clips, listener)?.concat())
    }

    /// Rows of all images, or of all videos; `name` goes before the names that the listener hears.
    pub(super) fn look(
        &mut self,
        source: &dyn WeightSource,
        patches: &ImagePatches,
        name: &str,
        listener: &mut dyn TowerListener,
    ) -> Result<EncodedImages, TowerError> {
        if patches.is_empty() {
            return Ok(EncodedImages::default());
        }
        let tower = self.vision.as_mut().ok_or(BLIND)?;
        let view = vision::VisionInput {
            values: &patches.values,
            grids: &patches.grids,
        };
        let mut named = Named { name, listener };
        let encoded = tower.encode(source, &view, &mut named);
        let encoded = encoded.map_err(|error| match error {
            VisionError::Load(error) => TowerError::Load(error),
            error => TowerError::Unsound(error.to_string()),
        })?;
        Ok(EncodedImages {
            merged: encoded.merged,
            deepstack: encoded.deepstack,
        })
    }
}

/// Who hears of results under their tower's name.
struct Named<'a> {
    name: &'a str,
    listener: &'a mut dyn TowerListener,
}

impl TowerListener for Named<'_> {
    fn tensor(&mut self, name: &str, values: &[f32]) {
        self.listener
            .tensor(&format!("{}.{name}", self.name), values);
    }

    fn piece(&mut self, at: usize, pieces: usize) {
        self.listener.piece(at, pieces);
    }
}

impl CpuTowers {
    /// Towers that read from `source`, of which nothing stays yet.
    pub fn new(source: Arc<dyn WeightSource>, set: TowerSet) -> Self {
        Self {
            source,
            set,
            obeyed: Vec::new(),
        }
    }

    /// What the mind said last of a tower; nothing of one that sleeps.
    fn directive(&self, modality: Modality) -> Option<TowerDirective> {
        let mut said = self.obeyed.iter();
        said.find(|directive| directive.modality == modality)
            .copied()
    }
}

impl Towers for CpuTowers {
    fn shapes(&self) -> Vec<TowerShape> {
        self.set.shapes()
    }

    fn obey(&mut self, directives: &[TowerDirective]) {
        self.obeyed = directives.to_vec();
        let kept = Modality::SENSES.map(|modality| self.directive(modality));
        let [of_audio, of_vision] = kept.map(|found| found.map_or(0, |d| d.pieces as usize));
        self.set.keep(of_audio, of_vision);
    }

    fn usage(&self, modality: Modality) -> TowerUse {
        let of = |resident_bytes, counts| TowerUse {
            resident_bytes,
            weight_bytes: self.directive(modality).map_or(0, |d| d.weight_bytes),
            counts,
        };
        let audio = self.set.audio.as_ref().map(AudioTower::pieces);
        let vision = self.set.vision.as_ref().map(VisionTower::pieces);
        let found = match modality {
            Modality::Text => None,
            Modality::Audio => audio.map(|pieces| of(pieces.resident_bytes(), pieces.counts())),
            Modality::Vision => vision.map(|pieces| of(pieces.resident_bytes(), pieces.counts())),
        };
        found.unwrap_or_default()
    }

    fn hear(
        &mut self,
        clips: &[Mel],
        listener: &mut dyn TowerListener,
    ) -> Result<Vec<f32>, TowerError> {
        self.set.hear(&*self.source, clips, listener)
    }

    fn look(
        &mut self,
        patches: &ImagePatches,
        name: &str,
        listener: &mut dyn TowerListener,
    ) -> Result<EncodedImages, TowerError> {
        self.set.look(&*self.source, patches, name, listener)
    }
}
