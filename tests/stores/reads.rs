//! What is said to be read from disk is what the kernel counts of the process.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn synth(store: &Path, options: &[&str]) {
    let made = Command::new(env!("CARGO_BIN_EXE_sage"))
        .args(["synth", "--out", store.to_str().expect("a path")])
        .args(options)
        .output()
        .expect("sage runs");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
}

/// Runs `sage` below a shell, and returns what it said and what the kernel counted of it: bytes that its calls to read returned,
/// and bytes that storage delivered.
fn counted(arguments: &[&str]) -> (Value, u64, u64) {
    let script = "\"$0\" \"$@\" && echo && exec cat /proc/self/io";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_sage")])
        .args(arguments)
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (data, io) = text.rsplit_once("\n\n").expect("two parts");
    let of = |name: &str| -> u64 {
        let line = io.lines().find_map(|line| line.strip_prefix(name));
        line.expect(name).trim().parse().expect("a number")
    };
    let last = data.lines().last().expect("an object");
    let report = serde_json::from_str(last).expect("JSON");
    (report, of("rchar:"), of("read_bytes:"))
}

fn part(report: &Value, name: &str) -> u64 {
    report["read_bytes"][name].as_u64().expect(name)
}

/// That the parts add up to what the kernel counted, within 2 %.
fn agree(report: &Value, kernel: u64) {
    let parts = ["demand", "prefetch", "shadow", "towers", "other"];
    let sum: u64 = parts.iter().map(|name| part(report, name)).sum();
    let total = part(report, "total");
    println!("{}, the kernel: {kernel}", report["read_bytes"]);
    assert_eq!(sum, total);
    assert!(
        total.abs_diff(kernel) * 50 <= kernel,
        "{total} bytes said, {kernel} counted by the kernel: {}",
        report["read_bytes"]
    );
}

/// A text, and then nothing, so that it is gone over in Rest and Dream.
fn quiet_script(folder: &Path, limit: &str, ticks: u32) -> String {
    let text = "What is read once is asked for again in the dark. ".repeat(3);
    let script = format!(
        "name = \"a quiet evening\"\nlimit = \"{limit}\"\nticks = {ticks}\n\
         [[observe]]\nat = 0\nkind = \"text\"\nsource = \"book\"\ntext = \"{text}\"\n"
    );
    let path = folder.join("quiet.toml");
    fs::write(&path, script).expect("written");
    path.to_str().expect("a path").to_owned()
}

/// Files are asked for again and again, whatever of them is in memory: so the kernel's count of what calls to read returned is the
/// one to agree with here.
#[test]
fn what_is_read_is_what_the_kernel_counts() {
    if fs::read_to_string("/proc/self/io").is_err() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    synth(
        &store,
        &[
            "--layers",
            "2",
            "--vocab",
            "8192",
            "--hidden",
            "512",
            "--experts",
            "64",
            "--moe-intermediate",
            "512",
            "--heads",
            "8",
            "--kv-heads",
            "2",
            "--head-dim",
            "64",
        ],
    );
    let store = store.to_str().expect("a path");
    let prompt = [
        "--prompt",
        "What is it?",
        "--max-tokens",
        "24",
        "--ignore-stop",
    ];
    let generate = ["generate", store, "--limit", "128MiB", "--json"];
    let (report, rchar, _) = counted(&[&generate[..], &prompt].concat());
    agree(&report, rchar);
    assert!(part(&report, "demand") > 0 && part(&report, "prefetch") > 0);
    assert!(part(&report, "other") > 0 && report["kernel_read_bytes"].is_u64());
    assert_eq!((part(&report, "shadow"), part(&report, "towers")), (0, 0));
    let script = quiet_script(folder.path(), "128MiB", 1500);
    let (summary, rchar, _) = counted(&["run", &script, "--model", store, "--json"]);
    agree(&summary, rchar);
    assert!(part(&summary, "shadow") > 0, "{summary}");
}

/// The real shapes, nothing of the store in the page cache, and direct reads: what storage delivered is what is said. Writes
/// 2.4 GiB below the temporary folder, which must lie on a disk.
#[test]
#[ignore = "slow: run with --ignored"]
fn what_is_read_is_what_storage_delivered() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    synth(&store, &["--layers", "2", "--vocab", "8192"]);
    let script = quiet_script(folder.path(), "1GiB", 1500);
    let path = store.to_str().expect("a path");
    let prompt = [
        "--prompt",
        "What is it?",
        "--max-tokens",
        "64",
        "--ignore-stop",
    ];
    let generate = ["generate", path, "--limit", "1GiB", "--json"];
    for arguments in [
        [&generate[..], &prompt].concat(),
        vec!["run", &script, "--model", path, "--json"],
    ] {
        forget(&store);
        let (report, _, delivered) = counted(&arguments);
        agree(&report, delivered);
        assert!(
            part(&report, "total") >= 1 << 30,
            "{}",
            report["read_bytes"]
        );
    }
}

/// Has the system drop what it holds of the files below a folder.
fn forget(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            forget(&path);
            continue;
        }
        let file = fs::File::open(&path).expect("a file");
        // What is not written yet cannot be dropped.
        file.sync_all().expect("written");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("dropped");
    }
}

/// What a picture takes of the disk is said to be of towers, and who works for it works for a picture.
#[test]
fn a_picture_is_read_for_by_towers() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let omni = fs::read_dir(root.join("tests/fixtures/tiny-omni")).expect("a folder");
    let files = omni.map(|entry| entry.expect("an entry").path());
    for file in files.filter(|path| path.is_file()) {
        let name = file.file_name().and_then(|name| name.to_str());
        fs::copy(&file, place(name.expect("a name"))).expect("copied");
    }
    fs::copy(
        root.join("models/tiny/tokenizer.json"),
        place("tokenizer.json"),
    )
    .expect("copied");
    let picture = root.join("tests/fixtures/preprocess/image-shrunk.png");
    let script = format!(
        "name = \"a look\"\nticks = 60\ncontext_tokens = 64\nmedia_tokens = 32\n\
         [[observe]]\nat = 0\nkind = \"picture\"\nsource = \"door\"\npicture = {:?}\n",
        picture.to_str().expect("a path")
    );
    fs::write(place("look.toml"), script).expect("written");
    let script = place("look.toml").to_str().expect("a path").to_owned();
    let model = folder.path().to_str().expect("a path");
    let report = place("report");
    let run = ["run", &script, "--model", model, "--json", "--report"];
    let (summary, _, _) = counted(&[&run[..], &[report.to_str().expect("a path")]].concat());
    assert!(part(&summary, "towers") > 0, "{summary}");
    let told = fs::read_to_string(report.join("report.json")).expect("a report");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["measured"]["read_bytes"], summary["read_bytes"]);
    assert_eq!(told["experts"]["domains"][0]["kind"], "picture");
}
