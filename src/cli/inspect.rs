//! `sage inspect`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{CliError, Outcome, Printer, Table, human_bytes};
use crate::checkpoint::{Checkpoint, Component};
use crate::store::{ModelKind, Store, recognise};

mod survey;

use survey::{ComponentReport, ModuleMemory, StateMemory, Straddling, Survey};

const EXAMPLES: &str = "Examples:
  sage inspect CHECKPOINT
  sage inspect STORE --json

Exit code 1 says that tensors are missing or misshapen.";

/// How many names of a list are shown to people; `--json` has all.
const SHOWN: usize = 10;

/// Arguments of `sage inspect`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    /// Checkpoint or store
    model: PathBuf,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// A tensor whose shape is not what the configuration calls for.
#[derive(Debug, Serialize)]
struct Misshapen {
    name: String,
    shape: Vec<usize>,
    expected: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct Report {
    model_type: String,
    kind: &'static str,
    total_bytes: u64,
    tensors: usize,
    components: Vec<ComponentReport>,
    memory_per_state: Vec<StateMemory>,
    straddling_experts: Vec<Straddling>,
    missing: Vec<String>,
    missing_shards: Vec<String>,
    misshapen: Vec<Misshapen>,
    unexpected: Vec<String>,
    /// Tensors of the model that a partial store was not asked to hold.
    not_extracted: usize,
}

/// Runs `sage inspect`.
///
/// # Errors
/// If the model cannot be opened.
pub fn run(args: &InspectArgs, printer: &Printer) -> Result<Outcome, CliError> {
    let report = match recognise(&args.model)? {
        ModelKind::Checkpoint => {
            Survey::of_checkpoint(&Checkpoint::open_incomplete(&args.model)?).report()
        }
        ModelKind::Store => Survey::of_store(&Store::open(&args.model)?).report(),
    };
    if printer.is_json() {
        printer.json(&report)?;
    } else {
        show(&report, printer)?;
    }
    let sound = report.missing.is_empty() && report.misshapen.is_empty();
    Ok(if sound { Outcome::Done } else { Outcome::No })
}

fn show(report: &Report, printer: &Printer) -> Result<(), CliError> {
    let (kind, tensors, total) = (report.kind, report.tensors, human_bytes(report.total_bytes));
    printer.line(format_args!(
        "{} {kind}, {tensors} tensors, {total}\n",
        report.model_type
    ))?;
    let mut table = Table::new([
        "component",
        "tensors",
        "size",
        "dtype",
        "layers",
        "experts/layer",
        "bytes/expert",
        "always resident",
    ]);
    let or_dash = |count: usize, shown: String| if count == 0 { "-".to_owned() } else { shown };
    for part in &report.components {
        table.row([
            part.name.to_string(),
            part.tensors.to_string(),
            human_bytes(part.bytes),
            part.dtype.clone(),
            part.layers.to_string(),
            or_dash(part.experts_per_layer, part.experts_per_layer.to_string()),
            or_dash(part.experts_per_layer, human_bytes(part.bytes_per_expert)),
            human_bytes(part.always_resident_bytes),
        ]);
    }
    printer.table(&table)?;
    show_states(report, printer)?;
    show_list(
        printer,
        "straddling experts",
        &report.straddling_experts,
        |expert| {
            format!(
                "{} layer {} expert {}: {}",
                expert.component,
                expert.layer,
                expert.expert,
                expert.shards.join(", ")
            )
        },
    )?;
    show_list(
        printer,
        "missing shards",
        &report.missing_shards,
        Clone::clone,
    )?;
    show_list(printer, "missing tensors", &report.missing, Clone::clone)?;
    show_list(printer, "misshapen tensors", &report.misshapen, |tensor| {
        format!(
            "{}: {:?}, expected {:?}",
            tensor.name, tensor.shape, tensor.expected
        )
    })?;
    show_list(
        printer,
        "unexpected tensors",
        &report.unexpected,
        Clone::clone,
    )?;
    if report.not_extracted > 0 {
        let held: Vec<&str> = report
            .components
            .iter()
            .map(|part| part.name.name())
            .collect();
        printer.line(format_args!(
            "\na partial store, on purpose: it holds tensors of {}; {} others of the model were not asked for",
            held.join(", "),
            report.not_extracted
        ))?;
    }
    Ok(())
}

fn show_states(report: &Report, printer: &Printer) -> Result<(), CliError> {
    printer.line("\nmemory per state: the experts of one token, and what is always resident")?;
    let mut table = Table::new([
        "state",
        "experts/token/layer",
        "experts/token",
        "lru hits nothing up to",
        "experts",
        "always resident",
        "together",
    ]);
    for state in &report.memory_per_state {
        let each = |number: fn(&ModuleMemory) -> u64| {
            let modules = state.modules.iter();
            let each = modules.map(|module| format!("{} {}", module.component, number(module)));
            each.collect::<Vec<_>>().join(", ")
        };
        table.row([
            state.state.to_owned(),
            each(|module| module.experts_per_token as u64),
            each(|module| module.token_experts),
            each(|module| module.lru_hits_nothing_up_to_experts),
            human_bytes(state.expert_bytes),
            human_bytes(state.always_resident_bytes),
            human_bytes(state.total_bytes),
        ]);
    }
    printer.table(&table)?;
    printer.line(
        "a pool of fewer experts than a token uses is below the cycle cliff, where eviction lru finds few or none",
    )
}

fn show_list<T>(
    printer: &Printer,
    title: &str,
    items: &[T],
    shown: impl Fn(&T) -> String,
) -> Result<(), CliError> {
    if items.is_empty() {
        return Ok(());
    }
    printer.line(format_args!("\n{title}: {}", items.len()))?;
    for item in items.iter().take(SHOWN) {
        printer.line(format_args!("  {}", shown(item)))?;
    }
    if items.len() > SHOWN {
        printer.line(format_args!(
            "  and {} more (--json lists all)",
            items.len() - SHOWN
        ))?;
    }
    Ok(())
}

/// Layers of a component, however its configuration calls them.
fn layers_of(component: Component, config: &crate::checkpoint::ModelConfig) -> usize {
    match component {
        Component::Thinker => config.thinker.text.num_hidden_layers,
        Component::Talker => config
            .talker
            .as_ref()
            .map_or(0, |talker| talker.text.num_hidden_layers),
        Component::Vision => config
            .thinker
            .vision
            .as_ref()
            .map_or(0, |vision| vision.depth),
        Component::Audio => config
            .thinker
            .audio
            .as_ref()
            .map_or(0, |audio| audio.encoder_layers),
        Component::Code2Wav => config
            .code2wav
            .as_ref()
            .map_or(0, |code2wav| code2wav.num_hidden_layers),
    }
}
