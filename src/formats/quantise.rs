//! Numbers to blocks, by the quantisers of candle: plain scalar code, so the same bytes on every processor.

use super::WeightFormat;
use super::error::ConvertError;

/// Stores numbers as blocks of `format`, whose bytes `out` has room for.
///
/// # Errors
/// When they are not whole blocks, when one is not finite or too large, or when the program has no quantiser.
pub(super) fn quantise(
    numbers: &[f32],
    format: WeightFormat,
    out: &mut [u8],
) -> Result<(), ConvertError> {
    let block = format.block_numbers();
    if !numbers.len().is_multiple_of(block)
        || out.len() != numbers.len() / block * format.block_bytes()
    {
        let numbers = numbers.len();
        return Err(ConvertError::NoWholeBlocks {
            numbers,
            block,
            format,
        });
    }
    if let Some(value) = numbers.iter().copied().find(|number| !number.is_finite()) {
        return Err(ConvertError::NotFinite { value, format });
    }
    // The largest scale is a half; a number is at most so many times its scale.
    let largest = match format {
        WeightFormat::Q8_0 => 127.0 * LARGEST_HALF,
        _ => LARGEST_HALF,
    };
    if let Some(value) = numbers
        .iter()
        .copied()
        .find(|number| number.abs() > largest)
    {
        return Err(ConvertError::Overflow {
            value,
            format,
            largest,
        });
    }
    blocks(numbers, format, out).ok_or(ConvertError::NoQuantiser { format })
}

/// The largest half.
const LARGEST_HALF: f32 = 65_504.0;

#[cfg(not(feature = "quantise"))]
fn blocks(_numbers: &[f32], _format: WeightFormat, _out: &mut [u8]) -> Option<()> {
    None
}

#[cfg(feature = "quantise")]
fn blocks(numbers: &[f32], format: WeightFormat, out: &mut [u8]) -> Option<()> {
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};
    let dtype = match format {
        WeightFormat::Q8_0 => GgmlDType::Q8_0,
        WeightFormat::Q4_0 => GgmlDType::Q4_0,
        WeightFormat::Q4_K => GgmlDType::Q4K,
        WeightFormat::Q6_K => GgmlDType::Q6K,
        WeightFormat::Q2_K => GgmlDType::Q2K,
        WeightFormat::F32 | WeightFormat::BF16 | WeightFormat::F16 => return None,
    };
    let tensor = Tensor::from_slice(numbers, numbers.len(), &Device::Cpu).ok()?;
    let quantised = QTensor::quantize(&tensor, dtype).ok()?;
    let bytes = quantised.data().ok()?;
    out.copy_from_slice(bytes.get(..out.len())?);
    Some(())
}

#[cfg(all(test, feature = "quantise"))]
mod tests {
    use super::super::convert;
    use super::super::rounding::widen_all;
    use super::*;

    /// Numbers of about a normal distribution, the same at every call.
    fn numbers(count: usize) -> Vec<f32> {
        let mut state = 5u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / 16_777_216.0 - 0.5
        };
        (0..count)
            .map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 0.03)
            .collect()
    }

    /// Relative error of each format on numbers like those of weights; a misread block would be as wrong as zeros.
    #[test]
    fn blocks_come_back_near_to_what_they_were_made_of() {
        let numbers = numbers(64 * 256);
        let plain: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        for (format, most) in [
            (WeightFormat::Q8_0, 0.01),
            (WeightFormat::Q6_K, 0.025),
            (WeightFormat::Q4_K, 0.09),
            (WeightFormat::Q4_0, 0.12),
            (WeightFormat::Q2_K, 0.40),
        ] {
            let mut blocks = vec![0; format.row_bytes(numbers.len()).unwrap()];
            convert(WeightFormat::F32, &plain, format, &mut blocks).unwrap();
            let mut back = vec![0.0; numbers.len()];
            widen_all(format, &blocks, &mut back);
            let square = |x: f32| f64::from(x) * f64::from(x);
            let error: f64 = numbers.iter().zip(&back).map(|(a, b)| square(a - b)).sum();
            let size: f64 = numbers.iter().map(|a| square(*a)).sum();
            let relative = (error / size).sqrt();
            println!("{format}: {relative:.4}");
            assert!(relative < most, "{format}: {relative}");
        }
    }

    /// What stores keys and values while a model runs has the bits of what stores weights.
    #[test]
    fn our_own_blocks_of_eight_bits_are_candles() {
        let mut numbers = numbers(64 * 256);
        numbers[..32].fill(0.0);
        numbers[40] = 300.0;
        let (mut own, mut candles) = (vec![0; 64 * 256 / 32 * 34], vec![0; 64 * 256 / 32 * 34]);
        super::super::pack_q8_0(&numbers, &mut own);
        quantise(&numbers, WeightFormat::Q8_0, &mut candles).unwrap();
        assert!(own == candles);
    }

    #[test]
    fn what_no_block_can_hold_is_refused() {
        let mut out = vec![0; 34];
        let refused = |value: f32, numbers: usize, out: &mut [u8]| {
            quantise(&vec![value; numbers], WeightFormat::Q8_0, out).unwrap_err()
        };
        assert!(matches!(
            refused(f32::INFINITY, 32, &mut out),
            ConvertError::NotFinite { .. }
        ));
        assert!(matches!(
            refused(1e9, 32, &mut out),
            ConvertError::Overflow { .. }
        ));
        assert!(matches!(
            refused(1.0, 31, &mut out),
            ConvertError::NoWholeBlocks { .. }
        ));
    }
}
