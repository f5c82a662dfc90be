//! The model in the repository and where its store is kept.

use std::path::{Path, PathBuf};

use super::{CliError, Printer};

/// Folder of the model, relative to the repository.
const OWN_MODEL: &str = "models/tiny";

/// The store of the repository's model, made at first use.
///
/// # Errors
/// When the model is not found, or its store cannot be made.
pub fn store_of_own_model(printer: &Printer) -> Result<PathBuf, CliError> {
    let model = own_model()?;
    let store = cache_folder()?.join("stores").join(content_key(&model)?);
    if store.exists() {
        return Ok(store);
    }
    printer.note(format_args!(
        "making the store of {} in {} (only once)",
        model.display(),
        store.display()
    ));
    let parent = store.parent().unwrap_or(Path::new("/"));
    // Made beside and renamed whole, so that two first runs at once cannot disturb each other.
    let beside = store.with_extension(format!("partial-{}", std::process::id()));
    let failed =
        |error: std::io::Error| CliError::Failed(anyhow::anyhow!("{}: {error}", beside.display()));
    std::fs::create_dir_all(parent).map_err(failed)?;
    extract(&model, &beside, printer)?;
    match std::fs::rename(&beside, &store) {
        Ok(()) => Ok(store),
        // Another run was first.
        Err(_) if store.exists() => {
            std::fs::remove_dir_all(&beside).map_err(failed)?;
            Ok(store)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Extracts in a process of its own: what extraction leaves on the heap would count as this run's memory.
fn extract(model: &Path, store: &Path, printer: &Printer) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::Failed(anyhow::anyhow!("sage extract: {error}"));
    let bar = printer.steps("extracting", 1);
    let output = std::process::Command::new(std::env::current_exe().map_err(failed)?)
        .arg("extract")
        .arg(model)
        .arg("--out")
        .arg(store)
        .output()
        .map_err(failed)?;
    bar.finish_and_clear();
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(CliError::Failed(anyhow::anyhow!(
        "the store of {} cannot be made: {}",
        model.display(),
        message.trim()
    )))
}

/// The model below the working folder, else where the program was built.
fn own_model() -> Result<PathBuf, CliError> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(OWN_MODEL);
    let candidates = [PathBuf::from(OWN_MODEL), built];
    let found = candidates
        .iter()
        .find(|folder| folder.join("config.json").exists())
        .cloned();
    found.ok_or_else(|| {
        CliError::request(format!(
            "the repository's model is neither in ./{OWN_MODEL} nor in {}: run from the repository, or name a model",
            candidates[1].display()
        ))
    })
}

/// Where stores are kept that this program makes itself.
///
/// # Errors
/// When no variable says where.
pub(super) fn cache_folder() -> Result<PathBuf, CliError> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let found = variable("SAGE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("sage")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache/sage")));
    found
        .ok_or_else(|| CliError::request("no cache folder: set SAGE_CACHE, XDG_CACHE_HOME or HOME"))
}

/// Hash of every file of the model: a model that was trained again gets a store of its own. The model is small.
fn content_key(model: &Path) -> Result<String, CliError> {
    let failed =
        |error: std::io::Error| CliError::Failed(anyhow::anyhow!("{}: {error}", model.display()));
    let mut files: Vec<PathBuf> = std::fs::read_dir(model)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|e| e == "json" || e == "safetensors")
    });
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let bytes = std::fs::read(&file).map_err(failed)?;
        hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}
