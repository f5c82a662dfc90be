//! One JSON object a decoded token.

use std::io::BufRead;
use std::path::Path;

use sage_actors::protocol::Phase;
use serde::Deserialize;

use super::draft::{Draft, MOST_EXPERTS, MOST_LAYERS};
use super::lines::lines;
use crate::trace::TraceError;

/// `{"tok": 1, "layers": [[6, 8], [7, 16]]}`; the token's number is not needed. Lists are the decoder layers' by their number; that
/// of a dense layer is empty, in every line.
#[derive(Deserialize)]
struct TokenLine {
    layers: Vec<Vec<u64>>,
}

pub(super) fn read(path: &Path, text: &mut dyn BufRead) -> Result<Draft, TraceError> {
    let mut draft = Draft::default();
    // Of the first line: which layers have experts.
    let mut first: Option<(u64, Vec<bool>)> = None;
    lines(path, text, |line, text| {
        if text.is_empty() {
            return Ok(());
        }
        let token: TokenLine = serde_json::from_str(text).map_err(|error| {
            format!("{error}; expected {{\"tok\": 1, \"layers\": [[experts], …]}}")
        })?;
        let layers = uses(&token)?;
        let sparse: Vec<bool> = layers.iter().map(|uses| !uses.is_empty()).collect();
        let (first_line, expected) = first.get_or_insert_with(|| (line, sparse.clone()));
        check_layers(&sparse, expected, *first_line)?;
        let used = |uses: &Vec<(u16, u32)>| uses.iter().map(|(expert, _)| *expert).collect();
        let of_token = layers.iter().map(used).collect();
        draft.tokens.push_line(line, of_token);
        draft.steps.push((Phase::Decode, 1, layers));
        Ok(())
    })?;
    Ok(draft)
}

/// The experts of every layer, each once.
fn uses(token: &TokenLine) -> Result<Vec<Vec<(u16, u32)>>, String> {
    if token.layers.len() as u64 >= MOST_LAYERS {
        return Err(format!(
            "{} layers are more than any model has",
            token.layers.len()
        ));
    }
    let mut layers = Vec::with_capacity(token.layers.len());
    for (layer, used) in token.layers.iter().enumerate() {
        let mut uses: Vec<(u16, u32)> = Vec::with_capacity(used.len());
        for expert in used {
            if *expert >= MOST_EXPERTS {
                return Err(format!(
                    "layer {layer}: expert {expert}; expected a number below {MOST_EXPERTS}"
                ));
            }
            uses.push((*expert as u16, 1));
        }
        uses.sort_unstable();
        let twice = uses.windows(2).find(|pair| pair[0].0 == pair[1].0);
        if let Some(twice) = twice {
            return Err(format!(
                "layer {layer}: expert {} stands there twice; expected every expert of a token once",
                twice[0].0
            ));
        }
        layers.push(uses);
    }
    Ok(layers)
}

/// That a line speaks of the layers that the first one speaks of.
fn check_layers(sparse: &[bool], expected: &[bool], first_line: u64) -> Result<(), String> {
    if sparse.len() != expected.len() {
        return Err(format!(
            "layers: {}; expected {}, as line {first_line} has",
            sparse.len(),
            expected.len()
        ));
    }
    let mut pairs = sparse.iter().zip(expected).enumerate();
    match pairs.find(|(_, (is, due))| is != due) {
        Some((layer, (false, _))) => Err(format!(
            "layer {layer} has no expert; expected some, as in line {first_line}"
        )),
        Some((layer, _)) => Err(format!(
            "layer {layer} has experts; expected none, as in line {first_line}"
        )),
        None => Ok(()),
    }
}
