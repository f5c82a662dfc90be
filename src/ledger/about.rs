//! What a ledger says of itself.

use std::path::Path;

use sage_actors::protocol::Tick;

/// What a ledger has seen, and of which model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSummary {
    /// The model's fingerprint.
    pub fingerprint: String,
    /// Outcomes that were learned, over all runs.
    pub outcomes: u64,
    /// The end of the last step that was learned from, in ticks over all runs.
    pub tick: Tick,
}

impl LedgerSummary {
    /// What the line that says which mode runs adds for a ledger at `path`.
    pub fn words(&self, path: &Path) -> String {
        format!(
            "; ledger {} ({} outcomes over {} ticks)",
            path.display(),
            self.outcomes,
            self.tick
        )
    }
}
