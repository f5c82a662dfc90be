//! Which way is up: the orientation that cameras write down instead of turning the pixels (EXIF, tag 0x0112), wherever it stands.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;

use super::Picture;

const ORIENTATION: u16 = 0x0112;

/// Bytes of a note that are read; the tag stands among the first.
const MOST_NOTE_BYTES: usize = 256 << 10;

/// What a file notes of itself, as far as an orientation may stand in it.
#[derive(Default)]
pub(super) struct Notes<'a> {
    pub(super) exif: Option<&'a [u8]>,
    /// Adobe's, in XML.
    pub(super) xmp: Option<&'a [u8]>,
    /// EXIF as ImageMagick writes it into a text.
    profile: Option<Vec<u8>>,
    text: Option<Vec<u8>>,
}

impl<'a> Notes<'a> {
    /// A text chunk of a PNG: `tEXt`, `zTXt` or `iTXt`. Those of no use are not inflated.
    pub(super) fn text(&mut self, id: &[u8], contents: &'a [u8]) {
        let Some(end) = contents.iter().position(|byte| *byte == 0) else {
            return;
        };
        let value = &contents[end + 1..];
        match &contents[..end] {
            b"Raw profile type exif" | b"Raw profile type APP1" if self.profile.is_none() => {
                self.profile = text_value(id, value).map(|text| raw_profile(&text));
            }
            b"XML:com.adobe.xmp" if self.text.is_none() => {
                self.text = text_value(id, value).map(Cow::into_owned);
            }
            _ => {}
        }
    }

    /// The first of them that says one.
    pub(super) fn orientation(&self) -> Option<u16> {
        let of_exif = self.exif.and_then(of_exif);
        let of_profile = || self.profile.as_deref().and_then(self::of_exif);
        let of_xmp = || self.xmp.or(self.text.as_deref()).and_then(of_xmp);
        of_exif.or_else(of_profile).or_else(of_xmp)
    }
}

/// What stands in a text chunk behind its keyword.
fn text_value<'a>(id: &[u8], value: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let short = |bytes: &'a [u8]| Cow::Borrowed(&bytes[..bytes.len().min(MOST_NOTE_BYTES)]);
    match id {
        b"zTXt" => Some(Cow::Owned(inflated(value.get(1..)?))),
        b"iTXt" => {
            let (flag, rest) = value.split_first()?;
            let mut rest = rest.get(1..)?;
            for _language_and_keyword in 0..2 {
                let end = rest.iter().position(|byte| *byte == 0)?;
                rest = &rest[end + 1..];
            }
            Some(match flag {
                1 => Cow::Owned(inflated(rest)),
                _ => short(rest),
            })
        }
        _ => Some(short(value)),
    }
}

/// As far as it can be inflated, and no more than a note's bytes.
fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut some = ZlibDecoder::new(bytes).take(MOST_NOTE_BYTES as u64);
    // What came before a mistake may do.
    let _ = some.read_to_end(&mut out);
    out
}

/// The bytes of a profile that is written as a text: a line with its name, one with its length, and hexadecimal digits.
fn raw_profile(text: &[u8]) -> Vec<u8> {
    let text = text.trim_ascii_start();
    let digits = text
        .splitn(3, |byte| *byte == b'\n')
        .nth(2)
        .unwrap_or_default();
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let digits: Vec<u32> = digits.iter().filter_map(digit).collect();
    digits
        .chunks_exact(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

/// The value of `tiff:Orientation`, as an attribute or an element.
fn of_xmp(xml: &[u8]) -> Option<u16> {
    const NAME: &[u8] = b"tiff:Orientation";
    let at = xml.windows(NAME.len()).position(|window| window == NAME)?;
    let value = match &xml[at + NAME.len()..] {
        [b'=', b'"' | b'\'', value, ..] | [b'>', value, ..] => *value,
        _ => return None,
    };
    char::from(value).to_digit(10).map(|value| value as u16)
}

/// The picture turned and mirrored; as it is where nothing of use is said.
pub(super) fn upright(picture: Picture, orientation: Option<u16>) -> Picture {
    match orientation {
        Some(orientation @ 2..=8) => turned(&picture, orientation),
        _ => picture,
    }
}

/// The value of the tag in a TIFF header's first directory.
fn of_exif(exif: &[u8]) -> Option<u16> {
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
    let entry = (0..entries).find_map(|entry| {
        let at = directory.checked_add(2 + 12 * entry)?;
        (short(at)? == ORIENTATION).then_some(at)
    })?;
    // Cameras write it as a SHORT, other programs as whatever they like; it stands at the beginning of its four bytes.
    match short(entry + 2)? {
        BYTE | SIGNED_BYTE | UNDEFINED => tiff.get(entry + 8).map(|value| u16::from(*value)),
        LONG | SIGNED_LONG => u16::try_from(long(entry + 8)?).ok(),
        _ => short(entry + 8),
    }
}

/// Types of a TIFF's entries.
const BYTE: u16 = 1;
const LONG: u16 = 4;
const SIGNED_BYTE: u16 = 6;
const UNDEFINED: u16 = 7;
const SIGNED_LONG: u16 = 9;

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

    /// A header with one entry of `kind`, in either order of bytes.
    fn exif(little: bool, kind: u16, value: u32) -> Vec<u8> {
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
        bytes.extend(short(kind));
        bytes.extend(long(1));
        match kind {
            BYTE => bytes.extend([value as u8, 0, 0, 0]),
            LONG => bytes.extend(long(value)),
            _ => bytes.extend([short(value as u16), [0, 0]].concat()),
        }
        bytes
    }

    #[test]
    fn every_type_and_order_of_bytes_is_read_and_rubbish_is_not() {
        for little in [true, false] {
            for kind in [3, BYTE, LONG] {
                for value in 1..=8 {
                    let found = of_exif(&exif(little, kind, value));
                    assert_eq!(found, Some(value as u16), "{little} {kind}");
                }
            }
        }
        assert_eq!(of_exif(&exif(false, LONG, 0x6_0000)), None);
        assert_eq!(of_exif(&exif(true, 3, 6)[..20]), None);
        assert_eq!(of_exif(b"Exif\0\0II*\0\xff\xff\xff\xff"), None);
        assert_eq!(of_exif(b""), None);
    }

    #[test]
    fn texts_of_other_programs_are_read() {
        let hex: Vec<String> = exif(true, 3, 8)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let [first, second] = [&hex[..9], &hex[9..]].map(|part| part.concat());
        let text = format!("\nexif\n      32\n{first}\n{second}\n");
        let of = |chunk: &[u8], value: &[u8], keyword: &str| {
            let mut notes = Notes::default();
            let contents = [keyword.as_bytes(), &[0], value].concat();
            notes.text(chunk, &contents);
            notes.orientation()
        };
        let profile = "Raw profile type exif";
        assert_eq!(of(b"tEXt", text.as_bytes(), profile), Some(8));
        let mut packed = flate2::write::ZlibEncoder::new(vec![0], flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(of(b"zTXt", &packed, profile), Some(8));
        let international = [&[1, 0, 0, 0][..], &packed[1..]].concat();
        assert_eq!(of(b"iTXt", &international, profile), Some(8));
        assert_eq!(of(b"zTXt", &packed, "Comment"), None);
        let xmp = "XML:com.adobe.xmp";
        for value in [
            "<a tiff:Orientation=\"3\"/>",
            "<tiff:Orientation>3</tiff:Orientation>",
        ] {
            let plain = [&[0, 0, 0, 0][..], value.as_bytes()].concat();
            assert_eq!(of(b"iTXt", &plain, xmp), Some(3), "{value}");
        }
        assert_eq!(of(b"iTXt", b"\0\0\0\0tiff:Orientation", xmp), None);
        for contents in [&b""[..], b"\0", b"\0\0", b"\0\0\0"] {
            assert_eq!(of(b"iTXt", contents, xmp), None);
            assert_eq!(of(b"zTXt", contents, profile), None);
        }
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
            let found = upright(picture.clone(), Some(orientation));
            assert_eq!(found.rgb, pixels(expected), "orientation {orientation}");
            assert_eq!(found.width, width);
        }
    }
}
