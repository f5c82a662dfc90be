//! The audio tower's convolutions over chunks of a spectrum.

use candle_core::{D, Result, Tensor};
use sage::checkpoint::Component;
use sage::media::sound::Mel;
use sage::model::audio::AudioTower;

use super::made::{Made, config};
use super::{assert_close, numbers, tensor};

const BINS: usize = 128;

/// Half of `n`, rounded up, three times.
fn halved_thrice(n: usize) -> usize {
    (0..3).fold(n, |n, _| n.div_ceil(2))
}

/// The encoder's input for one chunk `[bins, frames]`, padded already: `[steps, d_model]`.
fn stem(made: &Made, chunk: &Tensor) -> Result<Tensor> {
    let get = |name: &str| made.get(&format!("thinker.audio_tower.{name}"));
    let mut x = chunk.unsqueeze(0)?.unsqueeze(0)?;
    for name in ["conv2d1", "conv2d2", "conv2d3"] {
        let bias = get(&format!("{name}.bias"));
        let bias = bias.reshape((1, bias.dim(0)?, 1, 1))?;
        x = x.conv2d(&get(&format!("{name}.weight")), 1, 2, 1, 1)?;
        x = x.broadcast_add(&bias)?.gelu_erf()?;
    }
    // [channels, bins, steps] -> [steps, channels * bins]
    let (channels, bins, steps) = x.squeeze(0)?.dims3()?;
    let x = x.squeeze(0)?.permute((2, 0, 1))?;
    let x = x.reshape((steps, channels * bins))?;
    let x = x.matmul(&get("conv_out.weight").t()?)?;
    let half = x.dim(D::Minus1)? / 2;
    let angle = |at: usize| {
        let (step, i) = ((at / half) as f64, (at % half) as f64);
        (step * 10_000f64.powf(-i / (half - 1) as f64)) as f32
    };
    let angles: Vec<f32> = (0..steps * half).map(angle).collect();
    let angles = tensor(&angles, &[steps, half]);
    x + Tensor::cat(&[angles.sin()?, angles.cos()?], 1)?
}

#[test]
fn chunks_of_sound() {
    for (channels, width, n_window) in [(3, 8, 4), (5, 12, 7), (16, 24, 50)] {
        let mut config = config();
        let audio = config.thinker.audio.as_mut().unwrap();
        audio.downsample_hidden_size = channels;
        audio.d_model = width;
        audio.encoder_attention_heads = 2;
        audio.n_window = n_window;
        audio.n_window_infer = 4 * n_window;
        audio.encoder_layers = 1;
        let made = Made::new(config, Component::Audio);
        let chunk = 2 * n_window;
        for lengths in [
            vec![chunk],
            vec![2 * chunk + 3, 5],
            vec![1],
            vec![chunk - 1, 2],
        ] {
            let clips: Vec<Mel> = lengths
                .iter()
                .map(|frames| Mel {
                    bins: BINS,
                    frames: *frames,
                    values: numbers(*frames as u64, BINS * frames, 1.0),
                })
                .collect();
            let longest = lengths.iter().max().unwrap().min(&chunk);
            let expected = (|| {
                let mut steps = Vec::new();
                for clip in &clips {
                    let mel = tensor(&clip.values, &[BINS, clip.frames]);
                    for first in (0..clip.frames).step_by(chunk) {
                        let frames = chunk.min(clip.frames - first);
                        let part = mel.narrow(1, first, frames)?;
                        let part = part.pad_with_zeros(1, 0, longest - frames)?;
                        steps.push(stem(&made, &part)?.narrow(0, 0, halved_thrice(frames))?);
                    }
                }
                Tensor::cat(&steps, 0)
            })();
            let mut tower = AudioTower::new(&made).unwrap().unwrap();
            let mut found = Vec::new();
            let mut probe = |name: &str, values: &[f32]| {
                if name == "audio.layer_in.0" {
                    found = values.to_vec();
                }
            };
            let clips: Vec<&Mel> = clips.iter().collect();
            tower.encode(&made, &clips, &mut probe).unwrap();
            let what = format!("{channels} channels, frames {lengths:?}");
            assert_close(&what, &found, &expected.unwrap(), 1e-5);
        }
    }
}
