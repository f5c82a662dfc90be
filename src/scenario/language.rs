//! The scenario language: every key of every table, with what it may be. Reading, hints and docs/scenarios.md go by it.

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct ScenarioKey {
    /// Its name.
    pub name: &'static str,
    /// What its value may be, in words that follow "expected".
    pub expected: &'static str,
    /// What holds where it is left out; none where it must be there.
    pub default: Option<&'static str>,
}

const fn key(name: &'static str, expected: &'static str, default: &'static str) -> ScenarioKey {
    ScenarioKey {
        name,
        expected,
        default: Some(default),
    }
}

const fn required(name: &'static str, expected: &'static str) -> ScenarioKey {
    ScenarioKey {
        name,
        expected,
        default: None,
    }
}

/// The longest scenario, ticks.
pub const MOST_TICKS: u64 = 1_000_000_000;

/// The most tokens of a context, a chunk or an answer.
pub const MOST_TOKENS: u64 = 1 << 20;

/// Keys of a scenario.
pub const SCENARIO: [ScenarioKey; 11] = [
    required("name", "a text"),
    key("description", "a text", "empty"),
    key(
        "limit",
        "a size such as \"512MiB\", \"6GiB\", \"25%\" or \"96slots\", or \"none\"",
        "none where the model fits, else chosen",
    ),
    required("ticks", "a whole number from 0 to 1000000000"),
    key("context_tokens", "a whole number from 2 to 1048576", "512"),
    key("chunk_tokens", "a whole number from 1 to 1048576", "32"),
    key("answer_tokens", "a whole number from 1 to 1048576", "32"),
    key("media_tokens", "a whole number from 1 to 1048576", "128"),
    key("sensors", "tables [sensors.NAME]", "none"),
    key("observe", "tables [[observe]]", "none"),
    key("expect", "tables [[expect]]", "none"),
];

/// Keys of `[sensors.NAME]`.
pub const SENSOR: [ScenarioKey; 3] = [
    required("resolution", "a number above 0"),
    key("range", "two numbers, [low, high]", "no range"),
    key(
        "reserve",
        "two different numbers, [empty, full]",
        "no reserve",
    ),
];

/// Keys of `[[observe]]`.
pub const OBSERVE: [ScenarioKey; 14] = [
    required("at", "a whole number from 0 to 1000000000"),
    required(
        "kind",
        "text, question, alarm, sound, picture, sensor, feedback or limit",
    ),
    key("source", "a text", "empty"),
    key("urgency", "a number from 0 to 1", "0"),
    key("text", "a text that is not empty", "none"),
    key("file", "a path", "none"),
    key("sound", "a path of a WAV or FLAC file", "none"),
    key("picture", "a path of a PNG or JPEG file", "none"),
    key("conversation", "true or false", "false"),
    key("expect", "a text", "none"),
    key("speak", "true, false, or the name of a voice", "false"),
    key("sensor", "the name of a declared sensor", "none"),
    key("value", "a number", "none"),
    key(
        "limit",
        "a size such as \"512MiB\", \"6GiB\", \"25%\" or \"96slots\", or \"none\"",
        "none",
    ),
];

/// Keys of `[[expect]]`, of which each entry has one.
pub const EXPECT: [ScenarioKey; 4] = [
    key("states", "a list of states", "none"),
    key("never", "a list of states", "none"),
    key("within_limit", "true or false", "none"),
    key("mean_loss_below", "a number above 0", "none"),
];

/// Names of states; `crisis` is threat or depletion.
pub const STATES: [&str; 7] = [
    "wake",
    "focus",
    "rest",
    "dream",
    "threat",
    "depletion",
    "crisis",
];

/// Kinds of observations by name, with the keys that mean something to each besides `at`, `kind` and `source`.
pub const KINDS: [(&str, &[&str]); 8] = [
    ("text", &["urgency", "text", "file", "conversation"]),
    (
        "question",
        &[
            "urgency",
            "text",
            "file",
            "sound",
            "picture",
            "conversation",
            "expect",
            "speak",
        ],
    ),
    (
        "alarm",
        &[
            "urgency", "text", "file", "sound", "picture", "expect", "speak",
        ],
    ),
    ("sensor", &["sensor", "value"]),
    ("feedback", &["value"]),
    ("limit", &["limit"]),
    ("sound", &["urgency", "sound"]),
    ("picture", &["urgency", "picture"]),
];
