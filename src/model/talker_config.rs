//! What talker and code predictor ask of the configuration.

use super::load::LoadError;
use crate::checkpoint::Component;
use crate::checkpoint::config::TalkerConfig;
use crate::store::WeightSource;

/// Before the names of the code predictor's tensors.
pub(super) const CODE_PREDICTOR_PREFIX: &str = "talker.code_predictor.";

/// The talker's section.
///
/// # Errors
/// When the model has none.
pub(super) fn config_of(source: &dyn WeightSource) -> Result<&TalkerConfig, LoadError> {
    source.config().talker.as_ref().ok_or(LoadError::Absent {
        component: Component::Talker,
        key: "talker_config",
    })
}
