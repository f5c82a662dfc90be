//! Weights of a tower by the piece: those that a share of memory has room for stay, the rest is read when its turn comes.
//!
//! A tower runs its pieces in one order, always the same. Of a cycle that does not fit, keeping its beginning is the best that
//! any policy can do; so which pieces stay follows from the share alone, and what is read is known before it is.

use std::sync::Arc;

/// What reading and keeping came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieceCounts {
    /// Pieces that were in memory when their turn came.
    pub hits: u64,
    /// Pieces that were read.
    pub misses: u64,
    /// Bytes of those.
    pub bytes_read: u64,
}

impl PieceCounts {
    /// What came to them after `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            hits: self.hits - before.hits,
            misses: self.misses - before.misses,
            bytes_read: self.bytes_read - before.bytes_read,
        }
    }
}

/// Pieces of one tower, in the order that they run in.
#[derive(Debug)]
pub struct Pieces<P> {
    sizes: Vec<u64>,
    held: Vec<Option<Arc<P>>>,
    /// The first so many may stay.
    kept: usize,
    counts: PieceCounts,
}

impl<P> Pieces<P> {
    /// Of pieces of these sizes in bytes; none may stay yet.
    pub fn new(sizes: Vec<u64>) -> Self {
        Self {
            held: sizes.iter().map(|_| None).collect(),
            sizes,
            kept: 0,
            counts: PieceCounts::default(),
        }
    }

    /// Bytes of all pieces.
    pub fn total_bytes(&self) -> u64 {
        self.sizes.iter().sum()
    }

    /// Bytes of the largest: what running takes with no share at all.
    pub fn largest_bytes(&self) -> u64 {
        self.sizes.iter().copied().max().unwrap_or(0)
    }

    /// Bytes of the pieces that are in memory.
    pub fn resident_bytes(&self) -> u64 {
        let held = self.held.iter().zip(&self.sizes);
        held.filter(|(held, _)| held.is_some())
            .map(|(_, size)| size)
            .sum()
    }

    /// From now on as many stay as `budget_bytes` have room for; what is beyond goes at once.
    pub fn set_budget(&mut self, budget_bytes: u64) {
        let mut room = budget_bytes;
        self.kept = self
            .sizes
            .iter()
            .take_while(|size| {
                let fits = **size <= room;
                room = room.saturating_sub(**size);
                fits
            })
            .count();
        for held in self.held.iter_mut().skip(self.kept) {
            *held = None;
        }
    }

    /// Piece `at`, read by `load` where it is not in memory. Panics when there is no such piece.
    ///
    /// # Errors
    /// What `load` says.
    pub fn get<E>(&mut self, at: usize, load: impl FnOnce() -> Result<P, E>) -> Result<Arc<P>, E> {
        if let Some(held) = &self.held[at] {
            self.counts.hits += 1;
            return Ok(Arc::clone(held));
        }
        let piece = Arc::new(load()?);
        self.counts.misses += 1;
        self.counts.bytes_read += self.sizes[at];
        if at < self.kept {
            self.held[at] = Some(Arc::clone(&piece));
        }
        Ok(piece)
    }

    /// What was read since the last time this was asked.
    pub fn take_counts(&mut self) -> PieceCounts {
        std::mem::take(&mut self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pieces: &mut Pieces<usize>) -> PieceCounts {
        for at in 0..3 {
            let piece = pieces.get(at, || Ok::<_, ()>(at)).unwrap();
            assert_eq!(*piece, at);
        }
        pieces.take_counts()
    }

    #[test]
    fn what_fits_of_the_beginning_stays() {
        let mut pieces = Pieces::new(vec![10, 20, 5]);
        assert_eq!(run(&mut pieces).bytes_read, 35);
        assert_eq!(pieces.resident_bytes(), 0);
        pieces.set_budget(31);
        assert_eq!(run(&mut pieces).bytes_read, 35);
        let second = run(&mut pieces);
        assert_eq!((second.hits, second.misses, second.bytes_read), (2, 1, 5));
        assert_eq!(pieces.resident_bytes(), 30);
    }

    #[test]
    fn a_smaller_share_is_obeyed_at_once() {
        let mut pieces = Pieces::new(vec![10, 20, 5]);
        pieces.set_budget(35);
        run(&mut pieces);
        assert_eq!(pieces.resident_bytes(), 35);
        pieces.set_budget(29);
        assert_eq!(pieces.resident_bytes(), 10);
        assert_eq!((pieces.total_bytes(), pieces.largest_bytes()), (35, 20));
    }
}
