//! Loading the always-resident weights of a module.

use sage_actors::protocol::Module;

use super::attention::{Attention, Projection};
use super::embedding::Embedding;
use super::experts::{ExpertShape, GatedBlock};
use super::heads::Heads;
use super::rope::RotaryTable;
use super::thinker::{DecoderLayer, FeedForward, Thinker};
use crate::checkpoint::config::TextConfig;
use crate::checkpoint::{Component, ExpectedTensor, Role, expected_tensors};
use crate::formats::WeightFormat;
use crate::host_memory::Mapped;
use crate::host_memory::round_up_to_page;
use crate::kernels::{Matrix, MatrixView};
use crate::reads::ReadPurpose;
use crate::spans;
use crate::store::{TensorMeta, WeightSource};

pub use crate::store::LoadError;

/// Makes logits, where the table of embeddings does not.
const HEAD: &str = "thinker.lm_head.weight";

/// Reads tensors by name into memory of their own, and holds them to their shapes.
pub(super) struct Loader<'a> {
    pub(super) source: &'a dyn WeightSource,
    /// What is read counts for this.
    pub(super) purpose: ReadPurpose,
}

impl<'a> Loader<'a> {
    /// Of weights that stay.
    pub(super) fn new(source: &'a dyn WeightSource) -> Self {
        Self {
            source,
            purpose: ReadPurpose::Other,
        }
    }

    /// Of a tower's pieces, which come and go.
    pub(super) fn of_tower(source: &'a dyn WeightSource) -> Self {
        Self {
            source,
            purpose: ReadPurpose::Towers,
        }
    }

    /// What the source says of the tensor, held to its shape, and how its numbers are stored.
    fn checked(
        &self,
        name: &str,
        expected: &[usize],
    ) -> Result<(TensorMeta, WeightFormat), LoadError> {
        let info = self.source.tensor(name)?;
        if info.shape != expected {
            return Err(LoadError::Shape {
                name: name.into(),
                found: info.shape,
                expected: expected.into(),
            });
        }
        let format = info.dtype;
        Ok((info, format))
    }

    /// Bytes that the tensor will have in memory, of which nothing is read: a vector is widened, a matrix has pages of its own.
    pub(super) fn memory_bytes(&self, name: &str, shape: &[usize]) -> Result<u64, LoadError> {
        let (info, _) = self.checked(name, shape)?;
        Ok(match shape {
            [len] => (len * size_of::<f32>()) as u64,
            _ => round_up_to_page(info.bytes as usize) as u64,
        })
    }

    /// The tensor's bytes in memory of their own, and how they are stored.
    fn raw(&self, name: &str, expected: &[usize]) -> Result<(Mapped, WeightFormat), LoadError> {
        let (info, format) = self.checked(name, expected)?;
        let bytes = info.bytes as usize;
        let mut memory = Mapped::in_huge_pages(bytes).map_err(|source| LoadError::Memory {
            name: name.into(),
            bytes,
            source,
        })?;
        self.source
            .read_tensor_for(self.purpose, name, &mut memory.pages_mut()[..bytes])?;
        Ok((memory, format))
    }

    /// The table of embeddings, where it is to be.
    fn embedding(&self, config: &TextConfig) -> Result<Embedding, LoadError> {
        let shape = [config.vocab_size, config.hidden_size];
        match Embedding::on_disk(self.source)? {
            Some(rows) => {
                self.checked(Embedding::NAME, &shape)?;
                Ok(Embedding::OnDisk(rows))
            }
            None => Ok(Embedding::Kept(self.matrix(
                Embedding::NAME,
                shape[0],
                shape[1],
            )?)),
        }
    }

    pub(super) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, LoadError> {
        self.flattened(name, &[rows, cols])
    }

    /// A tensor of any number of dimensions as a matrix of its outermost one: a convolution's kernels, a row each.
    pub(super) fn flattened(&self, name: &str, shape: &[usize]) -> Result<Matrix, LoadError> {
        let rows = shape.first().copied().unwrap_or(1);
        let cols = shape.iter().skip(1).product();
        let (memory, format) = self.raw(name, shape)?;
        Matrix::new(memory, format, rows, cols).ok_or_else(|| LoadError::Shape {
            name: name.into(),
            found: vec![],
            expected: shape.into(),
        })
    }

    /// A tensor of `shape` as a matrix `[rows, cols]` in another order: the number at (row, column) is the tensor's
    /// number `at(row, column)`, counted row-major. Panics when `at` points outside of the tensor.
    pub(super) fn reordered(
        &self,
        name: &str,
        shape: &[usize],
        [rows, cols]: [usize; 2],
        at: impl Fn(usize, usize) -> usize,
    ) -> Result<Matrix, LoadError> {
        let (stored, format) = self.raw(name, shape)?;
        // Its numbers change places one by one.
        let bytes = match format.matrix_bytes(rows, cols) {
            Some(bytes) if format.block_numbers() == 1 => bytes,
            _ => {
                return Err(LoadError::Shape {
                    name: name.into(),
                    found: vec![],
                    expected: shape.into(),
                });
            }
        };
        let mut memory = Mapped::in_huge_pages(bytes).map_err(|source| LoadError::Memory {
            name: name.into(),
            bytes,
            source,
        })?;
        reorder(
            stored.bytes(),
            &mut memory.pages_mut()[..bytes],
            format,
            cols,
            at,
        );
        Matrix::new(memory, format, rows, cols).ok_or_else(|| LoadError::Shape {
            name: name.into(),
            found: vec![],
            expected: shape.into(),
        })
    }

    /// A vector, widened: norms and biases are small and read at every token.
    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let (memory, format) = self.raw(name, &[len])?;
        let mut wide = vec![0.0; len];
        if let Some(row) = MatrixView::new(format, memory.bytes(), 1, len) {
            row.widen_row(0, &mut wide);
        }
        Ok(wide)
    }

    pub(super) fn projection(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        bias: bool,
    ) -> Result<Projection, LoadError> {
        Ok(Projection {
            weight: self.matrix(&format!("{name}.weight"), rows, cols)?,
            bias: if bias {
                Some(self.vector(&format!("{name}.bias"), rows)?)
            } else {
                None
            },
        })
    }

    /// `self_attn` of a decoder layer: projections `{prefix}.{q,k,v,o}_proj`, norms `{prefix}.{q,k}_norm`.
    pub(super) fn attention(
        &self,
        prefix: &str,
        hidden: usize,
        heads: Heads,
        bias: bool,
        eps: f32,
    ) -> Result<Attention, LoadError> {
        let (q, kv) = (heads.query * heads.dim, heads.kv * heads.dim);
        Ok(Attention {
            heads,
            q_proj: self.projection(&format!("{prefix}.q_proj"), q, hidden, bias)?,
            k_proj: self.projection(&format!("{prefix}.k_proj"), kv, hidden, bias)?,
            v_proj: self.projection(&format!("{prefix}.v_proj"), kv, hidden, bias)?,
            o_proj: self.projection(&format!("{prefix}.o_proj"), hidden, q, bias)?,
            q_norm: self.vector(&format!("{prefix}.q_norm.weight"), heads.dim)?,
            k_norm: self.vector(&format!("{prefix}.k_norm.weight"), heads.dim)?,
            eps,
        })
    }

    /// [`Self::attention`] with the dimensions of a decoder's configuration.
    pub(super) fn decoder_attention(
        &self,
        prefix: &str,
        config: &TextConfig,
    ) -> Result<Attention, LoadError> {
        let heads = Heads {
            query: config.num_attention_heads,
            kv: config.num_key_value_heads,
            dim: config.head_dim,
        };
        self.attention(
            prefix,
            config.hidden_size,
            heads,
            config.attention_bias,
            config.rms_norm_eps,
        )
    }

    /// The gated block `{prefix}.{gate,up,down}_proj` of `inner` features.
    pub(super) fn gated(
        &self,
        prefix: &str,
        hidden: usize,
        inner: usize,
    ) -> Result<GatedBlock, LoadError> {
        Ok(GatedBlock {
            gate: self.matrix(&format!("{prefix}.gate_proj.weight"), inner, hidden)?,
            up: self.matrix(&format!("{prefix}.up_proj.weight"), inner, hidden)?,
            down: self.matrix(&format!("{prefix}.down_proj.weight"), hidden, inner)?,
        })
    }

    fn feed_forward(
        &self,
        prefix: &str,
        layer: usize,
        config: &TextConfig,
    ) -> Result<FeedForward, LoadError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        if config.is_sparse(layer) {
            return Ok(FeedForward::Sparse {
                router: self.matrix(
                    &format!("{prefix}.gate.weight"),
                    config.num_experts,
                    hidden,
                )?,
            });
        }
        Ok(FeedForward::Dense {
            gate: self.matrix(&format!("{prefix}.gate_proj.weight"), inner, hidden)?,
            up: self.matrix(&format!("{prefix}.up_proj.weight"), inner, hidden)?,
            down: self.matrix(&format!("{prefix}.down_proj.weight"), hidden, inner)?,
        })
    }

    fn layer(&self, layer: usize, config: &TextConfig) -> Result<DecoderLayer, LoadError> {
        let prefix = format!("thinker.model.layers.{layer}");
        let hidden = config.hidden_size;
        Ok(DecoderLayer {
            input_norm: self.vector(&format!("{prefix}.input_layernorm.weight"), hidden)?,
            attention: self.decoder_attention(&format!("{prefix}.self_attn"), config)?,
            post_norm: self.vector(&format!("{prefix}.post_attention_layernorm.weight"), hidden)?,
            feed_forward: self.feed_forward(&format!("{prefix}.mlp"), layer, config)?,
        })
    }
}

impl Thinker {
    /// Shape of the routed experts, and bytes of everything else that [`Self::load`] will read and keep.
    ///
    /// # Errors
    /// When a tensor that the configuration asks for is missing.
    pub fn sizes(source: &dyn WeightSource) -> Result<(ExpertShape, u64), LoadError> {
        let config = &source.config().thinker.text;
        let bytes = resident_bytes(source, |tensor| {
            tensor.component == Component::Thinker && !Embedding::is_named(&tensor.name)
        })?;
        Ok((expert_shape(config), bytes + Embedding::kept_bytes(source)?))
    }

    /// Bytes of the weights that stay in memory and that every token reads: all of [`Self::sizes`] but a table of embeddings that
    /// is kept and is not the head as well.
    ///
    /// # Errors
    /// As [`Self::sizes`].
    pub fn token_bytes(source: &dyn WeightSource) -> Result<u64, LoadError> {
        let (_, resident_bytes) = Self::sizes(source)?;
        Ok(match source.config().thinker.text.tie_word_embeddings {
            true => resident_bytes,
            false => resident_bytes - Embedding::kept_bytes(source)?,
        })
    }

    /// The matrix that makes logits of states, alone.
    ///
    /// # Errors
    /// When it is missing, misshapen or damaged.
    pub fn head(source: &dyn WeightSource) -> Result<Matrix, LoadError> {
        let text = &source.config().thinker.text;
        let name = match text.tie_word_embeddings {
            true => Embedding::NAME,
            false => HEAD,
        };
        Loader::new(source).matrix(name, text.vocab_size, text.hidden_size)
    }

    /// Loads everything of the thinker but its routed experts; `progress` hears of every finished layer.
    ///
    /// # Errors
    /// When a tensor is missing, misshapen, damaged, or stored in a format without kernels.
    pub fn load(
        source: &dyn WeightSource,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self, LoadError> {
        let config = source.config().thinker.text.clone();
        let loader = Loader::new(source);
        let embed_tokens = loader.embedding(&config)?;
        let lm_head = if config.tie_word_embeddings {
            None
        } else {
            Some(loader.matrix(HEAD, config.vocab_size, config.hidden_size)?)
        };
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let _span = spans::load(Module::Thinker, layer).entered();
            layers.push(loader.layer(layer, &config)?);
            progress(layer + 1, config.num_hidden_layers);
        }
        Ok(Self {
            norm: loader.vector("thinker.model.norm.weight", config.hidden_size)?,
            rotary: RotaryTable::new(config.head_dim, config.rope_theta, config.mrope_section),
            expert: expert_shape(&config),
            embed_tokens,
            layers,
            lm_head,
            config,
        })
    }
}

/// Fills `memory` `[rows, cols]` with the numbers of `stored` at the places that `at` names; every number stands for itself.
fn reorder(
    stored: &[u8],
    memory: &mut [u8],
    format: WeightFormat,
    cols: usize,
    at: impl Fn(usize, usize) -> usize,
) {
    let bytes = format.block_bytes();
    let rows = memory.chunks_exact_mut(cols * bytes);
    for (row, numbers) in rows.enumerate() {
        for (col, number) in numbers.chunks_exact_mut(bytes).enumerate() {
            let from = at(row, col) * bytes;
            number.copy_from_slice(&stored[from..from + bytes]);
        }
    }
}

/// Bytes of the tensors that the configuration asks for and `wanted` names, routed experts apart.
///
/// # Errors
/// When one of them is missing.
pub(super) fn resident_bytes(
    source: &dyn WeightSource,
    wanted: impl Fn(&ExpectedTensor) -> bool,
) -> Result<u64, LoadError> {
    let mut bytes = 0;
    for tensor in expected_tensors(source.config()) {
        if !matches!(tensor.role, Role::Expert { .. }) && wanted(&tensor) {
            bytes += source.tensor(&tensor.name)?.bytes;
        }
    }
    Ok(bytes)
}

/// Shape of a component's experts.
pub(super) fn expert_shape(config: &TextConfig) -> ExpertShape {
    ExpertShape {
        hidden: config.hidden_size,
        intermediate: config.moe_intermediate_size,
    }
}
