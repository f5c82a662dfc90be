//! The convolutions before the encoder.
//!
//! A convolution is the product of its kernels with the patches of the picture, so that it has the same bits everywhere as
//! every other product of this crate has. Chunks go through one at a time, patches a block at a time.

use crate::checkpoint::config::AudioConfig;
use crate::kernels::pointwise::add_scaled;
use crate::kernels::{Matrix, matmul};
use crate::media::sound::Mel;

use super::super::attention::Projection;
use super::super::load::{LoadError, Loader};
use super::layer::{PREFIX, gelu_all};
use super::plan::{AudioChunk, AudioPlan};
use super::sizes::{KERNEL, halved_thrice, patches_at_once};

/// From one patch to the next.
const STRIDE: usize = 2;

/// `conv2d1` to `conv2d3` and `conv_out`.
#[derive(Debug)]
pub struct Stem {
    /// Kernels `[out, in * 3 * 3]`.
    convolutions: [Projection; 3],
    conv_out: Matrix,
    /// Of the steps of a whole chunk, `[steps, d_model]`.
    positions: Vec<f32>,
}

/// Channels of a plane, `[height, width, channels]`: a position's channels lie together.
struct Planes {
    height: usize,
    width: usize,
    channels: usize,
    values: Vec<f32>,
}

impl Stem {
    pub(super) fn load(loader: &Loader<'_>, config: &AudioConfig) -> Result<Self, LoadError> {
        let (out, width) = (config.downsample_hidden_size, config.d_model);
        let convolution = |name: &str, channels: usize| -> Result<Projection, LoadError> {
            let shape = [out, channels, KERNEL, KERNEL];
            Ok(Projection {
                weight: loader.flattened(&format!("{PREFIX}.{name}.weight"), &shape)?,
                bias: Some(loader.vector(&format!("{PREFIX}.{name}.bias"), out)?),
            })
        };
        Ok(Self {
            convolutions: [
                convolution("conv2d1", 1)?,
                convolution("conv2d2", out)?,
                convolution("conv2d3", out)?,
            ],
            conv_out: loader.matrix(
                &format!("{PREFIX}.conv_out.weight"),
                width,
                out * config.downsampled_mel_bins(),
            )?,
            positions: sinusoids(halved_thrice(2 * config.n_window), width),
        })
    }

    /// The encoder's input, `[tokens of all clips, d_model]`.
    pub(super) fn apply(
        &self,
        clips: &[&Mel],
        plan: &AudioPlan,
        scratch: &mut Vec<f32>,
    ) -> Vec<f32> {
        let width = self.conv_out.rows();
        let mut x = vec![0.0; plan.tokens() * width];
        let mut rest = &mut x[..];
        for chunk in &plan.chunks {
            // Padding ends here: only the steps of the chunk's own frames are tokens.
            let (steps, after) = rest.split_at_mut(halved_thrice(chunk.frames) * width);
            rest = after;
            let planes = self.convolve(picture(clips[chunk.clip], chunk, plan), scratch);
            let columns = columns(&planes, steps.len() / width);
            drop(planes);
            matmul(
                self.conv_out.view(),
                &columns,
                steps.len() / width,
                steps,
                scratch,
            );
            // Positions begin anew in every chunk.
            add_scaled(steps, &self.positions, 1.0);
        }
        x
    }

    fn convolve(&self, mut planes: Planes, scratch: &mut Vec<f32>) -> Planes {
        for convolution in &self.convolutions {
            planes = convolve(convolution, &planes, scratch);
        }
        planes
    }
}

/// A chunk as a picture of one channel, bins by frames; zeros from its end to the call's longest.
fn picture(mel: &Mel, chunk: &AudioChunk, plan: &AudioPlan) -> Planes {
    let width = plan.padded_frames;
    let mut values = vec![0.0; mel.bins * width];
    for (row, bin) in values
        .chunks_exact_mut(width)
        .zip(mel.values.chunks_exact(mel.frames))
    {
        row[..chunk.frames].copy_from_slice(&bin[chunk.start..chunk.start + chunk.frames]);
    }
    Planes {
        height: mel.bins,
        width,
        channels: 1,
        values,
    }
}

/// A convolution of stride 2 and padding 1, and GELU.
fn convolve(convolution: &Projection, planes: &Planes, scratch: &mut Vec<f32>) -> Planes {
    let (height, width) = (
        planes.height.div_ceil(STRIDE),
        planes.width.div_ceil(STRIDE),
    );
    let channels = convolution.weight.rows();
    let mut values = vec![0.0; height * width * channels];
    let at_once = patches_at_once(planes.channels, channels).min(height * width);
    let patch_len = convolution.weight.cols();
    let mut patches = vec![0.0; at_once * patch_len];
    for (block, out) in values.chunks_mut(at_once * channels).enumerate() {
        let count = out.len() / channels;
        let patches = &mut patches[..count * patch_len];
        for (at, patch) in patches.chunks_exact_mut(patch_len).enumerate() {
            let at = block * at_once + at;
            copy_patch(planes, at / width, at % width, patch);
        }
        matmul(convolution.weight.view(), patches, count, out, scratch);
        if let Some(bias) = &convolution.bias {
            out.chunks_exact_mut(channels)
                .for_each(|out| add_scaled(out, bias, 1.0));
        }
        gelu_all(out);
    }
    Planes {
        height,
        width,
        channels,
        values,
    }
}

/// What a kernel at output (`row`, `column`) sees, `[channels, 3, 3]`; zeros beyond the edges.
fn copy_patch(planes: &Planes, row: usize, column: usize, patch: &mut [f32]) {
    for at in 0..KERNEL * KERNEL {
        // One before the first, by the padding.
        let (y, x) = (row * STRIDE + at / KERNEL, column * STRIDE + at % KERNEL);
        let taps = patch[at..].iter_mut().step_by(KERNEL * KERNEL);
        if (1..=planes.height).contains(&y) && (1..=planes.width).contains(&x) {
            let start = ((y - 1) * planes.width + x - 1) * planes.channels;
            let values = &planes.values[start..start + planes.channels];
            taps.zip(values).for_each(|(tap, value)| *tap = *value);
        } else {
            taps.for_each(|tap| *tap = 0.0);
        }
    }
}

/// The first `steps` columns, `[steps, channels * height]`, all of a channel together.
fn columns(planes: &Planes, steps: usize) -> Vec<f32> {
    let Planes {
        height,
        width,
        channels,
        ref values,
    } = *planes;
    let mut columns = vec![0.0; steps * channels * height];
    for (step, column) in columns.chunks_exact_mut(channels * height).enumerate() {
        for row in 0..height {
            let start = (row * width + step) * channels;
            let taps = column[row..].iter_mut().step_by(height);
            taps.zip(&values[start..start + channels])
                .for_each(|(tap, value)| *tap = *value);
        }
    }
    columns
}

/// Positions `[steps, width]`: the sine of `p * 10000^(-i / (width / 2 - 1))` for every i below `width / 2`, then the
/// cosines.
fn sinusoids(steps: usize, width: usize) -> Vec<f32> {
    let half = width / 2;
    let mut positions = vec![0.0; steps * width];
    for (step, row) in positions.chunks_exact_mut(width).enumerate() {
        for i in 0..half {
            let turn = -libm::log(10_000.0) * i as f64 / (half - 1) as f64;
            let angle = step as f64 * libm::exp(turn);
            row[i] = libm::sin(angle) as f32;
            row[half + i] = libm::cos(angle) as f32;
        }
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_end_at_the_edges() {
        let planes = Planes {
            height: 2,
            width: 3,
            channels: 2,
            // Channel 1 is ten times channel 0.
            values: (1..=6).flat_map(|v| [v as f32, 10.0 * v as f32]).collect(),
        };
        let mut patch = [9.0; 18];
        copy_patch(&planes, 0, 0, &mut patch);
        assert_eq!(patch[..9], [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 4.0, 5.0]);
        assert_eq!(patch[13], 10.0);
        copy_patch(&planes, 0, 1, &mut patch);
        assert_eq!(patch[..9], [0.0, 0.0, 0.0, 2.0, 3.0, 0.0, 5.0, 6.0, 0.0]);
    }

    #[test]
    fn columns_keep_a_channel_together() {
        let planes = Planes {
            height: 2,
            width: 2,
            channels: 2,
            values: vec![1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0],
        };
        assert_eq!(columns(&planes, 1), [1.0, 3.0, 10.0, 30.0]);
        assert_eq!(columns(&planes, 2)[4..], [2.0, 4.0, 20.0, 40.0]);
    }

    #[test]
    fn positions_are_sines_then_cosines() {
        let positions = sinusoids(2, 4);
        assert_eq!(positions[..4], [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(positions[4], libm::sin(1.0) as f32);
        assert_eq!(positions[5], libm::sin(1e-4) as f32);
    }
}
