//! What hears and sees.

use crate::input::{Attributed, Fault};
use sage_actors::config::TowerShape;
use sage_actors::protocol::{Modality, TowerDirective};

use crate::media::picture::ImagePatches;
use crate::media::sound::Mel;
use crate::model::pieces::PieceCounts;
use crate::progress::TowerListener;
use crate::store::LoadError;

/// Why a tower does not perceive.
#[derive(Debug, thiserror::Error)]
pub enum TowerError {
    /// The model was opened without this sense.
    #[error("{what} cannot be perceived: the model was opened without {tower}; {hint}")]
    Asleep {
        /// What came.
        what: &'static str,
        /// What is missing.
        tower: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The model has no such tower.
    #[error(
        "the model has no {tower}, so it perceives no {what}: take a checkpoint that has one, or extract the store with it"
    )]
    NoTower {
        /// What is missing.
        tower: &'static str,
        /// What it would perceive.
        what: &'static str,
    },
    /// Weights.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What came cannot be encoded.
    #[error("{0}")]
    Unsound(String),
}

pub(crate) const NO_EARS: TowerError = TowerError::NoTower {
    tower: "audio tower",
    what: "sound",
};

pub(crate) const NO_EYES: TowerError = TowerError::NoTower {
    tower: "vision tower",
    what: "picture",
};

pub(crate) const DEAF: TowerError = TowerError::Asleep {
    what: "a sound",
    tower: "its audio tower",
    hint: "memory has to be planned for it (in a program: `.hears()`; in chat: --hear)",
};

pub(crate) const BLIND: TowerError = TowerError::Asleep {
    what: "a picture",
    tower: "its vision tower",
    hint: "memory has to be planned for it (in a program: `.sees()`; in chat: --see)",
};

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

/// What the vision tower makes of images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncodedImages {
    /// `[tokens, hidden]`, a token for every block of patches, by image, frame, row and column.
    pub merged: Vec<f32>,
    /// Of every deepstack level the same shape: what is added after the thinker's layer of that number.
    pub deepstack: Vec<Vec<f32>>,
}

/// The towers of a run; one that is missing was not asked for.
pub trait Towers: Send {
    /// As the mind knows them: a shape for every modality that can be perceived.
    fn shapes(&self) -> Vec<TowerShape>;

    /// Obeys the mind: what a tower may not keep goes back to the system.
    fn obey(&mut self, directives: &[TowerDirective]);

    /// What a tower holds and has read.
    fn usage(&self, modality: Modality) -> TowerUse;

    /// Rows of all clips, one after the other, `[tokens, hidden]`.
    ///
    /// # Errors
    /// When there is no such tower, or a weight cannot be read.
    fn hear(
        &mut self,
        clips: &[Mel],
        listener: &mut dyn TowerListener,
    ) -> Result<Vec<f32>, TowerError>;

    /// Rows of all images, or of all videos; `name` goes before the names that the listener hears.
    ///
    /// # Errors
    /// When there is no such tower, patches and grids do not match, or a weight cannot be read.
    fn look(
        &mut self,
        patches: &ImagePatches,
        name: &str,
        listener: &mut dyn TowerListener,
    ) -> Result<EncodedImages, TowerError>;

    /// Modalities that can be perceived.
    fn senses(&self) -> Vec<Modality> {
        self.shapes().iter().map(|shape| shape.modality).collect()
    }

    /// Bytes that all towers have read since the start.
    fn bytes_read(&self) -> u64 {
        let read = |modality| self.usage(modality).counts.bytes_read;
        Modality::SENSES.into_iter().map(read).sum()
    }
}

impl Attributed for TowerError {
    fn fault(&self) -> Fault {
        match self {
            Self::Load(error) => error.fault(),
            Self::Asleep { .. } | Self::NoTower { .. } | Self::Unsound(_) => Fault::Request,
        }
    }
}
