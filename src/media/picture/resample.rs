//! The size that the model sees, and pixels of that size.
//!
//! Resampling is our own because its exact order is what the reference's numbers depend on: rows before columns, rounded to
//! whole grey levels in between. It is done in whole numbers, so it gives the same pixels on every processor.

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
    let mut rgb = picture.rgb.clone();
    if width != picture.width {
        rgb = narrow(&rgb, picture.width, &taps(picture.width, width));
    }
    if height != picture.height {
        rgb = flatten(&rgb, 3 * width, &taps(picture.height, height));
    }
    Picture::from_rgb(width, height, rgb)
}

/// Bits behind the point of a weight: a sum of weights of 1, overshoot and rounding included, times 255 fits an i32.
const FRACTION_BITS: u32 = 22;

/// The pixels that one new pixel is made of.
struct Taps {
    /// The first of them.
    first: usize,
    /// Weight of that one and the following, in units of `2^-FRACTION_BITS`.
    weights: Vec<i32>,
}

/// Of every new pixel of a line of `to`, made of a line of `from`.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = 2.0 * stretch;
    let one = f64::from(1 << FRACTION_BITS);
    let of = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        // Pixels whose centres lie within reach, the border ones to the nearest whole pixel.
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weight = |pixel: usize| cubic((pixel as f64 + 0.5 - centre) / stretch);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let whole = |weight: &f64| (weight / sum * one).round() as i32;
        Taps {
            first,
            weights: weights.iter().map(whole).collect(),
        }
    };
    (0..to).map(of).collect()
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

fn to_level(sum: i32) -> u8 {
    let rounded = (sum + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS;
    rounded.clamp(0, 255) as u8
}

/// Every row of RGB pixels made anew.
fn narrow(rgb: &[u8], width: usize, taps: &[Taps]) -> Vec<u8> {
    let height = rgb.len() / (3 * width);
    let mut out = vec![0; 3 * taps.len() * height];
    let rows = out.par_chunks_exact_mut(3 * taps.len());
    rows.zip(rgb.par_chunks_exact(3 * width))
        .for_each(|(out, row)| {
            for (out, taps) in out.chunks_exact_mut(3).zip(taps) {
                let mut sums = [0; 3];
                let pixels = row[3 * taps.first..].chunks_exact(3);
                for (pixel, weight) in pixels.zip(&taps.weights) {
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(*value) * weight;
                    }
                }
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = to_level(sum);
                }
            }
        });
    out
}

/// Every column made anew, a row of `row_bytes` at a time.
fn flatten(rgb: &[u8], row_bytes: usize, taps: &[Taps]) -> Vec<u8> {
    let mut out = vec![0; row_bytes * taps.len()];
    let rows = out.par_chunks_exact_mut(row_bytes).zip(taps.par_iter());
    rows.for_each(|(out, taps)| {
        let mut sums = vec![0; row_bytes];
        let rows = rgb[taps.first * row_bytes..].chunks_exact(row_bytes);
        for (row, weight) in rows.zip(&taps.weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = to_level(sum);
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
