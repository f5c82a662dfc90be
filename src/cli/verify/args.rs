//! Arguments of `sage verify`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::opening::RunningArgs;

const EXAMPLES: &str = "Examples:
  sage verify CHECKPOINT --goldens CHECKPOINT/goldens
  sage verify STORE --goldens CHECKPOINT/goldens --limit 32slots --json

Goldens of another model are made with tests/export_goldens.py. Where there are none, a program built with
`cargo build --release --features candle` computes the decoder itself once more on another library, without Python:
`sage verify CHECKPOINT --reference candle`; docs/verify.md says what that proves. Exit code 1 says that something
differs, or that nothing could be compared.";

/// Implementations to compare with.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Reference {
    /// The decoder on candle, in f32, a layer at a time
    Candle,
}

/// Arguments of `sage verify`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// Checkpoint or store
    #[arg(value_parser = crate::cli::models::model_argument())]
    pub(super) model: PathBuf,
    /// Folder of `<case>.safetensors` and `<case>.json`
    #[arg(long, required_unless_present = "reference")]
    pub(super) goldens: Option<PathBuf>,
    /// An implementation to run beside, in place of goldens; needs a program built with it
    #[arg(long, value_enum, conflicts_with = "goldens")]
    pub(super) reference: Option<Reference>,
    /// Where the reference reads its weights, such as the checkpoint that a store was made of [default: MODEL]
    #[arg(long, value_name = "FOLDER", requires = "reference")]
    pub(super) reference_weights: Option<PathBuf>,
    /// What both read, as a user's message [default: a question, or a few ids where there is no tokenizer]
    #[arg(long, requires = "reference")]
    pub(super) prompt: Option<String>,
    /// Token ids in place of a prompt
    #[arg(long, requires = "reference", conflicts_with = "prompt")]
    pub(super) prompt_tokens: Option<String>,
    /// Tokens of the greedy continuation that is compared; 0 for the prompt alone [default: 8]
    #[arg(long, requires = "reference")]
    pub(super) max_tokens: Option<usize>,
    /// Compare the first layers alone [default: all, and what comes behind them]
    #[arg(long, requires = "reference", conflicts_with = "max_tokens", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) layers: Option<u32>,
    /// Tokens of a prefill chunk; the result does not depend on it
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) chunk: u16,
    #[command(flatten)]
    pub(super) running: RunningArgs,
    /// Report as one JSON object
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
