//! Rows of x rounded to bytes, block by block: what integer products read.

use crate::formats::MOST_NUMBERS;

/// Numbers of x in a buffer of words.
const BYTES_OF_WORD: usize = size_of::<f32>();

/// Blocks whose largest number is smaller count as zeros: the inverse of their scale could not be told from infinity.
const SMALLEST: f32 = 1e-30;

/// How rows of x are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels) struct Cut {
    /// Numbers of a row.
    pub cols: usize,
    /// Numbers that share a scale.
    pub block: usize,
    /// Numbers whose sum is kept.
    pub group: usize,
}

impl Cut {
    fn blocks(&self) -> usize {
        self.cols / self.block
    }

    fn groups(&self) -> usize {
        self.cols / self.group
    }

    /// Words of a buffer that hold one row.
    fn row_words(&self) -> usize {
        let bytes = self.cols + self.groups() * size_of::<i16>();
        self.blocks() + bytes.div_ceil(BYTES_OF_WORD)
    }
}

/// Rows of x, each number `scale * byte` with bytes from -127 to 127: the nearest, of two equally near the even one.
///
/// They lie in strips of M rows ([`strip_rows`]): what belongs to the same place of the M rows of a strip stands side by
/// side. A strip of one row is that row.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct RoundedRows<'a> {
    pub cut: Cut,
    pub rows: usize,
    /// Rows of a strip, at most.
    pub most_rows: usize,
    /// `[strips, cols / 4, M, 4]`.
    pub bytes: &'a [i8],
    /// `[strips, cols / group, M]`.
    pub sums: &'a [i16],
    /// `[strips, cols / block, M]`.
    pub scales: &'a [f32],
}

/// One strip of [`RoundedRows`].
#[derive(Clone, Copy)]
pub(super) struct RoundedStrip<'a> {
    pub bytes: &'a [i8],
    pub sums: &'a [i16],
    pub scales: &'a [f32],
}

/// Rows of the next strip where `left` rows are left: a power of two, so that few kinds of tiles are compiled.
#[inline(always)]
pub(super) fn strip_rows(left: usize, most_rows: usize) -> usize {
    match left.min(most_rows) {
        8.. => 8,
        4.. => 4,
        2.. => 2,
        left => left,
    }
}

impl<'a> RoundedRows<'a> {
    /// The strip of `rows` rows that begins with row `first`; panics when there is none.
    #[inline(always)]
    pub(super) fn strip(&self, first: usize, rows: usize) -> RoundedStrip<'a> {
        let Cut { cols, .. } = self.cut;
        let (groups, blocks) = (self.cut.groups(), self.cut.blocks());
        let end = first + rows;
        RoundedStrip {
            bytes: &self.bytes[first * cols..end * cols],
            sums: &self.sums[first * groups..end * groups],
            scales: &self.scales[first * blocks..end * blocks],
        }
    }
}

/// Words of a buffer that hold `rows` rounded rows of `cols` numbers, however they are cut.
pub(in crate::kernels) fn words(rows: usize, cols: usize) -> usize {
    let cut = |block, group| Cut { cols, block, group };
    rows * cut(32, 16).row_words()
}

/// The parts of a buffer of words that hold rounded rows.
fn parts(buffer: &mut [f32], cut: Cut, rows: usize) -> (&mut [f32], &mut [i16], &mut [i8]) {
    let (scales, rest) = buffer.split_at_mut(rows * cut.blocks());
    let sum_words = (rows * cut.groups()).div_ceil(2);
    let (sums, bytes) = rest.split_at_mut(sum_words);
    // SAFETY: every word is two numbers of 16 bits, and four of 8.
    let (sums, bytes) = unsafe { (sums.align_to_mut::<i16>().1, bytes.align_to_mut::<i8>().1) };
    (
        scales,
        &mut sums[..rows * cut.groups()],
        &mut bytes[..rows * cut.cols],
    )
}

/// Rounds the rows of x `[rows, cols]` into a buffer that is reused, in strips of `most_rows` rows. To be compiled for an
/// instruction set.
#[inline(always)]
pub(super) fn round_rows<'a>(
    x: &[f32],
    rows: usize,
    cut: Cut,
    most_rows: usize,
    buffer: &'a mut Vec<f32>,
) -> RoundedRows<'a> {
    assert_eq!(x.len(), rows * cut.cols, "input of the wrong length");
    let words = rows * cut.row_words() + 1;
    if buffer.len() < words {
        buffer.clear();
        buffer.reserve_exact(words);
        buffer.resize(words, 0.0);
    }
    let (scales, sums, bytes) = parts(&mut buffer[..words], cut, rows);
    let (blocks, groups) = (cut.blocks(), cut.groups());
    let mut first = 0;
    while first < rows {
        let count = strip_rows(rows - first, most_rows);
        let end = first + count;
        round_strip(
            &x[first * cut.cols..end * cut.cols],
            cut,
            count,
            &mut scales[first * blocks..end * blocks],
            &mut sums[first * groups..end * groups],
            &mut bytes[first * cut.cols..end * cut.cols],
        );
        first = end;
    }
    RoundedRows {
        cut,
        rows,
        most_rows,
        bytes,
        sums,
        scales,
    }
}

/// Rounds `count` rows into a strip.
#[inline(always)]
fn round_strip(
    x: &[f32],
    cut: Cut,
    count: usize,
    scales: &mut [f32],
    sums: &mut [i16],
    bytes: &mut [i8],
) {
    let mut rounded = [0; MOST_NUMBERS];
    let rounded = &mut rounded[..cut.block];
    let groups_of_block = cut.block / cut.group;
    for (row, x) in x.chunks_exact(cut.cols).enumerate() {
        for (block, x) in x.chunks_exact(cut.block).enumerate() {
            scales[block * count + row] = round_block(x, rounded);
            for (group, bytes) in rounded.chunks_exact(cut.group).enumerate() {
                let place = (block * groups_of_block + group) * count + row;
                sums[place] = bytes.iter().map(|byte| i16::from(*byte)).sum();
            }
            let strip = &mut bytes[block * cut.block * count..][..cut.block * count];
            if count == 1 {
                strip.copy_from_slice(rounded);
            } else {
                let fours = rounded.as_chunks::<4>().0.iter();
                let places = strip.as_chunks_mut::<4>().0[row..].iter_mut();
                for (place, four) in places.step_by(count).zip(fours) {
                    *place = *four;
                }
            }
        }
    }
}

/// Rounds one block and answers its scale, which is not a number where one of x is not finite.
#[inline(always)]
fn round_block(x: &[f32], bytes: &mut [i8]) -> f32 {
    // As integers, magnitudes have the order of their values, and what is not a number is above all others.
    let mut largest = 0;
    for x in x {
        largest = largest.max(x.to_bits() & 0x7fff_ffff);
    }
    let largest = f32::from_bits(largest);
    if !(SMALLEST..f32::INFINITY).contains(&largest) {
        bytes.fill(0);
        return if largest < SMALLEST { 0.0 } else { f32::NAN };
    }
    // Added to this, a number of at most 22 bits is rounded to an integer, which stands in the lowest bits of the sum.
    const ROUNDER: f32 = 12_582_912.0;
    let inverse = 127.0 / largest;
    for (byte, x) in bytes.iter_mut().zip(x) {
        *byte = (x * inverse + ROUNDER).to_bits() as i8;
    }
    largest / 127.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_nearest_and_ties_to_the_even_one() {
        let mut x = [0.0; 32];
        x[..8].copy_from_slice(&[127.0, -127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 3.4]);
        let cut = Cut {
            cols: 32,
            block: 32,
            group: 32,
        };
        let mut buffer = Vec::new();
        let rows = round_rows(&x, 1, cut, 1, &mut buffer);
        assert_eq!(rows.bytes[..8], [127, -127, 0, 2, 2, 0, -2, 3]);
        assert_eq!((rows.scales, rows.sums), (&[1.0][..], &[5][..]));
    }

    /// A strip has what its rows have alone, side by side.
    #[test]
    fn rows_of_a_strip_stand_side_by_side() {
        let cut = Cut {
            cols: 64,
            block: 32,
            group: 16,
        };
        let x: Vec<f32> = (0..7 * 64)
            .map(|at| (at * 37 % 101) as f32 - 50.0)
            .collect();
        let (mut strips, mut row) = (Vec::new(), Vec::new());
        let strips = round_rows(&x, 7, cut, 8, &mut strips);
        for (first, count) in [(0, 4), (4, 2), (6, 1)] {
            assert_eq!(strip_rows(7 - first, 8), count);
            let strip = strips.strip(first, count);
            for at in 0..count {
                let x = &x[(first + at) * 64..][..64];
                let alone = round_rows(x, 1, cut, 8, &mut row);
                let bytes = strip.bytes.chunks_exact(4).skip(at).step_by(count);
                assert_eq!(bytes.flatten().copied().collect::<Vec<_>>(), alone.bytes);
                let sums = strip.sums.iter().skip(at).step_by(count);
                assert_eq!(sums.copied().collect::<Vec<_>>(), alone.sums);
                let scales = strip.scales.iter().skip(at).step_by(count);
                assert_eq!(scales.copied().collect::<Vec<_>>(), alone.scales);
            }
        }
    }

    #[test]
    fn what_is_not_finite_and_what_is_nothing_is_told_apart() {
        for (number, is_zero) in [
            (0.0, true),
            (1e-31, true),
            (f32::NAN, false),
            (f32::INFINITY, false),
        ] {
            let x = [number; 32];
            let cut = Cut {
                cols: 32,
                block: 32,
                group: 16,
            };
            let mut buffer = Vec::new();
            let rows = round_rows(&x, 1, cut, 1, &mut buffer);
            assert!(rows.bytes.iter().all(|byte| *byte == 0));
            assert_eq!(rows.scales[0] == 0.0, is_zero, "{number}");
            assert_eq!(rows.scales[0].is_nan(), !is_zero, "{number}");
        }
    }
}
