//! Pictures: from the bytes of a PNG or JPEG to pixels, to the size the model sees, to patches.

mod decode;
mod error;
mod jpeg_segments;
mod orientation;
mod patches;
mod png_chunks;
mod resample;
mod rgb;
mod spliced;

pub use decode::{BYTES_A_PIXEL, DecodeLimits};
pub use error::{MOST_ASPECT_RATIO, PictureError};
pub use patches::{ImagePatches, PatchOptions, image_patches, video_patches};
pub use resample::{resize, smart_resize};
pub use rgb::Picture;

/// Mean luma (ITU-R BT.601) of a picture, from 0 (black) to 1 (white).
pub fn brightness(picture: &Picture) -> f32 {
    let pixels = picture.rgb.chunks_exact(3);
    let count = pixels.len() as f64;
    let luma = |p: &[u8]| 299 * u64::from(p[0]) + 587 * u64::from(p[1]) + 114 * u64::from(p[2]);
    let sum: u64 = pixels.map(luma).sum();
    (sum as f64 / (1000.0 * 255.0 * count)) as f32
}

/// Shares of a picture's pixels in 64 coarse colours, which sum to 1: bin `16 r + 4 g + b` of four steps each way.
pub fn palette(picture: &Picture) -> Vec<f32> {
    let mut bins = vec![0_u64; 64];
    for p in picture.rgb.chunks_exact(3) {
        let step = |value: u8| usize::from(value >> 6);
        bins[16 * step(p[0]) + 4 * step(p[1]) + step(p[2])] += 1;
    }
    let count = (picture.rgb.len() / 3) as f64;
    bins.into_iter()
        .map(|bin| (bin as f64 / count) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brightness_and_palette_see_what_is_there() {
        let half = [[0, 0, 0], [255, 255, 255]].concat();
        let half = Picture::from_rgb(2, 1, half).unwrap();
        assert_eq!(brightness(&half), 0.5);
        let colours = palette(&half);
        assert_eq!((colours[0], colours[63]), (0.5, 0.5));
        assert_eq!(colours.iter().sum::<f32>(), 1.0);
        let green = Picture::from_rgb(1, 1, vec![10, 200, 100]).unwrap();
        assert_eq!(palette(&green)[4 * 3 + 1], 1.0);
        assert!(brightness(&green) > 0.5);
    }

    #[test]
    fn a_size_that_does_not_fit_is_refused() {
        assert!(Picture::from_rgb(2, 2, vec![0; 9]).is_err());
        assert!(Picture::from_rgb(0, 0, vec![]).is_err());
        assert!(Picture::from_rgb(usize::MAX, 2, vec![0; 9]).is_err());
    }
}
