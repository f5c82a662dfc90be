//! What a look at a layer reports.

use sage_actors::protocol::State;
use sage_actors::trust::ExpertTrust;
use serde::Serialize;

/// One chosen expert.
#[derive(Clone, Debug, Serialize)]
pub struct ChosenExpert {
    /// Number of the expert in its layer.
    pub expert: u16,
    /// The router's weight, normalised as the checkpoint says.
    pub weight: f32,
    /// It was in memory before, so that nothing was read.
    pub resident_before: bool,
    /// Measured: one read of its record from disk, and its checksum.
    pub load_ms: Option<f64>,
    /// Measured: its three products for one row.
    pub forward_ms: f64,
    /// What the ledger believed before this token.
    pub trust_before: Option<Belief>,
    /// What it believes after it; none of a talker's, whose tokens nothing judges.
    pub trust_after: Option<Belief>,
}

/// What is believed of an expert, each in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Belief {
    /// 0.4 convergence + 0.3 stability + 0.3 efficiency.
    pub trust: f64,
    /// Usefulness.
    pub convergence: f64,
    /// Steadiness of its weight.
    pub stability: f64,
    /// Share of successes.
    pub efficiency: f64,
}

impl From<ExpertTrust> for Belief {
    fn from(record: ExpertTrust) -> Self {
        Self {
            trust: record.trust,
            convergence: record.convergence,
            stability: record.stability,
            efficiency: record.efficiency,
        }
    }
}

/// Measured: what choosing took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RouterTime {
    /// The router's product.
    pub product_ms: f64,
    /// Until the layer's actor had chosen.
    pub choice_ms: f64,
    /// Both.
    pub total_ms: f64,
}

/// Measured: what the chosen experts give together, by their weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerOutput {
    /// `[tokens, hidden]`.
    pub shape: [usize; 2],
    /// Of its numbers.
    pub mean: f64,
    /// Standard deviation of its numbers.
    pub deviation: f64,
}

/// Bytes in the model's own format.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Selective {
    /// Sparse layers that are counted.
    pub layers: usize,
    /// Experts in them.
    pub experts: usize,
    /// Chosen of them.
    pub chosen: usize,
    /// Bytes of those chosen.
    pub chosen_bytes: u64,
    /// Bytes of all of them.
    pub all_bytes: u64,
    /// What is not needed, percent of all.
    pub reduction_percent: f64,
}

impl Selective {
    pub(super) fn new(layers: usize, chosen: usize, experts: usize, expert_bytes: u64) -> Self {
        let (chosen, experts) = (chosen * layers, experts * layers);
        Self {
            layers,
            experts,
            chosen,
            chosen_bytes: chosen as u64 * expert_bytes,
            all_bytes: experts as u64 * expert_bytes,
            reduction_percent: 100.0 * (1.0 - chosen as f64 / experts.max(1) as f64),
        }
    }
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct Closeup {
    /// The state that is held.
    pub state: State,
    /// Whose layer.
    pub component: &'static str,
    /// Its number in the checkpoint.
    pub layer: usize,
    /// Experts that a token may use in this state.
    pub k: u16,
    /// Experts that it used in training.
    pub k_trained: usize,
    /// Experts of the layer.
    pub experts_of_layer: usize,
    /// Rows of the module's prompt: tokens of the thinker's, what the talker hears of the turn.
    pub prompt_rows: usize,
    /// The thinker's last token; none for the talker, which hears rows.
    pub token: Option<u32>,
    /// In descending weight.
    pub experts: Vec<ChosenExpert>,
    /// Router mass of the k best that was not admitted; more than nothing where a store lacks experts.
    pub denied_mass: f32,
    /// Whether reads went past the system's page cache.
    pub direct_reads: bool,
    /// What choosing took.
    pub router: RouterTime,
    /// What the experts gave.
    pub output: LayerOutput,
    /// Format of the experts' numbers.
    pub format: String,
    /// Bytes of one expert.
    pub expert_bytes: u64,
    /// Of the layer.
    pub memory: Selective,
    /// Of all sparse layers of the module, at this k.
    pub module_memory: Selective,
    /// Measured: bytes of all experts in memory behind this layer, those of the layers before it included.
    pub resident_expert_bytes: u64,
}

impl LayerOutput {
    /// Of one row.
    pub(super) fn of(values: &[f32]) -> Self {
        let count = values.len().max(1) as f64;
        let mean = values.iter().copied().map(f64::from).sum::<f64>() / count;
        let squares = values
            .iter()
            .map(|value| (f64::from(*value) - mean).powi(2));
        Self {
            shape: [1, values.len()],
            mean,
            deviation: (squares.sum::<f64>() / count).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_of_128_leave_out_96_9_percent() {
        // 9 MiB an expert: 36 of 1,152 MiB a layer, and the same share of 48 layers.
        let layer = Selective::new(1, 4, 128, 9 << 20);
        assert_eq!(
            (layer.chosen_bytes, layer.all_bytes),
            (36 << 20, 1152 << 20)
        );
        assert_eq!(format!("{:.1}", layer.reduction_percent), "96.9");
        let model = Selective::new(48, 4, 128, 9 << 20);
        assert_eq!(model.all_bytes, 54 << 30);
        assert_eq!(model.reduction_percent, layer.reduction_percent);
    }

    #[test]
    fn mean_and_deviation_are_of_all_numbers() {
        let output = LayerOutput::of(&[1.0, 2.0, 3.0, 6.0]);
        assert_eq!((output.shape, output.mean), ([1, 4], 3.0));
        assert!((output.deviation - 3.5f64.sqrt()).abs() < 1e-12);
    }
}
