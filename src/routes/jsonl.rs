//! One JSON object a decoded token.

use std::io::BufRead;
use std::path::Path;

use sage_actors::protocol::Phase;
use serde::Deserialize;

use super::draft::{Draft, MOST_EXPERTS, MOST_LAYERS};
use super::lines::lines;
use crate::trace::TraceError;

/// `{"tok": 1, "layers": [[6, 8], [7, 16]]}`; the token's number is not needed.
#[derive(Deserialize)]
struct TokenLine {
    layers: Vec<Vec<u64>>,
}

pub(super) fn read(path: &Path, text: &mut dyn BufRead) -> Result<Draft, TraceError> {
    let mut draft = Draft::default();
    lines(path, text, |_, line| {
        if line.is_empty() {
            return Ok(());
        }
        let token: TokenLine = serde_json::from_str(line).map_err(|error| {
            format!("{error}; expected {{\"tok\": 1, \"layers\": [[experts], …]}}")
        })?;
        if token.layers.len() as u64 >= MOST_LAYERS {
            return Err(format!(
                "{} layers are more than any model has",
                token.layers.len()
            ));
        }
        let mut layers = Vec::with_capacity(token.layers.len());
        for used in &token.layers {
            let mut uses = Vec::with_capacity(used.len());
            for expert in used {
                if *expert >= MOST_EXPERTS {
                    return Err(format!(
                        "expert {expert}; expected a number below {MOST_EXPERTS}"
                    ));
                }
                uses.push((*expert as u16, 1));
            }
            uses.sort_unstable();
            uses.dedup();
            layers.push(uses);
        }
        let token = (0, true, draft.steps.len() as u64);
        let used = |uses: &Vec<(u16, u32)>| uses.iter().map(|(expert, _)| *expert).collect();
        draft
            .tokens
            .insert(token, layers.iter().map(used).collect());
        draft.steps.push((Phase::Decode, 1, layers));
        Ok(())
    })?;
    Ok(draft)
}
