//! The key-value cache of one sequence.

use crate::host_memory::MappedF32;

/// Keys (after rotation) and values of every layer, f32, for up to `capacity` tokens: those of one head lie together.
///
/// Memory is mapped once for the declared context and taken from the system as tokens come.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<(MappedF32, MappedF32)>,
    heads: usize,
    /// Numbers of a head.
    dim: usize,
    capacity: usize,
    len: usize,
}

impl KvCache {
    /// An empty cache of `heads` key-value heads of `dim` numbers each.
    ///
    /// # Errors
    /// The system's, when it cannot map the memory.
    pub fn new(layers: usize, heads: usize, dim: usize, capacity: usize) -> std::io::Result<Self> {
        let numbers = heads * dim * capacity;
        let layers = (0..layers)
            .map(|_| Ok((MappedF32::new(numbers)?, MappedF32::new(numbers)?)))
            .collect::<std::io::Result<_>>()?;
        Ok(Self {
            layers,
            heads,
            dim,
            capacity,
            len: 0,
        })
    }

    /// Bytes of a cache of this shape when full: `row` numbers (heads x dim) a token and layer.
    pub fn bytes(layers: usize, row: usize, capacity: usize) -> u64 {
        (layers * 2 * row * capacity * size_of::<f32>()) as u64
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
        let (heads, dim) = (self.heads, self.dim);
        let tokens = keys.len() / (heads * dim);
        assert!(
            self.len + tokens <= self.capacity,
            "more tokens than the cache has room for"
        );
        let (k, v) = &mut self.layers[layer];
        for (stored, new) in [(k, keys), (v, values)] {
            for (token, new) in new.chunks_exact(heads * dim).enumerate() {
                for (head, new) in new.chunks_exact(dim).enumerate() {
                    let at = (head * self.capacity + self.len + token) * dim;
                    stored[at..at + dim].copy_from_slice(new);
                }
            }
        }
    }

    /// Keys and values of one head of one layer, `[tokens, dim]`, with `new` tokens that are written but not yet counted.
    pub fn head(&self, layer: usize, head: usize, new: usize) -> (&[f32], &[f32]) {
        let (k, v) = &self.layers[layer];
        let first = head * self.capacity * self.dim;
        let span = first..first + (self.len + new) * self.dim;
        (&k[span.clone()], &v[span])
    }

    /// Counts tokens that every layer has written.
    pub fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }
}
