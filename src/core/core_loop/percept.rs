//! Sounds and pictures of a job.

use sage_actors::protocol::Senses;

use crate::core::perception::Features;
use crate::media::medium::Medium;
use crate::model::positions::MediaGrids;

/// What a job is to perceive. While it waits it holds the files alone: what they are decoded to is many times as large.
pub(super) struct Percept {
    pub(super) media: Vec<Medium>,
    /// Where whoever asked has decoded them already.
    pub(super) decoded: Option<Features>,
    /// Where its rows stand, once it is perceived.
    pub(super) grids: MediaGrids,
    /// Salience by modality in the tick of its arrival: known from then on, so that how the prompt is cut into steps changes nothing.
    pub(super) felt: Option<Senses>,
}

impl Percept {
    pub(super) fn new(media: Vec<Medium>) -> Self {
        Self {
            media,
            decoded: None,
            grids: MediaGrids::default(),
            felt: None,
        }
    }

    /// The same, decoded already.
    pub(super) fn of_decoded(self, decoded: Option<Features>) -> Self {
        Self { decoded, ..self }
    }
}
