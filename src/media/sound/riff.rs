//! Where the samples of a WAV lie.
//!
//! Of all that a RIFF file may hold, two chunks are wanted: `fmt ` and `data`. What the others say is never read, and what any
//! of them says of its length is believed only as far as it leads to these two: programs that write to a pipe cannot know a
//! length, and others count it wrongly.

use super::pcm::Format;

/// Bytes of a chunk's identifier and length.
const HEADER_BYTES: usize = 8;

/// Before the first chunk: `RIFF`, a length, `WAVE`.
const FIRST_CHUNK: usize = 12;

/// What a file that cannot know its length writes; the length is then in the chunk `ds64`.
const IN_DS64: u32 = u32::MAX;

/// A WAV whose samples were found.
pub(super) struct Wav<'a> {
    pub(super) format: Format,
    /// Whole frames, and perhaps a part of one.
    pub(super) data: &'a [u8],
}

/// Whether a file begins as a WAV does, of either kind.
pub(super) fn is_wav(bytes: &[u8]) -> bool {
    let magic = bytes.get(..4).unwrap_or_default();
    let kinds: [&[u8]; 3] = [b"RIFF", b"RF64", b"BW64"];
    kinds.contains(&magic) && bytes.get(8..FIRST_CHUNK) == Some(b"WAVE")
}

/// The samples of a file that [`is_wav`].
///
/// # Errors
/// What is missing, or how the samples are coded where that is not read.
pub(super) fn parse(bytes: &[u8]) -> Result<Wav<'_>, String> {
    let mut found = RiffChunks::default();
    found.walk(bytes);
    let format = match found.format {
        Some(at) => at,
        None => {
            search(bytes, *b"fmt ").ok_or("it has no `fmt ` chunk that says how it is coded")?
        }
    };
    let format = Format::parse(bytes.get(format..).unwrap_or_default())?;
    let data = match found.data {
        Some(at) => at,
        None => search(bytes, *b"data").ok_or("it has no `data` chunk with samples")?,
    };
    let data = samples(bytes, data, found.long_data_bytes);
    Ok(Wav { format, data })
}

/// What a walk from chunk to chunk came upon; where the contents begin.
#[derive(Default)]
struct RiffChunks {
    format: Option<usize>,
    data: Option<usize>,
    /// Length of the samples by `ds64`.
    long_data_bytes: Option<u64>,
}

impl RiffChunks {
    /// Goes as far as the lengths lead, at most to the samples.
    fn walk(&mut self, bytes: &[u8]) {
        let mut at = FIRST_CHUNK;
        while let Some((id, stated)) = header(bytes, at) {
            let contents = at + HEADER_BYTES;
            match &id {
                b"fmt " if self.format.is_none() => self.format = Some(contents),
                b"ds64" => {
                    let long = bytes.get(contents + 8..contents + 16);
                    self.long_data_bytes = long
                        .and_then(|long| long.try_into().ok())
                        .map(u64::from_le_bytes);
                }
                b"data" => self.data = self.data.or(Some(contents)),
                _ => {}
            }
            if self.data.is_some() && self.format.is_some() {
                return;
            }
            let Some(end) = contents.checked_add(stated as usize) else {
                return;
            };
            at = next(bytes, end, stated % 2 == 1);
        }
    }
}

/// Identifier and length of the chunk at `at`.
fn header(bytes: &[u8], at: usize) -> Option<([u8; 4], u32)> {
    let header = bytes.get(at..at.checked_add(HEADER_BYTES)?)?;
    let (id, stated) = header.split_at(4);
    Some((
        id.try_into().ok()?,
        u32::from_le_bytes(stated.try_into().ok()?),
    ))
}

/// Where the chunk behind `end` begins: behind a byte that fills up an odd length, unless that byte was left out.
fn next(bytes: &[u8], end: usize, odd: bool) -> usize {
    let unfilled = bytes.get(end..end.saturating_add(4)).unwrap_or_default();
    end + usize::from(odd && unfilled != b"data" && unfilled != b"fmt ")
}

/// Contents of the first chunk `id` anywhere behind the beginning, where lengths did not lead to it; one whose length fits is taken
/// before one whose length does not, since a text may hold the same four letters.
fn search(bytes: &[u8], id: [u8; 4]) -> Option<usize> {
    let of_id = |at: &usize| bytes[*at..*at + 4] == id;
    let last = bytes.len().saturating_sub(HEADER_BYTES);
    let mut found = (FIRST_CHUNK..=last).filter(of_id);
    let first = found.next()?;
    let fits = |at: &usize| {
        header(bytes, *at).is_some_and(|(_, stated)| {
            stated > 0 && stated as usize <= bytes.len() - at - HEADER_BYTES
        })
    };
    let fitting = std::iter::once(first).chain(found).find(fits);
    Some(fitting.unwrap_or(first) + HEADER_BYTES)
}

/// The samples behind the header of their chunk: as many bytes as it states, or as there are.
fn samples(bytes: &[u8], contents: usize, long: Option<u64>) -> &[u8] {
    let rest = bytes.get(contents..).unwrap_or_default();
    let stated = header(bytes, contents - HEADER_BYTES).map_or(0, |(_, stated)| stated);
    let length = match (stated, long) {
        (IN_DS64, Some(long)) if long > 0 => usize::try_from(long).unwrap_or(usize::MAX),
        // Nobody came back to write it down.
        (0, _) if !are_chunks(rest) => usize::MAX,
        _ => stated as usize,
    };
    &rest[..length.min(rest.len())]
}

/// Whether these bytes are whole chunks, one after the other, or nothing.
fn are_chunks(bytes: &[u8]) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        let Some((id, stated)) = header(bytes, at) else {
            return false;
        };
        if !id.iter().all(|letter| (b' '..=b'~').contains(letter)) {
            return false;
        }
        let end = (at + HEADER_BYTES).saturating_add(stated as usize);
        if end > bytes.len() {
            return false;
        }
        at = next(bytes, end, stated % 2 == 1);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(id: &[u8; 4], stated: u32, contents: &[u8]) -> Vec<u8> {
        [&id[..], &stated.to_le_bytes(), contents].concat()
    }

    fn format() -> Vec<u8> {
        let contents = [1, 0, 1, 0, 0x40, 0x1f, 0, 0, 0x80, 0x3e, 0, 0, 2, 0, 16, 0];
        chunk(b"fmt ", 16, &contents)
    }

    fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
        [b"RIFF\0\0\0\0WAVE".to_vec(), chunks.concat()].concat()
    }

    fn samples_of(chunks: &[Vec<u8>]) -> Vec<u8> {
        let file = file(chunks);
        assert!(is_wav(&file));
        parse(&file)
            .map(|wav| wav.data.to_vec())
            .unwrap_or_default()
    }

    const FOUR: [u8; 4] = [1, 0, 2, 0];

    #[test]
    fn the_bytes_that_are_there_decide() {
        for stated in [4, 5, 0x7fff_ffff, 0x8000_0000, 0xffff_fff7, u32::MAX, 0] {
            let found = samples_of(&[format(), chunk(b"data", stated, &FOUR)]);
            assert_eq!(found, FOUR, "{stated:#x} stated");
        }
        assert_eq!(samples_of(&[format(), chunk(b"data", 2, &FOUR)]), [1, 0]);
        // None, and a tag behind it.
        let tag = chunk(b"LIST", 4, b"INFO");
        assert!(samples_of(&[format(), chunk(b"data", 0, &[]), tag]).is_empty());
    }

    #[test]
    fn no_other_chunk_hides_the_samples() {
        let data = chunk(b"data", 4, &FOUR);
        for lying in [
            0,
            1,
            3,
            6,
            7,
            9,
            10,
            11,
            60,
            70,
            71,
            1 << 20,
            u32::MAX - 7,
            u32::MAX,
        ] {
            let list = chunk(b"LIST", lying, b"INFOISFT\x63\0\0\0");
            for chunks in [
                [format(), list.clone(), data.clone()],
                [list.clone(), format(), data.clone()],
                [format(), data.clone(), list],
            ] {
                assert_eq!(samples_of(&chunks), FOUR, "a tag states {lying}");
            }
        }
        // A text that speaks of data, in a tag that lies.
        let list = chunk(b"LIST", 900, b"INFOICMTsome data here");
        assert_eq!(samples_of(&[format(), list, data.clone()]), FOUR);
        // An odd chunk, with and without the byte that fills it up.
        for contents in [&b"abc"[..], b"abc\0"] {
            let odd = chunk(b"note", 3, contents);
            assert_eq!(samples_of(&[format(), odd, data.clone()]), FOUR);
        }
    }

    #[test]
    fn long_files_say_their_length_elsewhere() {
        let long = [[0; 8], 2_u64.to_le_bytes(), [0; 8]].concat();
        let mut file = file(&[
            chunk(b"ds64", 24, &long),
            format(),
            chunk(b"data", u32::MAX, &FOUR),
        ]);
        file[..4].copy_from_slice(b"RF64");
        assert!(is_wav(&file));
        assert_eq!(parse(&file).map(|wav| wav.data), Ok(&FOUR[..2]));
    }

    impl PartialEq for Wav<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.data == other.data
        }
    }

    impl std::fmt::Debug for Wav<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{:?}", self.data)
        }
    }
}
