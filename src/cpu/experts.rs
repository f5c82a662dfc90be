//! One expert's arithmetic on its record.

use std::collections::BTreeMap;
use std::time::Instant;

use sage_actors::protocol::{ExpertKey, Module};

use super::loaded::LoadedExpert;
use crate::core::ports::{ExpertOutput, ExpertReadError, HostError, PlainRows, component_name};
use crate::model::experts::{ExpertScratch, ExpertShape, Gated};

pub(super) fn shape_of(
    shapes: &BTreeMap<Module, ExpertShape>,
    key: ExpertKey,
) -> Result<ExpertShape, HostError> {
    let shape = shapes.get(&key.layer.module).copied();
    shape.ok_or_else(|| {
        HostError::Read(ExpertReadError {
            key,
            component: component_name(key),
            reason: "the model was opened without this module: this is a fault of the program, please report it".into(),
        })
    })
}

/// One expert on rows of `x` `[tokens, hidden]`.
pub(super) fn run_expert(
    shape: ExpertShape,
    key: ExpertKey,
    loaded: &LoadedExpert,
    rows: &[usize],
    x: &[f32],
    scratch: &mut ExpertScratch,
) -> Result<ExpertOutput, HostError> {
    let started = Instant::now();
    let expert = Gated::of_record(loaded.bytes(), shape, loaded.formats());
    let expert = expert.ok_or(HostError::ShortRecord(key))?;
    let hidden = shape.hidden;
    let row = |token: usize| &x[token * hidden..(token + 1) * hidden];
    let mut values = vec![0.0; rows.len() * hidden];
    if let [token] = rows {
        expert.apply(row(*token), 1, &mut values, scratch);
    } else {
        let x: Vec<f32> = rows
            .iter()
            .flat_map(|token| row(*token).iter().copied())
            .collect();
        expert.apply(&x, rows.len(), &mut values, scratch);
    }
    Ok(ExpertOutput {
        expert: key.expert,
        values: Box::new(PlainRows::new(values, hidden)),
        read_in: None,
        ran_in: started.elapsed(),
    })
}
