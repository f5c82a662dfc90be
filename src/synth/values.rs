//! Random weights, computed for any place of a tensor without the places before it.

use crate::formats::{WeightFormat, convert};

/// Formats that weights are made up in: two bytes a number.
pub(super) const FORMATS: [WeightFormat; 2] = [WeightFormat::BF16, WeightFormat::F16];

/// What one tensor's elements are drawn from.
pub(super) struct Values {
    key: u64,
    /// A stored number for each of the 1,021 sums of four random bytes.
    table: Vec<[u8; 2]>,
}

/// Sums of four bytes: 0 to 1020, mean 510; their spread is that of four uniform numbers.
const SUMS: usize = 4 * 255 + 1;
const MEAN: f32 = 510.0;

impl Values {
    /// The distribution of the tensor `name`: norms are one; matrices are near-normal with a deviation that keeps what
    /// goes through them at size one.
    pub(super) fn new(seed: u64, name: &str, shape: &[usize], format: WeightFormat) -> Self {
        let key = blake3::hash(name.as_bytes());
        let key = key
            .as_bytes()
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
            ^ mix(seed);
        let deviation = (4.0 * (256.0 * 256.0 - 1.0) / 12.0_f32).sqrt();
        let table = match scale(name, shape) {
            None => vec![stored(1.0, format); SUMS],
            Some(scale) => (0..SUMS)
                .map(|sum| stored((sum as f32 - MEAN) * (scale / deviation), format))
                .collect(),
        };
        Self { key, table }
    }

    /// Fills `piece` with the little-endian elements that begin at byte `at` (a multiple of 4) of the tensor.
    pub(super) fn fill(&self, at: u64, piece: &mut [u8]) {
        let (pairs, rest) = piece.as_chunks_mut::<4>();
        let mut index = at / 4;
        for pair in pairs {
            *pair = self.pair(index);
            index += 1;
        }
        let last = self.pair(index);
        rest.copy_from_slice(&last[..rest.len()]);
    }

    fn pair(&self, index: u64) -> [u8; 4] {
        let bytes = mix(self
            .key
            .wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .to_le_bytes();
        let sum = |four: &[u8]| four.iter().map(|&byte| usize::from(byte)).sum::<usize>();
        let [a, b] = self.table[sum(&bytes[..4])];
        let [c, d] = self.table[sum(&bytes[4..])];
        [a, b, c, d]
    }
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

/// A finite number in BF16, rounded to nearest, ties to even.
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
        let values = Values::new(7, "x.q_proj.weight", &[64, 256], WeightFormat::BF16);
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
        Values::new(7, "x.norm.weight", &[3], WeightFormat::BF16).fill(0, &mut norm);
        assert_eq!(norm, [0x80, 0x3f, 0x80, 0x3f, 0x80, 0x3f]);
    }
}
