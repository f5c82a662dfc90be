//! What an engine makes of sounds and pictures: where their tokens stand, and the rows that stand for them.

use std::sync::Arc;

use sage_actors::protocol::{Modality, Senses};

use super::error::PerceptionError;
use super::modalities;
use super::sense::{DecodedMedia, Features, sense};
use crate::core::engine::Engine;
use crate::core::error::EngineError;
use crate::core::ports::{BLIND, DEAF};
use crate::core::scene::Scene;
use crate::media::medium::{Medium, MediumKind};
use crate::model::Positions;
use crate::model::positions::media_positions;
use crate::progress::TowerListener;

impl Engine {
    /// As [`sense`], for what this engine can perceive.
    ///
    /// # Errors
    /// As [`sense`], and when the model was opened without the sense.
    pub fn sense(&self, media: &[Medium], urgency: f32) -> Result<DecodedMedia, PerceptionError> {
        let senses = self.towers().senses();
        for medium in media {
            match medium.kind {
                MediumKind::Sound if !senses.contains(&Modality::Audio) => return Err(DEAF.into()),
                MediumKind::Picture if !senses.contains(&Modality::Vision) => {
                    return Err(BLIND.into());
                }
                _ => {}
            }
        }
        sense(&*self.source, media, urgency, self.media_tokens())
    }

    /// Where the tokens of a prompt stand, and what a token's position is above its number behind it. No weight is read: so it can be
    /// asked before a prompt is accepted.
    ///
    /// # Errors
    /// When tokens and media do not match.
    pub fn media_positions(
        &self,
        tokens: &[u32],
        features: &Features,
    ) -> Result<(Positions, f32), PerceptionError> {
        let grids = features.grids();
        Ok(media_positions(
            tokens,
            &self.source.config().thinker,
            &grids,
        )?)
    }

    /// What the towers make of a prompt's sounds and pictures, and where its tokens stand; `tokens` with every placeholder
    /// repeated. `listener` hears of the towers' pieces, and of their intermediate results by the golden files' names.
    ///
    /// # Errors
    /// When the model was opened without the sense, tokens and media do not match, or a weight cannot be read.
    pub fn perceive(
        &mut self,
        tokens: &[u32],
        features: &Features,
        felt: Option<Senses>,
        listener: &mut dyn TowerListener,
    ) -> Result<Arc<Scene>, EngineError> {
        let config = self.source.config().thinker.clone();
        // Before any weight is read: it says where tokens and media do not match.
        let (positions, position_delta) = self.media_positions(tokens, features)?;
        let towers = &mut self.body.towers;
        let before = towers.bytes_read();
        let perceive = PerceptionError::from;
        let heard = towers.hear(&features.clips, listener).map_err(perceive)?;
        let images = towers.look(&features.images, "vision_image", listener);
        let images = images.map_err(perceive)?;
        let videos = towers.look(&features.videos, "vision_video", listener);
        let videos = videos.map_err(perceive)?;
        let read_bytes = towers.bytes_read() - before;
        self.clock.spend(0.0, read_bytes);

        let hidden = self.text_config().hidden_size;
        let firsts = [
            0,
            heard.len() / hidden,
            (heard.len() + images.merged.len()) / hidden,
        ];
        let pads = [
            config.audio_token_id,
            config.image_token_id,
            config.video_token_id,
        ];
        let mut next = firsts;
        let rows: Vec<Option<usize>> = tokens
            .iter()
            .map(|id| {
                let kind = pads.iter().position(|pad| *pad == Some(*id))?;
                next[kind] += 1;
                Some(next[kind] - 1)
            })
            .collect();
        // Pictures' rows come behind the sounds', and the levels hold pictures alone.
        let deep_rows = rows
            .iter()
            .map(|row| row.and_then(|row| row.checked_sub(firsts[1])))
            .collect();
        let deepstack = levels(images.deepstack, videos.deepstack);
        let mut embeds = heard;
        embeds.extend(images.merged);
        embeds.extend(videos.merged);
        Ok(Arc::new(Scene {
            modalities: modalities(&config, tokens),
            rows,
            embeds,
            deep_rows,
            deepstack,
            positions,
            position_delta,
            felt,
        }))
    }
}

/// Level by level, the pictures' rows and then the videos'; either may have none.
fn levels(images: Vec<Vec<f32>>, videos: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let count = images.len().max(videos.len());
    let (mut images, mut videos) = (images.into_iter(), videos.into_iter());
    (0..count)
        .map(|_| {
            let mut level = images.next().unwrap_or_default();
            level.extend(videos.next().unwrap_or_default());
            level
        })
        .collect()
}
