//! Rotary position embedding over three axes (M-RoPE, interleaved).

use std::ops::Range;

use super::axes::Positions;

/// Cosines and sines of some tokens' positions.
#[derive(Clone, Debug)]
pub struct Angles {
    /// `[tokens, half]`.
    pub cos: Vec<f32>,
    /// `[tokens, half]`.
    pub sin: Vec<f32>,
    /// Half a head's dimensions.
    pub half: usize,
}

impl Angles {
    /// Those of some tokens.
    pub fn of(&self, tokens: Range<usize>) -> Self {
        let numbers = tokens.start * self.half..tokens.end * self.half;
        Self {
            cos: self.cos[numbers.clone()].to_vec(),
            sin: self.sin[numbers].to_vec(),
            half: self.half,
        }
    }
}

/// Frequencies of one module's heads, and which axis turns which of them.
#[derive(Clone, Debug)]
pub struct RotaryTable {
    frequencies: Vec<f32>,
    axis: Vec<usize>,
}

impl RotaryTable {
    /// For heads of `head_dim`: one `inv_freq` over the whole head, `theta^(-2m/D)`, with the axes interleaved:
    /// time everywhere, height at m = 1, 4, 7, … below `3 * sections[1]`, width at m = 2, 5, 8, … below `3 * sections[2]`.
    pub fn new(head_dim: usize, theta: f32, sections: [usize; 3]) -> Self {
        let half = head_dim / 2;
        // The power is rounded once from f64: at position 600 an error of one f32 step would turn a head by 2e-5.
        let frequencies = (0..half)
            .map(|m| {
                1.0 / libm::pow(
                    f64::from(theta),
                    f64::from((2 * m) as f32 / head_dim as f32),
                ) as f32
            })
            .collect();
        let axis = (0..half)
            .map(|m| match m % 3 {
                1 if m < 3 * sections[1] => 1,
                2 if m < 3 * sections[2] => 2,
                _ => 0,
            })
            .collect();
        Self { frequencies, axis }
    }

    /// Cosines and sines of every token.
    pub fn angles(&self, positions: &Positions) -> Angles {
        let mut cos = Vec::with_capacity(positions.len() * self.frequencies.len());
        let mut sin = Vec::with_capacity(cos.capacity());
        for token in 0..positions.len() {
            for (frequency, axis) in self.frequencies.iter().zip(&self.axis) {
                let angle = positions.axes[*axis][token] * frequency;
                cos.push(libm::cosf(angle));
                sin.push(libm::sinf(angle));
            }
        }
        Angles {
            cos,
            sin,
            half: self.frequencies.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_interleaved_as_released() {
        let table = RotaryTable::new(128, 1e6, [24, 20, 20]);
        assert_eq!(&table.axis[..6], &[0, 1, 2, 0, 1, 2]);
        assert_eq!(&table.axis[57..], &[0, 1, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn each_axis_turns_only_its_own_frequencies() {
        let table = RotaryTable::new(32, 1e4, [6, 5, 5]);
        let text = table.angles(&Positions::text(3, 1));
        let mut moved = Positions::text(3, 1);
        moved.axes[1][0] += 2.0;
        let other = table.angles(&moved);
        for m in 0..16 {
            assert_eq!(
                text.cos[m] != other.cos[m],
                table.axis[m] == 1,
                "frequency {m}"
            );
        }
    }
}
