//! The vision tower (`thinker.visual`): patches of pictures and video to rows of the thinker's width.
//!
//! It runs piece by piece, so that of its weights only a share needs to be in memory: the patch embedding with the table of
//! positions, every block, every deepstack merger behind the block that it listens to, and the merger at the end.

mod error;
mod grid;
mod patches;
mod piece;
mod rows;

use crate::checkpoint::config::VisionConfig;
use crate::kernels::panel_bytes;
use crate::progress::TowerListener;
use crate::spans;
use crate::store::WeightSource;

use super::load::LoadError;
use super::pieces::Pieces;
use grid::Layout;
use piece::TowerStep;
use rows::{ROWS, rows_through};

pub use error::VisionError;
pub use patches::VisionInput;
pub use piece::VisionPiece;

/// What the tower says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// `[tokens, out_hidden_size]`, a token for every block of patches, by picture, frame, row and column.
    pub merged: Vec<f32>,
    /// Of every deepstack level the same shape: what is added after the thinker's layer of that number.
    pub deepstack: Vec<Vec<f32>>,
}

/// The vision tower, with as many of its weights in memory as its budget allows.
#[derive(Debug)]
pub struct VisionTower {
    config: VisionConfig,
    steps: Vec<TowerStep>,
    pieces: Pieces<VisionPiece>,
}

impl VisionTower {
    /// Learns the sizes of the pieces, and reads no weight. None where the model has no vision tower: its configuration
    /// states none, or (of a store that left it out) no tensor of it is there.
    ///
    /// # Errors
    /// When only some of its tensors are there.
    pub fn new(source: &dyn WeightSource) -> Result<Option<Self>, LoadError> {
        let Some(config) = source.config().thinker.vision.clone() else {
            return Ok(None);
        };
        let mut names = source.tensor_names().into_iter();
        if !names.any(|name| name.starts_with(piece::PREFIX)) {
            return Ok(None);
        }
        let steps = piece::steps(&config);
        let sizes = piece::sizes(source, &steps)?;
        Ok(Some(Self {
            config,
            steps,
            pieces: Pieces::new(sizes),
        }))
    }

    /// The pieces: their sizes, and what was read of them.
    pub fn pieces(&self) -> &Pieces<VisionPiece> {
        &self.pieces
    }

    /// As [`Self::pieces`], to set a budget or take the counts.
    pub fn pieces_mut(&mut self) -> &mut Pieces<VisionPiece> {
        &mut self.pieces
    }

    /// Its configuration.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Encodes the patches of one call. `listener` hears of every intermediate result: `patch_embed` (before positions),
    /// `layer_in.0`, `layer_out.{block}`, `deepstack.{level}` and `merged`.
    ///
    /// # Errors
    /// When the patches do not fit the grids or the tower, or a weight cannot be read.
    pub fn encode(
        &mut self,
        source: &dyn WeightSource,
        patches: &VisionInput<'_>,
        listener: &mut dyn TowerListener,
    ) -> Result<Encoded, VisionError> {
        let layout = Layout::new(&self.config, patches)?;
        let (config, pieces) = (&self.config, &mut self.pieces);
        let mut encoded = Encoded::default();
        if layout.patches() == 0 {
            encoded.deepstack = vec![vec![]; config.deepstack_visual_indexes.len()];
            return Ok(encoded);
        }
        let mut scratch = Vec::new();
        let mut x = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            let _span = spans::piece("vision", at).entered();
            let piece = pieces.get(at, listener, || piece::load(source, config, *step))?;
            match &*piece {
                VisionPiece::Embed { proj, pos_embed } => {
                    x = rows_through(proj, patches.values, &mut scratch);
                    listener.tensor("patch_embed", &x);
                    layout.add_positions(pos_embed.view(), &mut x);
                    listener.tensor("layer_in.0", &x);
                }
                VisionPiece::Block(block) => {
                    block.apply(&mut x, config.num_heads, &layout, &mut scratch);
                    listener.tensor(&step.name(), &x);
                }
                VisionPiece::Merger(merger) => {
                    let rows = merger.apply(&x, &mut scratch);
                    listener.tensor(&step.name(), &rows);
                    match step {
                        TowerStep::Deepstack { .. } => encoded.deepstack.push(rows),
                        _ => encoded.merged = rows,
                    }
                }
            }
        }
        Ok(encoded)
    }
}

/// Bytes of what [`VisionTower::encode`] computes with, at most, for `most_patches` patches in one call: activations,
/// angles and results, not the patches themselves and not the weights.
pub fn workspace_bytes(config: &VisionConfig, most_patches: usize) -> u64 {
    let n = most_patches as u64;
    let wide = |numbers: usize| numbers as u64;
    let (hidden, inner) = (wide(config.hidden_size), wide(config.intermediate_size));
    let (out, rows) = (wide(config.out_hidden_size), ROWS as u64);
    let block = wide(config.spatial_merge_size * config.spatial_merge_size);
    let merged = block * hidden;
    // The residual stream; cosine and sine of half a head; what is handed back; a row and a column of every patch.
    let results = (1 + wide(config.deepstack_visual_indexes.len())) * n.div_ceil(block) * out;
    let standing = n * (hidden + hidden / wide(config.num_heads) + 4) + results;
    // Queries, keys, values and their mixture, and a row of scores for every thread.
    let threads = rayon::current_num_threads() as u64;
    let attention = n * (4 * hidden + threads);
    // Some rows on their way through a layer: normed, and their product.
    let through = |from: u64, to: u64| rows * (from + to);
    let projection = through(hidden, 3 * hidden);
    let feed_forward = through(hidden, inner) + through(0, hidden);
    let merger = through(merged, merged) + through(0, out);
    let widest = projection.max(feed_forward).max(merger);
    // What any of them is laid out in for its product.
    let most_cols = merged.max(inner).max(hidden) as usize;
    let patch = config.in_channels * config.temporal_patch_size * config.patch_size.pow(2);
    let layers = panel_bytes(ROWS, most_cols);
    let panel = layers.max(panel_bytes(most_patches, patch)) as u64;
    (standing + attention + widest) * size_of::<f32>() as u64 + panel
}
