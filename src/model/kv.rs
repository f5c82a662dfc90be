//! The key-value cache of one sequence.

use half::bf16;

use crate::formats::{WeightFormat, pack_q8_0};
use crate::host_memory::Mapped;
use crate::kernels::{HeadRows, MatrixView};

/// What keys and values may be stored in: as they are computed, or rounded.
const KV_FORMATS: [WeightFormat; 3] = [WeightFormat::F32, WeightFormat::BF16, WeightFormat::Q8_0];

/// What the memory of a cache depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers that have keys and values of their own.
    pub layers: usize,
    /// Key-value heads.
    pub heads: usize,
    /// Numbers of a head.
    pub dim: usize,
    /// How they are stored: as 32-bit floats, brain floats, or blocks of eight bits.
    pub format: WeightFormat,
}

impl KvShape {
    /// Bytes of one head's keys of one token; none where the head is not whole blocks of the format, or the format is none
    /// of [`KV_FORMATS`].
    fn row_bytes(&self) -> Option<usize> {
        let is_one = KV_FORMATS.contains(&self.format);
        self.format.row_bytes(self.dim).filter(|_| is_one)
    }

    /// Whether there can be such a cache.
    pub fn is_sound(&self) -> bool {
        self.row_bytes().is_some()
    }

    /// Bytes of a cache for `tokens` tokens when full; 0 where there can be none.
    pub fn bytes(&self, tokens: usize) -> u64 {
        (self.layers * 2 * self.heads * tokens) as u64 * self.row_bytes().unwrap_or(0) as u64
    }
}

/// Keys (after rotation) and values of every layer, for up to `capacity` tokens: those of one head lie together.
///
/// Memory is mapped once for the declared context and taken from the system as tokens come.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<(Mapped, Mapped)>,
    shape: KvShape,
    /// Bytes of one head's keys of one token.
    row_bytes: usize,
    capacity: usize,
    len: usize,
}

impl KvCache {
    /// An empty cache.
    ///
    /// # Errors
    /// The system's, when it cannot map the memory; invalid input for a shape that is not sound.
    pub fn new(shape: KvShape, capacity: usize) -> std::io::Result<Self> {
        let KvShape { dim, format, .. } = shape;
        let row_bytes = shape.row_bytes().ok_or_else(|| {
            let message = format!("heads of {dim} numbers are not stored as {format}");
            std::io::Error::new(std::io::ErrorKind::InvalidInput, message)
        })?;
        let bytes = shape.heads * row_bytes * capacity;
        let layers = (0..shape.layers)
            .map(|_| Ok((Mapped::new(bytes)?, Mapped::new(bytes)?)))
            .collect::<std::io::Result<_>>()?;
        Ok(Self {
            layers,
            shape,
            row_bytes,
            capacity,
            len: 0,
        })
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets every token beyond the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Counts the first `len` tokens, each of which was written before.
    pub fn count(&mut self, len: usize) {
        self.len = len.min(self.capacity);
    }

    /// Writes the keys and values of new tokens, `[tokens, heads * dim]`, of one layer behind those that are there.
    ///
    /// Panics when they do not fit: the engine asks [`Self::capacity`] first.
    pub fn write(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let KvShape {
            heads, dim, format, ..
        } = self.shape;
        let tokens = keys.len() / (heads * dim);
        assert!(
            self.len + tokens <= self.capacity,
            "more tokens than the cache has room for"
        );
        let (k, v) = &mut self.layers[layer];
        for (stored, new) in [(k, keys), (v, values)] {
            let stored = stored.pages_mut();
            for (token, new) in new.chunks_exact(heads * dim).enumerate() {
                for (head, new) in new.chunks_exact(dim).enumerate() {
                    let at = (head * self.capacity + self.len + token) * self.row_bytes;
                    store(format, new, &mut stored[at..at + self.row_bytes]);
                }
            }
        }
    }

    /// Keys and values of one head of one layer, a row a token, with `new` tokens that are written but not yet counted.
    pub fn head(&self, layer: usize, head: usize, new: usize) -> (HeadRows<'_>, HeadRows<'_>) {
        let (k, v) = &self.layers[layer];
        let (tokens, first) = (self.len + new, head * self.capacity * self.row_bytes);
        (
            self.rows(&k.bytes()[first..], tokens),
            self.rows(&v.bytes()[first..], tokens),
        )
    }

    fn rows<'a>(&self, stored: &'a [u8], tokens: usize) -> HeadRows<'a> {
        let view = MatrixView::new(self.shape.format, stored, tokens, self.shape.dim);
        // The memory has room for every token of the capacity.
        view.map_or(HeadRows::Numbers(&[]), HeadRows::of)
    }

    /// Counts tokens that every layer has written.
    pub fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }
}

/// Stores a head's numbers of one token. What brain floats have no number for becomes infinite.
fn store(format: WeightFormat, numbers: &[f32], out: &mut [u8]) {
    match format {
        WeightFormat::Q8_0 => pack_q8_0(numbers, out),
        WeightFormat::BF16 => {
            let places = out.as_chunks_mut().0.iter_mut();
            for (out, number) in places.zip(numbers) {
                *out = bf16::from_f32(*number).to_le_bytes();
            }
        }
        // A cache of any other format is not made.
        _ => {
            let places = out.as_chunks_mut().0.iter_mut();
            for (out, number) in places.zip(numbers) {
                *out = number.to_le_bytes();
            }
        }
    }
}
