//! The tower's pieces: which tensors belong to each, and what each computes.

use rayon::prelude::*;

use super::grid::Layout;
use super::rows::{ROWS, add_through};
use crate::checkpoint::config::VisionConfig;
use crate::checkpoint::{Component, expected_tensors};
use crate::host_memory::round_up_to_page;
use crate::kernels::Matrix;
use crate::kernels::pointwise::{add_scaled, gelu, gelu_tanh, rotate_half};
use crate::model::attention::Projection;
use crate::model::encoder::{LayerNorm, attend_within};
use crate::model::load::{LoadError, Loader};
use crate::store::WeightSource;

/// How the names of all its tensors begin.
pub(super) const PREFIX: &str = "thinker.visual.";

/// Of every norm in the tower.
const EPS: f32 = 1e-6;

/// A piece's place in the tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TowerStep {
    /// Patch embedding and table of positions.
    Embed,
    /// A block.
    Block {
        /// Its number.
        index: usize,
    },
    /// A merger of the block before it.
    Deepstack {
        /// Its number.
        level: usize,
    },
    /// The merger at the end.
    Merge,
}

impl TowerStep {
    /// What its result is called.
    pub(super) fn name(self) -> String {
        match self {
            TowerStep::Embed => "layer_in.0".into(),
            TowerStep::Block { index } => format!("layer_out.{index}"),
            TowerStep::Deepstack { level } => format!("deepstack.{level}"),
            TowerStep::Merge => "merged".into(),
        }
    }

    /// How the names of its tensors begin, behind [`PREFIX`].
    fn prefixes(self) -> Vec<String> {
        match self {
            TowerStep::Embed => vec!["patch_embed.".into(), "pos_embed.".into()],
            TowerStep::Block { index } => vec![format!("blocks.{index}.")],
            TowerStep::Deepstack { level } => vec![format!("merger_list.{level}.")],
            TowerStep::Merge => vec!["merger.".into()],
        }
    }
}

/// All steps, in the order that they run in.
pub(super) fn steps(config: &VisionConfig) -> Vec<TowerStep> {
    let levels = &config.deepstack_visual_indexes;
    let mut steps = vec![TowerStep::Embed];
    for index in 0..config.depth {
        steps.push(TowerStep::Block { index });
        let level = levels.iter().position(|after| *after == index);
        steps.extend(level.map(|level| TowerStep::Deepstack { level }));
    }
    steps.push(TowerStep::Merge);
    steps
}

/// Bytes of every piece in memory: matrices as they are stored, in whole pages; vectors widened.
pub(super) fn sizes(source: &dyn WeightSource, steps: &[TowerStep]) -> Result<Vec<u64>, LoadError> {
    let mut expected = expected_tensors(source.config());
    expected.retain(|tensor| tensor.component == Component::Vision);
    let size = |step: &TowerStep| {
        let mut bytes = 0;
        let prefixes = step.prefixes();
        for tensor in &expected {
            let name = tensor.name.strip_prefix(PREFIX).unwrap_or(&tensor.name);
            if !prefixes.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            let stored = source.tensor(&tensor.name)?;
            bytes += match tensor.shape[..] {
                [len] => len * size_of::<f32>(),
                _ => round_up_to_page(stored.bytes as usize),
            };
        }
        Ok(bytes as u64)
    };
    steps.iter().map(size).collect()
}

/// Weights that come and go together.
#[derive(Debug)]
pub enum VisionPiece {
    /// The way in.
    Embed {
        /// The convolution's kernels, a row each: `[hidden, channels * temporal_patch_size * patch_size^2]`.
        proj: Projection,
        /// `[num_position_embeddings, hidden]`.
        pos_embed: Matrix,
    },
    /// A block.
    Block(Box<VisionBlock>),
    /// A merger.
    Merger(Box<Merger>),
}

/// `blocks.{n}`.
#[derive(Debug)]
pub struct VisionBlock {
    norm1: LayerNorm,
    /// Queries, keys and values, one below the other.
    qkv: Projection,
    proj: Projection,
    norm2: LayerNorm,
    fc1: Projection,
    fc2: Projection,
}

/// `merger` or `merger_list.{n}`.
#[derive(Debug)]
pub struct Merger {
    /// Of a patch in the last one, of a whole block of patches in the others.
    pub(super) norm: LayerNorm,
    pub(super) fc1: Projection,
    pub(super) fc2: Projection,
}

/// Reads the weights of one step.
pub(super) fn load(
    source: &dyn WeightSource,
    config: &VisionConfig,
    step: TowerStep,
) -> Result<VisionPiece, LoadError> {
    let loader = Loader::of_tower(source);
    let hidden = config.hidden_size;
    let merged = hidden * config.spatial_merge_size * config.spatial_merge_size;
    Ok(match step {
        TowerStep::Embed => {
            let (patch, name) = (config.patch_size, format!("{PREFIX}patch_embed.proj"));
            let channels = config.in_channels;
            let kernel = [hidden, channels, config.temporal_patch_size, patch, patch];
            let proj = Projection {
                weight: loader.flattened(&format!("{name}.weight"), &kernel)?,
                bias: Some(loader.vector(&format!("{name}.bias"), hidden)?),
            };
            let table = format!("{PREFIX}pos_embed.weight");
            let pos_embed = loader.matrix(&table, config.num_position_embeddings, hidden)?;
            VisionPiece::Embed { proj, pos_embed }
        }
        TowerStep::Block { index } => {
            VisionPiece::Block(Box::new(VisionBlock::load(&loader, config, index)?))
        }
        TowerStep::Deepstack { level } => {
            let name = format!("{PREFIX}merger_list.{level}");
            VisionPiece::Merger(Box::new(Merger::load(&loader, config, &name, merged)?))
        }
        TowerStep::Merge => {
            let name = format!("{PREFIX}merger");
            VisionPiece::Merger(Box::new(Merger::load(&loader, config, &name, hidden)?))
        }
    })
}

impl Merger {
    fn load(
        loader: &Loader<'_>,
        config: &VisionConfig,
        name: &str,
        normed: usize,
    ) -> Result<Self, LoadError> {
        let merged = config.hidden_size * config.spatial_merge_size * config.spatial_merge_size;
        let out = config.out_hidden_size;
        Ok(Self {
            norm: LayerNorm::load(loader, &format!("{name}.ln_q"), normed, EPS)?,
            fc1: loader.projection(&format!("{name}.mlp.0"), merged, merged, true)?,
            fc2: loader.projection(&format!("{name}.mlp.2"), out, merged, true)?,
        })
    }
}

impl VisionBlock {
    fn load(loader: &Loader<'_>, config: &VisionConfig, index: usize) -> Result<Self, LoadError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("{PREFIX}blocks.{index}.{part}");
        Ok(Self {
            norm1: LayerNorm::load(loader, &name("norm1"), hidden, EPS)?,
            qkv: loader.projection(&name("attn.qkv"), 3 * hidden, hidden, true)?,
            proj: loader.projection(&name("attn.proj"), hidden, hidden, true)?,
            norm2: LayerNorm::load(loader, &name("norm2"), hidden, EPS)?,
            fc1: loader.projection(&name("mlp.linear_fc1"), inner, hidden, true)?,
            fc2: loader.projection(&name("mlp.linear_fc2"), hidden, inner, true)?,
        })
    }

    /// `x += proj(attention(norm1(x)))`, then `x += fc2(gelu_tanh(fc1(norm2(x))))`: x `[patches, hidden]`.
    pub(super) fn apply(
        &self,
        x: &mut [f32],
        heads: usize,
        layout: &Layout,
        scratch: &mut Vec<f32>,
    ) {
        let mixed = self.attend(x, heads, layout, scratch);
        add_through(&self.proj, &mixed, x, scratch);
        drop(mixed);
        let hidden = self.proj.weight.rows();
        for x in x.chunks_mut(ROWS * hidden) {
            let rows = x.len() / hidden;
            let mut inner = self.fc1.apply(&self.norm2.apply(x), rows, scratch);
            each(&mut inner, gelu_tanh);
            add_scaled(x, &self.fc2.apply(&inner, rows, scratch), 1.0);
        }
    }

    /// What every patch takes from the patches of its own frame.
    fn attend(&self, x: &[f32], heads: usize, layout: &Layout, scratch: &mut Vec<f32>) -> Vec<f32> {
        let hidden = self.proj.weight.rows();
        let empty = || Vec::with_capacity(x.len());
        let (mut q, mut k, mut v) = (empty(), empty(), empty());
        for x in x.chunks(ROWS * hidden) {
            let normed = self.norm1.apply(x);
            let qkv = self.qkv.apply(&normed, x.len() / hidden, scratch);
            for row in qkv.chunks_exact(3 * hidden) {
                q.extend_from_slice(&row[..hidden]);
                k.extend_from_slice(&row[hidden..2 * hidden]);
                v.extend_from_slice(&row[2 * hidden..]);
            }
        }
        let (dim, angles) = (hidden / heads, layout.angles());
        for x in [&mut q, &mut k] {
            for (at, head) in x.chunks_exact_mut(dim).enumerate() {
                let turn = at / heads * angles.half..(at / heads + 1) * angles.half;
                rotate_half(head, &angles.cos[turn.clone()], &angles.sin[turn]);
            }
        }
        attend_within(q, k, v, heads, dim, layout.frames())
    }
}

impl Merger {
    /// Rows of patches `x`, consecutive ones merged by the block, to rows of the thinker's width.
    ///
    /// The norm is as wide as its weights: a patch, or a whole block.
    pub(super) fn apply(&self, x: &[f32], scratch: &mut Vec<f32>) -> Vec<f32> {
        let width = self.fc1.weight.cols();
        let mut merged = Vec::with_capacity(x.len() / width * self.fc2.weight.rows());
        for x in x.chunks(ROWS * width) {
            let rows = x.len() / width;
            let mut inner = self.fc1.apply(&self.norm.apply(x), rows, scratch);
            each(&mut inner, gelu);
            merged.extend(self.fc2.apply(&inner, rows, scratch));
        }
        merged
    }
}

/// An activation over many numbers, on all threads: each number by itself, so their number changes no bit.
fn each(x: &mut [f32], activation: impl Fn(f32) -> f32 + Sync) {
    x.par_chunks_mut(1 << 12)
        .for_each(|x| x.iter_mut().for_each(|x| *x = activation(*x)));
}
