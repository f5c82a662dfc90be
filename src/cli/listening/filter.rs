//! What `--log` lets through: levels, in general and by name. The names are a closed list, so that a misspelt one is refused where
//! other filters would show nothing.

use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::events::emit;
use crate::input::known;
use crate::spans;

const LEVELS: &str = "off, error, warn, info, debug or trace";

/// A part of a filter that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("`{part}`: {reason}")]
pub struct BadPart {
    part: String,
    reason: String,
}

/// Understands parts between commas: a level, a name, or a name and its level. A name is one of a span or an event (`read`), or of a
/// room and all that is in it (`sage::core`); alone it stands for everything of it.
///
/// # Errors
/// The first part that is none of these.
pub fn parse(text: &str) -> Result<Targets, BadPart> {
    let targets = targets();
    let mut filter = Targets::new();
    for part in text.split(',').map(str::trim) {
        let bad = |reason: String| BadPart {
            part: part.to_owned(),
            reason,
        };
        if let Some(level) = level(part) {
            filter = filter.with_default(level);
            continue;
        }
        let (name, level) = match part.split_once('=') {
            None => (part, LevelFilter::TRACE),
            Some((name, written)) => {
                let level = level(written.trim());
                let level = level
                    .ok_or_else(|| bad(format!("`{written}` is no level; expected {LEVELS}")))?;
                (name.trim(), level)
            }
        };
        let meant = meant_by(name, &targets);
        if meant.is_empty() {
            let names: Vec<&str> = targets.iter().map(|target| last(target)).collect();
            return Err(bad(format!(
                "no span, event or room has this name, and no level ({LEVELS}); {}",
                known(name, &names)
            )));
        }
        filter = filter.with_targets(meant.into_iter().map(|target| (target, level)));
    }
    Ok(filter)
}

/// Of every span and every event.
fn targets() -> Vec<String> {
    let events = emit::NAMES.map(|name| format!("{}::{name}", emit::TARGET));
    let spans = spans::TARGETS.map(str::to_owned);
    spans.into_iter().chain(events).collect()
}

fn last(target: &str) -> &str {
    target.rsplit("::").next().unwrap_or(target)
}

/// The targets that are meant: the room, or what is called so in any room.
fn meant_by(name: &str, targets: &[String]) -> Vec<String> {
    let inside = |target: &String| {
        let rest = target.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    if targets.iter().any(inside) {
        return vec![name.to_owned()];
    }
    let called = targets.iter().filter(|target| last(target) == name);
    called.cloned().collect()
}

fn level(written: &str) -> Option<LevelFilter> {
    // A number would be one, too.
    let word = written.chars().all(|c| c.is_ascii_alphabetic());
    written.parse().ok().filter(|_| word && !written.is_empty())
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_and_names_are_understood() {
        let filter = parse("warn, sage::core=debug,read=trace").expect("a filter");
        for (target, level, shown) in [
            ("sage::core::layer", Level::DEBUG, true),
            ("sage::core::lease", Level::TRACE, false),
            ("sage::cpu::read", Level::TRACE, true),
            ("sage::events::read", Level::DEBUG, true),
            ("sage::cpu::wait", Level::TRACE, false),
            ("sage::events::shed", Level::WARN, true),
            ("sage::events::state", Level::INFO, false),
        ] {
            assert_eq!(filter.would_enable(target, &level), shown, "{target}");
        }
        let all = parse("cache").expect("a filter");
        assert!(all.would_enable("sage::events::cache", &Level::DEBUG));
        assert!(!all.would_enable("sage::events::state", &Level::INFO));
    }

    #[test]
    fn a_part_that_means_nothing_is_named() {
        for (filter, part, hint) in [
            ("info,raed=trace", "`raed=trace`", "did you mean `read`?"),
            ("read=loud", "`read=loud`", "`loud` is no level"),
            ("sage::cor=info", "`sage::cor=info`", "known: "),
            ("info,,debug", "``", "off, error"),
            ("5", "`5`", "no level"),
        ] {
            let said = parse(filter).expect_err(filter).to_string();
            assert!(
                said.contains(part) && said.contains(hint),
                "{filter}: {said}"
            );
        }
    }
}
