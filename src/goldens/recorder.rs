//! What the engine computed on the way, kept to be compared.

use std::collections::BTreeMap;

use sage_actors::protocol::{Chosen, Selection};

use crate::core::Probe;

/// Keeps what a probe hears, steps of a prompt one after the other.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) tensors: BTreeMap<String, Vec<f32>>,
    pub(crate) choices: BTreeMap<usize, Vec<Vec<Chosen>>>,
}

impl Recorder {
    /// What was heard of a tensor; nothing where there is none.
    pub(crate) fn tensor_of(&self, name: &str) -> &[f32] {
        self.tensors.get(name).map_or(&[], Vec::as_slice)
    }
}

impl Probe for Recorder {
    fn tensor(&mut self, name: &str, values: &[f32]) {
        self.tensors
            .entry(name.to_owned())
            .or_default()
            .extend_from_slice(values);
    }

    fn selection(&mut self, layer: usize, selection: &Selection) {
        let rows = (0..selection.rows()).map(|row| selection.row(row).to_vec());
        self.choices.entry(layer).or_default().extend(rows);
    }
}
