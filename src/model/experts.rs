//! Arithmetic of gated feed-forward blocks: routed experts and dense layers.

use crate::formats::GatedFormats;
use crate::kernels::{Matrix, MatrixView, matmul, silu_times};

/// Shape of one expert: gate, up and down. How they are stored is each expert's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertShape {
    /// Input and output features.
    pub hidden: usize,
    /// Features between.
    pub intermediate: usize,
}

impl ExpertShape {
    /// Bytes of a record in these formats: gate, up and down, one after the other. None where the rows are not whole
    /// blocks of their format.
    pub fn bytes(&self, formats: GatedFormats) -> Option<usize> {
        let [gate, up, down] = self.matrix_bytes(formats)?;
        gate.checked_add(up)?.checked_add(down)
    }

    /// Bytes of gate, up and down.
    fn matrix_bytes(&self, formats: GatedFormats) -> Option<[usize; 3]> {
        Some([
            formats.gate.matrix_bytes(self.intermediate, self.hidden)?,
            formats.up.matrix_bytes(self.intermediate, self.hidden)?,
            formats.down.matrix_bytes(self.hidden, self.intermediate)?,
        ])
    }
}

/// The three matrices of a gated block.
#[derive(Clone, Copy, Debug)]
pub struct Gated<'a> {
    /// `[intermediate, hidden]`.
    pub gate: MatrixView<'a>,
    /// `[intermediate, hidden]`.
    pub up: MatrixView<'a>,
    /// `[hidden, intermediate]`.
    pub down: MatrixView<'a>,
}

impl<'a> Gated<'a> {
    /// The matrices of an expert's record, page-aligned; none when it is too short for the shape.
    pub fn of_record(record: &'a [u8], shape: ExpertShape, formats: GatedFormats) -> Option<Self> {
        let [gate, up, _] = shape.matrix_bytes(formats)?;
        let view = |at, format, rows, cols| MatrixView::new(format, record.get(at..)?, rows, cols);
        Some(Self {
            gate: view(0, formats.gate, shape.intermediate, shape.hidden)?,
            up: view(gate, formats.up, shape.intermediate, shape.hidden)?,
            down: view(gate + up, formats.down, shape.hidden, shape.intermediate)?,
        })
    }

    /// `down(silu(gate(x)) * up(x))`: x `[rows, hidden]`, out likewise.
    pub fn apply(&self, x: &[f32], rows: usize, out: &mut [f32], scratch: &mut ExpertScratch) {
        let inner = rows * self.gate.rows();
        scratch.gate.clear();
        scratch.gate.resize(inner, 0.0);
        scratch.up.clear();
        scratch.up.resize(inner, 0.0);
        matmul(
            self.gate,
            x,
            rows,
            &mut scratch.gate,
            &mut scratch.transposed,
        );
        matmul(self.up, x, rows, &mut scratch.up, &mut scratch.transposed);
        silu_times(&mut scratch.gate, &scratch.up);
        matmul(self.down, &scratch.gate, rows, out, &mut scratch.transposed);
    }
}

/// An always-resident gated block.
#[derive(Debug)]
pub struct GatedBlock {
    /// `gate_proj`, `[intermediate, hidden]`.
    pub gate: Matrix,
    /// `up_proj`, `[intermediate, hidden]`.
    pub up: Matrix,
    /// `down_proj`, `[hidden, intermediate]`.
    pub down: Matrix,
}

impl GatedBlock {
    /// The block's output: x `[rows, hidden]`, returns the same shape.
    pub fn apply(&self, x: &[f32], rows: usize, scratch: &mut ExpertScratch) -> Vec<f32> {
        let block = Gated {
            gate: self.gate.view(),
            up: self.up.view(),
            down: self.down.view(),
        };
        let mut out = vec![0.0; rows * self.down.rows()];
        block.apply(x, rows, &mut out, scratch);
        out
    }
}

/// Buffers that gated blocks reuse.
#[derive(Debug, Default)]
pub struct ExpertScratch {
    gate: Vec<f32>,
    up: Vec<f32>,
    /// For products of several rows.
    pub transposed: Vec<f32>,
}
