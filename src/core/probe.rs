//! Who listens to a step's intermediate results.

use std::fmt;

use sage_actors::protocol::Selection;

use super::ports::{DecoderError, HiddenRows};

/// Hears of every intermediate result; for comparing with a reference.
pub trait Probe {
    /// A tensor by the golden files' name, row-major.
    fn tensor(&mut self, name: &str, values: &[f32]);
    /// The experts that a layer's router chose.
    fn selection(&mut self, layer: usize, selection: &Selection);
}

/// Whoever listens to a step, if anybody does: carried by the step.
pub(super) struct Listener<'a>(Option<&'a mut dyn Probe>);

impl<'a> Listener<'a> {
    /// A probe that hears nothing and costs nothing.
    pub const NOBODY: Self = Self(None);

    pub fn new(probe: Option<&'a mut dyn Probe>) -> Self {
        Self(probe)
    }

    pub fn tensor(&mut self, name: fmt::Arguments<'_>, values: &[f32]) {
        if let Some(probe) = &mut self.0 {
            probe.tensor(&name.to_string(), values);
        }
    }

    /// Tells of rows, which are read only where somebody listens.
    pub fn rows(
        &mut self,
        name: fmt::Arguments<'_>,
        rows: &dyn HiddenRows,
    ) -> Result<(), DecoderError> {
        if let Some(probe) = &mut self.0 {
            probe.tensor(&name.to_string(), &rows.read()?);
        }
        Ok(())
    }

    pub fn selection(&mut self, layer: usize, selection: &Selection) {
        if let Some(probe) = &mut self.0 {
            probe.selection(layer, selection);
        }
    }
}
