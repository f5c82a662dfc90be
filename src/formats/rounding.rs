//! From one format to another, number by number.

use half::{bf16, f16};

use super::WeightFormat;

/// A number that the format it was to be stored in has no room for.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{value} is beyond {format}, whose largest number is {largest}")]
pub struct Overflow {
    /// The number.
    pub value: f32,
    /// The format asked for.
    pub format: WeightFormat,
    /// Its largest number.
    pub largest: f32,
}

/// Stores the numbers of `from` in another format: `stored` and `out` hold equally many, little-endian. What the format
/// has no number for goes to the nearest, of two equally near to the even one; what is not finite stays what it is.
///
/// # Errors
/// [`Overflow`] with the first finite number that would become infinite.
pub fn convert(
    from: WeightFormat,
    stored: &[u8],
    to: WeightFormat,
    out: &mut [u8],
) -> Result<(), Overflow> {
    if from == to {
        out.copy_from_slice(stored);
        return Ok(());
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
    }
}

fn store(
    numbers: impl Iterator<Item = f32>,
    format: WeightFormat,
    out: &mut [u8],
) -> Result<(), Overflow> {
    let kept = |value: f32, is_finite: bool, largest: f32| {
        if is_finite || !value.is_finite() {
            return Ok(());
        }
        Err(Overflow {
            value,
            format,
            largest,
        })
    };
    match format {
        WeightFormat::F32 => {
            for (out, number) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
                *out = number.to_le_bytes();
            }
        }
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
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f16_of(number: f32) -> Result<f32, Overflow> {
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
        let beyond = f16_of(-65520.0).unwrap_err();
        assert_eq!((beyond.value, beyond.largest), (-65520.0, 65504.0));
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
