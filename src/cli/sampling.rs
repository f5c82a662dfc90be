//! How an answer's tokens are chosen: options of every command that answers.

use clap::Args;

use super::CliError;
use crate::core::sampling::Sampling;

/// Options of the sampling.
#[derive(Args, Clone, Copy, Debug)]
pub struct SamplingArgs {
    /// 0 is argmax
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Keep the least set of tokens whose probability reaches this
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Keep this many most probable tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Of the sampling
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    /// The sampling, if it can be.
    pub fn checked(&self) -> Result<Sampling, CliError> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(CliError::request(format!(
                "--temperature is {}; expected 0 or more",
                self.temperature
            )));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(CliError::request(format!(
                "--top-p is {}; expected above 0 and at most 1",
                self.top_p
            )));
        }
        Ok(Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed,
        })
    }
}

/// Refuses answers of no length.
pub fn check_max_tokens(max_tokens: usize) -> Result<(), CliError> {
    match max_tokens {
        0 => Err(CliError::request("--max-tokens is 0; expected at least 1")),
        _ => Ok(()),
    }
}
