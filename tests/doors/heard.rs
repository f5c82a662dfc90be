//! Sounds in a scenario, as a user runs it: heard, recorded with their files, and heard again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::copied;
use crate::common::runs::{
    complaint, events, failed, read_for, root, run, sage, states, summary, without_timings,
};
use crate::common::sounds::{hum, siren};
use sage::Sage;
use sage::session::{Medium, Observation};
use serde_json::Value;

/// A model with ears and a tokenizer, and a scenario of ten hums and three sirens beside it.
fn world() -> tempfile::TempDir {
    let folder = copied("tiny-omni");
    let tokenizer = root().join("models/tiny/tokenizer.json");
    fs::copy(tokenizer, folder.path().join("tokenizer.json")).unwrap();
    let mut script =
        "name = \"hums and a siren\"\nlimit = \"60slots\"\nticks = 400\ncontext_tokens = 64\n\
                      media_tokens = 32\n"
            .to_owned();
    for variant in 0..3 {
        let sound = hum(0.02, variant);
        fs::write(folder.path().join(format!("hum-{variant}.wav")), sound).unwrap();
    }
    fs::write(folder.path().join("siren.wav"), siren(0.9)).unwrap();
    let mut heard = |at: u32, file: &str| {
        script.push_str(&format!(
            "[[observe]]\nat = {at}\nkind = \"sound\"\nsource = \"room\"\nsound = \"{file}\"\n"
        ));
    };
    for at in 0..10 {
        heard(at * 20, &format!("hum-{}.wav", at % 3));
    }
    for at in [210, 226, 242] {
        heard(at, "siren.wav");
    }
    heard(270, "hum-0.wav");
    script.push_str("[[expect]]\nwithin_limit = true\n");
    fs::write(folder.path().join("heard.toml"), script).unwrap();
    folder
}

fn play(world: &Path, more: &[&str]) -> Vec<Value> {
    let model = world.to_str().unwrap();
    let arguments = [&["--model", model], more].concat();
    events(&world.join("heard.toml"), &arguments)
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let of_kind = events.iter().filter(|event| event["type"] == kind);
    of_kind.collect()
}

#[test]
fn a_siren_among_hums_stirs_and_wakes_the_ears() {
    let world = world();
    let events = play(world.path(), &[]);
    assert_eq!(failed(&events), [""; 0]);
    let observed = of(&events, "observation");
    assert_eq!(observed.len(), 14);
    let siren = observed[10];
    assert_eq!(siren["kind"], "sound");
    let level = |event: &Value| event["perceived"][0]["level"].as_f64().unwrap();
    assert!(level(siren) > -6.0 && level(observed[9]) < -30.0);
    // The mind is told in the tick of its arrival, and moved by it.
    let felt = of(&events, "salience")
        .into_iter()
        .find(|event| event["tick"] == siren["tick"])
        .unwrap();
    assert!(
        felt["senses"]["audio"]["arousal"].as_f64().unwrap() > 0.9,
        "{felt}"
    );
    assert!(felt["senses"]["audio"]["surprise"].as_f64().unwrap() > 0.9);
    assert_eq!(felt["senses"]["text"]["surprise"], 0.0);
    assert!(states(&events).contains(&"focus"), "{:?}", states(&events));
    let towers = of(&events, "tower");
    assert!(towers.iter().all(|event| event["modality"] == "audio"));
    let woken = towers
        .iter()
        .find(|event| event["weight_bytes"] != 0)
        .unwrap();
    assert!(woken["tick"].as_u64() >= siren["tick"].as_u64());
    // What is read of the tower is booked with what is read of experts.
    let perceived = of(&events, "perceived");
    assert_eq!(perceived.len(), 14);
    let sum = |events: &[&Value]| -> u64 {
        let bytes = events
            .iter()
            .map(|event| event["bytes_read"].as_u64().unwrap());
        bytes.sum()
    };
    let all = summary(&events)["bytes_read"].as_u64().unwrap();
    assert_eq!(all, sum(&perceived) + sum(&of(&events, "cache")));
    assert!(perceived[0]["bytes_read"].as_u64() > Some(0));
    // Apart from what else was read of the disk, of which the weights that stay are a part.
    let summary = summary(&events);
    assert!(read_for(summary, "towers") > 0 && read_for(summary, "other") > 0);
    // Who works for a sound works for no text.
    let domains = &of(&events, "experts")[0]["domains"];
    assert_eq!(
        (&domains[0]["kind"], &domains[0]["source"]),
        (&"sound".into(), &"room".into())
    );
    assert_eq!(domains[1], Value::Null, "{domains}");
    let again = play(world.path(), &[]);
    assert_eq!(without_timings(&events), without_timings(&again));
}

/// One siren is enough, also for a mind that rests; one more hum in its place moves nothing.
#[test]
fn one_siren_in_rest_leads_to_focus() {
    let world = world();
    let script = world.path().join("heard.toml");
    let mut table: toml::Table = fs::read_to_string(&script).unwrap().parse().unwrap();
    let mut states_with = |sound: &str| {
        let observe = table["observe"].as_array_mut().unwrap();
        observe.truncate(10);
        let mut last = observe[9].as_table().unwrap().clone();
        last.insert("at".into(), 300.into());
        last.insert("sound".into(), sound.into());
        observe.push(last.into());
        fs::write(&script, toml::to_string(&table).unwrap()).unwrap();
        let events = play(world.path(), &[]);
        let late = events.iter().filter(|e| e["tick"].as_u64() >= Some(280));
        let late: Vec<Value> = late.cloned().collect();
        let mut before = events.iter().filter(|e| e["type"] == "state");
        let before = before.rfind(|e| e["tick"].as_u64() < Some(280));
        assert_eq!(before.unwrap()["to"], "rest");
        states(&late)
            .iter()
            .map(|&state| state.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(states_with("siren.wav"), ["focus", "wake", "rest"]);
    assert_eq!(states_with("hum-0.wav"), [""; 0]);
}

fn recorded(world: &Path) -> PathBuf {
    let trace = world.join("heard.trace");
    play(world, &["--record", trace.to_str().unwrap()]);
    trace
}

fn replay(world: &Path, trace: &Path, more: &[&str]) -> std::process::Output {
    let (model, trace) = (world.to_str().unwrap(), trace.to_str().unwrap());
    let verify = ["replay", trace, "--verify", "--model", model];
    sage(&[&verify, more].concat())
}

#[test]
fn a_recorded_run_is_heard_again_from_the_files_beside_it() {
    let world = world();
    let trace = recorded(world.path());
    // Other files under the same names: the recording has its own.
    for variant in 0..3 {
        fs::write(world.path().join(format!("hum-{variant}.wav")), b"").unwrap();
    }
    for threads in ["1", "2"] {
        let again = replay(world.path(), &trace, &["--threads", threads]);
        assert_eq!(again.status.code(), Some(0), "{}", complaint(&again));
    }
    let mut beside: Vec<PathBuf> = fs::read_dir(world.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".trace.media-"))
        .collect();
    beside.sort();
    assert_eq!(beside.len(), 4, "every sound once");

    let whole = fs::read(&beside[0]).unwrap();
    let mut changed = whole.clone();
    changed[100] ^= 1;
    fs::write(&beside[0], changed).unwrap();
    let refused = replay(world.path(), &trace, &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(complaint(&refused).contains("it was changed"));
    fs::remove_file(&beside[0]).unwrap();
    let refused = replay(world.path(), &trace, &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(complaint(&refused).contains("keep it beside it"));
    fs::write(&beside[0], whole).unwrap();
    assert_eq!(replay(world.path(), &trace, &[]).status.code(), Some(0));
}

/// The mind alone, asked again about what it was told of sounds.
#[test]
fn the_mind_answers_the_same_about_sounds_without_a_model() {
    let world = world();
    let trace = world.path().join("logits.trace");
    let trace = trace.to_str().unwrap();
    play(world.path(), &["--record", trace, "--record-logits"]);
    let again = sage(&["replay", trace, "--policy-only"]);
    assert_eq!(again.status.code(), Some(0), "{}", complaint(&again));
}

/// A program's own loop hears, too, and says what it cannot.
#[tokio::test]
async fn an_embedded_loop_hears() {
    let world = world();
    let built = |hears: bool| {
        let builder = Sage::builder().model(world.path()).context_tokens(64);
        let builder = builder.answer_tokens(4).media_tokens(32);
        if hears { builder.hears() } else { builder }
    };
    let sound = || Observation::heard("room", Medium::sound(hum(0.02, 0)));
    {
        let mut sage = built(true).build().await.unwrap();
        let mut events = sage.telemetry();
        sage.observe(sound()).unwrap();
        while !sage.is_idle() {
            sage.tick().await.unwrap();
        }
        let mut perceived = 0;
        while let Some(event) = events.try_next() {
            let event = serde_json::to_value(&event).unwrap();
            perceived += u32::from(event.to_string().contains("\"perceived\""));
        }
        assert!(perceived > 0);
        sage.shutdown().await.unwrap();

        let mut deaf = built(false).build().await.unwrap();
        let mut events = deaf.telemetry();
        deaf.observe(sound()).unwrap();
        while !deaf.is_idle() {
            deaf.tick().await.unwrap();
        }
        let mut said = String::new();
        while let Some(event) = events.try_next() {
            said.push_str(&serde_json::to_string(&event).unwrap());
        }
        assert!(said.contains("opened without its audio tower"), "{said}");
        deaf.shutdown().await.unwrap();
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    let world = world();
    let check = |more: &str| {
        let path = world.path().join("wrong.toml");
        let script = format!("name = \"w\"\nticks = 10\n[[observe]]\nat = 0\n{more}");
        fs::write(&path, script).unwrap();
        let output = sage(&["scenario", "check", path.to_str().unwrap()]);
        assert_ne!(output.status.code(), Some(0));
        complaint(&output) + &String::from_utf8_lossy(&output.stdout)
    };
    let said = check("kind = \"sound\"\nsound = \"none.wav\"\n");
    assert!(said.contains(":6:9"), "{said}");
    assert!(said.contains("relative to the scenario's folder"), "{said}");
    assert!(check("kind = \"sound\"\n").contains("needs a `sound`"));
    assert!(check("kind = \"picture\"\n").contains("needs a `picture`"));
    let said = check("kind = \"text\"\ntext = \"a\"\nsound = \"siren.wav\"\n");
    assert!(said.contains("`sound`"), "{said}");
}

#[test]
fn a_file_that_is_no_sound_ends_a_script_with_its_reason() {
    let world = world();
    fs::write(world.path().join("siren.wav"), b"no sound at all").unwrap();
    let model = world.path().to_str().unwrap();
    let scenario = world.path().join("heard.toml");
    let (output, _) = run(&scenario, &["--model", model]);
    assert_eq!(output.status.code(), Some(2), "{}", complaint(&output));
    assert!(
        complaint(&output).contains("not a sound file"),
        "{}",
        complaint(&output)
    );
}
