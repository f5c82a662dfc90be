//! What a session is set to, and who says it last.

use std::path::PathBuf;

use super::{SamplingSettings, SessionSettings, SettingOrigin, Settings, Sources, keys};
use crate::input::{Limit, Place};

fn set(arguments: &[&str]) -> Result<Settings, String> {
    let sources = Sources {
        set: arguments.iter().map(|&set| set.to_owned()).collect(),
        ..Sources::default()
    };
    sources.load().map_err(|error| error.to_string())
}

fn origin(settings: &Settings, key: &str) -> SettingOrigin {
    settings.get(key).expect(key).origin.clone()
}

#[test]
fn saying_nothing_leaves_what_the_machine_and_the_request_decide() {
    let settings = set(&[]).expect("defaults");
    assert_eq!(
        settings.session,
        SessionSettings {
            limit: None,
            context_tokens: None,
            chunk_tokens: None,
            kv_precision: None,
            media_tokens: 512,
            answer_tokens: 256,
        }
    );
    assert_eq!(
        settings.sampling,
        SamplingSettings {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
        }
    );
}

#[test]
fn limits_and_contexts_may_be_left_to_be_found() {
    for (text, limit) in [
        ("auto", None),
        ("none", Some(Limit::None)),
        ("'6GiB'", Some(Limit::Bytes(6 << 30))),
        ("25%", Some(Limit::Percent(25.0))),
        ("64slots", Some(Limit::Slots(64))),
        ("4194304", Some(Limit::Bytes(4 << 20))),
    ] {
        let settings = set(&[&format!("session.limit={text}")]).expect(text);
        assert_eq!(settings.session.limit, limit, "{text}");
    }
    let context = |text: &str| {
        let settings = set(&["session.context_tokens=9", text]).expect(text);
        settings.session.context_tokens
    };
    assert_eq!(context("session.context_tokens=4096"), Some(4096));
    assert_eq!(context("session.context_tokens=auto"), None);
}

#[test]
fn bounds_are_said_as_the_options_say_them() {
    for (text, expected) in [
        (
            "session.limit=fast",
            "is \"fast\"; expected auto, none, or a size such as 512MiB, 6GiB, 25% or 64slots",
        ),
        ("session.limit=6", "`6` has no unit: is it 6MiB, 6GiB,"),
        (
            "session.chunk_tokens=0",
            "`session.chunk_tokens` is 0; expected auto, or a whole number, at least 1",
        ),
        (
            "session.context_tokens=0",
            "is 0; expected auto, or a whole number, at least 1",
        ),
        (
            "session.answer_tokens=many",
            "is \"many\"; expected a whole number, at least 1",
        ),
        (
            "sampling.temperature=-1",
            "`sampling.temperature` is -1; expected a number, 0 or more",
        ),
        (
            "sampling.temperature=inf",
            "is inf; expected a number, 0 or more",
        ),
        (
            "sampling.top_p=0",
            "is 0; expected a number above 0 and at most 1",
        ),
        (
            "sampling.top_k=-1",
            "is -1; expected a whole number, 0 or more",
        ),
    ] {
        let error = set(&[text]).expect_err(text);
        assert!(error.contains(expected), "{error}\ndoes not say {expected}");
    }
}

/// From the least to the last word.
#[test]
fn a_scenario_stands_above_files_and_below_who_runs_it() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text =
        "[session]\nmedia_tokens = 2\nchunk_tokens = 2\nanswer_tokens = 2\nlimit = '2slots'\n";
    std::fs::write(file.path(), text).expect("written");
    let place = Place {
        file: PathBuf::from("scenario.toml"),
        line: 3,
        column: 9,
    };
    let mut sources = Sources {
        files: vec![file.path().to_owned()],
        environment: vec![("SAGE_SESSION__ANSWER_TOKENS".into(), "4".into())],
        set: vec!["session.limit=5slots".to_owned()],
        ..Sources::default()
    };
    // In whichever order they are said.
    sources.option(keys::LIMIT, "--limit", Some(Limit::Slots(6)));
    sources.option(keys::TOP_K, "--top-k", None);
    sources.program(keys::SEED, "seed", Some(7));
    let at = |place: &Place| Some(place.clone());
    sources.scenario(keys::LIMIT, Some(Limit::Slots(3)), at(&place));
    sources.scenario(keys::ANSWER_TOKENS, Some(3), at(&place));
    sources.scenario(keys::CHUNK_TOKENS, Some(3), at(&place));
    sources.scenario(keys::MEDIA_TOKENS, Some(1), None);
    sources.scenario(keys::CONTEXT_TOKENS, Some(1), None);
    let settings = sources.load().expect("right");
    assert_eq!(
        settings.session,
        SessionSettings {
            limit: Some(Limit::Slots(6)),
            context_tokens: Some(1),
            chunk_tokens: Some(3),
            kv_precision: None,
            media_tokens: 2,
            answer_tokens: 4,
        }
    );
    assert_eq!(settings.sampling.seed, 7);
    let origin = |key| origin(&settings, key);
    assert_eq!(origin("session.limit").to_string(), "--limit");
    assert_eq!(
        origin("sampling.seed"),
        SettingOrigin::Program {
            call: "seed".into()
        }
    );
    assert_eq!(origin("sampling.top_k"), SettingOrigin::Default);
    assert_eq!(
        origin("session.context_tokens"),
        SettingOrigin::ScenarioDefault
    );
    assert_eq!(
        origin("session.chunk_tokens").to_string(),
        "scenario.toml:3:9"
    );
    assert!(matches!(
        origin("session.media_tokens"),
        SettingOrigin::File(_)
    ));
    assert!(matches!(
        origin("session.answer_tokens"),
        SettingOrigin::Environment { .. }
    ));
}

#[test]
fn options_and_calls_are_named_in_what_is_wrong_with_them() {
    let mut sources = Sources::default();
    sources.option(keys::TEMPERATURE, "--temperature", Some(-1.0));
    sources.option(keys::TOP_P, "--top-p", Some(1.5));
    sources.program(keys::ANSWER_TOKENS, "answer_tokens", Some(0));
    sources.program(keys::LIMIT_TEXT, "limit", Some("6".to_owned()));
    let error = sources.load().expect_err("mistakes").to_string();
    assert_eq!(
        error,
        "--temperature is -1.0; expected 0 or more\n\
         --top-p is 1.5; expected above 0 and at most 1\n\
         answer_tokens is 0; expected at least 1\n\
         limit is \"6\"; expected auto, none, or a size such as 512MiB, 6GiB, 25% or 64slots\n  \
           hint: `6` has no unit: is it 6MiB, 6GiB, 6slots (experts) or 6% (of everything resident)?"
    );
}

#[test]
fn numbers_arrive_as_they_were_given() {
    let mut sources = Sources::default();
    sources.option(keys::TEMPERATURE, "--temperature", Some(0.8));
    sources.option(keys::SEED, "--seed", Some(u64::MAX));
    sources.option(keys::LIMIT, "--limit", Some(Limit::Percent(12.5)));
    let settings = sources.load().expect("right");
    assert_eq!(settings.sampling.temperature.to_bits(), 0.8f32.to_bits());
    assert_eq!(settings.sampling.seed, u64::MAX);
    assert_eq!(settings.session.limit, Some(Limit::Percent(12.5)));
    let shown = settings.get("sampling.temperature").expect("set");
    assert_eq!(shown.value, Some(toml::Value::Float(0.8)));
    let most = set(&["sampling.seed=18446744073709551615"]).expect("right");
    assert_eq!(most.sampling.seed, u64::MAX);
}
