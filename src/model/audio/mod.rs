//! The audio tower: log-mel spectra to embeddings of the thinker.
//!
//! Its weights are read by the piece, so that any share of them may stay in memory: the stem, each encoder layer, the head.
//! Spans of a window's length go through a piece one after another; nothing but the row of tokens grows with the clip.

mod layer;
mod memory;
mod plan;
mod sizes;
mod stem;

use crate::checkpoint::config::{AudioConfig, ModelConfigError};
use crate::checkpoint::{Component, expected_tensors};
use crate::media::sound::{MEL_BINS, Mel};
use crate::progress::TowerListener;
use crate::spans;
use crate::store::WeightSource;

use super::load::{LoadError, Loader};
use super::pieces::Pieces;
use layer::{EncoderLayer, Head, PREFIX};
use plan::AudioPlan;
use stem::Stem;

pub use memory::workspace_bytes;
pub use sizes::token_count;

/// What is read at once.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // one of each at a time, and never moved: they are held behind an Arc
pub enum AudioPiece {
    /// Convolutions over a chunk of the spectrum.
    Stem(Stem),
    /// One layer of the encoder.
    Layer(EncoderLayer),
    /// The way out, to the thinker's width.
    Head(Head),
}

/// The audio tower, with the pieces of it that its share of memory has room for.
#[derive(Debug)]
pub struct AudioTower {
    config: AudioConfig,
    /// Stem, layers, head.
    pieces: Pieces<AudioPiece>,
}

impl AudioTower {
    /// The tower of a model; no weight is read, and none may stay before `pieces_mut().keep`. None where the model
    /// has no such tower, or a store was made without it.
    ///
    /// # Errors
    /// When a tensor is missing, misshapen or stored in a format without kernels, or when the model listens to something
    /// else than [`MEL_BINS`] mel bins.
    pub fn new(source: &dyn WeightSource) -> Result<Option<Self>, LoadError> {
        let Some(config) = &source.config().thinker.audio else {
            return Ok(None);
        };
        let names = source.tensor_names();
        if !names.iter().any(|name| name.starts_with(PREFIX)) {
            return Ok(None);
        }
        if config.num_mel_bins != MEL_BINS {
            return Err(LoadError::Config(ModelConfigError::Unsupported {
                key: "thinker_config.audio_config.num_mel_bins".into(),
                value: config.num_mel_bins.to_string(),
                supported: "128",
            }));
        }
        Ok(Some(Self {
            config: config.clone(),
            pieces: Pieces::new(piece_sizes(source, config.encoder_layers)?),
        }))
    }

    /// Its configuration.
    pub fn config(&self) -> &AudioConfig {
        &self.config
    }

    /// The pieces, in the order that they run in: stem, layers, head.
    pub fn pieces(&self) -> &Pieces<AudioPiece> {
        &self.pieces
    }

    /// As [`Self::pieces`], to set their share of memory or take their counts.
    pub fn pieces_mut(&mut self) -> &mut Pieces<AudioPiece> {
        &mut self.pieces
    }

    /// What the thinker hears of each clip: `[token_count, output_dim]`, in the order of `clips`. The clips of a call
    /// influence each other: the last chunk of each is padded to the longest of all.
    ///
    /// `listener` hears `audio.layer_in.0` and `audio.layer_out.i`, `[tokens of all clips, d_model]`, and `audio.output`,
    /// `[tokens of all clips, output_dim]`.
    ///
    /// Panics when a clip has not [`AudioConfig::num_mel_bins`] bins, or not `bins * frames` values.
    ///
    /// # Errors
    /// When a piece's weights cannot be read.
    pub fn encode(
        &mut self,
        source: &dyn WeightSource,
        clips: &[&Mel],
        listener: &mut dyn TowerListener,
    ) -> Result<Vec<Vec<f32>>, LoadError> {
        for clip in clips {
            assert_eq!(clip.bins, self.config.num_mel_bins, "mel bins of a clip");
            assert_eq!(
                clip.values.len(),
                clip.bins * clip.frames,
                "a clip's values"
            );
        }
        let plan = AudioPlan::of(&self.config, clips);
        if plan.tokens() == 0 {
            return Ok(clips.iter().map(|_| Vec::new()).collect());
        }
        let (config, loader) = (&self.config, Loader::of_tower(source));
        let mut scratch = Vec::with_capacity(plan.scratch(config));

        // In a block of its own: a piece that may not stay goes before the next comes.
        let mut x = {
            let _span = spans::piece("audio", 0).entered();
            let stem = self.pieces.get(0, listener, || {
                Ok::<_, LoadError>(AudioPiece::Stem(Stem::load(&loader, config)?))
            })?;
            let AudioPiece::Stem(stem) = &*stem else {
                unreachable!("the first piece is the stem");
            };
            stem.apply(clips, &plan, &mut scratch)
        };
        listener.tensor("audio.layer_in.0", &x);

        let width = config.d_model;
        for at in 0..config.encoder_layers {
            let _span = spans::piece("audio", 1 + at).entered();
            let layer = self.pieces.get(1 + at, listener, || {
                Ok::<_, LoadError>(AudioPiece::Layer(EncoderLayer::load(&loader, at, config)?))
            })?;
            let AudioPiece::Layer(layer) = &*layer else {
                unreachable!("piece {} is a layer", 1 + at);
            };
            for window in &plan.windows {
                layer.apply(
                    &mut x[window.start * width..window.end * width],
                    &mut scratch,
                );
            }
            listener.tensor(&format!("audio.layer_out.{at}"), &x);
        }

        let _span = spans::piece("audio", 1 + config.encoder_layers).entered();
        let head = self.pieces.get(1 + config.encoder_layers, listener, || {
            Ok::<_, LoadError>(AudioPiece::Head(Head::load(&loader, config)?))
        })?;
        let AudioPiece::Head(head) = &*head else {
            unreachable!("the last piece is the head");
        };
        let mut out = Vec::with_capacity(plan.tokens() * config.output_dim);
        for window in &plan.windows {
            let x = &x[window.start * width..window.end * width];
            out.extend(head.apply(x, &mut scratch));
        }
        listener.tensor("audio.output", &out);
        Ok(plan.by_clip(&out, config.output_dim))
    }
}

/// Bytes in memory of the stem, each layer and the head.
fn piece_sizes(source: &dyn WeightSource, layers: usize) -> Result<Vec<u64>, LoadError> {
    let loader = Loader::of_tower(source);
    let mut sizes = vec![0; layers + 2];
    for tensor in expected_tensors(source.config()) {
        if tensor.component != Component::Audio {
            continue;
        }
        let name = tensor.name.strip_prefix(PREFIX).unwrap_or(&tensor.name);
        let mut parts = name.split('.').skip(1);
        let piece = match (parts.next(), parts.next()) {
            (Some("layers"), Some(layer)) => 1 + layer.parse::<usize>().unwrap_or(0),
            (Some("ln_post" | "proj1" | "proj2"), _) => layers + 1,
            _ => 0,
        };
        sizes[piece] += loader.memory_bytes(&tensor.name, &tensor.shape)?;
    }
    Ok(sizes)
}
