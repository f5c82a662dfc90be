//! `sage inspect`.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, CommandOutcome, Printer, Table, human_bytes};
use crate::checkpoint::Checkpoint;
use crate::store::{ModelKind, Store, recognise};

mod memory;
mod report;
mod survey;

use super::memory::MemoryArgs;
use memory::MemoryReport;
use report::{ComponentReport, InspectReport, ModuleMemory};
use survey::Survey;

const EXAMPLES: &str = "Examples:
  sage inspect CHECKPOINT
  sage inspect STORE --json
  sage inspect STORE --limit 6GiB             what a limit would give, state by state
  sage inspect STORE --context 4096 --hear    the least limit of a run with a longer context, and ears

The object `memory` of --json has context_tokens, kv_precision, floor_bytes (the least limit), floor_parts, everything_bytes,
limit_bytes, lacking_bytes, pool_bytes and states[] with state, k, token_experts, expert_bytes_per_token (none of them
resident), experts_resident, resident_share (of all experts), token_share (of a token's), read_bytes_per_token (were all
used alike) and cap_bytes_per_token. It is null where `memory_unknown` says why.

Exit code 1 says that tensors are missing, misshapen, or experts of several types, or that the limit is below the least one.";

/// How many names of a list are shown to people; `--json` has all.
const SHOWN: usize = 10;

/// Arguments of `sage inspect`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    /// Checkpoint or store
    #[arg(value_parser = crate::cli::models::model_argument())]
    model: PathBuf,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs `sage inspect`.
///
/// # Errors
/// If the model cannot be opened.
pub fn run(args: &InspectArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    // Memory is planned first: what the survey takes of the process is none of a run's.
    let (memory, mut report) = match recognise(&args.model)? {
        ModelKind::Checkpoint => {
            let checkpoint = Checkpoint::open_incomplete(&args.model)?;
            let memory = match checkpoint.packing() {
                None => memory::report(&args.memory, &checkpoint)?,
                Some(packing) => Err(format!(
                    "matrices are packed ({packing}): inspect a store of them, which `sage extract` makes"
                )),
            };
            (memory, Survey::of_checkpoint(&checkpoint).report())
        }
        ModelKind::Store => {
            let store = Store::open(&args.model)?;
            let memory = memory::report(&args.memory, &store)?;
            (memory, Survey::of_store(&store).report())
        }
    };
    match memory {
        Ok(memory) => report.memory = Some(memory),
        Err(why) => report.memory_unknown = Some(why),
    }
    if printer.is_json() {
        printer.json(&report)?;
    } else {
        show(&report, printer)?;
    }
    let sound =
        report.missing.is_empty() && report.misshapen.is_empty() && report.other_types.is_empty();
    let enough = report.memory.as_ref().is_none_or(MemoryReport::is_enough);
    let sound = sound && enough;
    Ok(if sound {
        CommandOutcome::Done
    } else {
        CommandOutcome::No
    })
}

fn show_components(report: &InspectReport, printer: &Printer) -> Result<(), CliError> {
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
    for part in report.components.iter().filter(|part| part.is_mixed()) {
        let by_format = part.bytes_by_format.iter();
        let each: Vec<String> = by_format
            .map(|(format, bytes)| format!("{} {}", format.name(), human_bytes(*bytes)))
            .collect();
        printer.line(format_args!("\n{} mixes {}", part.name, each.join(", ")))?;
        show_kinds(part, printer)?;
    }
    Ok(())
}

/// How each kind of matrix of a component is stored.
fn show_kinds(part: &ComponentReport, printer: &Printer) -> Result<(), CliError> {
    let mut table = Table::new(["tensors", "stored as", "count", "size"]);
    for kind in part.kinds.iter().filter(|kind| kind.is_matrix) {
        table.row([
            kind.name.clone(),
            kind.format.name().to_lowercase(),
            kind.tensors.to_string(),
            human_bytes(kind.bytes),
        ]);
    }
    printer.table(&table)
}

fn show(report: &InspectReport, printer: &Printer) -> Result<(), CliError> {
    let (kind, tensors, total) = (report.kind, report.tensors, human_bytes(report.total_bytes));
    printer.line(format_args!(
        "{} {kind}, {tensors} tensors, {total}\n",
        report.model_type
    ))?;
    show_components(report, printer)?;
    show_states(report, printer)?;
    match (&report.memory, &report.memory_unknown) {
        (Some(memory), _) => memory.show(printer)?,
        (None, Some(why)) => printer.line(format_args!("\nthe least limit is unknown: {why}"))?,
        (None, None) => {}
    }
    show_findings(report, printer)?;
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
    show_verdict(report, printer)
}

/// What is missing, wrong or lies apart.
fn show_findings(report: &InspectReport, printer: &Printer) -> Result<(), CliError> {
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
        "experts of several formats",
        &report.other_types,
        |tensor| {
            format!(
                "{}: {}, expected {} as the gate of its expert",
                tensor.name, tensor.dtype, tensor.expected
            )
        },
    )?;
    show_list(
        printer,
        "unexpected tensors",
        &report.unexpected,
        Clone::clone,
    )
}

fn show_verdict(report: &InspectReport, printer: &Printer) -> Result<(), CliError> {
    for note in &report.notes {
        printer.line(format_args!("\nnote: {note}"))?;
    }
    printer.line(match (report.complete, report.runnable) {
        (true, true) => "\ncomplete and runnable",
        (_, true) => "\nrunnable, but not complete: the thinker is whole",
        (_, false) => "\nnot runnable as it is",
    })
}

fn show_states(report: &InspectReport, printer: &Printer) -> Result<(), CliError> {
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
