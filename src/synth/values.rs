//! Random weights, computed for any place of a tensor without the places before it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::formats::{ConvertError, WeightFormat, convert};

/// Plain formats that weights are made up in: two bytes a number.
pub(super) const FORMATS: [WeightFormat; 2] = [WeightFormat::BF16, WeightFormat::F16];

/// What one tensor's elements are drawn from.
pub(super) struct Values {
    key: u64,
    drawn: Drawn,
}

enum Drawn {
    /// A stored number for each of the 1,021 sums of four random bytes.
    Numbers(Vec<[u8; 2]>),
    /// Some blocks of near-normal numbers.
    Blocks {
        format: WeightFormat,
        bytes: Arc<Vec<u8>>,
    },
}

/// Sums of four bytes: 0 to 1020, mean 510; their spread is that of four uniform numbers.
const SUMS: usize = 4 * 255 + 1;
const MEAN: f32 = 510.0;

/// Blocks that those of a tensor are drawn from.
const BLOCKS: usize = 1024;

impl Values {
    /// The distribution of the tensor `name`: norms are one; matrices are near-normal with a deviation that keeps what
    /// goes through them at size one.
    ///
    /// # Errors
    /// When the program cannot write blocks of the format.
    pub(super) fn new(
        seed: u64,
        name: &str,
        shape: &[usize],
        format: WeightFormat,
    ) -> Result<Self, ConvertError> {
        let key = blake3::hash(name.as_bytes());
        let key = key
            .as_bytes()
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
            ^ mix(seed);
        let scale = scale(name, shape);
        let drawn = match scale {
            Some(scale) if !format.is_plain() => Drawn::Blocks {
                format,
                bytes: blocks(scale, format)?,
            },
            None => Drawn::Numbers(vec![stored(1.0, format); SUMS]),
            Some(scale) => {
                let number = |sum| stored(number_of(sum, scale), format);
                Drawn::Numbers((0..SUMS).map(number).collect())
            }
        };
        Ok(Self { key, drawn })
    }

    /// Fills `piece` with the little-endian elements that begin at byte `at` of the tensor: a multiple of 4, and of a
    /// block's bytes.
    pub(super) fn fill(&self, at: u64, piece: &mut [u8]) {
        match &self.drawn {
            Drawn::Numbers(table) => {
                let (pairs, rest) = piece.as_chunks_mut::<4>();
                let mut index = at / 4;
                for pair in pairs {
                    *pair = self.pair(table, index);
                    index += 1;
                }
                let last = self.pair(table, index);
                rest.copy_from_slice(&last[..rest.len()]);
            }
            Drawn::Blocks { format, bytes } => {
                let block_bytes = format.block_bytes();
                let first = at / block_bytes as u64;
                for (index, block) in piece.chunks_exact_mut(block_bytes).enumerate() {
                    let drawn = self.random(first + index as u64) as usize % BLOCKS;
                    block.copy_from_slice(&bytes[drawn * block_bytes..(drawn + 1) * block_bytes]);
                }
            }
        }
    }

    fn random(&self, index: u64) -> u64 {
        mix(self
            .key
            .wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn pair(&self, table: &[[u8; 2]], index: u64) -> [u8; 4] {
        let bytes = self.random(index).to_le_bytes();
        let [a, b] = table[sum_of(&bytes[..4])];
        let [c, d] = table[sum_of(&bytes[4..])];
        [a, b, c, d]
    }
}

/// The sum of random bytes.
fn sum_of(bytes: &[u8]) -> usize {
    bytes.iter().map(|&byte| usize::from(byte)).sum()
}

/// The number that the sum of four random bytes stands for, where they are to deviate by `scale`.
fn number_of(sum: usize, scale: f32) -> f32 {
    let deviation = (4.0 * (256.0 * 256.0 - 1.0) / 12.0_f32).sqrt();
    (sum as f32 - MEAN) * (scale / deviation)
}

/// [`BLOCKS`] blocks of near-normal numbers; the same for all tensors of this deviation.
fn blocks(scale: f32, format: WeightFormat) -> Result<Arc<Vec<u8>>, ConvertError> {
    type ByScale = HashMap<(u32, WeightFormat), Arc<Vec<u8>>>;
    static MADE: LazyLock<Mutex<ByScale>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (scale.to_bits(), format);
    if let Some(blocks) = made.get(&key) {
        return Ok(Arc::clone(blocks));
    }
    let count = BLOCKS * format.block_numbers();
    let number = |index: usize| {
        let random = mix(index as u64).to_le_bytes();
        number_of(sum_of(&random[..4]), scale).to_le_bytes()
    };
    let numbers: Vec<u8> = (0..count).flat_map(number).collect();
    let mut bytes = vec![0; BLOCKS * format.block_bytes()];
    convert(WeightFormat::F32, &numbers, format, &mut bytes)?;
    let bytes = Arc::new(bytes);
    made.insert(key, Arc::clone(&bytes));
    Ok(bytes)
}

/// The standard deviation of a tensor's elements; `None` for norms, which are one.
fn scale(name: &str, shape: &[usize]) -> Option<f32> {
    let &[_, ref inputs @ ..] = shape else {
        return None;
    };
    if inputs.is_empty() {
        return name.ends_with(".bias").then_some(0.02);
    }
    let fan_in: usize = inputs.iter().product();
    let unit = 1.0 / (fan_in as f32).sqrt();
    Some(if name.ends_with("embed_tokens.weight") {
        1.0
    } else if name.ends_with("mlp.gate.weight") {
        // Logits deviate by 1.5: routing is decided, not a matter of rounding.
        1.5 * unit
    } else if name.ends_with("lm_head.weight") {
        2.0 * unit
    } else {
        unit
    })
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The number as one of [`FORMATS`] stores it.
fn stored(value: f32, format: WeightFormat) -> [u8; 2] {
    let mut bytes = [0; 2];
    // Of size one or so: nothing has no room.
    let _ = convert(WeightFormat::F32, &value.to_le_bytes(), format, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_and_scales_hold() {
        let values = Values::new(7, "x.q_proj.weight", &[64, 256], WeightFormat::BF16).unwrap();
        let mut whole = vec![0; 64 * 256 * 2];
        values.fill(0, &mut whole);
        let mut pieces = vec![0; whole.len()];
        for (index, piece) in pieces.chunks_mut(1000).enumerate() {
            values.fill(index as u64 * 1000, piece);
        }
        assert_eq!(whole, pieces);
        let read = |b: &[u8; 2]| f64::from(half::bf16::from_le_bytes(*b).to_f32());
        let squares: f64 = whole
            .as_chunks::<2>()
            .0
            .iter()
            .map(read)
            .map(|x| x * x)
            .sum();
        let deviation = (squares / (64.0 * 256.0)).sqrt();
        assert!((deviation - 1.0 / 16.0).abs() < 0.002, "{deviation}");
        let mut norm = [0; 6];
        let ones = Values::new(7, "x.norm.weight", &[3], WeightFormat::BF16).unwrap();
        ones.fill(0, &mut norm);
        assert_eq!(norm, [0x80, 0x3f, 0x80, 0x3f, 0x80, 0x3f]);
    }

    /// Blocks deviate as numbers do, and a piece does not depend on the pieces before it.
    #[cfg(feature = "quantise")]
    #[test]
    fn blocks_join_and_scales_hold() {
        let format = WeightFormat::Q4_K;
        let values = Values::new(7, "x.q_proj.weight", &[64, 256], format).unwrap();
        let mut whole = vec![0; format.matrix_bytes(64, 256).unwrap()];
        values.fill(0, &mut whole);
        let mut pieces = vec![0; whole.len()];
        for (index, piece) in pieces.chunks_mut(5 * 144).enumerate() {
            values.fill(index as u64 * 5 * 144, piece);
        }
        assert_eq!(whole, pieces);
        let mut wide = vec![0; 64 * 256 * 4];
        convert(format, &whole, WeightFormat::F32, &mut wide).unwrap();
        let number = |b: &[u8; 4]| f64::from(f32::from_le_bytes(*b)).powi(2);
        let squares: f64 = wide.as_chunks::<4>().0.iter().map(number).sum();
        let deviation = (squares / (64.0 * 256.0)).sqrt();
        assert!((deviation - 1.0 / 16.0).abs() < 0.003, "{deviation}");
    }
}
