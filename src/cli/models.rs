//! Models that were pulled: where they are kept, what they are called, and `sage list`, `show` and `rm`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;

use super::home::cache_folder;
use super::{CliError, CommandOutcome, Printer, Table, human_bytes};
use crate::hub::{ModelName, PROVENANCE, Provenance, disk_bytes};

/// What the folder of a pull that is under way ends with.
const UNFINISHED: &str = ".partial";

/// The tag of a model that was pulled as it is.
const WHOLE: &str = "whole";

/// Arguments of `sage list`.
#[derive(Args)]
#[command(after_help = "Examples:
  sage list
  sage list --json")]
pub struct ListArgs {
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `sage show`.
#[derive(Args)]
#[command(after_help = "Examples:
  sage show Qwen/Qwen3-Omni-30B-A3B-Instruct:q4
  sage show Qwen3-Omni-30B-A3B-Instruct          the part behind the slash is enough where one model has it")]
pub struct ShowArgs {
    /// A model of `sage list`
    name: String,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `sage rm`.
#[derive(Args)]
#[command(after_help = "Examples:
  sage rm Qwen/Qwen3-Omni-30B-A3B-Instruct:q4    also what an unfinished pull of that name left")]
pub struct RmArgs {
    /// A model of `sage list`
    name: String,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// A model in the cache.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PulledModel {
    /// What every MODEL argument takes.
    name: String,
    folder: PathBuf,
    /// Of its files.
    bytes: u64,
    /// Whether a pull of it is still to be finished.
    unfinished: bool,
    /// Where it came from; none while it is unfinished.
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<Provenance>,
}

/// Folder of a model in the cache: the same for the same model, formats and components.
pub(super) fn store_of(name: &ModelName, tags: &[String]) -> Result<PathBuf, CliError> {
    let tag = match tags.is_empty() {
        true => WHOLE.to_owned(),
        false => tags.join("+"),
    };
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._,+-".contains(c) {
            c
        } else {
            '_'
        }
    };
    let tag: String = tag.chars().map(plain).collect();
    Ok(models_folder()?.join(name.folder()).join(tag))
}

/// What a model in the cache is called.
pub(super) fn name_of(store: &Path) -> Option<String> {
    let tag = store.file_name()?.to_str()?;
    let model = store.parent()?.file_name()?.to_str()?.replace("--", "/");
    Some(match tag {
        WHOLE => model,
        tag => format!("{model}:{tag}"),
    })
}

/// A MODEL argument: a folder or a file, or else the name of a model that was pulled.
pub(super) fn model_argument() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|text| find(PathBuf::from(text)))
}

/// The folder or file itself, if it is there or no model is called so.
///
/// # Errors
/// If several models could be meant.
fn find(path: PathBuf) -> Result<PathBuf, String> {
    let Some(text) = path.to_str().filter(|_| !path.exists()) else {
        return Ok(path);
    };
    let mut models = pulled().unwrap_or_default();
    models.retain(|model| !model.unfinished);
    match &matching(models, text)[..] {
        [] => Ok(path),
        [model] => Ok(model.folder.clone()),
        several => Err(format!("could be {}", names(several))),
    }
}

/// Runs `sage list`.
///
/// # Errors
/// If the cache cannot be read.
pub fn list(_: &ListArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let models = pulled()?;
    if printer.is_json() {
        printer.json(&serde_json::json!({ "folder": models_folder()?, "models": models }))?;
        return Ok(CommandOutcome::Done);
    }
    if models.is_empty() {
        let folder = models_folder()?;
        printer.note(format_args!(
            "no model was pulled into {} yet: sage pull OWNER/NAME fetches one",
            folder.display()
        ));
        return Ok(CommandOutcome::Done);
    }
    let mut table = Table::new(["model", "size", "commit", "sums", "folder"]);
    for model in &models {
        let commit = model
            .provenance
            .as_ref()
            .map(|of| of.commit.get(..12).unwrap_or(&of.commit).to_owned());
        table.row([
            model.name.clone(),
            human_bytes(model.bytes),
            commit.unwrap_or_else(|| "unfinished".to_owned()),
            sums(model).to_owned(),
            model.folder.display().to_string(),
        ]);
    }
    printer.table(&table)?;
    Ok(CommandOutcome::Done)
}

/// Runs `sage show`.
///
/// # Errors
/// If there is no such model, or several.
pub fn show(args: &ShowArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let model = named(&args.name)?;
    if printer.is_json() {
        printer.json(&model)?;
        return Ok(CommandOutcome::Done);
    }
    printer.line(format_args!(
        "{}: {} in {}",
        model.name,
        human_bytes(model.bytes),
        model.folder.display()
    ))?;
    let Some(from) = &model.provenance else {
        printer.line("an unfinished pull: run sage pull again to go on")?;
        return Ok(CommandOutcome::Done);
    };
    let formats = match from.formats.is_empty() {
        true => "formats as they were".to_owned(),
        false => format!("stored as {}", from.formats.join(", ")),
    };
    printer.line(format_args!(
        "from {}/{}, revision {}, commit {}; {formats}",
        from.endpoint, from.repo, from.revision, from.commit
    ))?;
    let mut table = Table::new(["fetched", "bytes", "SHA-256, compared"]);
    for shard in &from.shards {
        let sum = shard.sha256.clone();
        table.row([
            shard.name.clone(),
            shard.bytes.to_string(),
            sum.unwrap_or_else(|| "a part, or none is listed".to_owned()),
        ]);
    }
    printer.table(&table)?;
    Ok(CommandOutcome::Done)
}

/// Runs `sage rm`.
///
/// # Errors
/// If there is no such model, or several, or it cannot be removed.
pub fn rm(args: &RmArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let model = named(&args.name)?;
    let failed = |error: std::io::Error| {
        CliError::Failed(anyhow::anyhow!(
            "cannot remove {}: {error}",
            model.folder.display()
        ))
    };
    // What is half removed is not to be taken for a model.
    let _ = fs::remove_file(model.folder.join(PROVENANCE));
    fs::remove_dir_all(&model.folder).map_err(failed)?;
    if let Some(parent) = model.folder.parent() {
        // Other formats of the model may stand beside it.
        let _ = fs::remove_dir(parent);
    }
    if printer.is_json() {
        printer.json(&serde_json::json!({ "removed": model.name, "bytes": model.bytes }))?;
    } else {
        printer.line(format_args!(
            "removed {}, {}",
            model.name,
            human_bytes(model.bytes)
        ))?;
    }
    Ok(CommandOutcome::Done)
}

fn models_folder() -> Result<PathBuf, CliError> {
    Ok(cache_folder()?.join("models"))
}

/// Every model in the cache, by name.
fn pulled() -> Result<Vec<PulledModel>, CliError> {
    let folder = models_folder()?;
    let mut models = Vec::new();
    for family in folders(&folder) {
        models.extend(folders(&family).into_iter().filter_map(model_in));
    }
    models.sort_by(|a, b| (&a.name, a.unfinished).cmp(&(&b.name, b.unfinished)));
    Ok(models)
}

fn model_in(folder: PathBuf) -> Option<PulledModel> {
    let name = folder.file_name()?.to_str()?;
    let (whole, unfinished) = match name.strip_suffix(UNFINISHED) {
        Some(without) => (folder.with_file_name(without), true),
        None => (folder.clone(), false),
    };
    let provenance = match unfinished {
        true => None,
        false => Some(serde_json::from_slice(&fs::read(folder.join(PROVENANCE)).ok()?).ok()?),
    };
    Some(PulledModel {
        name: name_of(&whole)?,
        bytes: disk_bytes(&folder),
        folder,
        unfinished,
        provenance,
    })
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Those that `text` may mean: by the whole name before all, else without the owner, else without the tag too; in capitals
/// or not, but for the first.
fn matching(models: Vec<PulledModel>, text: &str) -> Vec<PulledModel> {
    let wanted = text.to_lowercase();
    let short = |name: &str| {
        let name = name.to_lowercase();
        let behind = name.split_once('/').map(|(_, behind)| behind.to_owned());
        behind.unwrap_or(name)
    };
    let untagged = |name: &str| {
        let name = name.to_lowercase();
        let before = name.split_once(':').map(|(before, _)| before.to_owned());
        before.unwrap_or(name)
    };
    let ways: [&dyn Fn(&str) -> bool; 3] = [
        &|name| name == text,
        &|name| name.to_lowercase() == wanted || short(name) == wanted,
        &|name| untagged(name) == wanted || untagged(&short(name)) == wanted,
    ];
    for is_meant in ways {
        let meant = models.iter().filter(|model| is_meant(&model.name));
        let meant: Vec<_> = meant.cloned().collect();
        if !meant.is_empty() {
            return meant;
        }
    }
    Vec::new()
}

fn names(models: &[PulledModel]) -> String {
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    names.join(" or ")
}

/// The one model that `text` means.
fn named(text: &str) -> Result<PulledModel, CliError> {
    let all = pulled()?;
    let known = match all.is_empty() {
        true => "none was pulled yet".to_owned(),
        false => format!("there are {}", names(&all)),
    };
    match matching(all, text).as_slice() {
        [] => Err(CliError::request(format!(
            "no model `{text}` in the cache; {known}"
        ))),
        [model] => Ok(model.clone()),
        several => Err(CliError::request(format!(
            "`{text}` could be {}",
            names(several)
        ))),
    }
}

fn sums(model: &PulledModel) -> &'static str {
    match &model.provenance {
        Some(of) if of.verified => "compared",
        Some(_) => "not verifiable",
        None => "",
    }
}
