//! How an answer's tokens are chosen: options of every command that answers.

use clap::Args;

use super::CliError;
use crate::settings::{Sources, keys};

/// Options of the sampling.
#[derive(Args, Clone, Copy, Debug)]
pub struct SamplingArgs {
    /// 0 is argmax [default: sampling.temperature, 0]
    #[arg(long)]
    temperature: Option<f32>,
    /// Keep the least set of tokens whose probability reaches this [default: sampling.top_p, 1]
    #[arg(long)]
    top_p: Option<f32>,
    /// Keep this many most probable tokens; 0 keeps all [default: sampling.top_k, 0]
    #[arg(long)]
    top_k: Option<usize>,
    /// Of the sampling [default: sampling.seed, 0]
    #[arg(long)]
    seed: Option<u64>,
}

impl SamplingArgs {
    /// Refuses what no sampling can be.
    pub fn check(&self) -> Result<(), CliError> {
        if let Some(temperature) = self.temperature
            && !(temperature >= 0.0 && temperature.is_finite())
        {
            return Err(CliError::request(format!(
                "--temperature is {temperature}; expected 0 or more"
            )));
        }
        if let Some(top_p) = self.top_p
            && !(top_p > 0.0 && top_p <= 1.0)
        {
            return Err(CliError::request(format!(
                "--top-p is {top_p}; expected above 0 and at most 1"
            )));
        }
        Ok(())
    }

    /// Puts the options over the settings.
    pub fn say(&self, sources: &mut Sources) {
        sources.option(keys::TEMPERATURE, "--temperature", self.temperature);
        sources.option(keys::TOP_P, "--top-p", self.top_p);
        sources.option(keys::TOP_K, "--top-k", self.top_k);
        sources.option(keys::SEED, "--seed", self.seed);
    }
}

/// Refuses answers of no length.
pub fn check_max_tokens(max_tokens: Option<usize>) -> Result<(), CliError> {
    match max_tokens {
        Some(0) => Err(CliError::request("--max-tokens is 0; expected at least 1")),
        _ => Ok(()),
    }
}
