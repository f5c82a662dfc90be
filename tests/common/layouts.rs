//! Checkpoints in other layouts, made from the fixtures: every tensor in memory, changed, and written again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use half::f16;
use sage::checkpoint::Checkpoint;
use sage::formats::WeightFormat;
use serde_json::{Value, json};

/// A tensor as a file holds it.
#[derive(Clone)]
pub struct Stored {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// A checkpoint in memory.
pub struct Layout {
    pub config: Value,
    pub tensors: BTreeMap<String, Stored>,
    /// Small files beside the weights.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Layout {
    pub fn of(fixture: &Path) -> Self {
        let checkpoint = Checkpoint::open(fixture).unwrap();
        let stored = |name: &str, dtype: WeightFormat, shape: &[usize]| Stored {
            dtype: dtype.name().to_owned(),
            shape: shape.to_vec(),
            bytes: checkpoint.bytes(name).unwrap().to_vec(),
        };
        let tensors = checkpoint.tensors().map(|tensor| {
            let name = tensor.stored_name().to_owned();
            (name, stored(&tensor.name, tensor.dtype, &tensor.shape))
        });
        let small = fs::read_dir(fixture).unwrap().flatten();
        let small = small.filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            entry.path().is_file() && !name.contains("safetensors") && name != "config.json"
        });
        Self {
            config: serde_json::from_slice(&fs::read(fixture.join("config.json")).unwrap())
                .unwrap(),
            tensors: tensors.collect(),
            files: small
                .map(|entry| {
                    let name = entry.file_name().into_string().unwrap();
                    (name, fs::read(entry.path()).unwrap())
                })
                .collect(),
        }
    }

    /// Fuses the experts of the layers that `wanted` names, by the beginning of their tensors' names.
    pub fn fuse(&mut self, wanted: impl Fn(&str) -> bool) {
        let mut layers: BTreeMap<String, usize> = BTreeMap::new();
        for name in self.tensors.keys() {
            if let Some((layer, rest)) = name.split_once(".mlp.experts.")
                && let Some((expert, _)) = rest.split_once('.')
                && wanted(layer)
            {
                let expert: usize = expert.parse().unwrap();
                let experts = layers.entry(layer.to_owned()).or_default();
                *experts = (*experts).max(expert + 1);
            }
        }
        for (layer, experts) in layers {
            for (module, parts) in [
                ("gate_up_proj", &["gate_proj", "up_proj"][..]),
                ("down_proj", &["down_proj"][..]),
            ] {
                let mut fused = Vec::new();
                let mut kind = None;
                for expert in 0..experts {
                    for part in parts {
                        let name = format!("{layer}.mlp.experts.{expert}.{part}.weight");
                        let one = self.tensors.remove(&name).unwrap();
                        fused.extend_from_slice(&one.bytes);
                        kind = Some((one.dtype, one.shape));
                    }
                }
                let (dtype, shape) = kind.unwrap();
                let fused = Stored {
                    dtype,
                    shape: vec![experts, parts.len() * shape[0], shape[1]],
                    bytes: fused,
                };
                self.tensors
                    .insert(format!("{layer}.mlp.experts.{module}"), fused);
            }
        }
    }

    /// Gives every tensor the name that `rename` makes of it; without one it is left out.
    pub fn rename(&mut self, rename: impl Fn(&str) -> Option<String>) {
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        self.tensors = tensors
            .filter_map(|(name, tensor)| Some((rename(&name)?, tensor)))
            .collect();
    }

    /// Rounds every F32 tensor to F16; answers with the same checkpoint, widened again.
    pub fn halved(&mut self) -> Self {
        let mut wide = Self {
            config: self.config.clone(),
            tensors: self.tensors.clone(),
            files: self.files.clone(),
        };
        for (name, tensor) in &mut self.tensors {
            let numbers = tensor.bytes.as_chunks::<4>().0;
            let halves: Vec<f16> = numbers
                .iter()
                .map(|number| f16::from_f32(f32::from_le_bytes(*number)))
                .collect();
            tensor.dtype = "F16".to_owned();
            tensor.bytes = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
            let widened = wide.tensors.get_mut(name).unwrap();
            widened.bytes = halves
                .iter()
                .flat_map(|half| half.to_f32().to_le_bytes())
                .collect();
        }
        wide
    }

    /// Writes everything as a single file.
    pub fn write(&self, folder: &Path) {
        self.write_files(folder);
        let all: Vec<&String> = self.tensors.keys().collect();
        self.write_shard(&folder.join("model.safetensors"), &all);
    }

    /// Writes so many shards and their index.
    pub fn write_sharded(&self, folder: &Path, shards: usize) {
        self.write_files(folder);
        let all: Vec<&String> = self.tensors.keys().collect();
        let mut map = serde_json::Map::new();
        for (index, names) in all.chunks(all.len().div_ceil(shards)).enumerate() {
            let file = format!("model-{:05}-of-{shards:05}.safetensors", index + 1);
            self.write_shard(&folder.join(&file), names);
            map.extend(names.iter().map(|name| ((*name).clone(), json!(file))));
        }
        let index = json!({ "metadata": {}, "weight_map": map });
        fs::write(
            folder.join("model.safetensors.index.json"),
            index.to_string(),
        )
        .unwrap();
    }

    fn write_files(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        for (name, bytes) in &self.files {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }

    fn write_shard(&self, path: &Path, names: &[&String]) {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for name in names {
            let tensor = &self.tensors[*name];
            let begin = data.len();
            data.extend_from_slice(&tensor.bytes);
            header.insert(
                (*name).clone(),
                json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, data.len()] }),
            );
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.extend(data);
        fs::write(path, file).unwrap();
    }
}

/// Runs `sage`; answers with exit code, stdout and stderr.
pub fn sage(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sage"));
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// That extraction and generation end with exit code 2, and say all of this.
pub fn refuses(model: &Path, said: &[&str]) {
    let out = tempfile::tempdir().unwrap();
    let store = out.path().join("store");
    for args in [
        &["extract", text(model), "--out", text(&store)][..],
        &["generate", text(model), "--prompt", "hello"],
    ] {
        let (code, _, stderr) = sage(args);
        assert_eq!(code, 2, "{args:?}: {stderr}");
        for said in said {
            assert!(
                stderr.contains(said),
                "{args:?} does not say {said}: {stderr}"
            );
        }
    }
    assert!(!store.exists(), "nothing is written");
}

/// What inspection reports, with its exit code.
pub fn inspect(folder: &Path) -> (i32, Value) {
    let (code, stdout, stderr) = sage(&["inspect", text(folder), "--json"]);
    let report = serde_json::from_str(&stdout);
    (code, report.unwrap_or_else(|_| panic!("{stderr}")))
}

/// What verification reports.
pub fn verify(model: &Path, goldens: &Path) -> Value {
    let goldens = text(goldens);
    let (_, stdout, stderr) = sage(&["verify", text(model), "--goldens", goldens, "--json"]);
    serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"))
}

/// A store of the whole checkpoint.
pub fn extracted(checkpoint: &Path) -> tempfile::TempDir {
    let store = tempfile::tempdir().unwrap();
    let (code, _, stderr) = sage(&["extract", text(checkpoint), "--out", text(store.path())]);
    assert_eq!(code, 0, "{stderr}");
    store
}
