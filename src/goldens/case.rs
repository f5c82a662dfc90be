//! One golden file and what it asks for.

use sage_actors::protocol::Modality;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors};

use super::{CaseError, description};

/// A golden is held in memory while it is compared.
const MOST_GOLDEN_BYTES: u64 = 8 << 30;

/// What goes into thinker and towers, behind `in.`.
const INPUTS: [&str; 9] = [
    "input_ids",
    "attention_mask",
    "input_features",
    "feature_attention_mask",
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
    "video_second_per_grid",
];

/// What a mixture of media is made of, behind its index.
const POSITION_INPUTS: [&str; 5] = [
    "input_ids",
    "image_grid_thw",
    "video_grid_thw",
    "second_per_grids",
    "audio_seqlens",
];

/// A case of a folder; nothing but names and shapes is read yet.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    path: PathBuf,
    tensors: Vec<String>,
    /// Videos carry their sounds within.
    pub(super) audio_in_video: bool,
    /// The case says of itself that it is no target.
    pub orientation_only: bool,
    /// Tokens of the longest row, greedy continuation included.
    pub context_tokens: usize,
    /// Frames of codes that are given.
    frames: usize,
    description: serde_json::Value,
}

/// What of the model a case asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaseKind {
    /// Thinker and towers.
    Thinker,
    /// Those, and everything that speaks.
    Speech,
    /// The vocoder alone.
    Vocoder,
    /// Rules for positions: no weight is read.
    Positions,
    /// It holds no input.
    Nothing,
}

/// Shape and numbers of a tensor, row-major.
pub type Shaped<T> = (Vec<usize>, Vec<T>);

/// The bytes of a golden file.
pub struct Golden {
    bytes: Vec<u8>,
    case: String,
}

/// Tokens of a case.
pub struct Inputs {
    ids: Vec<u32>,
    mask: Vec<bool>,
    /// Tokens of a row, padding included.
    pub width: usize,
    /// Steps of the greedy continuation; 0 when there is none.
    pub greedy_steps: usize,
}

impl Inputs {
    /// Of a case without tokens.
    pub(super) fn none() -> Self {
        Self {
            ids: Vec::new(),
            mask: Vec::new(),
            width: 1,
            greedy_steps: 0,
        }
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.ids.len() / self.width
    }

    /// The row's tokens without padding.
    pub fn tokens(&self, row: usize) -> Vec<u32> {
        self.positions(row)
            .map(|at| self.ids[row * self.width + at])
            .collect()
    }

    /// Columns of the row that hold a token.
    pub fn positions(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.width).filter(move |at| self.mask[row * self.width + at])
    }
}

impl Golden {
    fn parsed(&self) -> Result<SafeTensors<'_>, CaseError> {
        SafeTensors::deserialize(&self.bytes)
            .map_err(|error| self.error("(header)", error.to_string()))
    }

    /// A part of a tensor's numbers.
    ///
    /// # Errors
    /// When the tensor holds fewer.
    pub(super) fn part<'v, T>(
        &self,
        name: &str,
        values: &'v [T],
        range: std::ops::Range<usize>,
    ) -> Result<&'v [T], CaseError> {
        values.get(range.clone()).ok_or_else(|| {
            let (held, needed) = (values.len(), range.end);
            self.error(
                name,
                format!("has {held} numbers, expected at least {needed}"),
            )
        })
    }

    /// Names of its tensors, in order: a file may list them in any.
    pub(super) fn names(&self) -> Result<Vec<String>, CaseError> {
        let parsed = self.parsed()?;
        let mut names: Vec<String> = parsed.names().into_iter().map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn error(&self, tensor: &str, reason: String) -> CaseError {
        CaseError::Tensor {
            case: self.case.clone(),
            tensor: tensor.into(),
            reason,
        }
    }

    /// Shape and numbers of a float tensor, widened; none when there is none of that name.
    pub fn floats(&self, name: &str) -> Result<Option<Shaped<f32>>, CaseError> {
        let parsed = self.parsed()?;
        let Ok(view) = parsed.tensor(name) else {
            return Ok(None);
        };
        let values = match view.dtype() {
            Dtype::F32 => view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            Dtype::BF16 => view
                .data()
                .chunks_exact(2)
                .map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            other => return Err(self.error(name, format!("is {other:?}, expected F32 or BF16"))),
        };
        Ok(Some((view.shape().to_vec(), values)))
    }

    /// Shape and numbers of an integer tensor; none when there is none of that name.
    pub fn integers(&self, name: &str) -> Result<Option<Shaped<i64>>, CaseError> {
        let parsed = self.parsed()?;
        let Ok(view) = parsed.tensor(name) else {
            return Ok(None);
        };
        if view.dtype() != Dtype::I64 {
            return Err(self.error(name, format!("is {:?}, expected I64", view.dtype())));
        }
        let eight = |b: &[u8]| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        Ok(Some((
            view.shape().to_vec(),
            view.data().chunks_exact(8).map(eight).collect(),
        )))
    }
}

impl Case {
    /// What of the model it asks for.
    pub fn kind(&self) -> CaseKind {
        let has = |prefix: &str| self.tensors.iter().any(|name| name.starts_with(prefix));
        if has("talker.") {
            CaseKind::Speech
        } else if has("code2wav.") {
            CaseKind::Vocoder
        } else if has("in.input_ids") {
            CaseKind::Thinker
        } else if self.description["cases"].is_array() {
            CaseKind::Positions
        } else {
            CaseKind::Nothing
        }
    }

    /// Whether a tensor of that name is what the case puts in, not what should come out.
    pub(super) fn is_input(&self, name: &str) -> bool {
        match self.kind() {
            CaseKind::Thinker | CaseKind::Speech => {
                let input = name.strip_prefix("in.");
                name == "kept_positions" || input.is_some_and(|input| INPUTS.contains(&input))
            }
            CaseKind::Vocoder => name == "code2wav.codes",
            CaseKind::Positions => {
                let mixtures = self.description["cases"].as_array().into_iter().flatten();
                let (index, input) = name.split_once('.').unwrap_or_default();
                mixtures
                    .map(|mixture| mixture["index"].to_string())
                    .any(|known| known == index)
                    && POSITION_INPUTS.contains(&input)
            }
            CaseKind::Nothing => false,
        }
    }

    /// Codes that speaking it takes, the last one included; none where nothing is spoken.
    pub fn codes(&self) -> Option<usize> {
        match self.kind() {
            CaseKind::Speech => self.number("/generation/talker_tokens"),
            CaseKind::Vocoder => Some(self.frames + 1),
            _ => None,
        }
    }

    /// A number of the description.
    pub(super) fn number(&self, pointer: &str) -> Option<usize> {
        Some(self.description.pointer(pointer)?.as_u64()? as usize)
    }

    /// A number that the case cannot be run without.
    pub(super) fn needed_number(&self, pointer: &str) -> Result<usize, CaseError> {
        self.number(pointer).ok_or_else(|| CaseError::File {
            path: self.path.with_extension("json"),
            reason: format!("has no number {pointer}"),
        })
    }

    /// The description.
    pub(super) fn description(&self) -> &serde_json::Value {
        &self.description
    }

    /// What has to be perceived for it.
    pub fn senses(&self) -> Vec<Modality> {
        let has = |prefix: &str| self.tensors.iter().any(|name| name.starts_with(prefix));
        let mut senses = Vec::new();
        if has("in.input_features") {
            senses.push(Modality::Audio);
        }
        if has("in.pixel_values") {
            senses.push(Modality::Vision);
        }
        senses
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(&self) -> Result<Golden, CaseError> {
        let read = crate::input::read_file(&self.path, MOST_GOLDEN_BYTES);
        let bytes = read.map_err(|error| CaseError::File {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        Ok(Golden {
            bytes,
            case: self.name.clone(),
        })
    }

    /// The case's tokens.
    ///
    /// # Errors
    /// When they are missing or misshapen.
    pub fn inputs(&self, golden: &Golden) -> Result<Inputs, CaseError> {
        let name = "in.input_ids";
        let (shape, ids) = golden
            .integers(name)?
            .ok_or_else(|| golden.error(name, "is missing".into()))?;
        let width = match shape[..] {
            [_, width] if width > 0 => width,
            _ => {
                return Err(golden.error(
                    name,
                    format!("has shape {shape:?}, expected [rows, tokens]"),
                ));
            }
        };
        let ids = ids
            .into_iter()
            .map(|id| {
                u32::try_from(id).map_err(|_| golden.error(name, format!("holds the id {id}")))
            })
            .collect::<Result<Vec<u32>, _>>()?;
        let mask: Vec<bool> = match golden.integers("in.attention_mask")? {
            Some((_, mask)) if mask.len() == ids.len() => {
                mask.into_iter().map(|m| m != 0).collect()
            }
            Some((shape, _)) => {
                return Err(golden.error(
                    "in.attention_mask",
                    format!("has shape {shape:?}, unlike in.input_ids"),
                ));
            }
            None => vec![true; ids.len()],
        };
        if let Some(row) = mask
            .chunks(width)
            .position(|row: &[bool]| !row.contains(&true))
        {
            let reason = format!("masks every token of row {row}, expected at least one");
            return Err(golden.error("in.attention_mask", reason));
        }
        let greedy_steps = match golden.integers("greedy.tokens")? {
            Some((shape, _)) if shape.len() == 2 => shape[1],
            Some((shape, _)) => {
                return Err(golden.error(
                    "greedy.tokens",
                    format!("has shape {shape:?}, expected [rows, steps]"),
                ));
            }
            None => 0,
        };
        Ok(Inputs {
            ids,
            mask,
            width,
            greedy_steps,
        })
    }
}

pub(super) fn list(folder: &Path) -> Result<Vec<Case>, CaseError> {
    let file = |path: &Path, reason: String| CaseError::File {
        path: path.into(),
        reason,
    };
    let entries = std::fs::read_dir(folder).map_err(|error| file(folder, error.to_string()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| file(folder, error.to_string()))?
            .path();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(CaseError::Empty {
            path: folder.into(),
        });
    }
    paths.into_iter().map(|path| describe(&path)).collect()
}

fn describe(path: &Path) -> Result<Case, CaseError> {
    let file = |reason: String| CaseError::File {
        path: path.into(),
        reason,
    };
    let bytes = crate::input::read_file(path, MOST_GOLDEN_BYTES)
        .map_err(|error| file(error.to_string()))?;
    let parsed =
        SafeTensors::deserialize(&bytes).map_err(|error| file(format!("not a golden: {error}")))?;
    let width = |name: &str| {
        parsed
            .tensor(name)
            .ok()
            .and_then(|view| view.shape().last().copied())
            .unwrap_or(0)
    };
    let description = description::beside(&path.with_extension("json"))?;
    let spoken = description.pointer("/generation/thinker_tokens");
    let spoken = spoken.and_then(serde_json::Value::as_u64).unwrap_or(0);
    Ok(Case {
        name: path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        path: path.into(),
        context_tokens: width("in.input_ids")
            .saturating_add(width("greedy.tokens").max(spoken as usize)),
        frames: width("code2wav.codes"),
        tensors: parsed.names().into_iter().map(str::to_owned).collect(),
        audio_in_video: description["flags"]["use_audio_in_video"] == true,
        orientation_only: description
            .get("orientation_only")
            .and_then(|flag| flag.as_bool())
            == Some(true),
        description,
    })
}
