//! The numbers of a packed matrix. This is the one place where they become floats.

use half::f16;

use super::tensor::{PackedPart, PackedTensor, PackingMethod, UnpackError};
use crate::formats::{WeightFormat, narrow, widen_all};

/// What Q4_0 takes from every integer.
const Q4_0_MIDDLE: u16 = 8;

/// Bytes of the scale of a block of Q4_0.
const Q4_0_SCALE_BYTES: usize = 2;

/// The output that is at each place of a word of AWQ, lowest bits first.
const AWQ_ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// A packed matrix in memory, a few bits a number.
pub(crate) struct PackedMatrix {
    method: PackingMethod,
    bits: u32,
    rows: usize,
    cols: usize,
    words: Vec<u32>,
    /// Of each group and row.
    scales: Vec<f32>,
    /// Of each group and row.
    zeros: Vec<u16>,
    /// The group of each column.
    groups: Vec<usize>,
    /// Whether blocks of Q4_0 are to hold the same numbers.
    is_q4_0: bool,
}

impl PackedMatrix {
    /// Reads a matrix: `read` fills a buffer with what begins at a byte of a shard.
    ///
    /// # Errors
    /// As `read`; or `wrong` of a part's name and what is wrong with what it holds.
    pub(crate) fn read<E>(
        tensor: &PackedTensor,
        read: impl Fn(usize, u64, &mut [u8]) -> Result<(), E>,
        wrong: impl Fn(&str, String) -> E,
    ) -> Result<Self, E> {
        let bytes_of = |part: &PackedPart| {
            let mut bytes = vec![0; part.bytes as usize];
            read(part.shard, part.offset, &mut bytes)?;
            Ok(bytes)
        };
        let words_of = |part: &PackedPart| {
            let bytes = bytes_of(part)?;
            let words = bytes.as_chunks().0.iter();
            Ok(words
                .map(|word| u32::from_le_bytes(*word))
                .collect::<Vec<_>>())
        };
        let (packing, rows, cols) = (tensor.packing, tensor.rows, tensor.cols);
        let group = packing.group.unwrap_or(cols);
        let count = cols / group;
        let mut scales = vec![0.0; count * rows];
        let format = tensor.scales.format.unwrap_or(WeightFormat::F16);
        widen_all(format, &bytes_of(&tensor.scales)?, &mut scales);
        if let Some(at) = scales.iter().position(|scale| !scale.is_finite()) {
            let (group, row, scale) = (at / rows, at % rows, scales[at]);
            let problem = format!(
                "holds {scale} for group {group} and output {row}; expected finite numbers: the file is damaged, download it \
                 again"
            );
            return Err(wrong(&tensor.scales.name, problem));
        }
        let zeros = match &tensor.zeros {
            Some(part) => unpack_zeros(tensor, &words_of(part)?),
            None => vec![packing.middle(); count * rows],
        };
        let groups = match &tensor.groups {
            Some(part) => {
                let named = words_of(part)?;
                groups_of(&named, count).map_err(|problem| wrong(&part.name, problem))?
            }
            None => (0..cols).map(|col| col / group).collect(),
        };
        Ok(Self {
            method: packing.method,
            bits: packing.bits,
            rows,
            cols,
            words: words_of(&tensor.integers)?,
            is_q4_0: tensor.is_q4_0(),
            scales,
            zeros,
            groups,
        })
    }

    /// Stores the numbers from number `first` on, row by row, in a format: as they are where it has them, rounded otherwise.
    /// Panics where they go on behind the last.
    ///
    /// # Errors
    /// Names the first number that cannot be stored so.
    pub(crate) fn store(
        &self,
        first: usize,
        format: WeightFormat,
        out: &mut [u8],
    ) -> Result<(), UnpackError> {
        if format == WeightFormat::Q4_0 && self.is_q4_0 {
            return self.store_q4_0(first, out);
        }
        let mut wide = vec![0.0; out.len() / format.block_bytes() * format.block_numbers()];
        self.widen(first, &mut wide);
        Ok(narrow(&wide, format, out)?)
    }

    /// Writes the numbers from number `first` on, row by row.
    fn widen(&self, first: usize, out: &mut [f32]) {
        match self.method {
            PackingMethod::Awq => self.widen_awq(first, out),
            PackingMethod::Gptq => self.widen_gptq(first, out),
        }
    }

    /// Stores blocks of Q4_0 from number `first` on, which begins one: (integer - 8) times a half, as symmetric numbers of
    /// four bits are.
    ///
    /// # Errors
    /// Where a block has two scales, or a zero that is not the middle.
    fn store_q4_0(&self, first: usize, out: &mut [u8]) -> Result<(), UnpackError> {
        let (numbers, bytes) = (
            WeightFormat::Q4_0.block_numbers(),
            WeightFormat::Q4_0.block_bytes(),
        );
        for (block, out) in out.chunks_exact_mut(bytes).enumerate() {
            let at = first + block * numbers;
            let (row, col) = (at / self.cols, at % self.cols);
            let group = self.groups[col];
            if let Some(other) = (col..col + numbers).find(|col| self.groups[*col] != group) {
                let what = format!(
                    "inputs {col} and {other} in groups {group} and {}",
                    self.groups[other]
                );
                return Err(UnpackError::NotExact { what });
            }
            let (scale, zero) = self.scale(group, row);
            if zero != Q4_0_MIDDLE {
                let what = format!("the zero {zero} for group {group} and output {row}");
                return Err(UnpackError::NotExact { what });
            }
            let (head, tail) = out.split_at_mut(Q4_0_SCALE_BYTES);
            head.copy_from_slice(&f16::from_f32(scale).to_le_bytes());
            // The first half of the block is in the lower four bits of its bytes, the second half in the upper.
            for (byte, col) in tail.iter_mut().zip(col..) {
                let (low, high) = (self.integer(row, col), self.integer(row, col + numbers / 2));
                *byte = (low | high << 4) as u8;
            }
        }
        Ok(())
    }

    fn mask(&self) -> u32 {
        (1 << self.bits) - 1
    }

    /// A word holds eight rows of one column, so eight rows are written together.
    fn widen_awq(&self, first: usize, out: &mut [f32]) {
        let (per_word, end) = (AWQ_ORDER.len(), first + out.len());
        let words_per_col = self.rows / per_word;
        for strip in first / self.cols / per_word..end.div_ceil(self.cols).div_ceil(per_word) {
            for (col, &group) in self.groups.iter().enumerate() {
                let word = self.words[col * words_per_col + strip];
                for (place, row) in AWQ_ORDER.iter().enumerate() {
                    let row = strip * per_word + row;
                    let at = row * self.cols + col;
                    if (first..end).contains(&at) {
                        let integer = word >> (place as u32 * self.bits) & self.mask();
                        out[at - first] = self.number(integer, group, row);
                    }
                }
            }
        }
    }

    /// A word holds some columns of one row.
    fn widen_gptq(&self, first: usize, out: &mut [f32]) {
        let (cols, end) = (self.cols, first + out.len());
        // A power of two.
        let per_word = (u32::BITS / self.bits) as usize;
        let shift = per_word.trailing_zeros();
        for row in first / cols..end.div_ceil(cols) {
            let (begin, stop) = (first.max(row * cols), end.min((row + 1) * cols));
            for at in begin..stop {
                let col = at - row * cols;
                let word = self.words[(col >> shift) * self.rows + row];
                let place = (col & (per_word - 1)) as u32;
                let integer = word >> (place * self.bits) & self.mask();
                out[at - first] = self.number(integer, self.groups[col], row);
            }
        }
    }

    fn integer(&self, row: usize, col: usize) -> u32 {
        let per_word = (u32::BITS / self.bits) as usize;
        let (word, place) = match self.method {
            PackingMethod::Awq => (
                col * (self.rows / per_word) + row / per_word,
                AWQ_PLACE[row % per_word],
            ),
            PackingMethod::Gptq => (col / per_word * self.rows + row, col % per_word),
        };
        self.words[word] >> (place as u32 * self.bits) & self.mask()
    }

    /// Scale and zero of a row in a group.
    fn scale(&self, group: usize, row: usize) -> (f32, u16) {
        let at = group * self.rows + row;
        (self.scales[at], self.zeros[at])
    }

    fn number(&self, integer: u32, group: usize, row: usize) -> f32 {
        let (scale, zero) = self.scale(group, row);
        (integer as i32 - i32::from(zero)) as f32 * scale
    }
}

/// The zeros of each group and row.
fn unpack_zeros(tensor: &PackedTensor, words: &[u32]) -> Vec<u16> {
    let packing = tensor.packing;
    let (bits, per_word, rows) = (packing.bits, packing.per_word(), tensor.rows);
    // Writers take one from every zero of a word at once, with a borrow, so one is added to all of them at once.
    let ones = match (packing.is_less_one, bits) {
        (false, _) => 0,
        (true, 8) => 0x0101_0101,
        (true, _) => 0x1111_1111,
    };
    let mut zeros = Vec::new();
    for words in words.chunks_exact(rows.div_ceil(per_word)) {
        for row in 0..rows {
            let word = words[row / per_word].wrapping_add(ones);
            let place = match packing.method {
                PackingMethod::Awq => AWQ_PLACE[row % per_word],
                PackingMethod::Gptq => row % per_word,
            };
            let mask = (1 << bits) - 1;
            zeros.push((word >> (place as u32 * bits) & mask) as u16);
        }
    }
    zeros
}

/// The place of each output in a word of AWQ.
const AWQ_PLACE: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// The group of each column, held against how many there are.
fn groups_of(named: &[u32], count: usize) -> Result<Vec<usize>, String> {
    let of = |(col, group): (usize, &u32)| match *group as usize {
        group if group < count => Ok(group),
        _ => Err(format!(
            "says that input {col} is in group {}; expected groups 0 to {}: the file is damaged, download it again",
            *group as i32,
            count - 1
        )),
    };
    named.iter().enumerate().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::packed::tensor::Packing;

    /// A matrix `[16, 64]` in two groups, with numbers of no meaning, the same at every call.
    fn matrix(method: PackingMethod, is_symmetric: bool) -> PackedMatrix {
        let (rows, cols, groups) = (16, 64, 2);
        let part = |name: &str, format, shard, bytes: usize| PackedPart {
            name: name.to_owned(),
            shape: Vec::new(),
            format,
            shard,
            offset: 0,
            bytes: bytes as u64,
        };
        let packing = Packing {
            method,
            bits: 4,
            group: Some(32),
            is_symmetric,
            is_reordered: false,
            is_less_one: false,
        };
        let zeros = part("zeros", None, 1, groups * rows / 2);
        let tensor = PackedTensor {
            packing,
            rows,
            cols,
            integers: part("integers", None, 0, rows * cols / 2),
            scales: part("scales", Some(WeightFormat::F16), 2, groups * rows * 2),
            zeros: Some(zeros).filter(|_| !is_symmetric),
            groups: None,
        };
        let read = |shard: usize, _, bytes: &mut [u8]| {
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = (at * 151 + shard * 29 + at / 7 * 53) as u8;
                // Upper bytes of halves: none of them infinite.
                if shard == 2 && at % 2 == 1 {
                    *byte = 0x2c + *byte % 8;
                }
            }
            Ok(())
        };
        let wrong = |part: &str, problem| format!("{part} {problem}");
        PackedMatrix::read(&tensor, read, wrong).unwrap()
    }

    fn widened(matrix: &PackedMatrix, first: usize, count: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; count];
        matrix.widen(first, &mut out);
        out
    }

    /// Pieces begin and end anywhere, also within a row and within the rows of a word.
    #[test]
    fn pieces_are_what_the_whole_is_there() {
        for method in [PackingMethod::Awq, PackingMethod::Gptq] {
            let matrix = matrix(method, false);
            let whole = widened(&matrix, 0, 16 * 64);
            assert!(whole.iter().any(|number| *number != whole[0]));
            for (at, number) in whole.iter().enumerate() {
                let (row, col) = (at / 64, at % 64);
                assert_eq!(
                    *number,
                    matrix.number(matrix.integer(row, col), col / 32, row)
                );
            }
            for (first, count) in [(0, 1), (5, 64), (63, 2), (500, 300), (1000, 24), (64, 0)] {
                let piece = widened(&matrix, first, count);
                assert_eq!(
                    piece,
                    whole[first..first + count],
                    "{method:?} {first} {count}"
                );
            }
        }
    }

    #[test]
    fn symmetric_numbers_are_the_same_in_blocks() {
        for method in [PackingMethod::Awq, PackingMethod::Gptq] {
            let matrix = matrix(method, true);
            let whole = widened(&matrix, 0, 16 * 64);
            for (first, blocks) in [(0, 32), (32, 3), (992, 1)] {
                let mut bytes = vec![0; blocks * 18];
                let stored = matrix.store(first, WeightFormat::Q4_0, &mut bytes);
                stored.unwrap();
                let mut back = vec![0.0; blocks * 32];
                widen_all(WeightFormat::Q4_0, &bytes, &mut back);
                assert_eq!(
                    back,
                    whole[first..first + blocks * 32],
                    "{method:?} {first}"
                );
            }
        }
    }

    #[test]
    fn outputs_and_places_of_a_word_are_each_others_inverse() {
        for (place, output) in AWQ_ORDER.iter().enumerate() {
            assert_eq!(AWQ_PLACE[*output], place);
        }
    }
}
