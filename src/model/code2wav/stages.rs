//! The stages that stretch frames into samples.

use rayon::prelude::*;

use super::super::attention::Projection;
use super::super::encoder::LayerNorm;
use super::super::load::{LoadError, Loader};
use super::conv::{Conv, Snake, in_tasks, tasks_bytes, tile_rows};
use crate::kernels::panel_bytes;
use crate::kernels::pointwise::{add_scaled, gelu};

/// Taps of every convolution that is not transposed or pointwise.
pub(super) const TAPS: usize = 7;

/// Dilations of a block's residual units.
pub(super) const DILATIONS: [usize; 3] = [1, 3, 9];

/// How many input rows an output of a decoder block's transposed convolution depends on: its kernel is so many strides.
pub(super) const OVERLAP: usize = 2;

/// A block over a long signal is computed so much of it at a time, in place.
const WAVE_BYTES: usize = 16 << 20;

/// A stage between transformer and decoder: a transposed convolution without overlap, then a ConvNeXt block.
#[derive(Debug)]
pub(super) struct Upsample {
    conv: Conv,
    /// `dwconv`: `[taps, channels]`, the oldest row first.
    depthwise: Vec<f32>,
    depthwise_bias: Vec<f32>,
    norm: LayerNorm,
    pwconv1: Projection,
    pwconv2: Projection,
    gamma: Vec<f32>,
}

impl Upsample {
    /// Loads `code2wav.upsample.{at}`.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub(super) fn load(
        loader: &Loader<'_>,
        at: usize,
        hidden: usize,
        ratio: usize,
    ) -> Result<Self, LoadError> {
        let prefix = format!("code2wav.upsample.{at}");
        let block = format!("{prefix}.1");
        let depthwise = loader.reordered(
            &format!("{block}.dwconv.conv.weight"),
            &[hidden, 1, TAPS],
            [TAPS, hidden],
            |tap, channel| channel * TAPS + tap,
        )?;
        let mut widened = vec![0.0; TAPS * hidden];
        for (tap, row) in widened.chunks_exact_mut(hidden).enumerate() {
            depthwise.view().widen_row(tap, row);
        }
        let conv = format!("{prefix}.0.conv");
        Ok(Self {
            conv: Conv::transposed(loader, &conv, [hidden, hidden], ratio, 1)?,
            depthwise: widened,
            depthwise_bias: loader.vector(&format!("{block}.dwconv.conv.bias"), hidden)?,
            norm: LayerNorm::load(loader, &format!("{block}.norm"), hidden, 1e-6)?,
            pwconv1: loader.projection(&format!("{block}.pwconv1"), 4 * hidden, hidden, true)?,
            pwconv2: loader.projection(&format!("{block}.pwconv2"), hidden, 4 * hidden, true)?,
            gamma: loader.vector(&format!("{block}.gamma"), hidden)?,
        })
    }

    /// Frames `[time, hidden]`, returns `[time * ratio, hidden]`.
    pub(super) fn apply(&self, frames: Vec<f32>) -> Vec<f32> {
        let mut x = self.conv.apply(&frames);
        drop(frames);
        let width = self.gamma.len();
        let rows = x.len() / width;
        let normed = self.norm.apply(&self.depthwise(&x));
        let mut scratch = Vec::new();
        let mut wide = self.pwconv1.apply(&normed, rows, &mut scratch);
        wide.par_chunks_mut(4 * width)
            .for_each(|wide| wide.iter_mut().for_each(|x| *x = gelu(*x)));
        let added = self.pwconv2.apply(&wide, rows, &mut scratch);
        for (x, added) in x.chunks_exact_mut(width).zip(added.chunks_exact(width)) {
            for ((x, added), gamma) in x.iter_mut().zip(added).zip(&self.gamma) {
                *x += gamma * added;
            }
        }
        x
    }

    /// Each channel with its own taps; zeros before the first row.
    fn depthwise(&self, x: &[f32]) -> Vec<f32> {
        let width = self.gamma.len();
        let mut out = vec![0.0; x.len()];
        out.par_chunks_exact_mut(width)
            .enumerate()
            .for_each(|(row, out)| {
                for (tap, weights) in self.depthwise.chunks_exact(width).enumerate() {
                    let Some(from) = (row + tap + 1).checked_sub(TAPS) else {
                        continue;
                    };
                    let x = &x[from * width..(from + 1) * width];
                    for ((out, x), weight) in out.iter_mut().zip(x).zip(weights) {
                        *out += x * weight;
                    }
                }
                add_scaled(out, &self.depthwise_bias, 1.0);
            });
        out
    }

    /// Bytes at most that [`Self::apply`] takes for `rows` rows, its input included.
    pub(super) fn workspace_bytes(rows: usize, hidden: usize, ratio: usize) -> usize {
        let out_rows = rows * ratio;
        let stretched =
            (rows + out_rows) * hidden * size_of::<f32>() + tasks_bytes(rows, hidden, 0);
        // x, its depthwise form, normed, what is added; the wide rows, which are laid out for a product.
        let block = out_rows * 8 * hidden * size_of::<f32>() + panel_bytes(out_rows, 4 * hidden);
        stretched.max(block)
    }
}

/// `x + conv2(snake(conv1(snake(x))))`.
#[derive(Debug)]
struct ResidualUnit {
    act1: Snake,
    conv1: Conv,
    act2: Snake,
    conv2: Conv,
}

impl ResidualUnit {
    fn load(
        loader: &Loader<'_>,
        prefix: &str,
        width: usize,
        dilation: usize,
    ) -> Result<Self, LoadError> {
        let conv = |name: &str, taps, dilation| {
            let name = format!("{prefix}.{name}.conv");
            Conv::causal(loader, &name, [width, width], taps, dilation)
        };
        Ok(Self {
            act1: Snake::load(loader, &format!("{prefix}.act1"), width)?,
            conv1: conv("conv1", TAPS, dilation)?,
            act2: Snake::load(loader, &format!("{prefix}.act2"), width)?,
            conv2: conv("conv2", 1, 1)?,
        })
    }

    /// In place, x `[rows, width]`. The unit only looks back, so the end may be overwritten while the beginning still
    /// waits: `wave_rows` rows are computed at a time, the last ones first.
    fn apply(&self, x: &mut [f32], width: usize, wave_rows: usize) {
        let tile_rows = tile_rows(self.conv1.cols());
        let mut end = x.len() / width;
        while end > 0 {
            let start = end.saturating_sub(wave_rows);
            let from = start.saturating_sub(self.conv1.reach());
            let mut active = x[from * width..end * width].to_vec();
            self.act1.apply(&mut active);
            let mut added = vec![0.0; (end - start) * width];
            in_tasks(&mut added, width, tile_rows, |row, out, tile| {
                let at = start - from + row;
                let mut between = vec![0.0; out.len()];
                self.conv1
                    .windows(&active, at..at + out.len() / width, &mut between, tile);
                self.act2.apply_here(&mut between);
                self.conv2
                    .windows(&between, 0..out.len() / width, out, tile);
            });
            add_scaled(&mut x[start * width..end * width], &added, 1.0);
            end = start;
        }
    }
}

fn wave_rows(width: usize) -> usize {
    (WAVE_BYTES / (width * size_of::<f32>())).max(1)
}

/// A decoder block: Snake, a transposed convolution that halves the channels, three residual units.
#[derive(Debug)]
pub(super) struct VocoderBlock {
    act: Snake,
    conv: Conv,
    units: Vec<ResidualUnit>,
    width: usize,
}

impl VocoderBlock {
    /// Loads `code2wav.decoder.{at}`, which takes `channels` channels.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub(super) fn load(
        loader: &Loader<'_>,
        at: usize,
        channels: usize,
        rate: usize,
    ) -> Result<Self, LoadError> {
        let prefix = format!("code2wav.decoder.{at}.block");
        let width = channels / 2;
        let units = DILATIONS.iter().zip(2..).map(|(dilation, unit)| {
            ResidualUnit::load(loader, &format!("{prefix}.{unit}"), width, *dilation)
        });
        Ok(Self {
            act: Snake::load(loader, &format!("{prefix}.0"), channels)?,
            units: units.collect::<Result<_, _>>()?,
            conv: Conv::transposed(
                loader,
                &format!("{prefix}.1.conv"),
                [channels, width],
                rate,
                OVERLAP,
            )?,
            width,
        })
    }

    /// x `[time, channels]`, returns `[(time - 1) * rate, channels / 2]`.
    pub(super) fn apply(&self, mut x: Vec<f32>) -> Vec<f32> {
        self.act.apply(&mut x);
        let mut out = self.conv.apply(&x);
        drop(x);
        for unit in &self.units {
            unit.apply(&mut out, self.width, wave_rows(self.width));
        }
        out
    }

    /// Bytes at most that [`Self::apply`] takes for `rows` rows, its input included.
    pub(super) fn workspace_bytes(rows: usize, channels: usize, rate: usize) -> usize {
        let (width, out_rows) = (channels / 2, rows.saturating_sub(1) * rate);
        let out = out_rows * width * size_of::<f32>();
        let stretched =
            rows * channels * size_of::<f32>() + out + tasks_bytes(rows, OVERLAP * channels, 0);
        let wave = wave_rows(width).min(out_rows);
        let reach = DILATIONS.iter().max().map_or(0, |most| most * (TAPS - 1));
        // The activated piece with what it looks back at, and what is added; in each task also the rows between.
        let piece = (2 * wave + reach.min(out_rows)) * width * size_of::<f32>()
            + tasks_bytes(wave, TAPS * width, width);
        stretched.max(out + piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_computed_in_waves_is_the_same_to_the_bit() {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny-omni");
        let source = crate::store::open_model(fixture).unwrap();
        let loader = Loader::new(source.as_ref());
        // Dilation 9 looks back over several waves.
        let unit = ResidualUnit::load(&loader, "code2wav.decoder.1.block.4", 16, 9).unwrap();
        let signal: Vec<f32> = (0..16 * 100).map(|at| libm::sinf(at as f32)).collect();
        let run = |wave_rows| {
            let mut x = signal.clone();
            unit.apply(&mut x, 16, wave_rows);
            x.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let whole = run(1000);
        assert!(
            whole
                .iter()
                .zip(&signal)
                .all(|(out, x)| *out != x.to_bits())
        );
        for wave_rows in [1, 7, 54, 99, 100] {
            assert_eq!(run(wave_rows), whole, "waves of {wave_rows} rows");
        }
    }
}
