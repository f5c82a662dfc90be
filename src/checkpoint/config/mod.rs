//! The configuration of a checkpoint, as `config.json` states it.
//!
//! Every dimension comes from the file: a missing one is an error that names its key, never a default of some other
//! program. Both spellings in circulation are read (`rope_theta` beside `rope_scaling`, or `rope_parameters`;
//! `num_experts` or `num_local_experts`), and unknown keys are ignored.

mod error;
mod fields;
mod parse;
mod sections;
mod validate;

pub use error::ModelConfigError;
pub use sections::{
    AudioConfig, Code2WavConfig, CodePredictorConfig, ModelConfig, TalkerConfig, TextConfig,
    ThinkerConfig, VisionConfig,
};

impl ModelConfig {
    /// Parses and validates the text of a `config.json`.
    ///
    /// # Errors
    /// Names the key, its value and what was expected.
    pub fn from_json(text: &[u8]) -> Result<Self, ModelConfigError> {
        let config = parse::model(&serde_json::from_slice(text)?)?;
        validate::model(&config)?;
        Ok(config)
    }
}
