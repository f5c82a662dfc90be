//! The tokenizer as it is released, text as it comes back, and what somebody spells: nothing of it steers the model.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

#[path = "tokens/untrusted.rs"]
mod untrusted;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::runs::{complaint, root, sage};
use sage::checkpoint::{Component, ModelConfig};
use sage::reads::{ReadCounter, ReadPurpose};
use sage::store::{ExpertLocation, StoreError, TensorMeta, WeightSource};
use sage::text::{Text, TextError, TextStream};
use serde_json::{Map, Value, json};

/// Tokens that the released model has room for.
const RELEASED: usize = 152_064;

/// A folder of a tokenizer; there are no weights.
struct Folder {
    path: PathBuf,
    config: ModelConfig,
    reads: Arc<ReadCounter>,
}

impl Folder {
    /// With the configuration of the model in the repository, but for the size of its vocabulary.
    fn new(path: &Path, vocabulary: usize) -> Self {
        let config = fs::read(root().join("models/tiny/config.json")).expect("a file");
        let mut config: Value = serde_json::from_slice(&config).expect("JSON");
        let thinker = &mut config["thinker_config"];
        thinker["text_config"]["vocab_size"] = vocabulary.into();
        if vocabulary == RELEASED {
            // Ids that Qwen3's tokenizer has, and one that it has not.
            for (place, id) in [
                ("image", 151_655),
                ("video", 151_656),
                ("vision_start", 151_652),
                ("vision_end", 151_653),
                ("audio", 152_063),
                ("audio_start", 152_063),
                ("audio_end", 152_063),
            ] {
                thinker[format!("{place}_token_id")] = id.into();
            }
        }
        Self {
            path: path.to_owned(),
            config: ModelConfig::from_json(config.to_string().as_bytes()).expect("a model"),
            reads: Arc::default(),
        }
    }

    fn text(&self) -> Result<Text, TextError> {
        Text::load(self)
    }
}

fn none<T>() -> Result<T, StoreError> {
    Err(StoreError::Selection("a folder without weights".to_owned()))
}

impl WeightSource for Folder {
    fn folder(&self) -> &Path {
        &self.path
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn fingerprint(&self) -> Result<String, StoreError> {
        none()
    }

    fn tensor(&self, _: &str) -> Result<TensorMeta, StoreError> {
        none()
    }

    fn read_tensor_for(&self, _: ReadPurpose, _: &str, _: &mut [u8]) -> Result<(), StoreError> {
        none()
    }

    fn reads(&self) -> &Arc<ReadCounter> {
        &self.reads
    }

    fn expert(&self, _: Component, _: usize, _: usize) -> Result<ExpertLocation, StoreError> {
        none()
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.path.join(name)).filter(|path| path.is_file())
    }

    fn tensor_names(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// tokenizer.json in the files of a release: vocabulary, merges, and the settings with their added tokens.
struct Split {
    vocabulary: Map<String, Value>,
    merges: Vec<String>,
    config: Value,
}

impl Split {
    fn of(folder: &Path) -> Self {
        let read = |name: &str| -> Value {
            let text = fs::read(folder.join(name)).expect("a file");
            serde_json::from_slice(&text).expect("JSON")
        };
        let tokenizer = read("tokenizer.json");
        let merges = tokenizer["model"]["merges"].as_array().expect("merges");
        let merge = |merge: &Value| match merge {
            Value::String(merge) => merge.clone(),
            pair => format!(
                "{} {}",
                pair[0].as_str().unwrap(),
                pair[1].as_str().unwrap()
            ),
        };
        let mut config = read("tokenizer_config.json");
        let added = tokenizer["added_tokens"].as_array().expect("added tokens");
        let decoder = added.iter().map(|token| {
            let mut fields = token.as_object().unwrap().clone();
            (
                fields.remove("id").unwrap().to_string(),
                Value::Object(fields),
            )
        });
        config["added_tokens_decoder"] = Value::Object(decoder.collect());
        Self {
            vocabulary: tokenizer["model"]["vocab"].as_object().unwrap().clone(),
            merges: merges.iter().map(merge).collect(),
            config,
        }
    }

    fn tiny() -> Self {
        Self::of(&root().join("models/tiny"))
    }

    fn write(&self, folder: &Path) {
        let merges = format!("#version: 0.2\n{}\n", self.merges.join("\n"));
        write(
            folder,
            "vocab.json",
            &Value::Object(self.vocabulary.clone()).to_string(),
        );
        write(folder, "merges.txt", &merges);
        write(folder, "tokenizer_config.json", &self.config.to_string());
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).expect("written");
}

fn expectations(path: &Path) -> Value {
    let mut text = String::new();
    let file = fs::File::open(path).expect("expectations");
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("gzip");
    serde_json::from_str(&text).expect("JSON")
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().expect("ids").iter();
    ids.map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// Every text of a file of expectations, in every variant of the configuration; how many were compared.
fn compare(split: &Split, expected: &Value, vocabulary: usize) -> usize {
    let texts = expected["texts"].as_array().expect("texts");
    let mut compared = 0;
    for variant in expected["variants"].as_array().expect("variants") {
        let name = variant["name"].as_str().expect("a name");
        let folder = tempfile::tempdir().expect("a folder");
        split.write(folder.path());
        match &variant["tokenizer_config.json"] {
            Value::Null => fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap(),
            config => write(folder.path(), "tokenizer_config.json", &config.to_string()),
        }
        for (file, content) in variant["beside"].as_object().expect("files") {
            write(folder.path(), file, &content.to_string());
        }
        let text = Folder::new(folder.path(), vocabulary).text().expect(name);
        let (with, without) = (&variant["ids"], &variant["ids_without_special"]);
        let each = texts
            .iter()
            .zip(with.as_array().unwrap())
            .zip(without.as_array().unwrap());
        for ((said, with), without) in each {
            let said = said.as_str().expect("a text");
            assert_eq!(
                text.encode_trusted(said).unwrap(),
                ids(with),
                "{name}: {said:?}"
            );
            compared += 1;
            // The older files do not call the places of media special; the model's configuration does.
            if name == "older" {
                continue;
            }
            assert_eq!(
                text.encode_untrusted(said).unwrap(),
                ids(without),
                "{name}, untrusted: {said:?}"
            );
        }
        for pair in variant["decoded"].as_array().into_iter().flatten() {
            let (ids, expected) = (ids(&pair[0]), pair[1].as_str().expect("a text"));
            assert_eq!(text.decode(&ids).unwrap(), expected, "{name}: {ids:?}");
            let mut stream = TextStream::default();
            let pieces = ids.iter().map(|id| stream.push(&text, *id).unwrap());
            let mut shown: String = pieces.collect();
            shown += &stream.finish(&text).unwrap();
            assert_eq!(shown, expected, "{name}, in pieces: {ids:?}");
        }
    }
    compared
}

/// tests/export_tokens.py makes the expectations.
#[test]
fn files_of_a_release_give_the_ids_that_transformers_gives() {
    let expected = expectations(&root().join("tests/fixtures/tokens/tiny.json.gz"));
    let compared = compare(&Split::tiny(), &expected, 8192);
    assert!(compared >= 1500, "only {compared} texts");
}

/// Another tokenizer, such as the released one: SAGE_TOKENIZER is its folder (tokenizer.json, tokenizer_config.json),
/// SAGE_TOKENS what `tests/export_tokens.py --tokenizer FOLDER --out FILE` wrote.
#[test]
#[ignore = "needs a tokenizer that is not in the repository"]
fn another_tokenizer_gives_the_ids_that_transformers_gives() {
    let path = |name: &str| PathBuf::from(std::env::var(name).expect(name));
    let split = Split::of(&path("SAGE_TOKENIZER"));
    let expected = expectations(&path("SAGE_TOKENS"));
    let compared = compare(&split, &expected, RELEASED);
    assert!(compared >= 1500, "only {compared} texts");
}

#[test]
fn tokenizer_json_is_taken_where_both_are_there_and_gives_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    Split::tiny().write(folder.path());
    let split = Folder::new(folder.path(), 4096)
        .text()
        .expect("a tokenizer");
    let whole = Folder::new(&root().join("models/tiny"), 4096)
        .text()
        .expect("a tokenizer");
    let expected = expectations(&root().join("tests/fixtures/tokens/tiny.json.gz"));
    for said in expected["texts"].as_array().unwrap() {
        let said = said.as_str().unwrap();
        assert_eq!(
            split.encode_trusted(said).unwrap(),
            whole.encode_trusted(said).unwrap(),
            "{said:?}"
        );
        assert_eq!(
            split.encode_untrusted(said).unwrap(),
            whole.encode_untrusted(said).unwrap(),
            "{said:?}"
        );
    }
    fs::copy(
        root().join("models/tiny/tokenizer.json"),
        folder.path().join("tokenizer.json"),
    )
    .unwrap();
    write(folder.path(), "merges.txt", "nonsense");
    Folder::new(folder.path(), 4096)
        .text()
        .expect("tokenizer.json says everything");
}

/// Every fault names its file and what is wrong.
#[test]
fn damaged_files_are_named() {
    type Damage = fn(&Path, &mut Split);
    let faults: [(Damage, &[&str]); 17] = [
        (
            |at, _| fs::remove_file(at.join("merges.txt")).unwrap(),
            &["merges.txt", "is not there, but vocab.json is"],
        ),
        (
            |at, _| fs::remove_file(at.join("vocab.json")).unwrap(),
            &["vocab.json", "is not there, but merges.txt is"],
        ),
        (
            |at, _| write(at, "vocab.json", "{\"a\": 1"),
            &["vocab.json", "line 1"],
        ),
        (
            |at, _| write(at, "vocab.json", "[1, 2]"),
            &["vocab.json", "expected an object"],
        ),
        (
            |at, _| write(at, "vocab.json", "{}"),
            &["vocab.json", "holds no tokens"],
        ),
        (
            |at, _| write(at, "vocab.json", "{\"a\": \"b\"}"),
            &["vocab.json", "expected"],
        ),
        (
            |at, _| write(at, "vocab.json", "{\"a\": 1, \"a\": 2}"),
            &["vocab.json", "`a`", "twice"],
        ),
        (
            |at, _| write(at, "vocab.json", "{\"a\": 1, \"b\": 1}"),
            &["vocab.json", "id 1", "`a`", "`b`"],
        ),
        (
            |at, _| write(at, "vocab.json", "{\"a\": 4096}"),
            &["vocab.json", "`a`", "4096", "beyond"],
        ),
        (
            |at, _| write(at, "merges.txt", "#version: 0.2\ne r\na b c\n"),
            &["merges.txt", "line 3", "a b c"],
        ),
        (
            |at, _| write(at, "merges.txt", "e r\n\na n\n"),
            &["merges.txt", "line 2"],
        ),
        (
            |at, _| write(at, "merges.txt", "e r\nq qqq\n"),
            &["merges.txt", "line 2", "`qqq`"],
        ),
        (
            |at, split| {
                split.config["added_tokens_decoder"]["4090"]["content"] = "er".into();
                write(at, "tokenizer_config.json", &split.config.to_string());
            },
            &["tokenizer_config.json", "`er`", "4090"],
        ),
        (
            |at, split| {
                split.config["added_tokens_decoder"]["5000"] = json!({"content": "<far>"});
                write(at, "tokenizer_config.json", &split.config.to_string());
            },
            &["tokenizer_config.json", "`<far>`", "5000"],
        ),
        (
            |at, split| {
                split.config["added_tokens_decoder"]["x"] = json!({"content": "<x>"});
                write(at, "tokenizer_config.json", &split.config.to_string());
            },
            &["tokenizer_config.json", "`x`"],
        ),
        (
            |at, split| {
                split.config["added_tokens_decoder"]["4096"] = json!({"content": "<|im_end|>"});
                write(at, "tokenizer_config.json", &split.config.to_string());
            },
            &["tokenizer_config.json", "<|im_end|>", "4085"],
        ),
        (
            |at, split| {
                split.config["tokenizer_class"] = "GPT2Tokenizer".into();
                write(at, "tokenizer_config.json", &split.config.to_string());
            },
            &["tokenizer_config.json", "GPT2Tokenizer", "Qwen2Tokenizer"],
        ),
    ];
    for (damage, expected) in faults {
        let folder = tempfile::tempdir().expect("a folder");
        let mut split = Split::tiny();
        split.write(folder.path());
        damage(folder.path(), &mut split);
        let error = match Folder::new(folder.path(), 4096).text() {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{expected:?} was taken"),
        };
        for part in expected {
            assert!(error.contains(part), "{error}: expected {part}");
        }
    }
    let empty = tempfile::tempdir().expect("a folder");
    let error = Folder::new(empty.path(), 4096)
        .text()
        .err()
        .expect("nothing")
        .to_string();
    assert!(
        error.contains("tokenizer.json") && error.contains("vocab.json"),
        "{error}"
    );
}

/// Line ends and a heading, as editors and tools leave them, change nothing.
#[test]
fn merges_are_read_however_their_lines_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let split = Split::tiny();
    split.write(folder.path());
    let said = "Where does Helen live? <|im_end|> 🙂 größer";
    let tokens = || {
        let text = Folder::new(folder.path(), 4096)
            .text()
            .expect("a tokenizer");
        text.encode_trusted(said).expect("tokens")
    };
    let expected = tokens();
    for merges in [
        split.merges.join("\n"),
        format!("{}\n\n", split.merges.join("\n")),
        format!(
            "\u{feff}#version: 0.2 - Trained by `huggingface/tokenizers`\r\n{}\r\n",
            split.merges.join("\r\n")
        ),
    ] {
        write(folder.path(), "merges.txt", &merges);
        assert_eq!(tokens(), expected);
    }
}

/// The model in the repository as a release has it: without tokenizer.json.
fn released() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(root().join("models/tiny"))
        .expect("the model")
        .flatten()
    {
        let name = entry.file_name();
        let is_split = name == "tokenizer.json" || name == "tokenizer_config.json";
        if entry.file_type().expect("a file").is_file() && !is_split {
            std::os::unix::fs::symlink(entry.path(), folder.path().join(name)).expect("a link");
        }
    }
    Split::tiny().write(folder.path());
    folder
}

fn generate(model: &Path, more: &[&str]) -> Value {
    let model = model.to_str().expect("a path");
    let output = sage(&[&["generate", model, "--json", "--exact"], more].concat());
    assert!(output.status.success(), "{more:?}: {}", complaint(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

const HELEN: &str = "Laura lives in London. Helen lives in Milan. Where does Helen live?";

#[test]
fn a_released_folder_answers_and_so_does_its_store() {
    let folder = released();
    let expected = generate(&root().join("models/tiny"), &["--prompt", HELEN]);
    let own = generate(folder.path(), &["--prompt", HELEN]);
    assert_eq!(own["tokens"], expected["tokens"]);
    let store = folder.path().join("store");
    let path = |path: &Path| path.to_str().expect("a path").to_owned();
    let made = sage(&["extract", &path(folder.path()), "--out", &path(&store)]);
    assert!(made.status.success(), "{}", complaint(&made));
    for file in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        assert_eq!(
            fs::read(store.join(file)).unwrap(),
            fs::read(folder.path().join(file)).unwrap()
        );
    }
    assert_eq!(
        generate(&store, &["--prompt", HELEN])["tokens"],
        expected["tokens"]
    );
    for model in [folder.path(), &store] {
        let inspected = sage(&["inspect", &path(model)]);
        assert_eq!(
            inspected.status.code(),
            Some(0),
            "{}",
            complaint(&inspected)
        );
    }
    fs::remove_file(folder.path().join("merges.txt")).expect("removed");
    let refused = sage(&["generate", &path(folder.path()), "--prompt", "?"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        complaint(&refused).contains("merges.txt"),
        "{}",
        complaint(&refused)
    );
}
