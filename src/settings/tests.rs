use std::ffi::OsString;
use std::path::Path;

use sage_actors::config::{EvictionPolicy, MindConfig, RoutingPolicy};
use sage_actors::protocol::State;

use super::kinds::SettingKind;
use super::schema::Schema;
use super::{Setting, SettingOrigin, Settings, SettingsError, Sources};
use crate::input::Source;
use crate::sensors::SensorSettings;

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    file
}

/// The settings of a file, variables and arguments.
fn load(text: &str, environment: &[(&str, &str)], set: &[&str]) -> Result<Settings, SettingsError> {
    let file = file(text);
    let variable = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    Sources {
        files: vec![file.path().to_owned()],
        environment: environment.iter().map(variable).collect(),
        set: set.iter().map(|&set| set.to_owned()).collect(),
        ..Sources::default()
    }
    .load()
}

fn refused(text: &str, environment: &[(&str, &str)], set: &[&str]) -> String {
    load(text, environment, set)
        .expect_err("a mistake")
        .to_string()
}

fn setting<'a>(settings: &'a Settings, key: &str) -> &'a Setting {
    settings.get(key).unwrap_or_else(|| panic!("no {key}"))
}

fn place(origin: &SettingOrigin) -> (usize, usize) {
    match origin {
        SettingOrigin::File(place) => (place.line, place.column),
        other => panic!("{other:?}"),
    }
}

#[test]
fn saying_nothing_gives_the_defaults() {
    let settings = Sources::default().load().expect("defaults");
    assert_eq!(settings.mind, MindConfig::default());
    assert_eq!(settings.sensors, SensorSettings::default());
    assert!(
        settings
            .list
            .iter()
            .all(|set| set.origin == SettingOrigin::Default)
    );
    assert!(settings.list.iter().all(|set| set.value == set.default));
}

/// Whatever the mind is configured with is a setting, is found at start, or may be left out.
#[test]
fn every_field_of_the_mind_is_listed() {
    fn keys(at: &str, value: &toml::Value, all: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) => table
                .iter()
                .for_each(|(key, value)| keys(&format!("{at}.{key}"), value, all)),
            _ => all.push(at.to_owned()),
        }
    }
    let mut written = Vec::new();
    let mind = toml::Value::try_from(MindConfig::default()).expect("TOML");
    keys("mind", &mind, &mut written);
    let settings = Sources::default().load().expect("defaults");
    for key in &written {
        let found = super::FOUND_AT_START.iter().any(|found| found.key == key);
        assert_eq!(settings.get(key).is_none(), found, "{key}");
    }
    let text = super::DEFAULTS;
    let path = Path::new("config/default.toml");
    let schema = Schema::of_defaults(&Source { path, text }).expect("described");
    let every = MindConfig {
        hold: Some(MindConfig::default().budgets.focus),
        hold_state: Some(State::Rest),
        ..MindConfig::default()
    };
    let every = toml::Value::try_from(every).expect("TOML");
    let mut all = Vec::new();
    keys("mind", &every, &mut all);
    for key in &all {
        let found = super::FOUND_AT_START.iter().any(|found| found.key == key);
        assert_eq!(schema.leaf(key).is_none(), found, "{key}");
    }
    for leaf in &schema.leaves {
        // The file declares the type that the field has.
        let below = |value: &toml::Value, name: &str| value.get(name).cloned();
        let mut path = leaf
            .key
            .strip_prefix("mind.")
            .into_iter()
            .flat_map(|key| key.split('.'));
        let field = path.try_fold(every.clone(), |value, name| below(&value, name));
        let right = match (&leaf.kind, &field) {
            (SettingKind::Flag, Some(toml::Value::Boolean(_)))
            | (SettingKind::Whole, Some(toml::Value::Integer(_)))
            | (SettingKind::Number, Some(toml::Value::Float(_)))
            | (SettingKind::Choice(_), Some(toml::Value::String(_) | toml::Value::Table(_))) => {
                true
            }
            (SettingKind::Numbers(count), Some(toml::Value::Array(items))) => items.len() == *count,
            _ => !leaf.key.starts_with("mind."),
        };
        assert!(
            right,
            "{} is {:?}, its field {field:?}",
            leaf.key, leaf.kind
        );
        let optional = leaf.group.is_some() || !written.contains(&leaf.key);
        let set = settings.get(&leaf.key).and_then(|set| set.default.clone());
        assert!(optional || set.is_some(), "{} has no default", leaf.key);
    }
}

#[test]
fn each_layer_overrides_the_one_before() {
    let text = "[mind]\nrouting = 'sage'\n[mind.budgets.wake]\nf = 0.6\nexpert_memory = 0.6\nresidency_bias = 0.2\n";
    let environment = [
        ("SAGE_MIND__BUDGETS__WAKE__EXPERT_MEMORY", "0.7"),
        ("SAGE_MIND__BUDGETS__WAKE__RESIDENCY_BIAS", "0.3"),
        ("SAGE_CACHE", "/somewhere"),
        ("PATH", "/bin"),
    ];
    let set = ["mind.budgets.wake.residency_bias=0.4"];
    let settings = load(text, &environment, &set).expect("right");
    let wake = settings.mind.budgets.wake;
    assert_eq!(settings.mind.routing, RoutingPolicy::Sage);
    assert_eq!((wake.f, wake.expert_memory), (0.6, 0.7));
    assert_eq!(wake.residency_bias.to_bits(), 0.4f32.to_bits());
    assert_eq!(wake.salience_bias.to_bits(), 0.05f32.to_bits());

    let origin = |key: &str| setting(&settings, key).origin.clone();
    assert_eq!(place(&origin("mind.routing")), (2, 11));
    assert_eq!(place(&origin("mind.budgets.wake.f")), (4, 5));
    let variable = environment[0].0.to_owned();
    assert_eq!(
        origin("mind.budgets.wake.expert_memory"),
        SettingOrigin::Environment { variable }
    );
    assert!(matches!(
        origin("mind.budgets.wake.residency_bias"),
        SettingOrigin::CommandLine { .. }
    ));
    assert_eq!(
        origin("mind.budgets.wake.salience_bias"),
        SettingOrigin::Default
    );
}

#[test]
fn the_last_of_several_files_and_arguments_holds() {
    let (first, second) = (
        file("mind.budgets.wake.f = 0.6\nmind.window_experts = 12"),
        file("mind.budgets.wake.f = 0.7"),
    );
    let sources = Sources {
        files: vec![first.path().to_owned(), second.path().to_owned()],
        set: vec!["mind.routing=sage".into(), "mind.routing = 'exact'".into()],
        ..Sources::default()
    };
    let settings = sources.load().expect("right");
    assert_eq!(settings.mind.budgets.wake.f, 0.7);
    assert_eq!(settings.mind.window_experts, 12);
    assert_eq!(settings.mind.routing, RoutingPolicy::Exact);
}

#[test]
fn a_whole_number_will_do_for_a_number_and_a_table_for_its_settings() {
    let settings = load("", &[], &["mind.budgets.focus={ f = 1, talker = false }"]).expect("right");
    let focus = settings.mind.budgets.focus;
    assert_eq!((focus.f, focus.talker, focus.lookahead), (1.0, false, true));
    assert_eq!(
        setting(&settings, "mind.budgets.focus.f").value,
        Some(toml::Value::Float(1.0))
    );
    let weights = "mind.energy.drive_weights=[1, 0, 0.5, 0]";
    let settings = load("", &[], &[weights]).expect("right");
    assert_eq!(settings.mind.energy.drive_weights, [1.0, 0.0, 0.5, 0.0]);
}

#[test]
fn a_choice_is_named_or_given_with_its_settings() {
    let eviction = |text: &str, set: &[&str]| load(text, &[], set).map(|set| set.mind.eviction);
    let horizon = |half_life_tokens| EvictionPolicy::Horizon { half_life_tokens };
    let inline = "mind.eviction = { horizon = { half_life_tokens = 8.0 } }";
    let section = "[mind.eviction.horizon]\nhalf_life_tokens = 8";
    let lru = "mind.eviction = 'lru'";
    for (text, set, expected) in [
        ("", &[][..], horizon(12.0)),
        (lru, &[], EvictionPolicy::Lru),
        (inline, &[], horizon(8.0)),
        (section, &[], horizon(8.0)),
        (inline, &["mind.eviction=lru"], EvictionPolicy::Lru),
        (lru, &["mind.eviction=horizon"], horizon(12.0)),
        (
            lru,
            &["mind.eviction.horizon.half_life_tokens=9"],
            horizon(9.0),
        ),
        (
            lru,
            &["mind.eviction={ horizon = { half_life_tokens = 9 } }"],
            horizon(9.0),
        ),
        (
            inline,
            &["mind.eviction=lru", "mind.eviction=horizon"],
            horizon(8.0),
        ),
    ] {
        assert_eq!(eviction(text, set).expect(text), expected, "{text} {set:?}");
    }
    let settings = load(lru, &[], &[]).expect("right");
    assert!(
        settings
            .get("mind.eviction.horizon.half_life_tokens")
            .is_none()
    );
    let both = [
        ("SAGE_MIND__EVICTION", "lru"),
        ("SAGE_MIND__EVICTION__HORIZON__HALF_LIFE_TOKENS", "9"),
    ];
    assert!(refused("", &both, &[]).contains("unset one of them"));
    assert!(
        refused("mind.eviction = { lru = 3 }", &[], &[])
            .contains("lru, lfu, trust, horizon or learned")
    );
}

#[test]
fn a_held_budget_is_whole_or_absent() {
    let whole = "[mind.hold]\nf = 1\nreading_share = 1\nexpert_memory = 1\nrouter_mass = 1\nmiss_bytes_per_token = 0\nresidency_bias = 0\n\
        salience_bias = 0\nfocus_weight = 0\nlookahead = true\ntalker = true\ntowers = \"all\"\n";
    let settings = load(whole, &[], &[]).expect("right");
    assert_eq!(settings.mind.hold.expect("held").f, 1.0);
    assert_eq!(place(&setting(&settings, "mind.hold.f").origin), (2, 5));
    let error = refused("[mind.hold]\nf = 1\n", &[], &[]);
    assert!(
        error.contains(":2:5: `mind.hold` lacks reading_share, expert_memory"),
        "{error}"
    );
    let defaults = Sources::default().load().expect("defaults");
    assert_eq!(setting(&defaults, "mind.hold").value, None);
}

// Long: one row for each mistake.
#[test]
fn mistakes_are_named_with_their_place_and_a_hint() {
    for (text, expected) in [
        (
            "mind.routng = 'sage'",
            ":1:6: there is no setting `mind.routng`\n  hint: did you mean `routing`?",
        ),
        (
            "[mind]\ndwell_ticks = 3",
            ":2:1: there is no setting `mind.dwell_ticks`\n  hint: did you mean `mind.transitions.dwell_ticks`?",
        ),
        (
            "[mnd]\nrouting = 'sage'",
            ":1:2: there is no setting `mnd`\n  hint: did you mean `mind`?",
        ),
        (
            "[mind.budgets.awake]\nf = 1",
            ":1:15: there is no setting `mind.budgets.awake`\n  hint: did you mean `wake`?",
        ),
        (
            "limit = '6GiB'",
            "there is no setting `limit`\n  hint: did you mean `session.limit`?",
        ),
        (
            "[mind.budgets.wake]\nf = -1",
            ":2:5: `mind.budgets.wake.f` is -1; expected a number above 0",
        ),
        (
            "[mind.budgets.wake]\nf = nan",
            "`mind.budgets.wake.f` is nan; expected a number above 0",
        ),
        (
            "[mind.budgets.wake]\nf = '0.5'",
            "is \"0.5\"; expected a number above 0\n  hint: write it without quotes",
        ),
        (
            "mind.window_experts = 70000",
            "is 70000; expected a whole number from 1 to 65535",
        ),
        (
            "mind.window_experts = 8.5",
            "is 8.5; expected a whole number from 1 to 65535",
        ),
        (
            "mind.window_experts = 99999999999999999999999",
            "expected a whole number from 1 to 65535",
        ),
        (
            "mind.transitions.dwell_ticks = -1",
            "is -1; expected a whole number from 0 to 4294967295",
        ),
        ("mind.routing = 'salent'", "hint: did you mean `salient`?"),
        ("mind.routing = 3", "is 3; expected exact, sage or salient"),
        (
            "mind.budgets.wake.talker = 1",
            "is 1; expected true or false",
        ),
        (
            "mind.energy.drive_weights = [1, 1, 1]",
            "is [1, 1, 1]; expected 4 numbers, each in [0, 1]",
        ),
        (
            "mind.energy.drive_weights = [1, 1, 1, 2]",
            "expected 4 numbers, each in [0, 1]",
        ),
        (
            "mind.budgets.wake = 3",
            "is 3; expected a table of settings\n  hint: settings in it: expert_memory, f,",
        ),
        (
            "mind.budgets.wake.f = { a = 1 }",
            "is a table; expected a number above 0",
        ),
        (
            "mind.pool_bytes = 3",
            "`mind.pool_bytes` cannot be set: it is found at start from the limit",
        ),
        (
            "[[mind.modules]]\nmodule = 'thinker'",
            "cannot be set: it is found at start",
        ),
        ("mind.routing = ", ":1:16: a value is missing"),
        (
            "mind.routing = 'sage'\nmind.routing = 'exact'",
            ":2:6: duplicate key",
        ),
    ] {
        let error = refused(text, &[], &[]);
        assert!(
            error.contains(expected),
            "{text}:\n{error}\ndoes not say\n{expected}"
        );
    }
}

#[test]
fn thresholds_the_wrong_way_round_blame_the_one_that_was_moved() {
    let error = refused("mind.transitions.wake_focus_atp = 20", &[], &[]);
    assert!(
        error.contains(":1:35: `mind.transitions.wake_focus_atp` is 20.0; expected a number above focus_wake_atp (30.0)"),
        "{error}"
    );
    let error = refused("mind.transitions.focus_wake_atp = 60", &[], &[]);
    assert!(
        error.contains("expected a number below wake_focus_atp (50.0)"),
        "{error}"
    );
}

#[test]
fn variables_and_arguments_are_named_as_they_were_given() {
    for (environment, set, expected) in [
        (
            &[("SAGE_MIND__BUDGETS__WAKE__F", "fast")][..],
            &[][..],
            "SAGE_MIND__BUDGETS__WAKE__F: `mind.budgets.wake.f` is \"fast\"",
        ),
        (
            &[("SAGE_MIND__BUDGET__WAKE__F", "1")],
            &[],
            "there is no setting `mind.budget.wake.f`",
        ),
        (
            &[("SAGE_MND__ROUTING", "sage")],
            &[],
            "did you mean `mind.routing`?",
        ),
        (
            &[("SAGE_MIND_ROUTING", "sage")],
            &[],
            "two underscores between levels: SAGE_MIND__ROUTING",
        ),
        (
            &[],
            &["mind.routing"],
            "--set mind.routing: expected KEY=VALUE",
        ),
        (&[], &["=3"], "there is no setting ``"),
        (
            &[],
            &["mind.routing=slow"],
            "--set mind.routing=slow: `mind.routing` is \"slow\"; expected exact, sage or salient",
        ),
        (&[], &["mind.routing="], "is \"\"; expected exact"),
        (
            &[],
            &["mind.routing=sage\nx=1"],
            "--set mind.routing=sage\nx=1",
        ),
    ] {
        let error = refused("", environment, set);
        assert!(
            error.contains(expected),
            "{environment:?} {set:?}:\n{error}"
        );
    }
}

#[test]
fn every_mistake_of_every_layer_is_reported() {
    let error = refused(
        "[mind]\nrouting = 'sge'\nwindow = 3\n[mind.budgets.rest]\nf = 'x'\n",
        &[("SAGE_MIND__WINDOW_EXPERTS", "0")],
        &["mind.energy.drive_rate=2"],
    );
    for expected in [
        ":2:11:",
        ":3:1:",
        ":5:5:",
        "SAGE_MIND__WINDOW_EXPERTS",
        "(0, 1]",
    ] {
        assert!(error.contains(expected), "{error}\ndoes not say {expected}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let sources = Sources {
        files: vec![Path::new("no/such/settings.toml").to_owned()],
        ..Sources::default()
    };
    let error = sources.load().expect_err("missing");
    assert!(matches!(error, SettingsError::Unreadable(_)));
    assert!(error.to_string().contains("no/such/settings.toml"));
}

/// Each setting by itself: every way of writing it reaches it, and what it must not be is refused.
#[test]
fn every_setting_can_be_written_in_every_layer() {
    let defaults = Sources::default().load().expect("defaults");
    for set in &defaults.list {
        let Some(value) = &set.default else { continue };
        let key = &set.key;
        let variable = format!("SAGE_{}", key.replace('.', "__").to_uppercase());
        let text = value.to_string();
        let argument = format!("{key}={text}");
        for (file, environment, arguments) in [
            (format!("{key} = {text}"), vec![], vec![]),
            (
                String::new(),
                vec![(variable.as_str(), text.as_str())],
                vec![],
            ),
            (String::new(), vec![], vec![argument.as_str()]),
        ] {
            let settings = load(&file, &environment, &arguments).expect(key);
            assert_eq!(settings.mind, defaults.mind, "{key}");
            assert_ne!(
                setting(&settings, key).origin,
                SettingOrigin::Default,
                "{key}"
            );
        }
        for wrong in [
            "nan",
            "-1",
            "1979-05-27",
            "'nothing'",
            "[]",
            "{ a = 1 }",
            "",
        ] {
            let error = refused("", &[], &[&format!("{key}={wrong}")]);
            assert!(error.contains(key) && error.contains("expected"), "{error}");
        }
    }
}
