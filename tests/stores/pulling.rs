//! Models from a hub: whatever goes wrong on the way, the store is that of a checkpoint on disk, or there is none.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use sage::checkpoint::Component;
use sage::hub::{Hub, HubError, Provenance, Pull, PullOptions, RetryPolicy};
use sage::input::{Attributed, Fault};
use sage::store::ExtractSelection;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::hub::{COMMIT, Server, Wrong};
use crate::common::{extract, files, fixture};

const NAME: &str = "someone/model";
const FIRST: &str = "model-00001-of-00004.safetensors";

fn quick() -> RetryPolicy {
    RetryPolicy {
        tries: 4,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(5),
        timeout: Duration::from_secs(10),
    }
}

fn options(store: &Path) -> PullOptions {
    PullOptions {
        name: NAME.parse().unwrap(),
        store: store.to_owned(),
        components: None,
        formats: Vec::new(),
    }
}

fn pull_with(
    server: &Server,
    options: PullOptions,
    retries: RetryPolicy,
) -> Result<Provenance, HubError> {
    let hub = Hub::new(&server.address, Some("secret".to_owned()), retries)?;
    let pull = Pull::prepare(&hub, options, false, &|_| ())?;
    Ok(pull.run(&|_| ())?.1)
}

fn pull(server: &Server, store: &Path) -> Result<Provenance, HubError> {
    pull_with(server, options(store), quick())
}

/// That the store holds, byte for byte, what extraction of the folder writes.
fn assert_same(store: &Path, selection: &ExtractSelection) {
    let expected = TempDir::new().unwrap();
    extract(&fixture("tiny-omni"), expected.path(), selection);
    let mut found = files(store);
    let kept = found.remove(Path::new("pull.json"));
    assert!(kept.is_some());
    let expected = files(expected.path());
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in expected {
        assert!(found[&name] == bytes, "{}", name.display());
    }
}

fn setting() -> (Server, TempDir) {
    (Server::of(&fixture("tiny-omni")), TempDir::new().unwrap())
}

#[test]
fn a_pulled_store_is_the_extracted_one() {
    let (server, folder) = setting();
    let store = folder.path().join("store");
    let from = pull(&server, &store).unwrap();
    assert_same(&store, &ExtractSelection::all());
    assert!(from.verified);
    assert_eq!((from.commit.as_str(), from.shards.len()), (COMMIT, 4));
    assert!(from.shards.iter().all(|shard| shard.sha256.is_some()));
    // Every shard once as a whole, and its header before.
    for shard in &from.shards {
        let seen = server.seen(&shard.name);
        assert_eq!(
            seen.iter().filter(|seen| seen.range.is_none()).count(),
            1,
            "{seen:?}"
        );
    }
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "nothing else is left: {left:?}");
}

#[test]
fn broken_connections_go_on_where_they_ended() {
    let (server, folder) = setting();
    server
        .wrong(FIRST, Wrong::BreakAfter(3), 1)
        .wrong(FIRST, Wrong::BreakAfter(100_000), 4)
        .wrong("revision", Wrong::BreakAfter(20), 1)
        .wrong("config.json", Wrong::BreakAfter(5), 2);
    let store = folder.path().join("store");
    assert!(pull(&server, &store).unwrap().verified);
    assert_same(&store, &ExtractSelection::all());
    let starts: Vec<u64> = server
        .seen(FIRST)
        .iter()
        .filter_map(|seen| seen.range.clone())
        .map(|range| range.start)
        .collect();
    assert!(
        starts.contains(&100_000) && starts.contains(&200_000),
        "{starts:?}"
    );
}

#[test]
fn a_busy_hub_is_waited_for() {
    let (server, folder) = setting();
    server
        .wrong("revision", Wrong::Status(503, None), 2)
        .wrong("model-00002", Wrong::Status(429, Some(1)), 3)
        .wrong("model-00003", Wrong::Status(500, None), 1);
    let store = folder.path().join("store");
    assert!(pull(&server, &store).unwrap().verified);
    assert_same(&store, &ExtractSelection::all());
}

#[test]
fn a_hub_without_ranges_will_do() {
    let (server, folder) = setting();
    server
        .wrong("model-", Wrong::NoRanges, 9)
        .wrong("model-00004", Wrong::BreakAfter(70_000), 1)
        .wrong("model-", Wrong::NoRanges, usize::MAX);
    let store = folder.path().join("store");
    assert!(pull(&server, &store).unwrap().verified);
    assert_same(&store, &ExtractSelection::all());
}

#[test]
fn what_was_fetched_is_not_fetched_again() {
    let (server, folder) = setting();
    let store = folder.path().join("store");
    // After the header, a part of the third shard comes, and then nothing.
    server
        .wrong("model-00003", Wrong::NoRanges, 2)
        .wrong("model-00003", Wrong::BreakAfter(150_000), 1)
        .wrong("model-00003", Wrong::Status(503, None), usize::MAX);
    let error = pull(&server, &store).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    assert_eq!(error.fault(), Fault::Run);
    assert!(!store.exists(), "a store is there as a whole or not at all");
    let before = server.seen("model-0").len();
    server.right();
    assert!(pull(&server, &store).unwrap().verified);
    assert_same(&store, &ExtractSelection::all());
    let again = &server.seen("model-0")[before..];
    let names: BTreeSet<&str> = again
        .iter()
        .map(|seen| seen.path.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(names.len(), 2, "the first two were there: {again:?}");
    assert_eq!(again[0].range.clone().unwrap().start, 150_000, "{again:?}");
}

#[test]
fn damage_is_found_and_thrown_away() {
    let (server, folder) = setting();
    let store = folder.path().join("store");
    // The header's two requests are right.
    server
        .wrong("model-00002", Wrong::NoRanges, 2)
        .wrong("model-00002", Wrong::Damaged, 1);
    let error = pull(&server, &store).unwrap_err();
    assert!(
        matches!(&error, HubError::Checksum { file, .. } if file.contains("00002")),
        "{error}"
    );
    assert!(!store.exists());
    assert!(pull(&server, &store).unwrap().verified);
    assert_same(&store, &ExtractSelection::all());
}

#[test]
fn a_damaged_header_is_fetched_anew() {
    let (server, folder) = setting();
    let store = folder.path().join("store");
    server
        .wrong("model-00002", Wrong::NoRanges, 2)
        .wrong("model-00002", Wrong::DamagedHeader, 1);
    let error = pull(&server, &store).unwrap_err();
    assert!(matches!(&error, HubError::Checksum { .. }), "{error}");
    assert!(pull(&server, &store).unwrap().verified);
    assert_same(&store, &ExtractSelection::all());
}

#[test]
fn a_kill_behind_the_last_byte_of_a_shard_costs_nothing() {
    const SECOND: &str = "model-00002-of-00004.safetensors";
    let (server, folder) = setting();
    let store = folder.path().join("store");
    server.wrong("model-00002", Wrong::NoRanges, 2).wrong(
        "model-00002",
        Wrong::Status(404, None),
        usize::MAX,
    );
    assert!(pull(&server, &store).is_err());
    // As it is on disk when all of it came and its sum was not compared yet.
    let staged = folder.path().join("store.partial");
    std::fs::write(staged.join("shards").join(SECOND), server.file(SECOND)).unwrap();
    let progress = r#"{"ranges":1,"bytes":0,"done":false,"released":false}"#;
    let noted = staged.join("progress").join(format!("{SECOND}.json"));
    std::fs::write(noted, progress).unwrap();
    let before = server.seen(SECOND).len();
    assert!(pull(&server, &store).unwrap().verified);
    assert_eq!(
        server.seen(SECOND).len(),
        before,
        "nothing of it is fetched again"
    );
    assert_same(&store, &ExtractSelection::all());
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let (server, folder) = setting();
    let other = Server::of(&fixture("tiny-omni"));
    server.wrong(
        "resolve",
        Wrong::Redirect(other.address.clone()),
        usize::MAX,
    );
    let store = folder.path().join("store");
    assert!(pull(&server, &store).unwrap().verified);
    assert_same(&store, &ExtractSelection::all());
    assert!(
        server
            .seen("")
            .iter()
            .all(|seen| seen.token.as_deref() == Some("Bearer secret"))
    );
    let seen = other.seen("");
    assert!(
        !seen.is_empty() && seen.iter().all(|seen| seen.token.is_none()),
        "{seen:?}"
    );
}

#[test]
fn lies_are_named() {
    let of = |path: &str, wrong: Wrong| {
        let (server, folder) = setting();
        server.wrong(path, wrong, usize::MAX);
        let error = pull(&server, &folder.path().join("store")).unwrap_err();
        assert!(!folder.path().join("store").exists());
        error.to_string()
    };
    let error = of("model-00002", Wrong::OtherLength);
    assert!(
        error.contains("model-00002") && error.contains("changed in between"),
        "{error}"
    );
    let error = of("model-00002", Wrong::OtherRange);
    assert!(error.contains("expected one that begins at"), "{error}");
    let error = of("model-00001", Wrong::Redirect("file:///etc".to_owned()));
    assert!(error.contains("redirects to"), "{error}");
    let (server, folder) = setting();
    server.wrong(
        "resolve",
        Wrong::Redirect(server.address.clone()),
        usize::MAX,
    );
    let error = pull(&server, &folder.path().join("store"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("redirects one after the other"), "{error}");
}

#[test]
fn no_is_an_answer() {
    for (status, advice) in [(401, "HF_TOKEN"), (403, "terms"), (404, "look at the name")] {
        let (server, folder) = setting();
        server.wrong("revision", Wrong::Status(status, None), usize::MAX);
        let error = pull(&server, &folder.path().join("store")).unwrap_err();
        assert_eq!(error.fault(), Fault::Request);
        assert!(error.to_string().contains(advice), "{error}");
        assert_eq!(server.seen("").len(), 1, "it is not asked again");
    }
    let (server, folder) = setting();
    server.listing(&format!(
        r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"model.gguf","size":5}}]}}"#
    ));
    let error = pull(&server, &folder.path().join("store"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no config.json") && error.contains("sage extract"),
        "{error}"
    );
}

#[test]
fn a_token_that_cannot_be_sent_is_not_tried_again() {
    let (server, folder) = setting();
    let hub = Hub::new(
        &server.address,
        Some("sec\nret".to_owned()),
        RetryPolicy::default(),
    )
    .unwrap();
    let pull = Pull::prepare(&hub, options(&folder.path().join("store")), false, &|_| ());
    let error = pull.err().unwrap().to_string();
    assert!(
        error.contains("HF_TOKEN") && !error.contains("sec"),
        "{error}"
    );
    assert!(server.seen("").is_empty());
}

#[test]
fn an_address_that_cannot_be_trusted_is_not_tried_again() {
    let (server, folder) = setting();
    let hub = |address: &str| Hub::new(address, None, RetryPolicy::default()).unwrap();
    // It speaks no TLS, which is as good as a certificate that nobody knows.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let https = hub(&format!("https://{}", listener.local_addr().unwrap()));
    let plain = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        // Until the other side has gone.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let store = folder.path().join("store");
    let pull = Pull::prepare(&https, options(&store), false, &|_| ());
    let error = pull.err().unwrap().to_string();
    assert!(error.contains("SSL_CERT_FILE"), "{error}");
    plain.join().unwrap();

    let file = folder.path().join("authorities.pem");
    for text in ["", "-----BEGIN CERTIFICATE-----\n?\n"] {
        std::fs::write(&file, text).unwrap();
        let error = hub(&server.address).trusting(&file).err().unwrap();
        assert_eq!(error.fault(), Fault::Request);
        assert!(error.to_string().contains("authorities.pem"), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(hub(&server.address).trusting(&file).is_err());
}

#[test]
fn a_part_of_a_model_takes_parts_of_shards() {
    let (server, folder) = setting();
    let store = folder.path().join("store");
    let components = BTreeSet::from([Component::Audio, Component::Vision]);
    let wanted = PullOptions {
        components: Some(components.clone()),
        ..options(&store)
    };
    let from = pull_with(&server, wanted, quick()).unwrap();
    assert!(!from.verified);
    let selection = ExtractSelection {
        components,
        ..ExtractSelection::all()
    };
    assert_same(&store, &selection);
    let all: u64 = (1..5)
        .map(|n| {
            server
                .file(&format!("model-0000{n}-of-00004.safetensors"))
                .len() as u64
        })
        .sum();
    let fetched: u64 = from.shards.iter().map(|shard| shard.bytes).sum();
    assert!(fetched < all, "{fetched} of {all}");
    let parts = from.shards.iter().filter(|shard| shard.sha256.is_none());
    assert!(parts.count() > 0);
}

#[test]
fn a_folder_holds_one_pull() {
    let (server, folder) = setting();
    let store = folder.path().join("store");
    server.wrong("model-00002", Wrong::Status(404, None), usize::MAX);
    assert!(pull(&server, &store).is_err());
    server.right();
    let other = PullOptions {
        components: Some(BTreeSet::from([Component::Audio])),
        ..options(&store)
    };
    let error = pull_with(&server, other, quick()).unwrap_err();
    assert!(matches!(&error, HubError::Occupied { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("unfinished pull of someone/model"),
        "{error}"
    );
    pull(&server, &store).unwrap();
    let error = pull(&server, &store).unwrap_err().to_string();
    assert!(error.contains("is there already"), "{error}");
}

/// Runs `sage` against the server, with a cache of its own.
fn sage(server: &Server, cache: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sage"))
        .env("HF_ENDPOINT", &server.address)
        .env("SAGE_CACHE", cache)
        .env_remove("HF_TOKEN")
        .args(arguments)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_pulled_model_has_a_name() {
    let (server, cache) = setting();
    let run = |arguments: &[&str]| sage(&server, cache.path(), arguments);
    let trial = json(&run(&[
        "pull",
        NAME,
        "--quant",
        "q8",
        "--dry-run",
        "--json",
    ]));
    assert_eq!(
        (&trial["commit"], &trial["fits"], &trial["verifiable"]),
        (&COMMIT.into(), &true.into(), &true.into())
    );
    assert!(files(cache.path()).is_empty(), "a trial writes nothing");
    let pulled = json(&run(&["pull", NAME, "--quant", "q8", "--json"]));
    assert_eq!(
        (&pulled["model"], &pulled["complete"]),
        (&"someone/model:q8".into(), &true.into())
    );
    json(&run(&["pull", NAME, "--json"]));
    let listed = json(&run(&["list", "--json"]));
    let names: Vec<&str> = listed["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["someone/model", "someone/model:q8"]);
    let shown = json(&run(&["show", "model:q8", "--json"]));
    assert_eq!(shown["provenance"]["formats"], serde_json::json!(["q8"]));
    let said = json(&run(&[
        "generate",
        "someone/model:q8",
        "--prompt-tokens",
        "1 2 3",
        "--max-tokens",
        "2",
        "--ignore-stop",
        "--json",
    ]));
    assert!(said.is_object());
    let unclear = run(&["inspect", "model", "--json"]);
    assert!(unclear.status.success(), "the one without a tag is meant");
    let removed = json(&run(&["rm", "someone/model", "--json"]));
    assert_eq!(removed["removed"], "someone/model");
    let gone = run(&["show", "someone/modle"]);
    assert_eq!(gone.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("there are someone/model:q8"));
    assert!(
        run(&["inspect", "model"]).status.success(),
        "now only one can be meant"
    );
}
