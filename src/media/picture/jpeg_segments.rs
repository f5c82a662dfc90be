//! Of a JPEG's segments, those that make pixels; where it ends; and which way is up.

use super::PictureError;
use super::orientation::Notes;

/// Tables of a JPEG, in bytes, at most: they are small, and they are copied.
const MOST_TABLES_BYTES: usize = 1 << 20;

/// Bytes between two segments that belong to neither, at most.
const MOST_STRAY_BYTES: usize = 64;

const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// What a JPEG's decoder has to know.
#[derive(Default)]
pub(super) struct JpegSegments<'a> {
    /// From the beginning to the first scan, without what other programs noted.
    pub(super) head: Vec<u8>,
    /// From the first scan to the first end behind one; none where the file has no end.
    pub(super) scans: Option<&'a [u8]>,
    /// As its metadata say.
    pub(super) orientation: Option<u16>,
    frame: Frame,
}

/// What the frame's header says.
#[derive(Default)]
struct Frame {
    progressive: bool,
    /// Blocks of every component within a unit, across and down.
    sampling: Vec<[usize; 2]>,
}

/// Goes through a JPEG's segments.
///
/// # Errors
/// When it ends before its first scan, or is coded as the decoder does not understand it.
pub(super) fn read(bytes: &[u8]) -> Result<JpegSegments<'_>, PictureError> {
    let mut found = JpegSegments {
        head: bytes.get(..2).unwrap_or(bytes).to_vec(),
        ..JpegSegments::default()
    };
    let mut notes = Notes::default();
    let mut at = 2;
    loop {
        let JpegSegment {
            marker,
            start,
            contents,
            end,
        } = segment(bytes, at).ok_or_else(|| malformed(CUT))?;
        match marker {
            SCAN => {
                let components = contents.first().copied().unwrap_or(0);
                found.frame.check_scan(usize::from(components))?;
                found.scans = end_of_scans(bytes, end).map(|last| &bytes[start..last]);
                break;
            }
            END => return Err(malformed("it ends before its first scan")),
            0xe1 if contents.starts_with(EXIF) => notes.exif = notes.exif.or(Some(contents)),
            0xe1 if contents.starts_with(XMP) => {
                notes.xmp = notes.xmp.or(Some(&contents[XMP.len()..]));
            }
            // What Adobe's program notes decides about the colours, as may what JFIF says.
            0xe1..=0xed | 0xef | 0xfe => {}
            _ => {
                if is_frame(marker) {
                    found.frame = Frame::parse(marker, contents);
                }
                if found.head.len() + (end - start) > MOST_TABLES_BYTES {
                    let reason = format!("it has more than {MOST_TABLES_BYTES} bytes of tables");
                    return Err(malformed(reason));
                }
                found.head.extend_from_slice(&bytes[start..end]);
            }
        }
        at = end;
    }
    found.orientation = notes.orientation();
    Ok(found)
}

impl JpegSegments<'_> {
    /// Bytes that decoding takes for every 8 pixels, but for some rows: the pixels, and of a progressive JPEG all coefficients.
    pub(super) fn bytes_a_block_row(&self) -> u64 {
        let frame = &self.frame;
        if !frame.progressive {
            return 8 * 3;
        }
        let [across, down] = frame.most_sampling();
        let blocks: usize = frame.sampling.iter().map(|[h, v]| h * v).sum();
        8 * 3 + (8 * 2 * blocks).div_ceil(across * down) as u64
    }
}

const SCAN: u8 = 0xda;
const END: u8 = 0xd9;
const CUT: &str = "it ends before its first scan: it was cut short";

fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

impl Frame {
    fn parse(marker: u8, contents: &[u8]) -> Self {
        let byte = |at: usize| usize::from(contents.get(at).copied().unwrap_or(0));
        let sampling = |component: usize| {
            let both = byte(7 + 3 * component);
            [(both >> 4).clamp(1, 4), (both & 15).clamp(1, 4)]
        };
        Self {
            progressive: matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce),
            sampling: (0..byte(5)).map(sampling).collect(),
        }
    }

    fn most_sampling(&self) -> [usize; 2] {
        let most = |of: fn(&[usize; 2]) -> usize| self.sampling.iter().map(of).max().unwrap_or(1);
        [most(|[h, _]| *h), most(|[_, v]| *v)]
    }

    /// A picture whose components come one after the other is put together wrongly by the decoder unless it is progressive.
    fn check_scan(&self, components: usize) -> Result<(), PictureError> {
        if self.progressive || components >= self.sampling.len() {
            return Ok(());
        }
        Err(PictureError::ComponentsApart {
            found: components,
            components: self.sampling.len(),
        })
    }
}

fn malformed(reason: impl Into<String>) -> PictureError {
    PictureError::Malformed {
        format: "JPEG",
        reason: reason.into(),
    }
}

struct JpegSegment<'a> {
    marker: u8,
    /// Where the marker is.
    start: usize,
    /// Empty where the marker stands alone.
    contents: &'a [u8],
    end: usize,
}

/// The segment at `at`, or a few stray bytes behind it.
fn segment(bytes: &[u8], at: usize) -> Option<JpegSegment<'_>> {
    let near = &bytes[at.min(bytes.len())..bytes.len().min(at + MOST_STRAY_BYTES)];
    let start = at
        + near
            .windows(2)
            .position(|pair| pair[0] == 0xff && pair[1] != 0)?;
    // Any number of bytes ff may stand before a marker.
    let fill = bytes[start + 1..].iter().position(|byte| *byte != 0xff)?;
    let behind = start + 1 + fill;
    let marker = bytes[behind];
    let (contents, end) = if matches!(marker, 0x01 | 0xd0..=0xd9) {
        (&[][..], behind + 1)
    } else {
        let length = [*bytes.get(behind + 1)?, *bytes.get(behind + 2)?];
        let end = behind + 1 + usize::from(u16::from_be_bytes(length)).max(2);
        (bytes.get(behind + 3..end)?, end)
    };
    Some(JpegSegment {
        marker,
        start,
        contents,
        end,
    })
}

/// Behind the first end marker after a scan whose data begin at `at`. Within a scan bytes ff are escaped.
fn end_of_scans(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        match *bytes.get(at + 1)? {
            END => return Some(at + 2),
            0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
            0xff => at += 1,
            // Tables, and the header of the next scan.
            _ => at = segment(bytes, at)?.end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_behind_a_scan_is_the_end() {
        let scan =
            |components: u8, data: &[u8]| [&[0xff, SCAN, 0, 3, components][..], data].concat();
        let frame = [0xff, 0xc0, 0, 8, 8, 0, 8, 0, 8, 1];
        let file = |scans: &[u8]| [&[0xff, 0xd8][..], &frame, scans].concat();
        // Escaped bytes, a restart, fill bytes, another scan; and behind the end what looks like more.
        let data = [0xff, 0, 0xff, 0xd0, 7, 0xff, 0xff, 0];
        let scans = [scan(1, &data), scan(1, &[5, 0xff, 0xd9])].concat();
        let trailer = [&scans[..], &[0xff, 0xda, 0, 3, 1, 9, 0xff, 0xd9]].concat();
        let found = file(&trailer);
        let found = read(&found).unwrap();
        assert_eq!(found.scans, Some(&scans[..]));
        for cut in 0..scans.len() {
            let file = file(&scans[..cut]);
            let found = read(&file);
            assert!(
                found.is_err() || found.is_ok_and(|found| found.scans.is_none()),
                "{cut}"
            );
        }
    }
}
