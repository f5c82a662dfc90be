//! Trust.
pub mod actor;

use std::sync::Arc;

use crate::config::ModuleShape;
use crate::protocol::{ExpertKey, LayerKey, LayerTrust, Module, Outcome, TrustSnapshot, TrustView};

/// Why the ledger refuses an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The model has no such module.
    #[error("no module {0:?}")]
    UnknownModule(Module),
    /// The model has no such expert.
    #[error("no expert {0:?}")]
    UnknownExpert(ExpertKey),
}

/// The trust ledger.
#[derive(Clone, Debug)]
pub struct Ledger {
    view: TrustSnapshot,
}

impl Ledger {
    /// A ledger of priors.
    pub fn new(shapes: &[ModuleShape]) -> Self {
        let layers = shapes
            .iter()
            .flat_map(|shape| {
                shape
                    .keys()
                    .map(|key: LayerKey| (key, Arc::new(LayerTrust::prior(shape.experts))))
            })
            .collect();
        Self {
            view: Arc::new(TrustView { layers }),
        }
    }

    /// What is believed now.
    pub fn snapshot(&mut self) -> TrustSnapshot {
        Arc::clone(&self.view)
    }

    /// Learns from a step.
    ///
    /// # Errors
    /// An unknown module or expert.
    pub fn learn(&mut self, _outcome: &Outcome) -> Result<(), TrustError> {
        Ok(())
    }
}
