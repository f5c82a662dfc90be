//! Spans and events on their way to a timeline: slots of equal length in a scratch file, the newest so many. The process keeps one
//! buffer of them, so that a timeline takes next to no memory from a limit, however long it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a slot.
const SLOT_BYTES: usize = 192;

/// Bytes of a slot that stand before its fields.
const HEAD_BYTES: usize = 24;

/// Bytes of JSON that fit into a slot.
pub const FIELDS_BYTES: usize = SLOT_BYTES - HEAD_BYTES;

/// Slots that wait in memory.
const BUFFERED: usize = 512;

/// A span that ended, or an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    /// Number of its name.
    pub name: u16,
    /// Number of its thread.
    pub thread: u16,
    /// When it began, ns.
    pub start_ns: u64,
    /// What it took, ns; none of an event.
    pub took_ns: Option<u64>,
    /// Members of a JSON object, at most [`FIELDS_BYTES`].
    pub fields: String,
}

/// The newest entries.
#[derive(Debug)]
pub struct Ring {
    file: File,
    most: u64,
    /// Entries so far.
    count: u64,
    /// Of the last entries, not yet in the file.
    buffer: Vec<u8>,
}

impl Ring {
    /// Of at most `most` entries, in an empty file.
    pub fn new(file: File, most: usize) -> Self {
        Self {
            file,
            most: most as u64,
            count: 0,
            buffer: Vec::with_capacity(BUFFERED * SLOT_BYTES),
        }
    }

    /// One more; the oldest goes where there is no room.
    ///
    /// # Errors
    /// The system's, when the file cannot be written.
    pub fn push(&mut self, entry: &TimelineEntry) -> io::Result<()> {
        let mut slot = [0; SLOT_BYTES];
        let fields = entry.fields.as_bytes();
        let length = fields.len().min(FIELDS_BYTES);
        slot[0..2].copy_from_slice(&entry.name.to_le_bytes());
        slot[2..4].copy_from_slice(&entry.thread.to_le_bytes());
        slot[4..6].copy_from_slice(&(length as u16).to_le_bytes());
        slot[8..16].copy_from_slice(&entry.start_ns.to_le_bytes());
        slot[16..24].copy_from_slice(&entry.took_ns.unwrap_or(u64::MAX).to_le_bytes());
        slot[HEAD_BYTES..HEAD_BYTES + length].copy_from_slice(&fields[..length]);
        self.buffer.extend_from_slice(&slot);
        self.count += 1;
        if self.buffer.len() == BUFFERED * SLOT_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let slots = (self.buffer.len() / SLOT_BYTES) as u64;
        let first = (self.count - slots) % self.most;
        let before_end = slots.min(self.most - first) as usize * SLOT_BYTES;
        let (before, after) = self.buffer.split_at(before_end);
        self.file.write_all_at(before, first * SLOT_BYTES as u64)?;
        self.file.write_all_at(after, 0)?;
        self.buffer.clear();
        Ok(())
    }

    /// Entries that are kept.
    pub fn kept(&self) -> u64 {
        self.count.min(self.most)
    }

    /// Entries that were let go.
    pub fn dropped(&self) -> u64 {
        self.count - self.kept()
    }

    /// Hands over every kept entry by its beginning; of those that begin together the longest comes first, so that what encloses
    /// stands before what it encloses.
    ///
    /// # Errors
    /// The system's, when the file cannot be read or written, and what `take` says.
    pub fn read(
        &mut self,
        take: &mut dyn FnMut(TimelineEntry) -> io::Result<()>,
    ) -> io::Result<()> {
        self.flush()?;
        let mut order = Vec::with_capacity(self.kept() as usize);
        for at in 0..self.kept() {
            let mut times = [0; 16];
            self.file
                .read_exact_at(&mut times, at * SLOT_BYTES as u64 + 8)?;
            let (start, took) = (number(&times[..8]), number(&times[8..]));
            order.push((start, std::cmp::Reverse(took), at));
        }
        order.sort_unstable();
        for (start_ns, std::cmp::Reverse(took), at) in order {
            let mut slot = [0; SLOT_BYTES];
            self.file.read_exact_at(&mut slot, at * SLOT_BYTES as u64)?;
            let length = usize::from(short(&slot[4..6])).min(FIELDS_BYTES);
            let fields = &slot[HEAD_BYTES..HEAD_BYTES + length];
            take(TimelineEntry {
                name: short(&slot[0..2]),
                thread: short(&slot[2..4]),
                start_ns,
                took_ns: Some(took).filter(|took| *took != u64::MAX),
                fields: String::from_utf8_lossy(fields).into_owned(),
            })?;
        }
        Ok(())
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn short(bytes: &[u8]) -> u16 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u16::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(start_ns: u64) -> TimelineEntry {
        TimelineEntry {
            name: 3,
            thread: 1,
            start_ns,
            took_ns: start_ns.is_multiple_of(2).then_some(start_ns),
            fields: format!("\"layer\":{start_ns}"),
        }
    }

    #[test]
    fn the_newest_are_kept_wherever_the_ring_closes() {
        for (count, most) in [
            (0, 5),
            (5, 5),
            (6, 5),
            (700, 600),
            (3000, 700),
            (2048, 1024),
        ] {
            let mut ring = Ring::new(tempfile::tempfile().expect("a file"), most);
            for at in 0..count {
                ring.push(&entry(at)).expect("written");
            }
            let kept = count.min(most as u64);
            assert_eq!((ring.kept(), ring.dropped()), (kept, count - kept));
            let mut read = Vec::new();
            ring.read(&mut |entry| {
                read.push(entry);
                Ok(())
            })
            .expect("read");
            let newest: Vec<TimelineEntry> = (count - kept..count).map(entry).collect();
            assert_eq!(read, newest, "{count} of {most}");
        }
    }

    #[test]
    fn what_encloses_comes_first() {
        let mut ring = Ring::new(tempfile::tempfile().expect("a file"), 8);
        for (start_ns, took) in [(5, 1), (5, 9), (2, 3), (5, 4)] {
            let took_ns = Some(took);
            ring.push(&TimelineEntry {
                start_ns,
                took_ns,
                ..entry(1)
            })
            .expect("written");
        }
        let mut took = Vec::new();
        ring.read(&mut |entry| {
            took.extend(entry.took_ns);
            Ok(())
        })
        .expect("read");
        assert_eq!(took, [3, 9, 4, 1]);
    }
}
