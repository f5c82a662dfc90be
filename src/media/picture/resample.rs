//! The size that the model sees, and pixels of that size.
//!
//! Resampling is our own because the reference's pixels depend on its exact order (rows before columns, rounded to whole grey
//! levels in between) and on how weights are rounded. It is done in whole numbers, so every processor gives the same pixels.

use std::borrow::Cow;

use rayon::prelude::*;

use super::{MOST_ASPECT_RATIO, Picture, PictureError};

/// Height and width, multiples of `factor`, closest to the picture's own with between `min_pixels` and `max_pixels` pixels
/// and about its aspect ratio. Halves are rounded to the even multiple.
///
/// # Errors
/// When a side is zero, or one is more than [`MOST_ASPECT_RATIO`] times the other, or the factor is zero.
pub fn smart_resize(
    height: usize,
    width: usize,
    factor: usize,
    min_pixels: usize,
    max_pixels: usize,
) -> Result<[usize; 2], PictureError> {
    if factor == 0 {
        return Err(PictureError::Options {
            key: "patch_size * merge_size",
            value: factor.to_string(),
            expected: "at least 1",
        });
    }
    let (longer, shorter) = (height.max(width), height.min(width));
    if shorter == 0 {
        return Err(PictureError::Size {
            width,
            height,
            bytes: 0,
        });
    }
    if longer > shorter.saturating_mul(MOST_ASPECT_RATIO) {
        return Err(PictureError::AspectRatio { width, height });
    }
    let rounded = [height, width].map(|side| nearest_multiple(side, factor));
    let pixels = rounded[0].saturating_mul(rounded[1]);
    let (area, step) = (height as f64 * width as f64, factor as f64);
    Ok(if pixels > max_pixels {
        let shrink = (area / max_pixels as f64).sqrt();
        [height, width].map(|side| {
            let steps = (side as f64 / shrink / step).floor() as usize;
            (steps * factor).max(factor)
        })
    } else if pixels < min_pixels {
        let grow = (min_pixels as f64 / area).sqrt();
        [height, width].map(|side| (side as f64 * grow / step).ceil() as usize * factor)
    } else {
        rounded
    })
}

fn nearest_multiple(side: usize, factor: usize) -> usize {
    let (steps, rest) = (side / factor, side % factor);
    let up = match (2 * rest).cmp(&factor) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => steps % 2 == 1,
        std::cmp::Ordering::Greater => true,
    };
    (steps + usize::from(up)) * factor
}

/// The picture with other sides, by bicubic convolution (a = -0.5), its kernel widened when shrinking. Nothing happens to a
/// side that stays as long as it is.
///
/// # Errors
/// When a side is to be zero.
pub fn resize(picture: &Picture, width: usize, height: usize) -> Result<Picture, PictureError> {
    if width == 0 || height == 0 {
        return Err(PictureError::Size {
            width,
            height,
            bytes: 0,
        });
    }
    let mut rgb = Cow::Borrowed(&picture.rgb);
    if width != picture.width {
        rgb = Cow::Owned(narrow(&rgb, picture.width, &line(picture.width, width)));
    }
    if height != picture.height {
        rgb = Cow::Owned(flatten(&rgb, 3 * width, &line(picture.height, height)));
    }
    Picture::from_rgb(width, height, rgb.into_owned())
}

/// Weights are whole numbers below this, as the reference's are: sums of 255 times as much fit an i32.
const WEIGHTS_BELOW: f64 = 32768.0;

/// The pixels that every new pixel of a line is made of.
struct ResampledLine {
    /// Weights are in units of `2^-fraction_bits`.
    fraction_bits: u32,
    taps: Vec<Taps>,
}

/// The pixels that one new pixel is made of.
struct Taps {
    /// The first of them.
    first: usize,
    /// Weight of that one and the following.
    weights: Vec<i32>,
}

/// A line of `to` pixels made of a line of `from`.
fn line(from: usize, to: usize) -> ResampledLine {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = 2.0 * stretch;
    let of = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        // Pixels whose centres lie within reach, the border ones to the nearest whole pixel.
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weight = |pixel: usize| cubic((pixel as f64 + 0.5 - centre) / stretch);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let share = weights.iter().map(|weight| weight / sum);
        (first, share.collect::<Vec<f64>>())
    };
    let pixels: Vec<_> = (0..to).map(of).collect();
    let largest = pixels.iter().flat_map(|(_, weights)| weights);
    let largest = largest.copied().fold(0.0, f64::max);
    // As many bits as the largest weight has room for.
    let units = |bits: u32| f64::from(1_u32 << bits);
    let fits = |bits: &u32| (largest * units(*bits)).round() < WEIGHTS_BELOW;
    let fraction_bits = (1..22).rev().find(fits).unwrap_or(1);
    let whole = |weight: &f64| (weight * units(fraction_bits)).round() as i32;
    let taps = pixels.iter().map(|(first, weights)| Taps {
        first: *first,
        weights: weights.iter().map(whole).collect(),
    });
    ResampledLine {
        fraction_bits,
        taps: taps.collect(),
    }
}

/// The cubic convolution kernel of Keys (1981) with a = -1/2.
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

fn to_level(sum: i32, fraction_bits: u32) -> u8 {
    let rounded = (sum + (1 << (fraction_bits - 1))) >> fraction_bits;
    rounded.clamp(0, 255) as u8
}

/// Every row of RGB pixels made anew.
fn narrow(rgb: &[u8], width: usize, line: &ResampledLine) -> Vec<u8> {
    let height = rgb.len() / (3 * width);
    let mut out = vec![0; 3 * line.taps.len() * height];
    let rows = out.par_chunks_exact_mut(3 * line.taps.len());
    rows.zip(rgb.par_chunks_exact(3 * width))
        .for_each(|(out, row)| {
            for (out, taps) in out.chunks_exact_mut(3).zip(&line.taps) {
                let mut sums = [0; 3];
                let pixels = row[3 * taps.first..].chunks_exact(3);
                for (pixel, weight) in pixels.zip(&taps.weights) {
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(*value) * weight;
                    }
                }
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = to_level(sum, line.fraction_bits);
                }
            }
        });
    out
}

/// Every column made anew, a row of `row_bytes` at a time.
fn flatten(rgb: &[u8], row_bytes: usize, line: &ResampledLine) -> Vec<u8> {
    let mut out = vec![0; row_bytes * line.taps.len()];
    let rows = out
        .par_chunks_exact_mut(row_bytes)
        .zip(line.taps.par_iter());
    rows.for_each(|(out, taps)| {
        let mut sums = vec![0; row_bytes];
        let rows = rgb[taps.first * row_bytes..].chunks_exact(row_bytes);
        for (row, weight) in rows.zip(&taps.weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = to_level(sum, line.fraction_bits);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_multiple() {
        assert_eq!(nearest_multiple(80, 32), 64);
        assert_eq!(nearest_multiple(112, 32), 128);
        assert_eq!(nearest_multiple(81, 32), 96);
        assert_eq!(nearest_multiple(15, 32), 0);
    }

    #[test]
    fn one_colour_stays_what_it_is() {
        for level in [0, 1, 127, 254, 255] {
            let flat = Picture::from_rgb(7, 5, vec![level; 105]).unwrap();
            for (width, height) in [(3, 2), (7, 9), (20, 5), (1, 1)] {
                let other = resize(&flat, width, height).unwrap();
                assert_eq!((other.width(), other.height()), (width, height));
                assert!(other.rgb().iter().all(|value| *value == level));
            }
        }
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert!(smart_resize(1, 201, 32, 0, 1 << 20).is_err());
        assert!(smart_resize(1, 200, 32, 3136, 1 << 20).is_ok());
        assert!(smart_resize(0, 10, 32, 0, 1 << 20).is_err());
        assert!(smart_resize(10, 10, 0, 0, 1 << 20).is_err());
    }
}
