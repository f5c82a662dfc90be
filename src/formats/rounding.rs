//! From one format to another.

use half::{bf16, f16};

use super::error::ConvertError;
use super::{Q2K, Q4_0, Q4K, Q6K, Q8_0, WeightFormat, widen_blocks};

/// Stores the numbers of `from` in another format: `stored` and `out` hold equally many, little-endian. What the format
/// has no number for goes to the nearest, of two equally near to the even one; what is not finite stays what it is, but
/// for blocks, which cannot hold it.
///
/// # Errors
/// [`ConvertError`] with the first number that does not fit.
pub fn convert(
    from: WeightFormat,
    stored: &[u8],
    to: WeightFormat,
    out: &mut [u8],
) -> Result<(), ConvertError> {
    if from == to {
        out.copy_from_slice(stored);
        return Ok(());
    }
    if !to.is_plain() {
        let mut wide = vec![0.0; stored.len() / from.block_bytes() * from.block_numbers()];
        widen_all(from, stored, &mut wide);
        return super::quantise::quantise(&wide, to, out);
    }
    match from {
        WeightFormat::F32 => store(
            stored.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)),
            to,
            out,
        ),
        WeightFormat::BF16 => {
            let numbers = stored.as_chunks().0.iter();
            store(numbers.map(|b| bf16::from_le_bytes(*b).to_f32()), to, out)
        }
        WeightFormat::F16 => {
            let numbers = stored.as_chunks().0.iter();
            store(numbers.map(|b| f16::from_le_bytes(*b).to_f32()), to, out)
        }
        blocks => {
            let mut wide = vec![0.0; stored.len() / blocks.block_bytes() * blocks.block_numbers()];
            widen_all(blocks, stored, &mut wide);
            store(wide.into_iter(), to, out)
        }
    }
}

/// As [`convert`], of numbers that are f32 already.
///
/// # Errors
/// As [`convert`].
pub(crate) fn narrow(
    numbers: &[f32],
    to: WeightFormat,
    out: &mut [u8],
) -> Result<(), ConvertError> {
    match to.is_plain() {
        true => store(numbers.iter().copied(), to, out),
        false => super::quantise::quantise(numbers, to, out),
    }
}

/// The f32 of every number, little-endian and wherever it lies.
pub(crate) fn widen_all(format: WeightFormat, stored: &[u8], out: &mut [f32]) {
    let plain = |out: &mut [f32], number: &dyn Fn(&[u8]) -> f32| {
        let numbers = stored.chunks_exact(format.block_bytes());
        for (out, stored) in out.iter_mut().zip(numbers) {
            *out = number(stored);
        }
    };
    match format {
        WeightFormat::F32 => plain(out, &|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        WeightFormat::BF16 => plain(out, &|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()),
        WeightFormat::F16 => plain(out, &|b| f16::from_le_bytes([b[0], b[1]]).to_f32()),
        WeightFormat::Q8_0 => widen_blocks::<Q8_0>(stored, out),
        WeightFormat::Q4_0 => widen_blocks::<Q4_0>(stored, out),
        WeightFormat::Q4_K => widen_blocks::<Q4K>(stored, out),
        WeightFormat::Q6_K => widen_blocks::<Q6K>(stored, out),
        WeightFormat::Q2_K => widen_blocks::<Q2K>(stored, out),
    }
}

/// Stores numbers in a plain format.
fn store(
    numbers: impl Iterator<Item = f32>,
    format: WeightFormat,
    out: &mut [u8],
) -> Result<(), ConvertError> {
    let kept = |value: f32, is_finite: bool, largest: f32| {
        if is_finite || !value.is_finite() {
            return Ok(());
        }
        Err(ConvertError::Overflow {
            value,
            format,
            largest,
        })
    };
    match format {
        WeightFormat::BF16 => {
            for (out, number) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
                let rounded = bf16::from_f32(number);
                kept(number, rounded.is_finite(), bf16::MAX.to_f32())?;
                *out = rounded.to_le_bytes();
            }
        }
        WeightFormat::F16 => {
            for (out, number) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
                let rounded = f16::from_f32(number);
                kept(number, rounded.is_finite(), f16::MAX.to_f32())?;
                *out = rounded.to_le_bytes();
            }
        }
        // Blocks do not come here.
        _ => {
            for (out, number) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
                *out = number.to_le_bytes();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f16_of(number: f32) -> Result<f32, ConvertError> {
        let mut out = [0; 2];
        convert(
            WeightFormat::F32,
            &number.to_le_bytes(),
            WeightFormat::F16,
            &mut out,
        )?;
        Ok(f16::from_le_bytes(out).to_f32())
    }

    #[test]
    fn numbers_go_to_the_nearest_and_ties_to_the_even_one() {
        // Between 2048 and 4096 halves are 2 apart.
        for (number, due) in [
            (2049.0, 2048.0),
            (2051.0, 2052.0),
            (2050.5, 2050.0),
            (2051.5, 2052.0),
        ] {
            assert_eq!(f16_of(number), Ok(due));
        }
        assert_eq!(f16_of(65519.0), Ok(65504.0));
        assert_eq!(f16_of(f32::INFINITY), Ok(f32::INFINITY));
        assert!(f16_of(f32::NAN).unwrap().is_nan());
        let beyond = ConvertError::Overflow {
            value: -65520.0,
            format: WeightFormat::F16,
            largest: 65504.0,
        };
        assert_eq!(f16_of(-65520.0), Err(beyond));
    }

    #[test]
    fn halves_of_both_kinds_come_back_from_f32_bit_for_bit() {
        for format in [WeightFormat::BF16, WeightFormat::F16] {
            let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let (mut wide, mut back) = (vec![0; 2 * all.len()], vec![0; all.len()]);
            convert(format, &all, WeightFormat::F32, &mut wide).unwrap();
            convert(WeightFormat::F32, &wide, format, &mut back).unwrap();
            for (before, after) in all.as_chunks::<2>().0.iter().zip(back.as_chunks::<2>().0) {
                let number = f16::from_le_bytes(*before);
                let brain = bf16::from_le_bytes(*before);
                let is_nan = match format {
                    WeightFormat::F16 => number.is_nan(),
                    _ => brain.is_nan(),
                };
                assert!(is_nan || before == after, "{format}: {before:?}, {after:?}");
            }
        }
    }
}
