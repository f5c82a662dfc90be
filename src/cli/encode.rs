//! `sage encode`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::media::MediaArgs;
use super::opening::{self, RunningArgs};
use super::{CliError, CommandOutcome, Printer, Table, human_bytes};
use crate::core::memory::resident_set;
use crate::core::perception::{DecodedMedia, PerceptionError, sense, senses_of};
use crate::core::{EngineError, Limit};
use crate::cpu::encode::{Embedding, Embeddings, Encoder};
use crate::media::medium::{Medium, MediumKind};
use crate::session::opening::MEDIA_TOKENS;
use crate::store::{FloatTensor, write_floats};

const EXAMPLES: &str = "Examples:
  sage encode MODEL --audio word.wav --out word.safetensors
  sage encode MODEL --image photo.jpg --image drawing.png --audio word.wav --out all.safetensors
  sage encode STORE --image photo.jpg --out photo.safetensors --limit 2GiB --json

The towers run alone, piece by piece: the decoder is neither loaded nor run, so that a store of the towers
(`sage extract CHECKPOINT --out STORE --components vision,audio`) is enough. Tensors are f32, [tokens, hidden]: `audio.0`
for the first --audio, `image.0` for the first --image, and `image.0.deepstack.0` and so on for what is added behind the
decoder's first layers. The file's metadata names each file with its BLAKE3, and a picture's grid of patches. The files of
a call are one observation: sounds are padded to the longest among them, pictures share --media-tokens.";

/// What a resident set cannot be foreseen to: allocator, stacks, rounding.
const SLACK_BYTES: u64 = 4 << 20;

/// Arguments of `sage encode`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct EncodeArgs {
    /// Checkpoint or store; its towers are enough
    #[arg(value_parser = crate::cli::models::model_argument())]
    model: PathBuf,
    #[command(flatten)]
    media: MediaArgs,
    /// File to write
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Memory limit of the whole process: 512MiB, 2GiB, 50% (of what it takes with both towers in memory), or none
    #[arg(long)]
    limit: Option<Limit>,
    /// Threads of the arithmetic [default: all cores]; the result does not depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Serialize)]
struct EncodeReport {
    out: String,
    fingerprint: String,
    tensors: Vec<EncodedTensor>,
    /// Bytes of the towers' weights that were read.
    read_bytes: u64,
    limit_bytes: Option<u64>,
    floor_bytes: u64,
    seconds: f64,
    peak_rss_bytes: u64,
}

#[derive(Serialize)]
struct EncodedTensor {
    name: String,
    shape: [usize; 2],
    file: String,
    blake3: String,
    /// Of a picture: patches in time, height and width.
    #[serde(skip_serializing_if = "Option::is_none")]
    grid: Option<[usize; 3]>,
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be taken, the model has no such tower, the limit is too low, or the result cannot be written.
pub fn run(args: &EncodeArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let running = RunningArgs {
        threads: args.threads,
        ..RunningArgs::default()
    };
    running.set_threads()?;
    opening::start_threads(args.threads)?;
    let paths = args.media.paths();
    if paths.is_empty() {
        return Err(CliError::request(
            "nothing to encode: expected --audio FILE or --image FILE",
        ));
    }
    check_out(&args.out, &paths)?;
    let source = opening::source(&args.model)?;
    let wrong = |error: PerceptionError| CliError::from(EngineError::from(error));
    let kinds: Vec<Medium> = paths
        .iter()
        .map(|(kind, _)| Medium::new(*kind, Vec::new()))
        .collect();
    let mut encoder = Encoder::new(&*source, &senses_of(&kinds)).map_err(wrong)?;
    let files_bytes = paths.iter().map(|(_, path)| file_bytes(path)).sum();
    let (limit_bytes, floor_bytes) = args.within_limit(&encoder, files_bytes)?;
    let started = Instant::now();
    let media = args.media.read()?;
    let most = args.media_tokens();
    let sensed = sense(&*source, &media, 0.0, most).map_err(|error| {
        // Which of the files is at fault, where one alone is.
        let alone = |medium: &Medium| sense(&*source, std::slice::from_ref(medium), 0.0, most);
        let mut each = media.iter().zip(&paths);
        let fault = each.find_map(|(medium, (_, path))| Some((path, alone(medium).err()?)));
        match fault {
            Some((path, error)) => CliError::request(format!("{}: {error}", path.display())),
            None => wrong(error),
        }
    })?;
    let hashes: Vec<String> = media.iter().map(|medium| medium.blake3.clone()).collect();
    drop(media);
    let embeddings = encoder.encode(&sensed).map_err(wrong)?;
    let fingerprint = source.fingerprint()?;
    let named = named(&paths, hashes, &sensed, &embeddings);
    write(&args.out, &fingerprint, &named)?;
    let report = EncodeReport {
        out: args.out.display().to_string(),
        fingerprint,
        tensors: named.into_iter().map(|(report, _)| report).collect(),
        read_bytes: embeddings.read_bytes,
        limit_bytes,
        floor_bytes,
        seconds: started.elapsed().as_secs_f64(),
        peak_rss_bytes: resident_set().1,
    };
    show(&report, printer)?;
    Ok(CommandOutcome::Done)
}

/// That the result has a place, before anything is computed.
fn check_out(out: &Path, inputs: &[(MediumKind, PathBuf)]) -> Result<(), CliError> {
    let wrong = |problem: String| CliError::request(format!("--out {}: {problem}", out.display()));
    if out.is_dir() || out.file_name().is_none() {
        return Err(wrong("is a folder; expected a file to write".to_owned()));
    }
    let folder = out.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(wrong(format!(
            "there is no folder {}; make it first",
            folder.display()
        )));
    }
    let same = |path: &PathBuf| {
        let (a, b) = (path.canonicalize(), out.canonicalize());
        a.is_ok_and(|a| b.is_ok_and(|b| a == b))
    };
    if inputs.iter().any(|(_, path)| same(path)) {
        return Err(wrong(
            "is a file that is to be encoded; expected another".to_owned(),
        ));
    }
    Ok(())
}

fn file_bytes(path: &Path) -> u64 {
    // One that cannot be looked at is refused when it is read.
    std::fs::metadata(path).map_or(0, |file| file.len())
}

impl EncodeArgs {
    /// Tokens that the media may take.
    fn media_tokens(&self) -> usize {
        self.media.media_tokens.unwrap_or(MEDIA_TOKENS)
    }

    /// The limit, and what encoding takes at most.
    fn within_limit(
        &self,
        encoder: &Encoder<'_>,
        files_bytes: u64,
    ) -> Result<(Option<u64>, u64), CliError> {
        let process = Encoder::process_bytes() + SLACK_BYTES;
        let work = encoder.work_bytes(self.media_tokens());
        let floor = process + work + files_bytes;
        let limit = match self.limit {
            None | Some(Limit::None) => return Ok((None, floor)),
            Some(Limit::Bytes(bytes)) => bytes,
            Some(Limit::Percent(percent)) => {
                ((floor + encoder.weight_bytes()) as f64 * percent / 100.0) as u64
            }
            Some(Limit::Slots(_)) => {
                return Err(CliError::request(
                    "--limit counts experts in slots, and encoding holds none; expected bytes or percent, such as 2GiB",
                ));
            }
        };
        if limit < floor {
            return Err(CliError::request(format!(
                "a limit of {} is below the {} that encoding takes: process {}, the largest piece of a tower and its work for {} tokens {}, files {}\n  hint: --limit {}MiB would do, or fewer --media-tokens",
                human_bytes(limit),
                human_bytes(floor),
                human_bytes(process),
                self.media_tokens(),
                human_bytes(work),
                human_bytes(files_bytes),
                floor.div_ceil(1 << 20),
            )));
        }
        Ok((Some(limit), floor))
    }
}

/// Every tensor with its report; those of pictures with their levels behind them.
fn named<'a>(
    paths: &[(MediumKind, PathBuf)],
    hashes: Vec<String>,
    sensed: &DecodedMedia,
    embeddings: &'a Embeddings,
) -> Vec<(EncodedTensor, &'a [f32])> {
    let mut sounds = embeddings.sounds.iter().enumerate();
    let mut pictures = embeddings.pictures.iter().enumerate();
    let mut all = Vec::new();
    for ((kind, path), blake3) in paths.iter().zip(hashes) {
        let (name, next) = match kind {
            MediumKind::Sound => ("audio", sounds.next()),
            MediumKind::Picture => ("image", pictures.next()),
        };
        let Some((at, embedding)) = next else {
            continue;
        };
        let Embedding { tokens, hidden, .. } = *embedding;
        let grid = match kind {
            MediumKind::Sound => None,
            MediumKind::Picture => sensed.features.images.grids.get(at).copied(),
        };
        let report = |name: String| EncodedTensor {
            name,
            shape: [tokens, hidden],
            file: path.display().to_string(),
            blake3: blake3.clone(),
            grid,
        };
        all.push((report(format!("{name}.{at}")), &embedding.rows[..]));
        for (level, rows) in embedding.deepstack.iter().enumerate() {
            let name = format!("{name}.{at}.deepstack.{level}");
            all.push((report(name), &rows[..]));
        }
    }
    all
}

fn write(out: &Path, fingerprint: &str, named: &[(EncodedTensor, &[f32])]) -> Result<(), CliError> {
    let mut notes = BTreeMap::from([
        ("format".to_owned(), "sage embeddings 1".to_owned()),
        ("model_fingerprint".to_owned(), fingerprint.to_owned()),
    ]);
    for (tensor, _) in named {
        if tensor.name.contains(".deepstack.") {
            continue;
        }
        let name = &tensor.name;
        notes.insert(format!("{name}.file"), tensor.file.clone());
        notes.insert(format!("{name}.blake3"), tensor.blake3.clone());
        if let Some([time, height, width]) = tensor.grid {
            notes.insert(format!("{name}.grid"), format!("{time}x{height}x{width}"));
        }
    }
    let tensors: Vec<FloatTensor> = named
        .iter()
        .map(|(tensor, values)| FloatTensor {
            name: &tensor.name,
            shape: &tensor.shape,
            values,
        })
        .collect();
    Ok(write_floats(out, &notes, &tensors)?)
}

fn show(report: &EncodeReport, printer: &Printer) -> Result<(), CliError> {
    if printer.is_json() {
        return printer.json(report);
    }
    let mut table = Table::new(["tensor", "tokens", "hidden", "of"]);
    for tensor in &report.tensors {
        let [tokens, hidden] = tensor.shape;
        table.row([
            tensor.name.clone(),
            tokens.to_string(),
            hidden.to_string(),
            tensor.file.clone(),
        ]);
    }
    printer.table(&table)?;
    printer.line(format_args!(
        "{}: {} tensors; {} of towers read in {:.2} s, peak memory {}",
        report.out,
        report.tensors.len(),
        human_bytes(report.read_bytes),
        report.seconds,
        human_bytes(report.peak_rss_bytes),
    ))
}
