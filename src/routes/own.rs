//! The routing of a recorded run of SAGE.

use std::collections::BTreeMap;
use std::path::Path;

use sage_actors::protocol::{LayerKey, Phase};

use super::draft::{Draft, Layers};
use crate::trace::{TraceError, TraceReader, TraceRecord};

/// How such a file begins.
pub(super) const BEGINNING: &[u8] = b"{\"event\":{\"type\":\"header\"";

pub(super) fn read(path: &Path) -> Result<Draft, TraceError> {
    let (mut reader, header) = TraceReader::open(path)?;
    let mut places = BTreeMap::<LayerKey, usize>::new();
    let mut draft = Draft::default();
    let mut most = 0;
    for shape in &header.mind.modules {
        most = most.max(u64::from(shape.experts));
        for key in shape.keys() {
            places.insert(key, places.len());
            draft.expert_bytes.push(shape.expert_bytes);
            if !shape.smaller.is_empty() {
                let own = (0..shape.experts).map(|expert| shape.bytes_of(key.layer, expert));
                draft.each_bytes.insert(places.len() - 1, own.collect());
            }
        }
    }
    (draft.layers, draft.experts) = (Some(places.len() as u64), Some(most));
    let mut step: Option<RoutedStep> = None;
    while let Some(line) = reader.next_line()? {
        let record = line
            .record()
            .map_err(|error| reader.problem(format!("{error}; expected a recorded event")))?;
        let TraceRecord::Route {
            layer,
            asked,
            answer,
        } = record
        else {
            continue;
        };
        let Some(place) = places.get(&layer).copied() else {
            let problem = format!("routing of {layer:?}, which the header does not name");
            return Err(reader.problem(problem));
        };
        // A layer at or before the one before it belongs to the next step.
        if step.as_ref().is_none_or(|step| place <= step.last) {
            draft.steps.extend(step.take().map(RoutedStep::done));
        }
        let step = step.get_or_insert_with(|| RoutedStep {
            phase: asked.phase,
            tokens: answer.experts.len() as u32,
            layers: vec![Vec::new(); places.len()],
            last: 0,
        });
        step.last = place;
        let mut uses = BTreeMap::<u16, u32>::new();
        for expert in answer.experts.iter().flatten() {
            *uses.entry(*expert).or_default() += 1;
        }
        step.layers[place] = uses.into_iter().collect();
    }
    draft.steps.extend(step.map(RoutedStep::done));
    Ok(draft)
}

/// A step of the model while its layers come in.
struct RoutedStep {
    phase: Phase,
    tokens: u32,
    layers: Layers,
    last: usize,
}

impl RoutedStep {
    fn done(self) -> (Phase, u32, Layers) {
        (self.phase, self.tokens, self.layers)
    }
}
