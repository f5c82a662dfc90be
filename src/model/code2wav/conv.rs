//! Convolutions over time, as dot products with windows of rows, and the periodic activation between them.
//!
//! Every signal is `[time, channels]`. A window is the rows that one output depends on, laid side by side; an output is
//! one dot product of the kernels' fixed order, so it does not depend on the processor, on the number of threads, or on
//! how time is cut into tiles.

use std::ops::Range;

use rayon::prelude::*;

use super::super::load::{LoadError, Loader};
use crate::kernels::{Matrix, panel_bytes};

/// Windows of one tile stay in a core's cache while all weights pass by. From 4 rows on, more make nothing faster.
const TILE_BYTES: usize = 128 << 10;

/// A stretch of time is split into at most so many tasks, each with buffers of its own.
const TASKS: usize = 16;

/// Rows of a tile of windows of `cols` numbers.
pub(super) fn tile_rows(cols: usize) -> usize {
    // The kernels take four rows at a time.
    (TILE_BYTES / (cols * size_of::<f32>()) / 4 * 4).clamp(4, 1024)
}

/// Bytes at most of all tasks' buffers over `rows` windows of `cols` numbers, with `beside` further numbers a row.
pub(super) fn tasks_bytes(rows: usize, cols: usize, beside: usize) -> usize {
    let tile_rows = tile_rows(cols);
    let tasks = rows.div_ceil(tile_rows).min(TASKS);
    let rows = tile_rows.min(rows);
    tasks * (rows * (cols + beside) * size_of::<f32>() + panel_bytes(rows, cols))
}

/// Buffers of one task.
#[derive(Debug, Default)]
pub(super) struct Tile {
    windows: Vec<f32>,
    panel: Vec<f32>,
}

/// A causal or transposed convolution.
#[derive(Debug)]
pub(super) struct Conv {
    /// `[width, taps * channels]`, the oldest row of a window first.
    weight: Matrix,
    /// `[width]`.
    bias: Vec<f32>,
    /// Input channels.
    channels: usize,
    /// Rows of a window.
    taps: usize,
    /// Rows from one tap to the next.
    dilation: usize,
    /// Windows that end before this row give no output.
    first: usize,
}

impl Conv {
    /// A causal convolution stored as `{name}.weight` `[out, channels, taps]` and `{name}.bias`: output t sees rows
    /// t, t - dilation, …; before the first row there are zeros.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub(super) fn causal(
        loader: &Loader<'_>,
        name: &str,
        [out, channels]: [usize; 2],
        taps: usize,
        dilation: usize,
    ) -> Result<Self, LoadError> {
        let at = |row, col| (row * channels + col % channels) * taps + col / channels;
        Ok(Self {
            weight: loader.reordered(
                &format!("{name}.weight"),
                &[out, channels, taps],
                [out, taps * channels],
                at,
            )?,
            bias: loader.vector(&format!("{name}.bias"), out)?,
            channels,
            taps,
            dilation,
            first: 0,
        })
    }

    /// A transposed convolution stored as `{name}.weight` `[channels, out, kernel]`, `kernel = overlap * stride`, with
    /// `kernel - stride` outputs trimmed off both ends.
    ///
    /// A row q and its `overlap - 1` predecessors give the `stride` outputs that belong to q; trimming takes away exactly
    /// those that would need a row that is not there. So n rows become `(n - overlap + 1) * stride`.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub(super) fn transposed(
        loader: &Loader<'_>,
        name: &str,
        [channels, out]: [usize; 2],
        stride: usize,
        overlap: usize,
    ) -> Result<Self, LoadError> {
        let kernel = overlap * stride;
        let at = |row: usize, col: usize| {
            let (phase, out_channel) = (row / out, row % out);
            let (age, channel) = (overlap - 1 - col / channels, col % channels);
            (channel * out + out_channel) * kernel + age * stride + phase
        };
        Ok(Self {
            weight: loader.reordered(
                &format!("{name}.weight"),
                &[channels, out, kernel],
                [stride * out, overlap * channels],
                at,
            )?,
            bias: loader.vector(&format!("{name}.bias"), out)?.repeat(stride),
            channels,
            taps: overlap,
            dilation: 1,
            first: overlap - 1,
        })
    }

    /// Rows before its last that a window reaches back.
    pub(super) fn reach(&self) -> usize {
        (self.taps - 1) * self.dilation
    }

    /// Numbers of a window.
    pub(super) fn cols(&self) -> usize {
        self.weight.cols()
    }

    /// Outputs of all windows: x `[rows, channels]`, returns `[(rows - first), width]`, which is `[time, out]`.
    pub(super) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let rows = (x.len() / self.channels).saturating_sub(self.first);
        let width = self.weight.rows();
        let mut out = vec![0.0; rows * width];
        let tile_rows = tile_rows(self.cols());
        in_tasks(&mut out, width, tile_rows, |row, out, tile| {
            let end = self.first + row;
            self.windows(x, end..end + out.len() / width, out, tile);
        });
        out
    }

    /// Outputs of the windows that end at the rows `ends` of x; rows before the first are zeros.
    pub(super) fn windows(&self, x: &[f32], ends: Range<usize>, out: &mut [f32], tile: &mut Tile) {
        let rows = ends.len();
        let windows = if self.taps == 1 {
            &x[ends.start * self.channels..ends.end * self.channels]
        } else {
            self.gather(x, ends, &mut tile.windows);
            tile.windows.as_slice()
        };
        let weight = self.weight.view();
        weight.matmul_here(windows, rows, out, &mut tile.panel);
        for out in out.chunks_exact_mut(self.weight.rows()) {
            for (out, bias) in out.iter_mut().zip(&self.bias) {
                *out += bias;
            }
        }
    }

    fn gather(&self, x: &[f32], ends: Range<usize>, windows: &mut Vec<f32>) {
        windows.clear();
        windows.reserve(ends.len() * self.cols());
        for end in ends {
            for tap in (0..self.taps).rev() {
                match end.checked_sub(tap * self.dilation) {
                    Some(row) => windows
                        .extend_from_slice(&x[row * self.channels..(row + 1) * self.channels]),
                    None => windows.resize(windows.len() + self.channels, 0.0),
                }
            }
        }
    }
}

/// Fills `out` `[rows, width]` tile by tile, over threads: `work(first row, rows of a tile, buffers)`.
pub(super) fn in_tasks(
    out: &mut [f32],
    width: usize,
    tile_rows: usize,
    work: impl Fn(usize, &mut [f32], &mut Tile) + Sync,
) {
    let tiles = (out.len() / width).div_ceil(tile_rows);
    let task_rows = tiles.div_ceil(TASKS).max(1) * tile_rows;
    out.par_chunks_mut(task_rows * width)
        .enumerate()
        .for_each(|(task, out)| {
            let mut tile = Tile::default();
            for (at, out) in out.chunks_mut(tile_rows * width).enumerate() {
                work(task * task_rows + at * tile_rows, out, &mut tile);
            }
        });
}

/// `x + sin^2(x * exp(alpha)) / (exp(beta) + 1e-9)`, channel by channel (SnakeBeta; alpha and beta are stored as logs).
#[derive(Debug)]
pub(super) struct Snake {
    frequency: Vec<f32>,
    magnitude: Vec<f32>,
}

impl Snake {
    /// `{name}.alpha` and `{name}.beta`, `[channels]`.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub(super) fn load(
        loader: &Loader<'_>,
        name: &str,
        channels: usize,
    ) -> Result<Self, LoadError> {
        let alpha = loader.vector(&format!("{name}.alpha"), channels)?;
        let beta = loader.vector(&format!("{name}.beta"), channels)?;
        Ok(Self {
            frequency: alpha.into_iter().map(libm::expf).collect(),
            magnitude: beta
                .into_iter()
                .map(|beta| 1.0 / (libm::expf(beta) + 1e-9))
                .collect(),
        })
    }

    /// In place, x `[rows, channels]`, over threads.
    pub(super) fn apply(&self, x: &mut [f32]) {
        let width = self.frequency.len();
        x.par_chunks_mut(width * tile_rows(width))
            .for_each(|x| self.apply_here(x));
    }

    /// As [`Self::apply`], on this thread.
    pub(super) fn apply_here(&self, x: &mut [f32]) {
        for x in x.chunks_exact_mut(self.frequency.len()) {
            for ((x, frequency), magnitude) in
                x.iter_mut().zip(&self.frequency).zip(&self.magnitude)
            {
                let sine = libm::sinf(*x * frequency);
                *x += magnitude * (sine * sine);
            }
        }
    }
}
