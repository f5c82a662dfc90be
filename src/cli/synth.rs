//! `sage synth`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{CliError, CommandOutcome, Printer, human_bytes};
use crate::formats::WeightFormat;
use crate::synth::{self, MIN_VOCAB_SIZE, Recipe};

const EXAMPLES: &str = "Examples:
  sage synth --out /tmp/two-layers --layers 2
  sage synth --out /tmp/small --layers 3 --vocab 512 --hidden 64 --heads 4 --kv-heads 2 --head-dim 16 \\
      --experts 8 --experts-per-token 2 --moe-intermediate 32
  sage synth --out /tmp/four-bits --layers 2 --vocab 8192 --quant q4
  sage synth --out /tmp/speaking --layers 2 --vocab 8192 --talker 2
  sage synth --out /tmp/headers --headers-only";

/// Arguments of `sage synth`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct SynthArgs {
    /// Folder to write; must be new, empty, or an unfinished run of the same command
    #[arg(long)]
    out: PathBuf,
    /// Decoder layers
    #[arg(long, required_unless_present = "headers_only")]
    layers: Option<usize>,
    /// Model whose shapes to use
    #[arg(long, value_enum, default_value_t = Shape::Qwen3Omni30b)]
    shape: Shape,
    /// Rows of the embedding table [default: the shape's]
    #[arg(long, conflicts_with = "headers_only")]
    vocab: Option<usize>,
    /// Seed of the weights
    #[arg(long, default_value_t = 0, conflicts_with = "headers_only")]
    seed: u64,
    /// Write a checkpoint of the whole model with true headers and no data (sparse files)
    #[arg(long)]
    headers_only: bool,
    /// With the released model's audio tower
    #[arg(long, conflicts_with = "headers_only")]
    audio: bool,
    /// With the released model's vision tower
    #[arg(long, conflicts_with = "headers_only")]
    vision: bool,
    /// With the released model's talker, code predictor and vocoder; with so many layers of the talker if a number is given
    #[arg(long, value_name = "LAYERS", num_args = 0..=1, default_missing_value = "20", conflicts_with = "headers_only")]
    talker: Option<usize>,
    /// Format of the weights [default: bf16]: bf16 or f16 for all, or as sage extract --quant has it, the rest in bf16
    #[arg(long, value_name = "FORMAT[:GROUP][:COMPONENT][:LAYERS]")]
    quant: Vec<String>,
    /// Width of the residual stream [default: the shape's]
    #[arg(long, conflicts_with = "headers_only")]
    hidden: Option<usize>,
    /// Experts a layer [default: the shape's]
    #[arg(long, conflicts_with = "headers_only")]
    experts: Option<usize>,
    /// Experts a token [default: the shape's]
    #[arg(long, conflicts_with = "headers_only")]
    experts_per_token: Option<usize>,
    /// Inner width of an expert [default: the shape's]
    #[arg(long, conflicts_with = "headers_only")]
    moe_intermediate: Option<usize>,
    /// Query heads [default: the shape's]
    #[arg(long, conflicts_with = "headers_only")]
    heads: Option<usize>,
    /// Key and value heads [default: the shape's]
    #[arg(long, conflicts_with = "headers_only")]
    kv_heads: Option<usize>,
    /// Width of a head [default: the shape's]
    #[arg(long, conflicts_with = "headers_only")]
    head_dim: Option<usize>,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    #[value(name = "qwen3-omni-30b")]
    Qwen3Omni30b,
}

impl SynthArgs {
    fn recipe(&self) -> Result<Recipe, CliError> {
        let Shape::Qwen3Omni30b = self.shape;
        let shape = Recipe::qwen3_omni_30b(self.layers.unwrap_or(48));
        let recipe = Recipe {
            audio: self.audio,
            vision: self.vision,
            layers: shape.layers,
            vocab_size: self.vocab.unwrap_or(shape.vocab_size),
            hidden_size: self.hidden.unwrap_or(shape.hidden_size),
            heads: self.heads.unwrap_or(shape.heads),
            kv_heads: self.kv_heads.unwrap_or(shape.kv_heads),
            head_dim: self.head_dim.unwrap_or(shape.head_dim),
            experts: self.experts.unwrap_or(shape.experts),
            experts_per_token: self.experts_per_token.unwrap_or(shape.experts_per_token),
            moe_intermediate_size: self.moe_intermediate.unwrap_or(shape.moe_intermediate_size),
            seed: self.seed,
            talker_layers: self.talker,
            format: shape.format,
            rules: Vec::new(),
        };
        let recipe = match &self.quant[..] {
            [only] if ["bf16", "f16"].contains(&only.as_str()) => Recipe {
                format: WeightFormat::from_option(only).unwrap_or(recipe.format),
                ..recipe
            },
            asked => Recipe {
                rules: super::extract::rules(asked)?,
                ..recipe
            },
        };
        if recipe.vocab_size < MIN_VOCAB_SIZE {
            let size = recipe.vocab_size;
            return Err(CliError::request(format!(
                "--vocab {size} is too small: 256 bytes and the special tokens take {MIN_VOCAB_SIZE}"
            )));
        }
        Ok(recipe)
    }
}

/// Runs `sage synth`.
///
/// # Errors
/// If the dimensions make no model or writing fails.
pub fn run(args: &SynthArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    if args.headers_only {
        if args.quant.iter().any(|format| format != "bf16") {
            return Err(CliError::request(
                "--headers-only writes the headers of the released model, which is bf16: leave --quant out",
            ));
        }
        return headers(args, printer);
    }
    let recipe = args.recipe()?;
    let progress = printer.progress("writing", synth::planned_bytes(&recipe)?);
    let report = synth::write_store(&recipe, &args.out, &|bytes| progress.inc(bytes))?;
    progress.finish_and_clear();
    if printer.is_json() {
        printer.json(&json!({
            "kind": "store", "path": args.out.to_string_lossy(), "records": report.records, "bytes": report.bytes,
            "fingerprint": report.fingerprint,
        }))?;
    } else {
        let (records, bytes) = (report.records, human_bytes(report.bytes));
        printer.line(format_args!(
            "{}: a store of {records} records, {bytes}",
            args.out.display()
        ))?;
    }
    Ok(CommandOutcome::Done)
}

fn headers(args: &SynthArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let report = synth::write_headers(&args.out, args.layers)?;
    if printer.is_json() {
        printer.json(&json!({
            "kind": "checkpoint", "path": args.out.to_string_lossy(), "shards": report.shards, "tensors": report.tensors,
            "bytes": report.bytes,
        }))?;
    } else {
        let (shards, tensors, bytes) = (report.shards, report.tensors, human_bytes(report.bytes));
        printer.line(format_args!(
            "{}: a checkpoint of {tensors} tensors in {shards} shards, {bytes} by its headers, without data",
            args.out.display()
        ))?;
    }
    Ok(CommandOutcome::Done)
}
