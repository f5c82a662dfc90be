//! Parts of a file, read as if nothing had been between them: a decoder is given what makes pixels, and no copy is made.

use std::io::{BufRead, Error, Read, Result, Seek, SeekFrom};

/// Three parts, one after the other.
pub(super) struct Spliced<'a> {
    parts: [&'a [u8]; 3],
    part: usize,
    /// Within the part.
    at: usize,
}

impl<'a> Spliced<'a> {
    pub(super) fn new(parts: [&'a [u8]; 3]) -> Self {
        Self {
            parts,
            part: 0,
            at: 0,
        }
    }

    fn position(&self) -> usize {
        let before: usize = self.parts[..self.part].iter().map(|part| part.len()).sum();
        before + self.at
    }
}

impl BufRead for Spliced<'_> {
    #[inline]
    fn fill_buf(&mut self) -> Result<&[u8]> {
        while self.at == self.parts[self.part].len() && self.part + 1 < self.parts.len() {
            (self.part, self.at) = (self.part + 1, 0);
        }
        Ok(&self.parts[self.part][self.at..])
    }

    #[inline]
    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.parts[self.part].len());
    }
}

impl Read for Spliced<'_> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl Seek for Spliced<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let whole: usize = self.parts.iter().map(|part| part.len()).sum();
        let position = match to {
            SeekFrom::Start(at) => usize::try_from(at).ok(),
            SeekFrom::End(from) => whole.checked_add_signed(from as isize),
            SeekFrom::Current(from) => self.position().checked_add_signed(from as isize),
        };
        let position = position.ok_or_else(|| Error::other("a place before the beginning"))?;
        (self.part, self.at) = (0, position.min(whole));
        while self.at > self.parts[self.part].len() {
            self.at -= self.parts[self.part].len();
            self.part += 1;
        }
        Ok(position.min(whole) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_read_as_one() {
        let mut spliced = Spliced::new([b"ab", b"", b"cde"]);
        let mut all = String::new();
        spliced.read_to_string(&mut all).unwrap();
        assert_eq!(all, "abcde");
        for at in 0..=5 {
            assert_eq!(spliced.seek(SeekFrom::Start(at)).unwrap(), at);
            all.clear();
            spliced.read_to_string(&mut all).unwrap();
            assert_eq!(all, "abcde"[at as usize..]);
        }
        assert_eq!(spliced.seek(SeekFrom::Current(-4)).unwrap(), 1);
        assert_eq!(spliced.stream_position().unwrap(), 1);
        assert_eq!(spliced.seek(SeekFrom::End(-2)).unwrap(), 3);
        assert_eq!(spliced.seek(SeekFrom::Start(99)).unwrap(), 5);
        assert!(spliced.seek(SeekFrom::End(-9)).is_err());
    }
}
