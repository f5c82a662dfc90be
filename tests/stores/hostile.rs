//! Files and texts that mean harm, or are no files at all, through the program: an error that names the thing, in time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::fixture;

/// Nothing here takes longer, on a machine that is busy with other tests.
const MOST_TIME: Duration = Duration::from_secs(60);

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny")
}

/// Runs the program to its end, or fails.
fn sage<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sage"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let drain = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).unwrap();
            bytes
        })
    };
    let stdout = drain(Box::new(child.stdout.take().unwrap()));
    let stderr = drain(Box::new(child.stderr.take().unwrap()));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > MOST_TIME {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Output {
        status,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

/// That the request was refused, and the message has these words; nobody reads of a panic.
fn refused<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>, words: &[&str]) {
    let arguments: Vec<I> = arguments.into_iter().collect();
    let shown = arguments.iter().map(|a| a.as_ref().to_string_lossy());
    let shown = shown.collect::<Vec<_>>().join(" ");
    let output = sage(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{shown}: {said}");
    assert!(!said.contains("panicked"), "{shown}: {said}");
    for word in words {
        assert!(said.contains(word), "{shown}: no `{word}` in: {said}");
    }
}

fn unzipped(name: &str, to: &Path) {
    let zipped = fs::File::open(fixture("hostile").join(name)).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(zipped)
        .read_to_end(&mut bytes)
        .unwrap();
    fs::write(to, bytes).unwrap();
}

#[test]
fn a_damaged_ledger_is_said_to_be_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.redb");
    for name in ["ledger-allocates.redb.gz", "ledger-panics.redb.gz"] {
        unzipped(name, &path);
        let ledger = path.to_str().unwrap();
        let words = ["l.redb", "damaged", "hint"];
        refused(["trust", "show", ledger], &words);
        refused(["trust", "export", ledger], &words);
        refused(
            ["run", "scenarios/low-battery.toml", "--ledger", ledger],
            &words,
        );
    }
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.safetensors");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let (pipe, folder) = (pipe.to_str().unwrap(), folder.path().to_str().unwrap());
    let (tiny, scenario) = (tiny(), "scenarios/low-battery.toml");
    let model = tiny.to_str().unwrap();
    let fixture = fixture("tiny-thinker");
    let small = fixture.to_str().unwrap();
    for device in ["/dev/zero", "/dev/urandom", "/dev/null"] {
        refused(["trust", "show", device], &[device]);
        refused(["eval", model, "--text", device], &[device]);
        refused(
            ["extract", small, "--out", folder, "--experts", device],
            &[device],
        );
        refused(["run", scenario, "--ledger", device], &[device]);
        refused(["trust", "import", device, "--out", "/dev/null"], &[device]);
    }
    refused(["run", "/dev/zero"], &["/dev/zero", "16 MiB"]);
    refused(["run", scenario, "--config", "/dev/zero"], &["/dev/zero"]);
    refused(["replay", "/dev/zero", "--verify"], &["/dev/zero"]);
    refused(["trust", "show", pipe], &["pipe.safetensors", "a pipe"]);
    refused(
        ["verify", small, "--goldens", folder],
        &["pipe.safetensors", "a pipe"],
    );
    refused(["eval", model, "--text", pipe], &["pipe.safetensors"]);
    refused(["eval", model, "--text", folder], &["a folder"]);
}

#[test]
fn a_device_is_not_replaced_by_a_file() {
    let folder = tempfile::tempdir().unwrap();
    // What a device's name leads to must stay a device, also by way of a link.
    let link = folder.path().join("answer.wav");
    symlink("/dev/null", &link).unwrap();
    let omni = fixture("tiny-omni");
    let arguments = [
        "generate",
        omni.to_str().unwrap(),
        "--prompt-tokens",
        "480 72",
        "--exact",
    ];
    let arguments = arguments
        .into_iter()
        .chain(["--max-tokens", "2", "--speak"]);
    let output = sage(arguments.chain([link.to_str().unwrap()]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(2 | 3)), "{said}");
    assert!(
        said.contains("answer.wav") && said.contains("device"),
        "{said}"
    );
    assert!(link.symlink_metadata().unwrap().file_type().is_symlink());
}

/// What would act on a terminal, or turn text around.
fn acts(text: &str) -> Option<char> {
    text.chars().find(|c| {
        (c.is_control() && !matches!(c, '\n' | '\t')) || ('\u{202a}'..='\u{202e}').contains(c)
    })
}

#[test]
fn nothing_of_a_scenario_reaches_a_terminal_raw() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = fixture("hostile/inj.toml");
    let scenario = scenario.to_str().unwrap();
    let report = folder.path().join("report");
    let report = report.to_str().unwrap();
    for more in [&[][..], &["--json"], &["--report", report]] {
        let output = sage(["run", scenario].iter().chain(more));
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8(text.clone()).unwrap();
            assert_eq!(acts(&text), None, "{more:?}: {text}");
        }
        // What it says is still said.
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("Hello"), "{more:?}: {said}");
        if more == ["--json"] {
            for line in said.lines() {
                serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
            assert!(said.contains("\\u009b31m"), "{said}");
        }
    }
    // No more scripts than the page's own.
    let page = fs::read_dir(report)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let page = page.filter(|path| path.extension().is_some_and(|e| e == "html"));
    for path in page {
        let page = fs::read_to_string(path).unwrap();
        for tag in ["<script>alert", "<img src=x", "<svg onload"] {
            assert!(!page.contains(tag), "{tag} is in the page");
        }
    }
    let nowhere = "no\u{1b}]0;such\u{7}\u{202e}file";
    let output = sage(["scenario", "check", nowhere]);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(acts(&said), None, "{said}");
    assert!(said.contains("such"), "{said}");
}

#[test]
fn paths_need_not_be_utf_8() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(OsStr::from_bytes(b"odd \xff\xfe"));
    fs::create_dir(&odd).unwrap();
    symlink(tiny(), odd.join("model")).unwrap();
    symlink(fixture("tiny-thinker"), odd.join("thinker")).unwrap();
    let scenario = odd.join("scenario.toml");
    let text = "name = \"short\"\nticks = 4\n[[observe]]\nat = 0\nkind = \"text\"\ntext = \"In the beginning\"\n";
    fs::write(&scenario, text).unwrap();
    let (model, ledger, trace) = (odd.join("model"), odd.join("l.redb"), odd.join("t.trace"));
    let (report, store) = (odd.join("report"), odd.join("store"));
    let os = |text: &'static str| OsStr::new(text);
    let prompt = [
        os("--prompt"),
        os("Hi"),
        os("--max-tokens"),
        os("1"),
        os("--json"),
    ];
    let run = [
        scenario.as_os_str(),
        os("--model"),
        model.as_os_str(),
        os("--json"),
    ];
    let kept = [
        os("--ledger"),
        ledger.as_os_str(),
        os("--record"),
        trace.as_os_str(),
    ];
    let goldens = odd.join("thinker/goldens");
    let thinker = odd.join("thinker");
    let commands: [Vec<&OsStr>; 9] = [
        [&[os("inspect"), thinker.as_os_str(), os("--json")][..]].concat(),
        [&[os("generate"), model.as_os_str()][..], &prompt].concat(),
        [
            &[os("run")][..],
            &run,
            &kept,
            &[os("--report"), report.as_os_str()],
        ]
        .concat(),
        vec![
            os("replay"),
            trace.as_os_str(),
            os("--verify"),
            os("--model"),
            model.as_os_str(),
        ],
        vec![os("trust"), os("show"), ledger.as_os_str(), os("--json")],
        vec![
            os("scenario"),
            os("check"),
            scenario.as_os_str(),
            os("--json"),
        ],
        vec![
            os("extract"),
            thinker.as_os_str(),
            os("--out"),
            store.as_os_str(),
            os("--json"),
        ],
        vec![
            os("extract"),
            os("--verify"),
            store.as_os_str(),
            os("--json"),
        ],
        vec![
            os("verify"),
            store.as_os_str(),
            os("--goldens"),
            goldens.as_os_str(),
            os("--json"),
        ],
    ];
    for command in commands {
        let output = sage(&command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{command:?}: {said}");
    }
    // And the one that is not there is named.
    let none = odd.join("none");
    let output = sage([os("inspect"), none.as_os_str()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("none"));
}
