//! Weights that benchmarks multiply with.

use sage::formats::{WeightFormat, convert};
use sage::host_memory::Mapped;

/// Numbers that are made and converted; where more are wanted, they come again and again. Whole blocks of every format.
const MADE: usize = 1 << 20;

/// So many numbers in `format`, page-aligned as a store's records are.
pub fn stored(format: WeightFormat, count: usize) -> Mapped {
    let made = count.min(MADE);
    let whole: Vec<u8> = numbers(made)
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let bytes_of = |count| format.matrix_bytes(1, count).unwrap();
    let mut part = vec![0; bytes_of(made)];
    convert(WeightFormat::F32, &whole, format, &mut part).unwrap();
    let bytes = bytes_of(count);
    let mut memory = Mapped::new(bytes).unwrap();
    for piece in memory.pages_mut()[..bytes].chunks_mut(part.len()) {
        piece.copy_from_slice(&part[..piece.len()]);
    }
    memory
}

/// Numbers between -0.5 and 0.5.
pub fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5)
        .collect()
}
