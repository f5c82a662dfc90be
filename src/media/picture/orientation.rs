//! Which way is up: the orientation that cameras write down instead of turning the pixels (EXIF, tag 0x0112).

use super::Picture;

const ORIENTATION: u16 = 0x0112;

/// The picture turned and mirrored as its EXIF says; as it is where that says nothing of use.
pub(super) fn upright(picture: Picture, exif: Option<&[u8]>) -> Picture {
    match exif.and_then(orientation) {
        Some(orientation @ 2..=8) => turned(&picture, orientation),
        _ => picture,
    }
}

/// The value of the tag in a TIFF header's first directory.
fn orientation(exif: &[u8]) -> Option<u16> {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let little = match tiff.get(..4)? {
        [b'I', b'I', 42, 0] => true,
        [b'M', b'M', 0, 42] => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    };
    let long = |at: usize| {
        let (first, second) = (u32::from(short(at)?), u32::from(short(at + 2)?));
        Some(if little {
            second << 16 | first
        } else {
            first << 16 | second
        })
    };
    let directory = long(4)? as usize;
    let entries = usize::from(short(directory)?);
    (0..entries).find_map(|entry| {
        let at = directory.checked_add(2 + 12 * entry)?;
        (short(at)? == ORIENTATION).then(|| short(at + 8))?
    })
}

fn turned(picture: &Picture, orientation: u16) -> Picture {
    let (w, h) = (picture.width, picture.height);
    let on_its_side = orientation >= 5;
    let (width, height) = if on_its_side { (h, w) } else { (w, h) };
    let mut rgb = Vec::with_capacity(picture.rgb.len());
    for y in 0..height {
        for x in 0..width {
            let (column, row) = match orientation {
                2 => (w - 1 - x, y),
                3 => (w - 1 - x, h - 1 - y),
                4 => (x, h - 1 - y),
                5 => (y, x),
                6 => (y, h - 1 - x),
                7 => (w - 1 - y, h - 1 - x),
                8 => (w - 1 - y, x),
                _ => (x, y),
            };
            let at = 3 * (row * w + column);
            rgb.extend_from_slice(&picture.rgb[at..at + 3]);
        }
    }
    Picture { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with one entry, in either order of bytes.
    fn exif(little: bool, value: u16) -> Vec<u8> {
        let short = |n: u16| {
            if little {
                n.to_le_bytes()
            } else {
                n.to_be_bytes()
            }
        };
        let long = |n: u32| {
            if little {
                n.to_le_bytes()
            } else {
                n.to_be_bytes()
            }
        };
        let mut bytes = b"Exif\0\0".to_vec();
        bytes.extend(if little { b"II" } else { b"MM" });
        bytes.extend(short(42));
        bytes.extend(long(8));
        bytes.extend(short(1));
        bytes.extend(short(ORIENTATION));
        bytes.extend(short(3));
        bytes.extend(long(1));
        bytes.extend(short(value));
        bytes.extend(short(0));
        bytes
    }

    #[test]
    fn both_orders_of_bytes_are_read_and_rubbish_is_not() {
        assert_eq!(orientation(&exif(true, 6)), Some(6));
        assert_eq!(orientation(&exif(false, 8)), Some(8));
        assert_eq!(orientation(&exif(true, 6)[..20]), None);
        assert_eq!(orientation(b"Exif\0\0II*\0\xff\xff\xff\xff"), None);
        assert_eq!(orientation(b""), None);
    }

    #[test]
    fn a_picture_on_its_side_is_set_upright() {
        // Two rows of three: a b c / d e f.
        let pixels = |text: &str| text.bytes().flat_map(|b| [b; 3]).collect::<Vec<_>>();
        let picture = Picture::from_rgb(3, 2, pixels("abcdef")).unwrap();
        for (orientation, expected, width) in [
            (1, "abcdef", 3),
            (2, "cbafed", 3),
            (3, "fedcba", 3),
            (4, "defabc", 3),
            (5, "adbecf", 2),
            (6, "daebfc", 2),
            (7, "fcebda", 2),
            (8, "cfbead", 2),
            (9, "abcdef", 3),
        ] {
            let found = upright(picture.clone(), Some(&exif(true, orientation)));
            assert_eq!(found.rgb, pixels(expected), "orientation {orientation}");
            assert_eq!(found.width, width);
        }
    }
}
