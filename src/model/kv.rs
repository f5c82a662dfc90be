//! The key-value cache of one sequence.

use crate::host_memory::MappedF32;

/// Keys (after rotation) and values of every layer, f32, for up to `capacity` tokens.
///
/// Memory is mapped once for the declared context and taken from the system as tokens come.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<(MappedF32, MappedF32)>,
    row: usize,
    capacity: usize,
    len: usize,
}

impl KvCache {
    /// An empty cache: `row` numbers (kv heads x head_dim) a token and layer.
    ///
    /// # Errors
    /// The system's, when it cannot map the memory.
    pub fn new(layers: usize, row: usize, capacity: usize) -> std::io::Result<Self> {
        let layers = (0..layers)
            .map(|_| {
                Ok((
                    MappedF32::new(row * capacity)?,
                    MappedF32::new(row * capacity)?,
                ))
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self {
            layers,
            row,
            capacity,
            len: 0,
        })
    }

    /// Bytes of a cache of this shape when full.
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

    /// Writes the keys and values of new tokens of one layer behind those that are there.
    ///
    /// Panics when they do not fit: the engine asks [`Self::capacity`] first.
    pub fn write(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let at = self.len * self.row;
        let (k, v) = &mut self.layers[layer];
        k[at..at + keys.len()].copy_from_slice(keys);
        v[at..at + values.len()].copy_from_slice(values);
    }

    /// Keys and values of one layer, `[tokens, kv heads * head_dim]`, with `new` tokens that are written but not
    /// yet counted.
    pub fn layer(&self, layer: usize, new: usize) -> (&[f32], &[f32]) {
        let (k, v) = &self.layers[layer];
        let end = (self.len + new) * self.row;
        (&k[..end], &v[..end])
    }

    /// Counts tokens that every layer has written.
    pub fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }
}
