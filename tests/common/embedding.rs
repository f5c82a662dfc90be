//! What tests of the embedded loop need.

use sage::Sage;
use sage::events::Event;
use sage::session::{Action, Builder, Ended, Telemetry};

/// The model in the repository.
pub const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny");

/// A question whose answer is Milan.
pub const HELEN: &str = "Laura lives in London. Peter lives in Dublin. Helen lives in Milan. Tom lives in Oslo. Where does Helen live?";

/// A small loop.
pub fn builder() -> Builder {
    let builder = Sage::builder().model(MODEL).context_tokens(512);
    builder.answer_tokens(8).chunk_tokens(32).threads(1)
}

/// Everything that a stream holds now.
pub fn all(telemetry: &mut Telemetry) -> Vec<Event> {
    std::iter::from_fn(|| telemetry.try_next()).collect()
}

/// The answers among actions.
pub fn says(actions: &[Action]) -> Vec<(u64, &str, Ended)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Say {
                id, text, ended, ..
            } => Some((*id, text.as_str(), *ended)),
            _ => None,
        })
        .collect()
}

/// The requests that were answered, or not, in order.
pub fn ids(actions: &[Action]) -> Vec<u64> {
    let id = |action: &Action| match action {
        Action::Say { id, .. } | Action::Unanswered { id, .. } => Some(*id),
        _ => None,
    };
    let mut ids: Vec<u64> = actions.iter().filter_map(id).collect();
    ids.sort_unstable();
    ids
}
