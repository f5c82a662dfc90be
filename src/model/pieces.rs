//! Weights of a tower by the piece: the first so many stay in memory, the rest is read when its turn comes. How many is decided
//! elsewhere, and what is read is known before it is.

use std::sync::Arc;

use crate::progress::TowerListener;

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

    /// Bytes of every piece.
    pub fn sizes(&self) -> &[u64] {
        &self.sizes
    }

    /// Bytes of the pieces that are in memory.
    pub fn resident_bytes(&self) -> u64 {
        let held = self.held.iter().zip(&self.sizes);
        held.filter(|(held, _)| held.is_some())
            .map(|(_, size)| size)
            .sum()
    }

    /// From now on the first `pieces` stay; what is beyond goes at once.
    pub fn keep(&mut self, pieces: usize) {
        self.kept = pieces;
        for held in self.held.iter_mut().skip(pieces) {
            *held = None;
        }
    }

    /// Piece `at`, read by `load` where it is not in memory; `listener` hears that it begins. Panics when there is no such piece.
    ///
    /// # Errors
    /// What `load` says.
    pub fn get<E>(
        &mut self,
        at: usize,
        listener: &mut dyn TowerListener,
        load: impl FnOnce() -> Result<P, E>,
    ) -> Result<Arc<P>, E> {
        listener.piece(at, self.sizes.len());
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

    /// What was read since the start.
    pub fn counts(&self) -> PieceCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Vec<(usize, usize)>);

    impl TowerListener for Heard {
        fn piece(&mut self, at: usize, pieces: usize) {
            self.0.push((at, pieces));
        }
    }

    fn run(pieces: &mut Pieces<usize>) -> PieceCounts {
        let before = pieces.counts();
        let mut heard = Heard::default();
        for at in 0..3 {
            let piece = pieces.get(at, &mut heard, || Ok::<_, ()>(at)).unwrap();
            assert_eq!(*piece, at);
        }
        // Whether they are in memory or not.
        assert_eq!(heard.0, [(0, 3), (1, 3), (2, 3)]);
        pieces.counts().since(before)
    }

    #[test]
    fn the_beginning_stays() {
        let mut pieces = Pieces::new(vec![10, 20, 5]);
        assert_eq!(run(&mut pieces).bytes_read, 35);
        assert_eq!(pieces.resident_bytes(), 0);
        pieces.keep(2);
        assert_eq!(run(&mut pieces).bytes_read, 35);
        let second = run(&mut pieces);
        assert_eq!((second.hits, second.misses, second.bytes_read), (2, 1, 5));
        assert_eq!(pieces.resident_bytes(), 30);
    }

    #[test]
    fn fewer_pieces_are_obeyed_at_once() {
        let mut pieces = Pieces::new(vec![10, 20, 5]);
        pieces.keep(3);
        run(&mut pieces);
        assert_eq!(pieces.resident_bytes(), 35);
        pieces.keep(1);
        assert_eq!(pieces.resident_bytes(), 10);
    }
}
