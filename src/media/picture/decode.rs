//! PNG and JPEG to RGB.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::orientation::upright;
use super::spliced::Spliced;
use super::{Picture, PictureError, jpeg_segments, png_chunks};

/// What a file may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes of the file.
    pub bytes: usize,
    /// Pixels of the picture; decoding takes at most [`BYTES_A_PIXEL`] for each, and what would take more may have fewer.
    pub pixels: u64,
}

/// Bytes of memory for every pixel that may be decoded.
pub const BYTES_A_PIXEL: u64 = 8;

impl Default for DecodeLimits {
    /// 64 MiB, and 48 Mi pixels: what cameras take, and no more.
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            pixels: 48 << 20,
        }
    }
}

const PNG: [u8; 4] = [0x89, b'P', b'N', b'G'];
const JPEG: [u8; 3] = [0xff, 0xd8, 0xff];

impl Picture {
    /// From the bytes of a PNG or a JPEG file. Transparency is laid on white, greys become RGB, 16 bits become 8, and a
    /// picture that says of itself that it lies on its side (EXIF, wherever it stands, or XMP) is set upright. The first frame
    /// of an animation is taken. Nothing but pixels is inflated.
    ///
    /// # Errors
    /// When it is neither, damaged, cut short, or beyond the limits.
    pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Self, PictureError> {
        if bytes.is_empty() {
            return Err(PictureError::Empty);
        }
        if bytes.len() > limits.bytes {
            return Err(PictureError::FileTooLarge {
                bytes: bytes.len(),
                limit: limits.bytes,
            });
        }
        if bytes.starts_with(&PNG) {
            return png(bytes, limits);
        }
        if bytes.starts_with(&JPEG) {
            return jpeg(bytes, limits);
        }
        let first = bytes.iter().take(8).map(|byte| format!("{byte:02x}"));
        Err(PictureError::Format {
            found: first.collect::<Vec<_>>().join(" "),
        })
    }
}

fn check_pixels(width: usize, height: usize, limit: u64) -> Result<(), PictureError> {
    let pixels = (width as u64).saturating_mul(height as u64);
    if pixels > limit {
        return Err(PictureError::TooLarge {
            width,
            height,
            limit,
        });
    }
    Ok(())
}

fn malformed(format: &'static str, reason: impl ToString) -> PictureError {
    PictureError::Malformed {
        format,
        reason: reason.to_string(),
    }
}

fn png(bytes: &[u8], limits: &DecodeLimits) -> Result<Picture, PictureError> {
    let wrong = |error: png::DecodingError| malformed("PNG", error);
    let chunks = png_chunks::read(bytes).map_err(|reason| malformed("PNG", reason))?;
    let input = Spliced::new([&chunks.head, chunks.pixels, &png_chunks::END]);
    let mut decoder = png::Decoder::new(input);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let (width, height) = decoder.read_header_info().map_err(wrong)?.size();
    let (width, height) = (width as usize, height as usize);
    check_pixels(width, height, limits.pixels)?;
    let mut reader = decoder.read_info().map_err(wrong)?;
    let size = reader.output_buffer_size();
    let size = size.ok_or_else(|| malformed("PNG", "its size cannot be represented"))?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(wrong)?;
    drop(reader);
    pixels.truncate(frame.buffer_size());
    let rgb = match frame.color_type {
        png::ColorType::Rgb => pixels,
        png::ColorType::Rgba => without_alpha(pixels),
        png::ColorType::Grayscale => each_pixel::<1>(&pixels, |[grey]| [grey; 3]),
        png::ColorType::GrayscaleAlpha => {
            each_pixel::<2>(&pixels, |[grey, a]| [grey; 3].map(on_white(a)))
        }
        other => {
            return Err(malformed(
                "PNG",
                format!("its pixels came out as {other:?}"),
            ));
        }
    };
    let picture = Picture::from_rgb(width, height, rgb)?;
    Ok(upright(picture, chunks.orientation))
}

fn each_pixel<const N: usize>(pixels: &[u8], to_rgb: impl Fn([u8; N]) -> [u8; 3]) -> Vec<u8> {
    let (pixels, _) = pixels.as_chunks::<N>();
    let mut rgb = Vec::with_capacity(3 * pixels.len());
    for pixel in pixels {
        rgb.extend_from_slice(&to_rgb(*pixel));
    }
    rgb
}

/// RGBA laid on white, in the place that it has.
fn without_alpha(mut pixels: Vec<u8>) -> Vec<u8> {
    let count = pixels.len() / 4;
    for at in 0..count {
        let [r, g, b, a] = std::array::from_fn(|channel| pixels[4 * at + channel]);
        pixels[3 * at..3 * at + 3].copy_from_slice(&[r, g, b].map(on_white(a)));
    }
    pixels.truncate(3 * count);
    pixels
}

/// A value laid on white with this opacity, rounded.
fn on_white(alpha: u8) -> impl Fn(u8) -> u8 {
    let alpha = u32::from(alpha);
    move |value| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

fn jpeg(bytes: &[u8], limits: &DecodeLimits) -> Result<Picture, PictureError> {
    let wrong = |error: zune_jpeg::errors::DecodeErrors| malformed("JPEG", format!("{error:?}"));
    let segments = jpeg_segments::read(bytes)?;
    // A lenient decoder would paint grey over what is missing.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let scans = segments.scans;
    let input = Spliced::new([&segments.head, scans.unwrap_or_default(), &[]]);
    let mut decoder = JpegDecoder::new_with_options(input, options);
    if scans.is_none() {
        return Err(malformed("JPEG", "it has no end: the file was cut short"));
    }
    decoder.decode_headers().map_err(wrong)?;
    let info = decoder.info();
    let info = info.ok_or_else(|| malformed("JPEG", "it states no size"))?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let taken = segments.bytes_a_block_row().max(8 * BYTES_A_PIXEL);
    let most_bytes = limits.pixels.saturating_mul(8 * BYTES_A_PIXEL);
    check_pixels(width, height, most_bytes / taken)?;
    let rgb = decoder.decode().map_err(wrong)?;
    drop(decoder);
    let picture = Picture::from_rgb(width, height, rgb)?;
    Ok(upright(picture, segments.orientation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transparency_shows_white() {
        assert_eq!(on_white(255)(7), 7);
        assert_eq!(on_white(0)(7), 255);
        assert_eq!(on_white(128)(0), 127);
    }
}
