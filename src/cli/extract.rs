//! `sage extract`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;

use super::{CliError, CommandOutcome, Printer, Table, human_bytes};
use crate::checkpoint::{Checkpoint, Component, is_gguf};
use crate::formats::WeightFormat;
use crate::store::{
    Conversion, ExpertSelection, ExtractReport, ExtractSelection, Extraction, FormatRule,
    ModelKind, RecordKind, Store, StoreError, recognise,
};

mod experts;
mod prices;

const EXAMPLES: &str = "Examples:
  sage extract CHECKPOINT --out STORE                              everything
  sage extract CHECKPOINT --out STORE --components thinker         one component
  sage extract CHECKPOINT --out STORE --components vision,audio    enough for sage encode
  sage extract CHECKPOINT --out STORE --experts top:32             a partial store: 32 experts a layer
  sage extract CHECKPOINT --out STORE --experts price:32 --prices prices.json   of sage price MODEL --text F --json
  sage extract CHECKPOINT --out STORE --experts usage:32 --prices prices.json
  sage extract CHECKPOINT --out STORE --component thinker --layer 3 --expert 17
  sage extract CHECKPOINT --out STORE --extract-expert 5 --layer 0            the first prototype's spellings
  sage extract CHECKPOINT --out STORE --extract-routers --component thinker
  sage extract CHECKPOINT --out STORE --extract-all
  sage extract CHECKPOINT --out STORE --quant q4                   experts of 4 bits, trunk and head of 8: another model
  sage extract CHECKPOINT --out STORE --quant q4 --quant q6_k:head      a head of 6 bits
  sage extract CHECKPOINT --out STORE --quant f16:0-11 --quant f32:talker      a mixed store
  sage extract MODEL.gguf --out STORE                              from a file of llama.cpp, blocks as they are
  sage extract PACKED --out STORE                                  from a folder of AWQ or GPTQ, its numbers kept
  sage extract --verify STORE                                      re-hash every file

An extraction that was interrupted continues when it is run again, and one into a store that is there adds to it. A store
holds `extraction_manifest.json`, `routers/`, `components/`, and `experts/` with a file an expert, such as
`thinker_expert_005_layer_00.safetensors`. A partial store runs with --degrade.";

/// Arguments of `sage extract`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ExtractArgs {
    /// Checkpoint folder, also one that AWQ or GPTQ packed, or a GGUF file of Qwen3-MoE or of the thinker of Qwen3-Omni
    #[arg(required_unless_present = "verify")]
    checkpoint: Option<PathBuf>,
    /// Store folder to write or add to
    #[arg(long, required_unless_present = "verify")]
    out: Option<PathBuf>,
    /// Only these components
    #[arg(long, value_parser = component_parser(), value_delimiter = ',', conflicts_with = "component")]
    components: Vec<Component>,
    /// Only this component; with --expert, whose it is [default there: thinker]
    #[arg(long, value_parser = component_parser())]
    component: Option<Component>,
    /// One expert: its decoder layer
    #[arg(long, requires = "expert")]
    layer: Option<usize>,
    /// One expert: its number in the layer
    #[arg(long, visible_alias = "extract-expert", requires = "layer", conflicts_with_all = ["components", "experts"])]
    expert: Option<usize>,
    /// Only routers, or beside the experts named otherwise
    #[arg(long, visible_alias = "extract-routers")]
    routers: bool,
    /// Everything, as without a selection
    #[arg(long, conflicts_with_all = ["components", "component", "layer", "expert", "routers", "experts"])]
    extract_all: bool,
    /// Only these experts, with everything that is no expert: a file of `layer expert` lines or a JSON list; `top:N` for the
    /// N of each layer whose router rows have the largest norm; `price:N` and `usage:N` for the N of each layer whose measured
    /// price is highest, or that most tokens used, by --prices
    #[arg(long, value_name = "FILE|top:N|price:N|usage:N")]
    experts: Option<String>,
    /// What `sage price --json` wrote of this model, for --experts price:N or usage:N
    #[arg(long, value_name = "FILE", requires = "experts")]
    prices: Option<PathBuf>,
    /// Store tensors in another format [default: as in the checkpoint; of what AWQ or GPTQ packed, q4_0 where it holds the same
    /// numbers, and q8_0 otherwise]: q8, q4 or q2 for experts of 8, 4 or 2 bits and a trunk
    /// and head of 8; or one of f32, bf16, f16, q8_0, q4_0, q4_k, q6_k, q2_k for the experts, or the group named (experts,
    /// trunk, head, embedding), of a component and of some layers, as in q4_k:0-11 or q6_k:trunk:thinker:0,3,8-11; may be
    /// given again, and the last that covers a tensor counts. Rows that are not whole blocks of 256 numbers get q4_0 or q8_0,
    /// of 32 stay bf16
    #[arg(long, value_name = "FORMAT[:GROUP][:COMPONENT][:LAYERS]")]
    quant: Vec<String>,
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Extract what is there when tensors are missing
    #[arg(long)]
    allow_missing: bool,
    /// Re-hash every file of a store instead of extracting
    #[arg(long, value_name = "STORE", conflicts_with_all = ["checkpoint", "out", "components", "component",
        "layer", "expert", "routers", "extract_all", "experts", "prices", "quant", "dry_run", "allow_missing"])]
    verify: Option<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Components by name, with the names in `--help`.
pub(super) fn component_parser() -> impl TypedValueParser<Value = Component> {
    let names = PossibleValuesParser::new(Component::ALL.map(Component::name));
    names.try_map(|name| Component::from_name(&name).ok_or("no such component"))
}

/// Runs `sage extract`.
///
/// # Errors
/// If the checkpoint, the store or the selection is wrong, or reading or writing fails.
pub fn run(args: &ExtractArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    if let Some(store) = &args.verify {
        return verify(store, printer);
    }
    let (Some(path), Some(out)) = (&args.checkpoint, &args.out) else {
        return Err(CliError::request("expected a checkpoint and --out STORE"));
    };
    if !is_gguf(path) && recognise(path)? == ModelKind::Store {
        let path = path.display();
        return Err(CliError::request(format!(
            "{path} is a store already; expected a checkpoint"
        )));
    }
    let checkpoint = if args.allow_missing {
        Checkpoint::open_incomplete(path)?
    } else {
        Checkpoint::open(path)?
    };
    for note in checkpoint.notes() {
        printer.note(format_args!("note: {note}"));
    }
    let rules = rules(&args.quant)?;
    let selection = selection(args, &checkpoint, printer)?;
    let extraction = Extraction::prepare(&checkpoint, out, &selection, args.allow_missing)?
        .in_formats(&rules)?;
    if let Some(conversion) = extraction.converted() {
        printer.note(format_args!("{}", in_words(conversion)));
        if checkpoint.packing().is_some() && rules.is_empty() {
            printer.note(format_args!("{}", kept_in_words(conversion)));
        }
    }
    if args.dry_run {
        return dry_run(&extraction, out, printer);
    }
    let total = extraction.preview()?.written_bytes;
    let progress = printer.progress("extracting", total);
    let report = extraction.run(&|bytes| progress.inc(bytes))?;
    progress.finish_and_clear();
    show(&report, &extraction, out, printer)?;
    Ok(CommandOutcome::Done)
}

fn selection(
    args: &ExtractArgs,
    checkpoint: &Checkpoint,
    printer: &Printer,
) -> Result<ExtractSelection, CliError> {
    let mut selection = ExtractSelection::all();
    if !args.components.is_empty() {
        selection.components = args.components.iter().copied().collect();
    }
    if let (Some(layer), Some(expert)) = (args.layer, args.expert) {
        let component = args.component.unwrap_or(Component::Thinker);
        let experts = ExpertSelection::Listed([(component, layer, expert)].into());
        let components = BTreeSet::from([component]);
        return Ok(ExtractSelection {
            components,
            rest: false,
            routers: args.routers,
            experts,
        });
    }
    if let Some(component) = args.component {
        selection.components = BTreeSet::from([component]);
    }
    selection.rest = !args.routers;
    let ranked = args.experts.as_deref().and_then(|text| {
        let (by, count) = prices::RankedBy::of(text)?;
        Some((text, by, count))
    });
    if let Some((text, by, count)) = ranked {
        let ranking = prices::Ranking {
            text,
            by,
            count,
            file: args.prices.as_deref(),
            components: &selection.components,
        };
        selection.experts = ranking.select(checkpoint, printer)?;
        return Ok(selection);
    }
    selection.experts = match &args.experts {
        Some(text) if args.prices.is_some() => {
            return Err(CliError::request(format!(
                "--experts {text} ranks nothing by price: leave --prices out, or ask for price:N or usage:N"
            )));
        }
        Some(text) => experts::parse(text, &selection.components)?,
        None if args.routers => ExpertSelection::None,
        None => ExpertSelection::All,
    };
    if let ExpertSelection::TopByRouterNorm(count) = selection.experts {
        printer.note(format_args!(
            "ranking experts by the norm of their router rows, which is static and says nothing about use; taking {count} a layer"
        ));
    }
    Ok(selection)
}

/// What --quant asks for.
pub(super) fn rules(asked: &[String]) -> Result<Vec<FormatRule>, CliError> {
    let mut all = Vec::new();
    for text in asked {
        let rules = FormatRule::all_of(text);
        all.extend(
            rules.map_err(|problem| CliError::request(format!("--quant {text}: {problem}")))?,
        );
    }
    Ok(all)
}

/// What a conversion does, in a sentence.
fn in_words(conversion: &Conversion) -> String {
    let mut totals = BTreeMap::new();
    for alike in &conversion.tensors {
        *totals.entry((alike.from, alike.to)).or_insert(0) += alike.tensors;
    }
    let totals = totals.iter().map(|((from, to), tensors)| {
        format!(
            "{tensors} tensors from {} to {}",
            from.option(),
            to.option()
        )
    });
    format!(
        "the store converts {}: it is another model than the checkpoint, with a fingerprint of its own",
        totals.collect::<Vec<_>>().join(", ")
    )
}

/// What becomes of packed matrices where no format is asked for, in a sentence.
fn kept_in_words(conversion: &Conversion) -> String {
    let is_any = |to| conversion.tensors.iter().any(|alike| alike.to == to);
    let exact = is_any(WeightFormat::Q4_0).then_some("q4_0, which holds the same numbers");
    let near = is_any(WeightFormat::Q8_0).then_some(
        "q8_0, which loses next to nothing of their numbers (--quant q4 takes about half the bytes and rounds them again)",
    );
    let kept: Vec<&str> = exact.into_iter().chain(near).collect();
    format!("packed matrices are stored as {}", kept.join(", or "))
}

fn dry_run(
    extraction: &Extraction,
    out: &std::path::Path,
    printer: &Printer,
) -> Result<CommandOutcome, CliError> {
    let pending = extraction.pending()?;
    let report = extraction.preview()?;
    if printer.is_json() {
        let records: Vec<_> = pending
            .iter()
            .map(|record| json!({ "file": record.kind.file(record.component), "bytes": record.file_bytes }))
            .collect();
        printer.json(&json!({
            "dry_run": true, "store": out.to_string_lossy(), "fingerprint": extraction.fingerprint(),
            "converted": extraction.converted(), "files": report.written,
            "bytes": report.written_bytes, "kept": report.kept, "missing": report.missing, "records": records,
        }))?;
        return Ok(CommandOutcome::Done);
    }
    let mut rows: BTreeMap<(Component, &str), (usize, u64)> = BTreeMap::new();
    for record in pending {
        let kind = match record.kind {
            RecordKind::Rest => "rest",
            RecordKind::Router { .. } => "routers",
            RecordKind::Expert { .. } => "experts",
        };
        let row = rows.entry((record.component, kind)).or_default();
        (row.0, row.1) = (row.0 + 1, row.1 + record.file_bytes);
    }
    let mut table = Table::new(["would write", "files", "bytes", "size"]);
    for ((component, kind), (files, bytes)) in rows {
        table.row([
            format!("{component} {kind}"),
            files.to_string(),
            bytes.to_string(),
            human_bytes(bytes),
        ]);
    }
    let (files, bytes) = (report.written, report.written_bytes);
    table.row([
        "total".to_owned(),
        files.to_string(),
        bytes.to_string(),
        human_bytes(bytes),
    ]);
    printer.table(&table)?;
    if report.kept > 0 {
        printer.line(format_args!(
            "{} files are there already, {}",
            report.kept,
            human_bytes(report.kept_bytes)
        ))?;
    }
    Ok(CommandOutcome::Done)
}

fn show(
    report: &ExtractReport,
    extraction: &Extraction,
    out: &std::path::Path,
    printer: &Printer,
) -> Result<(), CliError> {
    if printer.is_json() {
        return printer.json(&json!({
            "store": out.to_string_lossy(), "fingerprint": extraction.fingerprint(),
            "converted": extraction.converted(), "written": report.written,
            "written_bytes": report.written_bytes, "kept": report.kept, "kept_bytes": report.kept_bytes,
            "missing": report.missing, "complete": report.complete,
        }));
    }
    let (written, kept) = (
        human_bytes(report.written_bytes),
        human_bytes(report.kept_bytes),
    );
    printer.line(format_args!(
        "{}: {} files written, {written}; {} kept, {kept}; {}",
        out.display(),
        report.written,
        report.kept,
        if report.complete {
            "the store is complete"
        } else {
            "the store is partial"
        },
    ))?;
    if let Some(first) = report.missing.first() {
        printer.warn(format_args!(
            "the checkpoint lacks {} tensors, first `{first}`; the manifest lists them",
            report.missing.len()
        ));
    }
    Ok(())
}

fn verify(path: &std::path::Path, printer: &Printer) -> Result<CommandOutcome, CliError> {
    if recognise(path)? == ModelKind::Checkpoint {
        let path = path.display();
        return Err(CliError::request(format!(
            "{path} is a checkpoint; --verify expects a store"
        )));
    }
    let store = match Store::open(path) {
        Ok(store) => store,
        // A damaged manifest or configuration is the answer, not a wrong request.
        Err(error @ (StoreError::Manifest { .. } | StoreError::Checkpoint(_))) => {
            if printer.is_json() {
                let damaged =
                    [json!({ "file": "extraction_manifest.json", "problem": error.to_string() })];
                printer.json(
                    &json!({ "store": path.to_string_lossy(), "ok": false, "damaged": damaged }),
                )?;
            } else {
                printer.line(error)?;
            }
            return Ok(CommandOutcome::No);
        }
        Err(error) => return Err(error.into()),
    };
    let total = store
        .manifest()
        .records
        .values()
        .map(|record| record.file_bytes)
        .sum();
    let progress = printer.progress("hashing", total);
    let report = store.verify(&|bytes| progress.inc(bytes))?;
    progress.finish_and_clear();
    let ok = report.damaged.is_empty();
    if printer.is_json() {
        let damaged: Vec<_> = report
            .damaged
            .iter()
            .map(|damage| json!({ "file": damage.file, "problem": damage.problem }))
            .collect();
        printer.json(&json!({
            "store": path.to_string_lossy(), "ok": ok, "files": report.files, "bytes": report.bytes, "damaged": damaged,
            "unfinished": report.unfinished,
        }))?;
    } else {
        for damage in &report.damaged {
            printer.line(format_args!("{}: {}", damage.file, damage.problem))?;
        }
        let (files, bytes, damaged) = (
            report.files,
            human_bytes(report.bytes),
            report.damaged.len(),
        );
        printer.line(format_args!(
            "{files} files hashed, {bytes}; {damaged} damaged"
        ))?;
        if !ok {
            printer.note("delete the damaged files and run the same `sage extract` again");
        }
    }
    if report.unfinished {
        printer.warn("an extraction into this store has not finished; run it again");
    }
    Ok(if ok {
        CommandOutcome::Done
    } else {
        CommandOutcome::No
    })
}
