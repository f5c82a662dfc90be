//! Places on the three axes of M-RoPE.

/// Positions of some tokens on the time, height and width axes; equal on all three for text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Positions {
    /// `[3][tokens]`; fractional for video.
    pub axes: [Vec<f32>; 3],
}

impl Positions {
    /// Text positions `first, first + 1, …`.
    pub fn text(first: usize, tokens: usize) -> Self {
        Self::text_from(first as f32, tokens)
    }

    /// The same from a position that may be fractional.
    pub fn text_from(first: f32, tokens: usize) -> Self {
        let axis: Vec<f32> = (0..tokens).map(|token| first + token as f32).collect();
        Self {
            axes: [axis.clone(), axis.clone(), axis],
        }
    }

    /// Of some of the tokens.
    #[must_use]
    pub fn of(&self, tokens: std::ops::Range<usize>) -> Self {
        Self {
            axes: [0, 1, 2].map(|axis: usize| self.axes[axis][tokens.clone()].to_vec()),
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.axes[0].len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.axes[0].is_empty()
    }
}
