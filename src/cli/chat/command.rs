//! What a line of the conversation asks for.

use std::path::PathBuf;

use crate::core::Limit;
use crate::input::{SizeError, known};
use crate::media::medium::MediumKind;

/// The commands: name, arguments, meaning.
pub const COMMANDS: [(&str, &str, &str); 15] = [
    ("/help", "", "this list"),
    ("/state", "", "state, energy, budgets, memory"),
    (
        "/salience",
        "",
        "the five numbers and the drive; the last segments",
    ),
    (
        "/trust",
        "",
        "the most and the least trusted experts of every layer",
    ),
    (
        "/why",
        "",
        "what moved the states in the last turn, and which experts answered",
    ),
    (
        "/read",
        "FILE",
        "a text that is read into the conversation: ask about it afterwards",
    ),
    (
        "/hear",
        "FILE [QUESTION]",
        "a sound, and what to answer about it; alone, the question is in it (begin with --hear)",
    ),
    (
        "/see",
        "FILE [QUESTION]",
        "a picture, and what to answer about it (begin with --see)",
    ),
    (
        "/speak",
        "[on|off|NAME]",
        "whether answers are spoken, and in whose voice (begin with --speak FOLDER)",
    ),
    (
        "/limit",
        "[SIZE]",
        "the memory limit and where it comes from; another: 300MiB, 25%, 64slots, none",
    ),
    (
        "/feedback",
        "N",
        "on the last answer, from -1 (bad) to 1 (good)",
    ),
    ("/good", "", "the same as /feedback 1"),
    ("/bad", "", "the same as /feedback -1"),
    ("/reset", "", "forget the conversation"),
    ("/quit", "", "end"),
];

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub enum ChatCommand {
    /// The list of commands.
    Help,
    /// State, energy, budgets.
    State,
    /// Salience.
    Salience,
    /// Trust.
    Trust,
    /// Reasons.
    Why,
    /// A text file, to be read into the conversation.
    Read(PathBuf),
    /// A sound or a picture.
    Perceive {
        /// Which of them.
        kind: MediumKind,
        /// Its file.
        file: PathBuf,
        /// What is asked about it; empty: nothing.
        question: String,
    },
    /// Whether answers are spoken.
    Speak(SpeakWish),
    /// The limit; with one, another.
    Limit(Option<Limit>),
    /// On the last answer.
    Feedback(f32),
    /// A new conversation.
    Reset,
    /// The end.
    Quit,
}

/// What is wanted of the voice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpeakWish {
    /// On if it was off.
    Toggle,
    /// Answers are spoken.
    On,
    /// They are not.
    Off,
    /// They are, in this voice.
    As(String),
}

/// What a line is.
#[derive(Clone, Debug, PartialEq)]
pub enum ChatLine<'a> {
    /// Nothing.
    Nothing,
    /// Something said.
    Said(&'a str),
    /// A command.
    Command(ChatCommand),
    /// Something that cannot be understood: why, and what to do.
    Refused(String, String),
}

/// Understands a line.
pub fn parse(line: &str) -> ChatLine<'_> {
    if line.trim().is_empty() {
        return ChatLine::Nothing;
    }
    if !line.starts_with('/') {
        return ChatLine::Said(line.trim());
    }
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    match command(name, &rest.join(" ")) {
        Ok(command) => ChatLine::Command(command),
        Err((message, hint)) => ChatLine::Refused(message, hint),
    }
}

fn command(name: &str, argument: &str) -> Result<ChatCommand, (String, String)> {
    let plain = |command: ChatCommand| match argument {
        "" => Ok(command),
        _ => Err((
            format!("{name} takes nothing after it"),
            format!("{name} alone"),
        )),
    };
    match name {
        "/help" => plain(ChatCommand::Help),
        "/state" => plain(ChatCommand::State),
        "/salience" => plain(ChatCommand::Salience),
        "/trust" => plain(ChatCommand::Trust),
        "/why" => plain(ChatCommand::Why),
        "/good" => plain(ChatCommand::Feedback(1.0)),
        "/bad" => plain(ChatCommand::Feedback(-1.0)),
        "/reset" => plain(ChatCommand::Reset),
        "/quit" => plain(ChatCommand::Quit),
        "/read" if argument.is_empty() => Err((
            "/read needs a file".to_owned(),
            "/read FILE, a text in UTF-8".to_owned(),
        )),
        "/read" => Ok(ChatCommand::Read(argument.into())),
        "/hear" => perceive(name, MediumKind::Sound, argument),
        "/see" => perceive(name, MediumKind::Picture, argument),
        "/speak" => Ok(ChatCommand::Speak(match argument {
            "" => SpeakWish::Toggle,
            "on" => SpeakWish::On,
            "off" => SpeakWish::Off,
            name => SpeakWish::As(name.to_owned()),
        })),
        "/limit" if argument.is_empty() => Ok(ChatCommand::Limit(None)),
        "/limit" => match argument.parse::<Limit>() {
            Ok(limit) => Ok(ChatCommand::Limit(Some(limit))),
            Err(SizeError::NoUnit(number)) => Err((
                SizeError::NoUnit(number.clone()).to_string(),
                format!("/limit {number}MiB, or /limit {number}slots"),
            )),
            Err(error) => Err((error.to_string(), "/limit 300MiB, or /limit none".into())),
        },
        "/feedback" => match argument.parse::<f32>() {
            Ok(value) if (-1.0..=1.0).contains(&value) => Ok(ChatCommand::Feedback(value)),
            _ => Err((
                format!("feedback is a number from -1 to 1, not `{argument}`"),
                "/feedback 0.5, /good or /bad".into(),
            )),
        },
        _ => Err((
            format!("there is no command {name}"),
            format!(
                "{} (a line that begins with a space is said)",
                known(name, &COMMANDS.map(|(name, ..)| name))
            ),
        )),
    }
}

/// The file, and the question behind it.
fn perceive(name: &str, kind: MediumKind, argument: &str) -> Result<ChatCommand, (String, String)> {
    let (file, question) = argument.split_once(' ').unwrap_or((argument, ""));
    if file.is_empty() {
        return Err((
            format!("{name} needs a file"),
            format!("{name} FILE, or {name} FILE QUESTION"),
        ));
    }
    Ok(ChatCommand::Perceive {
        kind,
        file: file.into(),
        question: question.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_or_commands_or_refused_with_a_hint() {
        let refused = |line: &str| match parse(line) {
            ChatLine::Refused(message, hint) => format!("{message}; {hint}"),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(parse("  "), ChatLine::Nothing);
        assert_eq!(parse(" /etc is what? "), ChatLine::Said("/etc is what?"));
        assert_eq!(
            parse("/good"),
            ChatLine::Command(ChatCommand::Feedback(1.0))
        );
        assert_eq!(
            parse("/feedback -.5"),
            ChatLine::Command(ChatCommand::Feedback(-0.5))
        );
        assert_eq!(
            parse("/limit 64 slots"),
            ChatLine::Command(ChatCommand::Limit(Some(Limit::Slots(64))))
        );
        assert_eq!(
            parse("/limit none"),
            ChatLine::Command(ChatCommand::Limit(Some(Limit::None)))
        );
        assert_eq!(
            parse("/limit "),
            ChatLine::Command(ChatCommand::Limit(None))
        );
        for number in ["40", "0", "1.5", "4096"] {
            let refused = refused(&format!("/limit {number}"));
            assert!(refused.contains("no unit"), "{refused}");
            assert!(
                refused.contains(&format!("/limit {number}MiB")),
                "{refused}"
            );
        }
        let heard = ChatCommand::Perceive {
            kind: MediumKind::Sound,
            file: "a.wav".into(),
            question: "What is it?".into(),
        };
        assert_eq!(parse("/hear a.wav What is it?"), ChatLine::Command(heard));
        assert!(refused("/see").contains("needs a file"));
        assert!(refused("/stat").contains("did you mean `/state`?"));
        assert!(refused("/dance").contains("known: /help, "));
        assert!(refused("/why not").contains("takes nothing"));
        for line in [
            "/feedback",
            "/feedback 2",
            "/feedback nan",
            "/limit 3parsecs",
        ] {
            assert!(!refused(line).is_empty());
        }
    }

    #[test]
    fn every_command_of_the_list_is_one() {
        for (name, argument, _) in COMMANDS {
            let argument = match argument {
                "[SIZE]" => "1GiB",
                "N" => "1",
                "FILE [QUESTION]" => "file",
                other => other,
            };
            let line = format!("{name} {argument}");
            assert!(matches!(parse(&line), ChatLine::Command(_)), "{line}");
        }
    }
}
