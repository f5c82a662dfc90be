//! Every example in every `--help` runs as it stands there: in a folder that holds what the examples name, through a shell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::common::hub::Server;
use crate::common::runs::{root, route_trace};
use crate::common::sounds::siren;
use crate::common::{extract, fixture};
use sage::store::ExtractSelection;
use serde_json::{Map, Value, json};

/// Examples that are too long, too large or too much this machine's to run as they stand, and what runs instead. Every other
/// one runs word for word.
const INSTEAD: [(&str, &str); 25] = [
    // The scenario here is a short one.
    (
        "sage replay run.trace --fork 40 --drop 3",
        "sage replay run.trace --fork 0 --drop 0",
    ),
    // The other one is still to be shown.
    (
        "sage rm Qwen/Qwen3-Omni-30B-A3B-Instruct:q4",
        "sage rm OWNER/NAME@v1.0",
    ),
    // A store that converts is another model than the one that lies there already.
    (
        "sage extract CHECKPOINT --out STORE --quant q4",
        "sage extract CHECKPOINT --out FOUR --quant q4",
    ),
    // tests/stores/gguf.rs makes such files.
    (
        "sage extract MODEL.gguf --out STORE",
        "sage extract CHECKPOINT --out STORE",
    ),
    // tests/stores/packed/ makes such folders.
    (
        "sage extract PACKED --out STORE",
        "sage extract CHECKPOINT --out STORE",
    ),
    (
        "sage extract CHECKPOINT --out STORE --quant q4 --quant q6_k:head",
        "sage extract CHECKPOINT --out SIX --quant q4 --quant q6_k:head",
    ),
    (
        "sage extract CHECKPOINT --out STORE --quant f16:0-11 --quant f32:talker",
        "sage extract CHECKPOINT --out MIXED --quant f16:0-11 --quant f32:talker",
    ),
    (
        "sage eval MODEL --text models/tiny/heldout/*.txt --limits none,96slots,48slots --documents 8",
        "sage eval MODEL --text models/tiny/heldout/*.txt --limits none,96slots,48slots --documents 1 --max-tokens-per-document 8 --states wake",
    ),
    (
        "sage eval MODEL --text models/tiny/heldout/*.txt --states wake --documents 8 --kv bf16,q8",
        "sage eval MODEL --text models/tiny/heldout/*.txt --states wake --documents 1 --kv bf16 --max-tokens-per-document 8",
    ),
    (
        "sage eval MODEL --text models/tiny/heldout/*.txt --documents 8 --limits 48slots --states wake --without k,residency_bias",
        "sage eval MODEL --text models/tiny/heldout/*.txt --documents 1 --max-tokens-per-document 8 --limits 48slots --states wake --without k,residency_bias",
    ),
    (
        "sage eval MODEL --tasks models/tiny/tasks/*.jsonl --items 25 --states wake,rest --policy topk,salient,sage",
        "sage eval MODEL --tasks models/tiny/tasks/*.jsonl --items 1 --states wake,rest --policy topk,salient,sage --answer-tokens 2",
    ),
    (
        "sage price MODEL --text models/tiny/heldout/*.txt --split --segments 4",
        "sage price MODEL --text models/tiny/heldout/*.txt --split --segments 1 --segment-tokens 6",
    ),
    (
        "sage salience models/tiny --text models/tiny/heldout/*.txt",
        "sage salience models/tiny --text NOVEL.txt LAW.txt --cuts 1 --before 2 --after 1",
    ),
    (
        "sage salience MODEL --text NOVEL.txt CODE.txt LAW.txt --cuts 5 --json",
        "sage salience MODEL --text NOVEL.txt CODE.txt LAW.txt --cuts 1 --before 2 --after 1 --json",
    ),
    (
        "sage bench MODEL",
        "sage bench MODEL --prompt-tokens 16 --answer-tokens 4 --rounds 1",
    ),
    (
        "sage bench MODEL --prompt-tokens 128,2048 --answer-tokens 64 --rounds 5",
        "sage bench MODEL --prompt-tokens 8,32 --answer-tokens 4 --rounds 2",
    ),
    (
        "sage bench MODEL --limit 6GiB --mind off --json",
        "sage bench MODEL --limit 6GiB --mind off --json --prompt-tokens 16 --answer-tokens 4 --rounds 1",
    ),
    (
        "sage bench MODEL --speech --speech-seconds 8",
        "sage bench MODEL --speech --speech-seconds 0.4 --prompt-tokens 8 --answer-tokens 4 --rounds 1",
    ),
    (
        "sage bench MODEL --hearing 30 --seeing 1024 --rounds 5",
        "sage bench MODEL --hearing 1 --seeing 16 --prompt-tokens 8 --answer-tokens 4 --rounds 1",
    ),
    (
        "sage bench MODEL --limit 6GiB --against mind=off --rounds 5",
        "sage bench MODEL --limit 6GiB --against mind=off --prompt-tokens 8 --answer-tokens 4 --rounds 1",
    ),
    (
        "sage bench STORE --limit 6GiB --mind off --against io=mmap",
        "sage bench STORE --limit 6GiB --mind off --against io=mmap --prompt-tokens 8 --answer-tokens 4 --rounds 1",
    ),
    (
        "sage synth --out /tmp/two-layers --layers 2",
        "sage synth --out two-layers --layers 2 --vocab 512 --experts 2 --experts-per-token 1",
    ),
    (
        "sage synth --out /tmp/four-bits --layers 2 --vocab 8192 --quant q4",
        "sage synth --out four-bits --layers 1 --vocab 512 --experts 2 --experts-per-token 1 --quant q4",
    ),
    (
        "sage synth --out /tmp/speaking --layers 2 --vocab 8192 --talker 2",
        "sage synth --out speaking --layers 1 --vocab 512 --experts 2 --experts-per-token 1",
    ),
    (
        "sage synth --out /tmp/headers --headers-only",
        "sage synth --out headers --headers-only",
    ),
];

/// Parts of an example that are written otherwise, wherever they stand: nothing is left outside the test's folder, and no machine is
/// too small for a limit.
const REWRITTEN: [(&str, &str); 6] = [
    ("/tmp/", ""),
    ("/data/", ""),
    ("6GiB", "1GiB"),
    ("2GiB", "1GiB"),
    // There is one already, for the examples of replay.
    ("--record run.trace", "--record another.trace"),
    (
        "--prompt 'Tell me a story.'",
        "--prompt 'Tell me a story.' --max-tokens 8",
    ),
];

/// Words of examples that need a model that sees, speaks, or has goldens.
const OF_OMNI: [&str; 8] = [
    "--image",
    "--hearing",
    "--speak",
    "--speech",
    "talker",
    "vision",
    "--goldens",
    "sage encode",
];

/// A command and the commands within it.
fn commands() -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(command) = open.pop() {
        let help = help(&command);
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in listed.take_while(|line| !line.is_empty()) {
            let name = line.split_whitespace().next().unwrap();
            if line.starts_with("  ") && !line.starts_with("   ") && name != "help" {
                open.push([&command[..], &[name.to_owned()]].concat());
            }
        }
        all.push(command);
    }
    all.sort();
    all
}

fn help(command: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sage"))
        .args(command)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "sage {command:?} --help");
    String::from_utf8(output.stdout).unwrap()
}

/// The examples of a help text, without the words behind them; one over several lines is joined.
fn examples(help: &str) -> Vec<String> {
    let block = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in block.take_while(|line| !line.trim().is_empty()) {
        let line = line.trim_end();
        assert!(line.starts_with("  "), "an example is indented: {line:?}");
        let text = without_remark(line.trim_start());
        let (text, more) = match text.strip_suffix('\\') {
            Some(text) => (text.trim_end().to_owned(), true),
            None => (text, false),
        };
        match found.last_mut().filter(|_| goes_on) {
            Some(last) => *last = format!("{last} {text}"),
            None => found.push(text),
        }
        goes_on = more;
    }
    found
}

/// A remark stands behind two spaces or a `#`, outside of quotes.
fn without_remark(line: &str) -> String {
    let mut quoted = false;
    let mut end = line.len();
    for (at, c) in line.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            _ if quoted => {}
            '#' if line[..at].ends_with(' ') => end = end.min(at),
            ' ' if line[at..].starts_with("  ") => end = end.min(at),
            _ => {}
        }
    }
    line[..end].trim_end().to_owned()
}

#[test]
fn remarks_are_told_from_examples() {
    let help = "Usage\n\nExamples:\n  sage a 'b  # c'      and so on\n  sage d # e\n  sage f \\\n      --g 1\n\nMore.";
    assert_eq!(
        examples(help),
        ["sage a 'b  # c'", "sage d", "sage f --g 1"]
    );
}

/// A tokenizer for the fixture that has none: a token a byte, from 128 on, and the words that its configuration numbers.
fn tokenizer() -> String {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut substitutes = '\u{100}'..='\u{200}';
    let mut vocab = Map::new();
    for byte in 0..=u8::MAX {
        let character = if printable(byte) {
            char::from(byte)
        } else {
            substitutes.next().unwrap()
        };
        vocab.insert(character.to_string(), json!(128 + u16::from(byte)));
    }
    let words = [
        ("<|im_start|>", 480),
        ("<|im_end|>", 481),
        ("<|vision_start|>", 482),
        ("<|vision_end|>", 483),
        ("<|image_pad|>", 484),
        ("<|video_pad|>", 485),
        ("<|audio_start|>", 486),
        ("<|audio_end|>", 487),
        ("<|audio_pad|>", 491),
        ("system", 18),
        ("user", 72),
        ("assistant", 91),
    ];
    for (word, id) in words {
        vocab.insert(word.to_owned(), json!(id));
    }
    let added: Vec<Value> = words
        .iter()
        .map(|(word, id)| {
            json!({
                "id": id, "content": word, "special": word.starts_with('<'), "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false,
            })
        })
        .collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [],
        },
    })
    .to_string()
}

/// The omni fixture with a tokenizer and a template beside it.
fn omni(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for entry in fs::read_dir(fixture("tiny-omni")).unwrap().flatten() {
        symlink(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    fs::write(folder.join("tokenizer.json"), tokenizer()).unwrap();
    let template = fs::read_to_string(fixture("chat_template.json")).unwrap();
    let template: Value = serde_json::from_str(&template).unwrap();
    let template = json!({ "chat_template": template["template"] });
    fs::write(folder.join("chat_template.json"), template.to_string()).unwrap();
    fs::write(folder.join("tokenizer_config.json"), "{}").unwrap();
}

const SCENARIO: &str = r#"
name = "a short evening"
ticks = 40

[[observe]]
at = 2
kind = "question"
source = "visitor"
text = "Tom lives in Rome. Where does Tom live?"
"#;

/// Everything that examples name; `model` is the checkpoint.
fn furnish(folder: &Path, model: &Path) {
    let at = |name: &str| folder.join(name);
    for name in ["models", "scenarios"] {
        symlink(root().join(name), at(name)).unwrap();
    }
    symlink(model, at("MODEL")).unwrap();
    symlink(model, at("CHECKPOINT")).unwrap();
    extract(model, &at("STORE"), &ExtractSelection::all());
    fs::write(at("SCENARIO"), SCENARIO).unwrap();
    fs::write(at("TRACE.csv.gz"), route_trace(model, 4, 4)).unwrap();
    fs::write(at("word.wav"), siren(0.5)).unwrap();
    fs::copy(fixture("pictures/gradient.jpg"), at("photo.jpg")).unwrap();
    fs::copy(fixture("preprocess/image-exact.png"), at("drawing.png")).unwrap();
    for (name, text) in [
        ("BOOK.txt", "Laura lives in London. Tom lives in Oslo. "),
        (
            "ANOTHER.txt",
            "The pump runs at 40 degrees. The valve is shut. ",
        ),
        ("NOVEL.txt", "It was a dark night, and the moon was gone. "),
        ("CODE.txt", "def add(a, b):\n    return a + b\n"),
        ("LAW.txt", "No person shall be held twice for one offence. "),
    ] {
        // Pricing takes long on every token: what is priced is short.
        let priced = name == "BOOK.txt" || name == "ANOTHER.txt";
        let times = if priced { 1 } else { 40 };
        fs::write(at(name), text.repeat(times)).unwrap();
    }
    let task = r#"{"task": "sum", "prompt": "What is 21 + 3?", "answer": "24"}"#;
    fs::write(at("QUESTIONS.jsonl"), format!("{task}\n")).unwrap();
    let told = r#"{"told": ["Tom lives in Rome. "], "questions": [{"question": "Where does Tom live?", "answer": "Rome"}]}"#;
    fs::write(at("FACTS.jsonl"), format!("{told}\n")).unwrap();
    let conversation =
        r#"[{"role": "user", "content": "Tom lives in Rome. Where does Tom live?"}]"#;
    fs::write(at("conversation.json"), conversation).unwrap();
    fs::write(at("questions.txt"), "What is 21 + 3?\n").unwrap();
    fs::write(at("mine.toml"), "[mind]\nwindow_experts = 9\n").unwrap();
    fs::create_dir_all(at("FOLDER/proc")).unwrap();
    fs::create_dir_all(at("FOLDER/sys")).unwrap();
    let logs = fixture("logs");
    for (name, from) in [
        ("experience_buffer.json", "experience_buffer.json"),
        ("exchanges.jsonl", "exchanges.jsonl"),
        ("session_003.json", "session_003.json"),
        ("session_006.json", "session_003.json"),
    ] {
        fs::copy(logs.join(from), at(name)).unwrap();
    }
    let mut csv = String::from("phase,step,layer,expert\n");
    let mut lines = String::new();
    for step in 0..40 {
        let experts = [step % 7, 7 + step % 5];
        for layer in 0..2 {
            for expert in experts {
                csv.push_str(&format!("1,{step},{layer},{expert}\n"));
            }
        }
        lines.push_str(&format!(
            "{}\n",
            json!({ "tok": step, "layers": [experts, experts] })
        ));
    }
    let file = fs::File::create(at("FILE.csv.gz")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packed.write_all(csv.as_bytes()).unwrap();
    packed.finish().unwrap();
    fs::write(at("FILE.jsonl"), lines).unwrap();
}

/// Runs a line in a folder, beside a hub; exit code and messages.
fn shell(line: &str, folder: &Path, hub: &Server) -> (Option<i32>, String) {
    let programs = Path::new(env!("CARGO_BIN_EXE_sage")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("SAGE_CACHE", folder.join("cache"))
        .env("HF_ENDPOINT", &hub.address)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

#[test]
fn every_example_of_every_help_runs() {
    let hub = Server::of(&fixture("tiny-omni"));
    let scratch = tempfile::tempdir().unwrap();
    let checkpoint = scratch.path().join("checkpoint");
    omni(&checkpoint);
    let folders = ["words", "omni"].map(|name| scratch.path().join(name));
    for (folder, model) in folders
        .iter()
        .zip([&root().join("models/tiny"), &checkpoint])
    {
        fs::create_dir(folder).unwrap();
        furnish(folder, model);
    }
    let [words, omni] = &folders;
    // What one command's examples leave for another's.
    for line in [
        "sage run SCENARIO --record run.trace --record-logits --ledger trust.redb",
        "sage trust export trust.redb --out trust.json",
        "sage price MODEL --text BOOK.txt --segments 1 --segment-tokens 8 --json > prices.json",
    ] {
        for folder in &folders {
            let (code, message) = shell(line, folder, &hub);
            assert!(matches!(code, Some(0 | 1)), "{line}: {code:?}: {message}");
        }
    }
    let mut instead: BTreeMap<&str, &str> = INSTEAD.into();
    let (mut seen, mut wrong) = (0, Vec::<String>::new());
    for command in commands() {
        let help = help(&command);
        // Exit code 1 says that the answer is no, where a command's help speaks of it.
        let may_say_no = help.contains("xit code 1");
        for example in examples(&help) {
            let line = instead.remove(&example[..]).unwrap_or(&example);
            let line = REWRITTEN
                .iter()
                .fold(line.to_owned(), |line, (from, to)| line.replace(from, to));
            let of_omni = OF_OMNI.iter().any(|word| line.contains(word));
            let folder = if of_omni { omni } else { words };
            let started = Instant::now();
            let (code, message) = shell(&line, folder, &hub);
            println!("{:6.2} s  {line}", started.elapsed().as_secs_f64());
            let good = code == Some(0) || code == Some(1) && may_say_no;
            if !good {
                wrong.push(format!(
                    "sage {command:?}: {example}: exit {code:?}: {message}"
                ));
            }
            seen += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "{seen} examples");
    assert!(instead.is_empty(), "no help has {instead:#?}");
}
