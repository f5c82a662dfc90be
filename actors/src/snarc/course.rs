//! Where a text is heading: a moving average of its segments' hidden states, and how far each strays from it.

use super::episodes::{dot, normalise};
use crate::math::Baseline;

/// Weight of the newest segment in what is expected of the next, as for a sensor's reading.
const RATE: f32 = 0.3;
/// Noise floor of the distance: neighbouring segments of one text differ by as much.
const FLOOR: f64 = 0.05;

/// Fewer beginnings than this say nothing of how far a beginning strays.
const BEGINNINGS_MIN: usize = 3;

/// The course of the segments of one origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    /// Moving average of directions; none before the first segment.
    expected: Option<Vec<f32>>,
    /// 1 − cosine of every segment with what was expected of it.
    strayed: Baseline,
    /// The same of those alone that began a context.
    strayed_at_beginnings: Baseline,
}

impl Course {
    /// How unusually far a segment strays, as a robust z; then it is part of the course. None in the warm-up, and for
    /// a hidden state without direction. One that `begins` a context is also judged by those before it that did: without
    /// the words before them the same words stand elsewhere.
    pub fn stray(&mut self, hidden: &[f32], begins: bool) -> Option<f64> {
        let direction = normalise(hidden)?;
        let Some(expected) = &mut self.expected else {
            self.expected = Some(direction);
            return None;
        };
        // Opposite directions may cancel each other: then nothing is expected, and nothing is near it.
        let cosine = normalise(expected).map_or(0.0, |expected| dot(&direction, &expected));
        let distance = 1.0 - f64::from(cosine.clamp(-1.0, 1.0));
        let z = match begins {
            true => {
                let kin = &self.strayed_at_beginnings;
                let z = self
                    .strayed
                    .z_of_kind(distance, kin, BEGINNINGS_MIN, |_| FLOOR);
                self.strayed_at_beginnings.push(distance);
                z
            }
            false => self.strayed.z(distance, |_| FLOOR),
        };
        self.strayed.push(distance);
        for (expected, new) in expected.iter_mut().zip(&direction) {
            *expected += RATE * (new - *expected);
        }
        z
    }
}
