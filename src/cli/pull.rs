//! `sage pull`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;

use super::extract::{component_parser, rules};
use super::models::{name_of, store_of};
use super::{CliError, CommandOutcome, Printer, Table, human_bytes};
use crate::checkpoint::Component;
use crate::hub::{Hub, ModelName, Pull, PullEvent, PullOptions};

const EXAMPLES: &str = "Examples:
  sage pull Qwen/Qwen3-Omni-30B-A3B-Instruct --quant q4 --dry-run    what it fetches and what disk it takes
  sage pull Qwen/Qwen3-Omni-30B-A3B-Instruct --quant q4          then: sage chat Qwen/Qwen3-Omni-30B-A3B-Instruct:q4
  sage pull Qwen/Qwen3-Omni-30B-A3B-Instruct --components thinker --quant q8 --out /data/thinker
  sage pull OWNER/NAME@v1.0                                      a branch, a tag or a commit

Shards are fetched one after the other and extracted as they come, so the checkpoint is never on disk as a whole. A pull that
was interrupted goes on when it is run again, inside the shard where it stopped. The sum of every shard that is fetched whole is
compared with the hub's; where --components leaves most of a shard out, only parts are fetched and nothing can be compared: the
store says so. HF_ENDPOINT names another hub, HF_TOKEN a token for it (it is sent to that host only), HTTPS_PROXY a proxy,
SSL_CERT_FILE a PEM file with the certificate of your own certificate authority.";

/// Arguments of `sage pull`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct PullArgs {
    /// Model on the hub, with a revision if it is not to be `main`
    #[arg(value_name = "OWNER/NAME[@REVISION]")]
    model: String,
    /// Store folder to write [default: in the cache, where sage list shows it]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Only these components
    #[arg(long, value_parser = component_parser(), value_delimiter = ',')]
    components: Vec<Component>,
    /// Store tensors in another format, as sage extract --quant has it
    #[arg(long, value_name = "FORMAT[:GROUP][:COMPONENT][:LAYERS]")]
    quant: Vec<String>,
    /// Show what would be fetched and written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs `sage pull`.
///
/// # Errors
/// If the request is wrong, the hub cannot be reached or is not to be believed, or the disk does not do.
pub fn run(args: &PullArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let options = options(args)?;
    let (name, store) = (options.name.clone(), options.store.clone());
    let hub = Hub::of_process()?;
    let headers = printer.steps("reading headers", 0);
    let pull = Pull::prepare(&hub, options, args.dry_run, &|event| {
        show_event(event, &headers, printer);
    })?;
    headers.finish_and_clear();
    if args.dry_run {
        return dry_run(&pull, &name, &store, printer);
    }
    let (total_bytes, before_bytes) = (pull.plan().fetched_bytes(), pull.fetched_bytes());
    announce(&pull, &name, &store, printer);
    let bar = printer.progress("fetching", total_bytes);
    bar.set_position(before_bytes);
    bar.reset_eta();
    let (report, provenance) = pull.run(&|event| show_event(event, &bar, printer))?;
    bar.finish_and_clear();
    let shown = match args.out {
        Some(_) => None,
        None => name_of(&store),
    };
    let shown = shown.unwrap_or_else(|| store.display().to_string());
    let bytes = report.written_bytes + report.kept_bytes;
    let files = report.written + report.kept;
    if printer.is_json() {
        printer.json(&json!({
            "model": shown, "store": store, "commit": provenance.commit, "verified": provenance.verified,
            "fetched_bytes": total_bytes, "fetched_before_bytes": before_bytes, "files": files, "bytes": bytes,
            "complete": report.complete,
        }))?;
        return Ok(CommandOutcome::Done);
    }
    let complete = match report.complete {
        true => "the model is complete",
        false => "a part of the model",
    };
    let verified = match provenance.verified {
        true => "every shard's SHA-256 is the hub's",
        false => "not verifiable",
    };
    let size = human_bytes(bytes);
    printer.line(format_args!(
        "{shown}: {files} files, {size}; {complete}; {verified}"
    ))?;
    printer.note(format_args!("now: sage chat {shown}"));
    Ok(CommandOutcome::Done)
}

/// What the arguments ask for.
fn options(args: &PullArgs) -> Result<PullOptions, CliError> {
    let name: ModelName = args.model.parse()?;
    let components: BTreeSet<Component> = args.components.iter().copied().collect();
    let asked = args.quant.iter();
    let formats = asked.map(|text| Ok((text.clone(), rules(std::slice::from_ref(text))?)));
    let formats = formats.collect::<Result<_, CliError>>()?;
    let parts = components.iter().map(|part| part.name().to_owned());
    let tags: Vec<String> = args.quant.iter().cloned().chain(parts).collect();
    let store = match &args.out {
        Some(out) => out.clone(),
        None => store_of(&name, &tags)?,
    };
    Ok(PullOptions {
        name,
        store,
        components: (!components.is_empty()).then_some(components),
        formats,
    })
}

/// Says what is going to happen.
fn announce(pull: &Pull<'_>, name: &ModelName, store: &Path, printer: &Printer) {
    let plan = pull.plan();
    let total = plan.fetched_bytes();
    printer.note(format_args!(
        "{name} is commit {}: {} to fetch of {} in {} shards, for a store of {} in {}",
        pull.commit(),
        human_bytes(total - pull.fetched_bytes()),
        human_bytes(total),
        plan.shards.len(),
        human_bytes(plan.store_bytes),
        store.display(),
    ));
    if !plan.is_verifiable() {
        printer.warn(
            "only parts of some shards are fetched, or the hub lists no sums: what comes cannot be compared with the hub's sums",
        );
    }
}

fn show_event(event: PullEvent<'_>, bar: &ProgressBar, printer: &Printer) {
    match event {
        PullEvent::Fetched(bytes) => bar.inc(bytes),
        PullEvent::Shard { number, of, .. } => {
            bar.set_message(format!("fetching shard {number} of {of}"));
        }
        PullEvent::Waited { reason, wait } => bar.suspend(|| {
            let seconds = wait.as_secs_f64();
            printer.warn(format_args!("{reason}; went on after {seconds:.0} s"));
        }),
        PullEvent::Extracting { records } => bar.set_message(format!("writing {records} records")),
        PullEvent::Header { number, of } => {
            bar.set_length(of as u64);
            bar.set_position(number as u64);
        }
    }
}

fn dry_run(
    pull: &Pull<'_>,
    name: &ModelName,
    store: &Path,
    printer: &Printer,
) -> Result<CommandOutcome, CliError> {
    let plan = pull.plan();
    let (needed, free) = pull.disk()?;
    if printer.is_json() {
        let shards: Vec<_> = plan.shards.iter().map(|shard| json!({
            "name": shard.name, "bytes": shard.file_bytes, "fetched_bytes": shard.fetched_bytes(), "sha256": shard.sha256,
        })).collect();
        printer.json(&json!({
            "dry_run": true, "model": name.to_string(), "commit": pull.commit(), "store": store, "shards": shards,
            "fetched_bytes": plan.fetched_bytes(), "store_bytes": plan.store_bytes,
            "most_disk_bytes": plan.most_disk_bytes, "free_bytes": free, "fits": needed <= free,
            "verifiable": plan.is_verifiable(),
        }))?;
        return Ok(CommandOutcome::Done);
    }
    let mut table = Table::new(["would fetch", "bytes", "size", "SHA-256"]);
    for shard in &plan.shards {
        let whole = shard.fetched_bytes() == shard.file_bytes;
        table.row([
            if whole {
                shard.name.clone()
            } else {
                format!("parts of {}", shard.name)
            },
            shard.fetched_bytes().to_string(),
            human_bytes(shard.fetched_bytes()),
            if shard.sha256.is_some() {
                "compared"
            } else {
                "not verifiable"
            }
            .to_owned(),
        ]);
    }
    let total = plan.fetched_bytes();
    table.row([
        "total".to_owned(),
        total.to_string(),
        human_bytes(total),
        String::new(),
    ]);
    printer.table(&table)?;
    printer.line(format_args!(
        "{name} is commit {}: a store of {} in {}; at most {} of disk at one time, {} are free",
        pull.commit(),
        human_bytes(plan.store_bytes),
        store.display(),
        human_bytes(plan.most_disk_bytes),
        human_bytes(free),
    ))?;
    Ok(CommandOutcome::Done)
}
