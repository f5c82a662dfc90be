//! A picture in memory.

use super::PictureError;

/// Pixels in RGB.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) rgb: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} x {})", self.width, self.height)
    }
}

impl Picture {
    /// From `rgb` `[height, width, 3]`.
    ///
    /// # Errors
    /// When there is no pixel, or the bytes are not as many as the size says.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self, PictureError> {
        let bytes = rgb.len();
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if expected != Some(bytes) || bytes == 0 {
            return Err(PictureError::Size {
                width,
                height,
                bytes,
            });
        }
        Ok(Self { width, height, rgb })
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}
