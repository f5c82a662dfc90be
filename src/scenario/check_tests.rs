use std::path::Path;

use super::language::{EXPECT, OBSERVE, SCENARIO, SENSOR};
use super::{Expectation, Scenario, ScenarioError};
use crate::core::Limit;
use crate::input::Problem;

fn problems(text: &str) -> Vec<Problem> {
    match Scenario::parse(Path::new("t.toml"), text) {
        Ok(_) => Vec::new(),
        Err(ScenarioError::Wrong(problems)) => problems,
        Err(other) => panic!("{other}"),
    }
}

const HEAD: &str = "name = 'a'\nticks = 50\n";

/// One mistake each, in a text that begins with two lines of a sound head.
#[rustfmt::skip] // a row a mistake
const MISTAKES: &[(&str, &str)] = &[
    ("limt = '1MiB'", "3:1: there is no key `limt` here\n  hint: did you mean `limit`?"),
    ("limit = '3parsecs'", "3:9: `limit` is \"3parsecs\"; expected a size such as"),
    ("limit = 3", "3:9: `limit` is 3; expected a size"),
    ("context_tokens = 1", "3:18: `context_tokens` is 1; expected a whole number from 2 to 1048576"),
    ("chunk_tokens = 0", "3:16: `chunk_tokens` is 0; expected a whole number from 1"),
    ("answer_tokens = 0", "3:17: `answer_tokens` is 0; expected a whole number from 1"),
    ("answer_tokens = 1.5", "`answer_tokens` is 1.5; expected a whole number"),
    ("description = 3", "3:15: `description` is 3; expected a text"),
    ("observe = 3", "3:11: `observe` is 3; expected tables [[observe]]"),
    ("observe = [3]", "3:12: `observe` is 3; expected tables [[observe]]"),
    ("[observe]\nat = 1", "3:1: `observe` is a table; expected tables [[observe]]"),
    ("sensors = 3", "3:11: `sensors` is 3; expected tables [sensors.NAME]"),
    ("sensors.a = 3", "`sensors` is 3; expected tables [sensors.NAME]"),
    ("[sensors.a]", "3:1: sensors.a: needs `resolution`: a number above 0"),
    ("[sensors.a]\nresolution = 0", "4:14: sensors.a: `resolution` is 0; expected a number above 0"),
    ("[sensors.a]\nresolution = nan", "`resolution` is nan; expected a number above 0"),
    ("[sensors.a]\nresolution = 1\nrange = [9, 1]", "5:9: sensors.a: `range` is [9, 1]; expected two numbers, [low, high]"),
    ("[sensors.a]\nresolution = 1\nrange = [1]", "`range` is [1]; expected two numbers"),
    ("[sensors.a]\nresolution = 1\nreserve = [4, 4]", "`reserve` is [4, 4]; expected two different numbers"),
    ("[sensors.a]\nresolutoin = 1\nresolution = 1", "4:1: sensors.a: there is no key `resolutoin` here\n  hint: did you mean `resolution`?"),
    ("[[observe]]\nkind = 'text'\ntext = 'b'", "3:1: observe number 1 (text): needs `at`: a whole number"),
    ("[[observe]]\nat = 1\ntext = 'b'", "3:1: observe number 1 (at = 1): needs `kind`: text, question"),
    ("[[observe]]\nat = 1\nkind = 'shout'", "5:8: observe number 1 (at = 1, shout): `kind` is \"shout\"; there is no such kind\n  hint: known: text, question, alarm, sensor, feedback, limit, sound, picture"),
    ("[[observe]]\nat = 1\nkind = 'alarn'\ntext = 'b'", "hint: did you mean `alarm`?"),
    ("[[observe]]\nat = 1\nkind = 3", "`kind` is 3; expected text, question, alarm, sound, picture, sensor, feedback or limit"),
    ("[[observe]]\nat = -1\nkind = 'text'\ntext = 'b'", "4:6: observe number 1 (at = -1, text): `at` is -1; expected a whole number from 0"),
    ("[[observe]]\nat = 1\nkind = 'text'", "3:1: observe number 1 (at = 1, text): needs a `text` or a `file`"),
    ("[[observe]]\nat = 1\nkind = 'question'\ntext = ' '", "6:8: observe number 1 (at = 1, question): `text` is \" \"; expected a text that is not empty"),
    ("[[observe]]\nat = 1\nkind = 'text'\ntext = 'b'\nexpect = 'c'", "7:1: observe number 1 (at = 1, text): a text is not answered: `expect` belongs to a question or alarm"),
    ("[[observe]]\nat = 1\nkind = 'text'\ntext = 'b'\nvalue = 1", "7:1: observe number 1 (at = 1, text): `value` means nothing to the kind text\n  hint: `value` belongs to: sensor, feedback"),
    ("[[observe]]\nat = 1\nkind = 'text'\ntext = 'b'\nurgency = 1.5", "`urgency` is 1.5; expected a number from 0 to 1"),
    ("[[observe]]\nat = 1\nkind = 'text'\nfile = 'no-such.txt'", "6:8: observe number 1 (at = 1, text): `file` cannot be read: no-such.txt: No such file"),
    ("[[observe]]\nat = 1\nkind = 'text'\ntext = 'a'\nfile = 'b'", "7:1: observe number 1 (at = 1, text): has both `text` and `file`: keep one"),
    ("[[observe]]\nat = 1\nkind = 'sensor'\nsensor = 'x'\nvalue = 1", "6:10: observe number 1 (at = 1, sensor): the sensor `x` is not declared\n  hint: declare it: [sensors.x] with a resolution"),
    ("sensors.boiler.resolution = 1\n[[observe]]\nat = 1\nkind = 'sensor'\nsensor = 'bolier'\nvalue = 1", "hint: did you mean `boiler`?"),
    ("sensors.a.resolution = 1\n[[observe]]\nat = 1\nkind = 'sensor'\nsensor = 'a'", "4:1: observe number 1 (at = 1, sensor): needs a `value`: a number"),
    ("[[observe]]\nat = 1\nkind = 'sensor'\nvalue = 1", "needs a `sensor` that is declared under [sensors]"),
    ("[[observe]]\nat = 1\nkind = 'feedback'", "needs a `value`: a number from -1 to 1"),
    ("[[observe]]\nat = 1\nkind = 'feedback'\nvalue = 2", "6:9: observe number 1 (at = 1, feedback): `value` is 2; feedback is a number from -1 to 1"),
    ("[[observe]]\nat = 1\nkind = 'feedback'\nvalue = 1\nexpect = 'x'", "`expect` means nothing to the kind feedback"),
    ("[[observe]]\nat = 1\nkind = 'limit'", "3:1: observe number 1 (at = 1, limit): needs a `limit`: a size"),
    ("[[observe]]\nat = 1\nkind = 'limit'\nlimit = 3", "6:9: observe number 1 (at = 1, limit): `limit` is 3; expected a size such as"),
    ("[[observe]]\nat = 1\nkind = 'limit'\nlimit = '9slots'\nvalue = 1", "7:1: observe number 1 (at = 1, limit): `value` means nothing to the kind limit"),
    ("[[observe]]\nat = 1\nkind = 'text'\ntext = 'b'\nlimit = '9slots'", "7:1: observe number 1 (at = 1, text): `limit` means nothing to the kind text\n  hint: `limit` belongs to: limit"),
    ("[[observe]]\nat = 51\nkind = 'text'\ntext = 'b'", "4:6: observe number 1 (at = 51, text): `at` is 51, later than the scenario's `ticks` = 50"),
    ("[[observe]]\nat = 4\nkind = 'text'\ntext = 'b'\n[[observe]]\nat = 1\nkind = 'text'\ntext = 'b'", "8:6: observe number 2 (at = 1, text): `at` is 1, earlier than the entry before it (at = 4)\n  hint: keep the entries in order of time"),
    ("observe = [{ at = 1, kind = 'text', txt = 'b', text = 'c' }]", "3:37: observe number 1 (at = 1, text): there is no key `txt` here\n  hint: did you mean `text`?"),
    ("[[expect]]", "3:1: expect number 1: is empty; expected one of states, never"),
    ("[[expect]]\nstates = ['awake']", "4:11: expect number 1: `awake` is no state\n  hint: did you mean `wake`?"),
    ("[[expect]]\nstates = ['wake', 'doze']", "4:19: expect number 1: `doze` is no state\n  hint: known: wake, focus, rest, dream, threat, depletion, crisis"),
    ("[[expect]]\nstates = 'wake'", "`states` is \"wake\"; expected a list of states"),
    ("[[expect]]\nstates = [3]", "`states` is 3; expected a list of states"),
    ("[[expect]]\nnever = []", "4:9: expect number 1: `never` names no state"),
    ("[[expect]]\nwithin_limit = true\nmean_loss_below = 3", "has within_limit and mean_loss_below: keep one an entry"),
    ("[[expect]]\nwithin_limit = 'yes'", "`within_limit` is \"yes\"; expected true or false"),
    ("[[expect]]\nmean_loss_below = -1", "`mean_loss_below` is -1; expected a number above 0"),
    ("[[expect]]\nmean_loss = 1", "4:1: expect number 1: there is no key `mean_loss` here"),
    ("[[expect]]\nstates = ['crisis']\n[[expect]]\nnever = ['threat', 'depletion']", "4:11: expect: `crisis` is expected, and expected never to come"),
];

#[test]
fn a_mistake_is_named_with_its_place_and_what_was_meant() {
    for (text, expected) in MISTAKES {
        let found = problems(&format!("{HEAD}{text}"));
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{text}:\n{}", shown.join("\n"));
        assert!(
            shown[0].contains(expected),
            "{text}:\n{}\ndoes not say\n{expected}",
            shown[0]
        );
    }
}

#[test]
fn what_must_be_there_is_asked_for() {
    let found: Vec<String> = problems("")
        .iter()
        .map(|problem| problem.message.clone())
        .collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found
            .iter()
            .any(|message| message.starts_with("needs `name`"))
    );
    assert!(
        found
            .iter()
            .any(|message| message.starts_with("needs `ticks`"))
    );
}

#[test]
fn every_mistake_is_found_at_once_in_the_order_of_the_text() {
    let text = "name = 3\nlimit = 'much'\nticks = 9\ntick = 8\n[sensors.a]\nrange = [2, 1]\n\
        [[observe]]\nat = 5\nkind = 'text'\nurgency = 2\n\
        [[observe]]\nat = 3\nkind = 'sensor'\nsensor = 'a'\n\
        [[expect]]\nnever = ['nap', 'doze']\n";
    let lines: Vec<usize> = problems(text)
        .iter()
        .map(|problem| problem.place.line)
        .collect();
    assert_eq!(lines, [1, 2, 4, 5, 6, 7, 10, 11, 12, 16, 16]);
}

#[test]
fn syntax_comes_before_meaning() {
    let found = problems("name = 'a'\nticks = \n[[observe]]\nat = x\n");
    assert!(
        found.iter().all(|problem| problem.entry.is_empty()),
        "{found:#?}"
    );
    assert_eq!(found[0].place.line, 2);
}

#[test]
fn a_sound_scenario_is_read_with_its_defaults() {
    let text = "name = 'a'\nticks = 0x10\nlimit = '25%'\nsensors.a = { resolution = 1, reserve = [10, 0] }\n\
        observe = [{ at = 0, kind = 'sensor', sensor = 'a', value = 4 }, { at = 0, kind = 'alarm', text = 'b', expect = 'c' }]\n\
        expect = [{ states = ['wake', 'crisis'] }, { never = ['depletion'] }, { within_limit = true }, { mean_loss_below = 3 }]\n";
    let scenario = Scenario::parse(Path::new("t.toml"), text).expect("sound");
    assert_eq!(
        (scenario.ticks, scenario.limit),
        (16, Some(Limit::Percent(25.0)))
    );
    assert_eq!(
        (
            scenario.context_tokens,
            scenario.chunk_tokens,
            scenario.answer_tokens
        ),
        (512, 32, 32)
    );
    assert_eq!(scenario.sensors["a"].level(4.0), Some(0.6));
    assert_eq!(scenario.observe[1].expect.as_deref(), Some("c"));
    assert_eq!(scenario.expect[3], Expectation::MeanLossBelow(3.0));
}

#[test]
fn texts_of_files_are_found_beside_the_scenario() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s.toml");
    std::fs::write(folder.path().join("book.txt"), "Once upon a time.").expect("written");
    let text = format!("{HEAD}[[observe]]\nat = 1\nkind = 'text'\nfile = 'book.txt'\n");
    let scenario = Scenario::parse(&path, &text).expect("sound");
    assert_eq!(
        scenario.observe[0].text.as_deref(),
        Some("Once upon a time.")
    );
    std::fs::write(folder.path().join("book.txt"), " \n").expect("written");
    assert!(Scenario::parse(&path, &text).is_err());
}

/// A key that the language names is a key that is read: each is missed when its value is wrong.
#[test]
fn every_key_of_the_language_is_read() {
    let date = "1979-05-27";
    let sensor = "[sensors.a]\n";
    let observe = "[[observe]]\n";
    for (head, keys) in [
        ("", &SCENARIO[..]),
        (sensor, &SENSOR),
        (observe, &OBSERVE),
        ("[[expect]]\n", &EXPECT),
    ] {
        for key in keys {
            let name = key.name;
            let found = problems(&format!("{head}{name} = {date}\n"));
            let missed = found.iter().any(|problem| {
                problem.message == format!("`{name}` is {date}; expected {}", key.expected)
            });
            assert!(missed, "{head}{name}: {found:#?}");
        }
    }
}

/// What a message repeats cannot reach the terminal as anything but text.
#[test]
fn messages_repeat_nothing_that_a_terminal_obeys() {
    let text = format!(
        "{HEAD}\"\\u001b[31m\" = 1\nsensors.\"\\u001bx\" = 3\n[[observe]]\nat = 1\nkind = \"\\u001b[2J\"\n\
         [[expect]]\nstates = [\"\\u001bc\"]\n"
    );
    let found = problems(&text);
    assert_eq!(found.len(), 4, "{found:#?}");
    for problem in found {
        assert!(!problem.to_string().contains('\u{1b}'), "{problem}");
    }
}
