//! How fast this machine's threads read memory at most: what products with one row of x are held against.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

use super::prefetch::prefetch;

/// What a thread reads in one piece.
const PIECE_BYTES: usize = 256 << 10;

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// Bytes a second at which all threads read `bytes` once, in the fastest of a few ways: without asking for what comes, and
/// asking 1, 4 and 16 KiB ahead.
pub fn reading_rate(bytes: &[u8]) -> f64 {
    let ways = [
        read_all::<0>,
        read_all::<1024>,
        read_all::<4096>,
        read_all::<16384>,
    ];
    let rates = ways.map(|way| {
        let start = Instant::now();
        black_box(way(bytes));
        bytes.len() as f64 / start.elapsed().as_secs_f64()
    });
    rates.into_iter().fold(0.0, f64::max)
}

/// Which bits are set anywhere, so that nothing is left out.
fn read_all<const AHEAD: usize>(bytes: &[u8]) -> u64 {
    let pieces = bytes.par_chunks(PIECE_BYTES).map(|piece| {
        // SAFETY: every pattern of bits is a number.
        let (_, words, _) = unsafe { piece.align_to::<u64>() };
        read::<AHEAD>(words)
    });
    pieces.reduce(|| 0, |a, b| a | b)
}

fn read<const AHEAD: usize>(words: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn wide<const AHEAD: usize>(words: &[u64]) -> u64 {
            bits::<AHEAD>(words)
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions.
            return unsafe { wide::<AHEAD>(words) };
        }
    }
    bits::<AHEAD>(words)
}

#[inline(always)]
fn bits<const AHEAD: usize>(words: &[u64]) -> u64 {
    const WORDS: usize = LINE_BYTES / size_of::<u64>();
    let mut found = [0; WORDS];
    let lines = words.as_chunks::<WORDS>();
    for line in lines.0 {
        if AHEAD > 0 {
            prefetch(line.as_ptr().wrapping_byte_add(AHEAD));
        }
        for at in 0..WORDS {
            found[at] |= line[at];
        }
    }
    let rest = lines.1.iter().fold(0, |all, word| all | word);
    found.iter().fold(rest, |all, found| all | found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_read() {
        let mut words = vec![0u64; 3 * PIECE_BYTES / 8 + 5];
        let last = words.len() - 1;
        for (at, bit) in [(0, 1), (PIECE_BYTES / 8 + 3, 2), (last, 4)] {
            words[at] = bit;
        }
        // SAFETY: numbers are bytes.
        let bytes = unsafe { words.align_to::<u8>().1 };
        assert_eq!((read_all::<0>(bytes), read_all::<4096>(bytes)), (7, 7));
        assert!(reading_rate(bytes) > 0.0);
    }
}
