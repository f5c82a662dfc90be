//! Arithmetic of gated feed-forward blocks: routed experts and dense layers.

use crate::host_memory::Mapped;
use crate::kernels::pointwise::silu;
use crate::kernels::{Matrix, MatrixView, Numbers, matmul};

/// Shape and storage of one expert's record: gate, up and down, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertShape {
    /// Input and output features.
    pub hidden: usize,
    /// Features between.
    pub intermediate: usize,
    /// Storage.
    pub numbers: Numbers,
}

impl ExpertShape {
    /// Bytes of a record.
    pub fn bytes(&self) -> usize {
        3 * self.hidden * self.intermediate * self.numbers.bytes()
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
    /// The matrices of an expert's record; none when the memory is too short for the shape.
    pub fn of_record(memory: &'a Mapped, shape: ExpertShape) -> Option<Self> {
        let matrix_bytes = shape.hidden * shape.intermediate * shape.numbers.bytes();
        let view = |at, rows, cols| MatrixView::within(memory, shape.numbers, at, rows, cols);
        Some(Self {
            gate: view(0, shape.intermediate, shape.hidden)?,
            up: view(matrix_bytes, shape.intermediate, shape.hidden)?,
            down: view(2 * matrix_bytes, shape.hidden, shape.intermediate)?,
        })
    }

    /// `down(silu(gate(x)) * up(x))`: x `[rows, hidden]`, out likewise.
    pub fn apply(&self, x: &[f32], rows: usize, out: &mut [f32], scratch: &mut Scratch) {
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
        for (gate, up) in scratch.gate.iter_mut().zip(&scratch.up) {
            *gate = silu(*gate) * up;
        }
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
    pub fn apply(&self, x: &[f32], rows: usize, scratch: &mut Scratch) -> Vec<f32> {
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
pub struct Scratch {
    gate: Vec<f32>,
    up: Vec<f32>,
    /// For products of several rows.
    pub transposed: Vec<f32>,
}
