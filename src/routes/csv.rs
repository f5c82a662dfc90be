//! One row a routed slot.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::path::Path;

use sage_actors::protocol::Phase;

use super::draft::{Draft, Layers, MOST_EXPERTS, MOST_LAYERS};
use super::lines::{lines, number};
use crate::trace::TraceError;

/// Positions of the columns that are looked at.
struct Columns {
    count: usize,
    turn: Option<usize>,
    phase: usize,
    step: usize,
    layer: usize,
    expert: usize,
    expert_bytes: Option<usize>,
}

/// What rows with the same key have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Group {
    turn: u64,
    phase: Phase,
    /// Of a prompt: 0, as all of it is one batch.
    step: u64,
}

#[derive(Default)]
struct Reader {
    draft: Draft,
    columns: Option<Columns>,
    group: Option<Group>,
    steps: BTreeSet<u64>,
    uses: BTreeMap<(u64, u16), u32>,
}

pub(super) fn read(path: &Path, text: &mut dyn BufRead) -> Result<Draft, TraceError> {
    let mut reader = Reader::default();
    lines(path, text, |_, line| match line.strip_prefix('#') {
        Some(words) => reader.remark(words),
        None if line.is_empty() => Ok(()),
        None if reader.columns.is_none() => {
            reader.columns = Some(columns(line)?);
            Ok(())
        }
        None => reader.row(line),
    })?;
    reader.close();
    Ok(reader.draft)
}

fn columns(line: &str) -> Result<Columns, String> {
    let names: Vec<&str> = line.split(',').map(str::trim).collect();
    let find = |name: &str| names.iter().position(|found| *found == name);
    let must = |name: &str| {
        find(name).ok_or_else(|| {
            format!("no column `{name}`; expected a header with phase, step, layer and expert")
        })
    };
    Ok(Columns {
        count: names.len(),
        turn: find("turn"),
        phase: must("phase")?,
        step: must("step")?,
        layer: must("layer")?,
        expert: must("expert")?,
        expert_bytes: find("expert_bytes"),
    })
}

impl Reader {
    /// `# n_layer=48 n_expert=128`, `# layer=0 expert_bytes=3059712`; other words say nothing to us.
    fn remark(&mut self, words: &str) -> Result<(), String> {
        let words: BTreeMap<&str, &str> = words
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .collect();
        let get = |name: &str, most| {
            let text = words.get(name);
            text.map(|text| number(name, text, most)).transpose()
        };
        if let Some(layers) = get("n_layer", MOST_LAYERS)? {
            self.draft.layers = Some(layers);
        }
        if let Some(experts) = get("n_expert", MOST_EXPERTS)? {
            self.draft.experts = Some(experts);
        }
        if let (Some(layer), Some(bytes)) = (
            get("layer", MOST_LAYERS)?,
            get("expert_bytes", u64::from(u32::MAX))?,
        ) {
            self.note_bytes(layer, bytes);
        }
        Ok(())
    }

    fn note_bytes(&mut self, layer: u64, bytes: u64) {
        let sizes = &mut self.draft.expert_bytes;
        let layer = layer as usize;
        if sizes.len() <= layer {
            sizes.resize(layer + 1, 0);
        }
        // A row of an expert that was resident says 0: nothing was read.
        sizes[layer] = sizes[layer].max(bytes);
    }

    fn row(&mut self, line: &str) -> Result<(), String> {
        let Some(columns) = &self.columns else {
            return Ok(());
        };
        let values: Vec<&str> = line.split(',').collect();
        if values.len() != columns.count {
            return Err(format!(
                "{} values; expected {} as in the header",
                values.len(),
                columns.count
            ));
        }
        let layer = number("layer", values[columns.layer], MOST_LAYERS)?;
        let expert = number("expert", values[columns.expert], MOST_EXPERTS)?;
        let step = number("step", values[columns.step], u64::MAX)?;
        let turn = columns.turn.map(|at| number("turn", values[at], u64::MAX));
        let phase = match values[columns.phase].trim() {
            "0" => Phase::Prefill,
            "1" => Phase::Decode,
            other => return Err(format!("phase is `{other}`; expected 0 (prompt) or 1")),
        };
        let bytes = columns.expert_bytes.map(|at| values[at]);
        let bytes = bytes.map(|text| number("expert_bytes", text, u64::from(u32::MAX)));
        if let Some(bytes) = bytes.transpose()? {
            self.note_bytes(layer, bytes);
        }
        let group = Group {
            turn: turn.transpose()?.unwrap_or(0),
            phase,
            step: if phase == Phase::Decode { step } else { 0 },
        };
        self.enter(group)?;
        self.steps.insert(step);
        let token = (group.turn, phase == Phase::Decode, step);
        let layers = self.draft.tokens.of_step(token);
        if layers.len() <= layer as usize {
            layers.resize(layer as usize + 1, Vec::new());
        }
        layers[layer as usize].push(expert as u16);
        *self.uses.entry((layer, expert as u16)).or_default() += 1;
        Ok(())
    }

    fn enter(&mut self, group: Group) -> Result<(), String> {
        if self.group == Some(group) {
            return Ok(());
        }
        if let Some(before) = self.group {
            let back = before.turn == group.turn
                && before.phase == group.phase
                && before.step > group.step;
            if back {
                return Err(format!(
                    "step {} after step {}: rows of a token must stand together, in order",
                    group.step, before.step
                ));
            }
        }
        self.close();
        self.group = Some(group);
        Ok(())
    }

    /// The group is complete.
    fn close(&mut self) {
        let Some(group) = self.group.take() else {
            return;
        };
        let mut layers: Layers = Vec::new();
        for ((layer, expert), uses) in std::mem::take(&mut self.uses) {
            let layer = layer as usize;
            if layers.len() <= layer {
                layers.resize(layer + 1, Vec::new());
            }
            layers[layer].push((expert, uses));
        }
        let tokens = std::mem::take(&mut self.steps).len() as u32;
        self.draft.steps.push((group.phase, tokens, layers));
    }
}
