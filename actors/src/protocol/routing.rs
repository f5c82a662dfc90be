//! What a layer's router is asked and answers.

use serde::{Deserialize, Serialize};

use super::ids::{ExpertSet, Phase, Tick};

/// Question to a layer's router: all rows of the layer at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Of the step.
    pub tick: Tick,
    /// Prefill or decode.
    pub phase: Phase,
    /// Router logits, `[rows, experts]` row-major.
    pub logits: Vec<f32>,
    /// Experts of this layer in the demand pool.
    pub resident: ExpertSet,
    /// Bytes that may still be missed in this token; none: no cap.
    pub bytes_left: Option<u64>,
    /// Salience that the token carries, in [0, 1].
    pub salience_t: f32,
    /// Surprise that the token carries.
    pub surprise_t: f32,
    /// Reward that the token carries.
    pub reward: f32,
    /// Rows that carry another modality's salience instead; ascending, apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<SalienceSpan>,
}

/// Salience of some rows that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SalienceSpan {
    /// The first of them.
    pub first_row: u32,
    /// Number of rows from there on.
    pub rows: u32,
    /// As [`Route::salience_t`].
    pub salience_t: f32,
    /// As [`Route::surprise_t`].
    pub surprise_t: f32,
}

/// One chosen expert and its mixing weight: the router's own, whoever was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// Number of the expert in its layer.
    pub expert: u16,
    /// Mixing weight: its share of the softmax over all experts, renormalised over the chosen where the checkpoint says so.
    pub weight: f32,
}

/// Answer of a router.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// All rows' choices one after the other, each row's in descending weight.
    pub chosen: Vec<Chosen>,
    /// Row r is `chosen[row_starts[r]..row_starts[r + 1]]`; rows + 1 entries.
    pub row_starts: Vec<u32>,
    /// Router mass (of the softmax over all experts) that the exact top-k had and this choice has not, summed over rows.
    pub denied_mass: f32,
    /// Experts wanted by the exact top-k of the same k and not admitted in some row, ascending.
    pub denied: Vec<u16>,
    /// Router mass that each expert of `denied` was denied, summed over rows.
    pub denied_each: Vec<f32>,
    /// Bytes of protected experts that had to be loaded beyond the cap.
    pub overrun_bytes: u64,
    /// Sum over rows of the router's entropy, normalised by ln E.
    pub entropy_sum: f32,
    /// The same over the rows of each of the request's spans.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub span_entropy_sums: Vec<f32>,
}

impl Selection {
    /// The choices of row `row`; empty when there is no such row.
    pub fn row(&self, row: usize) -> &[Chosen] {
        match (self.row_starts.get(row), self.row_starts.get(row + 1)) {
            (Some(start), Some(end)) => self
                .chosen
                .get(*start as usize..*end as usize)
                .unwrap_or_default(),
            _ => &[],
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.row_starts.len().saturating_sub(1)
    }
}
