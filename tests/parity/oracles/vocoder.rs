//! The whole vocoder: windowed attention, causal, depthwise, dilated and transposed convolutions.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::ops;
use sage::checkpoint::Component;
use sage::checkpoint::config::Code2WavConfig;
use sage::model::Code2Wav;
use sage::model::code2wav::{CHUNK_FRAMES, LEFT_CONTEXT_FRAMES};

use super::made::{Made, config};
use super::{assert_close, attention, joined, split, tensor};

/// The vocoder on candle; signals are `[1, channels, time]`.
struct Vocoder<'a> {
    made: &'a Made,
    config: &'a Code2WavConfig,
}

impl Vocoder<'_> {
    fn get(&self, name: &str) -> Tensor {
        self.made.get(&format!("code2wav.{name}"))
    }

    /// `x W^T` of `[rows, in]`.
    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.get(&format!("{name}.weight")).t()?)
    }

    fn channels(&self, name: &str) -> Result<Tensor> {
        let values = self.get(name);
        values.reshape((1, values.dim(0)?, 1))
    }

    /// Zeros before the beginning, as many as a window reaches back.
    fn causal(&self, name: &str, x: &Tensor, dilation: usize, groups: usize) -> Result<Tensor> {
        let weight = self.get(&format!("{name}.weight"));
        let reach = (weight.dim(2)? - 1) * dilation;
        let x = x.pad_with_zeros(2, reach, 0)?;
        let y = x.conv1d(&weight, 0, 1, dilation, groups)?;
        y.broadcast_add(&self.channels(&format!("{name}.bias"))?)
    }

    /// `kernel - stride` samples are trimmed from both ends.
    fn transposed(&self, name: &str, x: &Tensor, stride: usize) -> Result<Tensor> {
        let weight = self.get(&format!("{name}.weight"));
        let trim = weight.dim(2)? - stride;
        let y = x.conv_transpose1d(&weight, trim, 0, stride, 1, 1)?;
        y.broadcast_add(&self.channels(&format!("{name}.bias"))?)
    }

    fn snake(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let frequency = self.channels(&format!("{name}.alpha"))?.exp()?;
        let magnitude = (self.channels(&format!("{name}.beta"))?.exp()? + 1e-9)?;
        let sine = x.broadcast_mul(&frequency)?.sin()?;
        x + sine.sqr()?.broadcast_div(&magnitude)?
    }

    /// `[frames, hidden]`, the mean of a frame's codes.
    fn embedded(&self, codes: &[u32], frames: usize) -> Result<Tensor> {
        let table = self.get("code_embedding.weight");
        let groups = codes.len() / frames;
        let ids = codes.iter().enumerate().map(|(at, code)| {
            let group = at / frames;
            (group * self.config.codebook_size) as u32 + code
        });
        let ids = Tensor::from_vec(ids.collect::<Vec<u32>>(), codes.len(), &Device::Cpu)?;
        let rows = table.index_select(&ids, 0)?;
        rows.reshape((groups, frames, self.config.hidden_size))?
            .mean(0)
    }

    fn transformer(&self, mut x: Tensor) -> Result<Tensor> {
        let config = self.config;
        let (frames, dim) = (x.dim(0)?, config.hidden_size / config.num_attention_heads);
        let eps = config.rms_norm_eps;
        let angle = |at: usize| {
            let (frame, m) = (at / (dim / 2), at % (dim / 2));
            let power = -2.0 * m as f64 / dim as f64;
            (frame as f64 * f64::from(config.rope_theta).powf(power)) as f32
        };
        let angles: Vec<f32> = (0..frames * dim / 2).map(angle).collect();
        let angles = tensor(&angles, &[frames, dim / 2]);
        let (cos, sin) = (angles.cos()?, angles.sin()?);
        let turned =
            |y: Tensor| candle_nn::rotary_emb::rope(&y.unsqueeze(0)?, &cos, &sin)?.squeeze(0);
        for layer in 0..config.num_hidden_layers {
            let name = |part: &str| format!("pre_transformer.layers.{layer}.{part}");
            let norm = |x: &Tensor, part: &str| {
                ops::rms_norm(x, &self.get(&name(&format!("{part}.weight"))), eps)
            };
            let normed = norm(&x, "input_layernorm")?;
            let heads = |part: &str, heads| {
                split(
                    &self.linear(&name(&format!("self_attn.{part}")), &normed)?,
                    heads,
                )
            };
            let q = turned(heads("q_proj", config.num_attention_heads)?)?;
            let k = turned(heads("k_proj", config.num_key_value_heads)?)?;
            let v = heads("v_proj", config.num_key_value_heads)?;
            let window = config.sliding_window;
            let sees = |query: usize, key: usize| key <= query && query - key < window;
            let mixed = joined(&attention(&q, &k, &v, sees)?)?;
            let added = self.linear(&name("self_attn.o_proj"), &mixed)?;
            let scale = self.get(&name("self_attn_layer_scale.scale"));
            x = (x + added.broadcast_mul(&scale)?)?;
            let normed = norm(&x, "post_attention_layernorm")?;
            let gate = self.linear(&name("mlp.gate_proj"), &normed)?.silu()?;
            let inner = (gate * self.linear(&name("mlp.up_proj"), &normed)?)?;
            let added = self.linear(&name("mlp.down_proj"), &inner)?;
            let scale = self.get(&name("mlp_layer_scale.scale"));
            x = (x + added.broadcast_mul(&scale)?)?;
        }
        ops::rms_norm(&x, &self.get("pre_transformer.norm.weight"), eps)
    }

    fn upsampled(&self, at: usize, x: &Tensor, ratio: usize) -> Result<Tensor> {
        let x = self.transposed(&format!("upsample.{at}.0.conv"), x, ratio)?;
        let name = |part: &str| format!("upsample.{at}.1.{part}");
        let y = self.causal(&name("dwconv.conv"), &x, 1, x.dim(1)?)?;
        let y = y.squeeze(0)?.t()?.contiguous()?;
        let (weight, bias) = (self.get(&name("norm.weight")), self.get(&name("norm.bias")));
        let y = ops::layer_norm_slow(&y, &weight, &bias, 1e-6)?;
        let biased = |part: &str, y: &Tensor| {
            self.linear(&name(part), y)?
                .broadcast_add(&self.get(&name(&format!("{part}.bias"))))
        };
        let y = biased("pwconv2", &biased("pwconv1", &y)?.gelu_erf()?)?;
        let y = y.broadcast_mul(&self.get(&name("gamma")))?;
        x + y.t()?.unsqueeze(0)?
    }

    fn block(&self, at: usize, x: &Tensor, rate: usize) -> Result<Tensor> {
        let name = |part: &str| format!("decoder.{at}.block.{part}");
        let x = self.snake(&name("0"), x)?;
        let mut x = self.transposed(&name("1.conv"), &x, rate)?;
        for (unit, dilation) in [(2, 1), (3, 3), (4, 9)] {
            let name = |part: &str| name(&format!("{unit}.{part}"));
            let y = self.snake(&name("act1"), &x)?;
            let y = self.causal(&name("conv1.conv"), &y, dilation, 1)?;
            let y = self.snake(&name("act2"), &y)?;
            x = (x + self.causal(&name("conv2.conv"), &y, 1, 1)?)?;
        }
        Ok(x)
    }

    fn decode(&self, codes: &[u32], frames: usize) -> Result<Tensor> {
        let x = self.transformer(self.embedded(codes, frames)?)?;
        let mut x = x.t()?.unsqueeze(0)?.contiguous()?;
        for (at, ratio) in self.config.upsampling_ratios.iter().enumerate() {
            x = self.upsampled(at, &x, *ratio)?;
        }
        x = self.causal("decoder.0.conv", &x, 1, 1)?;
        for (at, rate) in self.config.upsample_rates.iter().enumerate() {
            x = self.block(at + 1, &x, *rate)?;
        }
        let rates = self.config.upsample_rates.len();
        x = self.snake(&format!("decoder.{}", rates + 1), &x)?;
        x = self.causal(&format!("decoder.{}.conv", rates + 2), &x, 1, 1)?;
        x.clamp(-1f32, 1f32)?.squeeze(0)?.squeeze(D::Minus2)
    }
}

#[test]
fn vocoders_of_any_shape() {
    type Shape = (usize, usize, usize, usize, Vec<usize>, Vec<usize>, usize);
    // Width, heads, key-value heads, window, strides of the stages and of the decoder, channels of the decoder.
    let shapes: [Shape; 3] = [
        (12, 3, 1, 2, vec![2, 3], vec![3, 2], 12),
        (20, 2, 2, 5, vec![2], vec![5, 1, 4], 24),
        (8, 1, 1, 100, vec![1, 2], vec![7], 6),
    ];
    for (hidden, heads, kv, window, ratios, rates, channels) in shapes {
        let mut config = config();
        let shape = config.code2wav.as_mut().unwrap();
        shape.hidden_size = hidden;
        shape.num_attention_heads = heads;
        shape.num_key_value_heads = kv;
        shape.intermediate_size = hidden + 3;
        shape.sliding_window = window;
        shape.upsampling_ratios = ratios;
        shape.upsample_rates = rates;
        shape.decoder_dim = channels;
        let shape = shape.clone();
        let made = Made::new(config, Component::Code2Wav);
        let ours = Code2Wav::load(&made).unwrap();
        let theirs = Vocoder {
            made: &made,
            config: &shape,
        };
        for frames in [4, 11] {
            let codes: Vec<u32> = (0..shape.num_quantizers * frames)
                .map(|at| (at * 7919 % shape.codebook_size) as u32)
                .collect();
            let what = format!("{shape:?}, {frames} frames");
            let found = ours.decode(&codes, frames).unwrap();
            let expected = theirs.decode(&codes, frames).unwrap();
            assert!(
                found
                    .iter()
                    .any(|sample| sample.abs() < 1.0 && *sample != 0.0),
                "a signal to compare"
            );
            assert_close(&what, &found, &expected, 5e-5);
            // One chunk is the whole.
            let chunked = ours.decode_chunked(&codes, frames, CHUNK_FRAMES, LEFT_CONTEXT_FRAMES);
            assert_close(&what, &chunked.unwrap(), &expected, 5e-5);
        }
    }
}
