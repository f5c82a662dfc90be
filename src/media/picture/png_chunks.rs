//! Of a PNG's chunks, those that make pixels, and which way is up.
//!
//! Colour profiles, texts and private chunks never reach the decoder: whatever they would be inflated to, nobody needs it.

use super::orientation;

const HEADER_BYTES: usize = 8;
const CHECK_BYTES: usize = 4;

/// The last chunk of a PNG, which is always the same.
pub(super) const END: [u8; 12] = *b"\0\0\0\0IEND\xae\x42\x60\x82";

/// Contents of a palette, or of its transparency, at most.
const MOST_PALETTE_BYTES: usize = 768;

/// What a PNG's decoder has to know.
pub(super) struct PngChunks<'a> {
    /// Signature, size and colours.
    pub(super) head: Vec<u8>,
    /// The chunks with pixels.
    pub(super) pixels: &'a [u8],
    /// As its metadata say, wherever they stand.
    pub(super) orientation: Option<u16>,
}

/// Goes through a PNG's chunks.
///
/// # Errors
/// When it ends within one that is needed, or has one that makes it another format.
pub(super) fn read(bytes: &[u8]) -> Result<PngChunks<'_>, String> {
    let mut found = PngChunks {
        head: bytes.get(..8).unwrap_or(bytes).to_vec(),
        pixels: &[],
        orientation: None,
    };
    let mut notes = orientation::Notes::default();
    // The chunks with pixels follow one another; others behind them are not their continuation.
    let mut pixels = None;
    let (mut at, mut ended) = (8, false);
    while let Some(header) = bytes.get(at..at + HEADER_BYTES) {
        let (length, id) = header.split_at(4);
        let length = length
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        let start = at + HEADER_BYTES;
        let end = start + length + CHECK_BYTES;
        let whole = end <= bytes.len();
        let contents = bytes.get(start..start + length).unwrap_or_default();
        match id {
            b"IEND" => {
                ended = true;
                break;
            }
            _ if !whole => {
                let id = id.escape_ascii();
                return Err(format!("it ends within its chunk `{id}`: it was cut short"));
            }
            b"IDAT" => {
                let (first, last) = pixels.unwrap_or((at, at));
                if last == at {
                    pixels = Some((first, end));
                }
            }
            b"IHDR" | b"PLTE" | b"tRNS" => {
                if length > MOST_PALETTE_BYTES {
                    let id = id.escape_ascii();
                    return Err(format!("its chunk `{id}` has {length} bytes"));
                }
                if found.head.len() > 8 + 8 * MOST_PALETTE_BYTES {
                    return Err("it has more than one palette".into());
                }
                found.head.extend_from_slice(&bytes[at..end]);
            }
            b"eXIf" => notes.exif = notes.exif.or(Some(contents)),
            b"tEXt" | b"zTXt" | b"iTXt" => notes.text(id, contents),
            // A capital says that nothing can be understood without it.
            _ if id[0] & 0x20 == 0 => {
                let id = id.escape_ascii();
                return Err(format!("its chunk `{id}` is of another format than PNG"));
            }
            _ => {}
        }
        at = end;
    }
    if !ended {
        // What stood behind might have said which way is up.
        return Err("it has no end: the file was cut short".into());
    }
    if let Some((first, last)) = pixels {
        found.pixels = &bytes[first..last];
    }
    found.orientation = notes.orientation();
    Ok(found)
}
