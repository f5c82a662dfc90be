//! Self-attention of a decoder layer: grouped queries, norms of queries and keys, rotary positions on three axes.

use candle_core::{D, Device, Tensor};
use candle_nn::ops::{rms_norm, softmax_last_dim};

use super::ReferenceError;
use super::weights::Weights;
use crate::checkpoint::config::TextConfig;

/// Cosines and sines `[tokens, head_dim]` of the tokens' positions, each angle twice.
pub(super) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    /// Of text: token `i` stands at `i` on the axes of time, height and width. Frequency m is `theta^(-2m/D)`, and follows
    /// height at m = 1, 4, 7, … below `3 * mrope_section[1]`, width at m = 2, 5, 8, … below `3 * mrope_section[2]`, else time.
    pub(super) fn of_text(config: &TextConfig, tokens: usize) -> candle_core::Result<Self> {
        let dim = config.head_dim;
        let [_, height, width] = config.mrope_section;
        let mut angles = Vec::with_capacity(tokens * dim);
        for token in 0..tokens {
            let place = [token as f32; 3];
            let angle = |m: usize| {
                let axis = match m % 3 {
                    1 if m < 3 * height => 1,
                    2 if m < 3 * width => 2,
                    _ => 0,
                };
                let power = -2.0 * m as f64 / dim as f64;
                place[axis] * f64::from(config.rope_theta).powf(power) as f32
            };
            let half: Vec<f32> = (0..dim / 2).map(angle).collect();
            angles.extend_from_slice(&half);
            angles.extend_from_slice(&half);
        }
        let angles = Tensor::from_vec(angles, (tokens, dim), &Device::Cpu)?;
        Ok(Self {
            cos: angles.cos()?,
            sin: angles.sin()?,
        })
    }

    /// `x * cos + rot(x) * sin` of `x` `[heads, tokens, head_dim]`, where rot takes dimension d to d + D/2 and back with the
    /// sign turned.
    fn turn(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let half = x.dim(D::Minus1)? / 2;
        let low = x.narrow(D::Minus1, 0, half)?;
        let high = x.narrow(D::Minus1, half, half)?;
        let turned = Tensor::cat(&[&high.neg()?, &low], D::Minus1)?;
        x.broadcast_mul(&self.cos)? + turned.broadcast_mul(&self.sin)?
    }
}

/// What the attention of layer `layer` gives for `x` `[tokens, hidden]`, normed already; to be added to the residual stream.
/// One projection's weights are in memory at a time.
pub(super) fn attend(
    weights: Weights<'_>,
    config: &TextConfig,
    layer: usize,
    x: &Tensor,
    rotation: &Rotation,
) -> Result<Tensor, ReferenceError> {
    let prefix = format!("thinker.model.layers.{layer}.self_attn");
    let (heads, kv_heads, dim) = (
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
    );
    let tokens = x.dim(0)?;
    let projected = |name: &str, out: usize, input: &Tensor| -> Result<Tensor, ReferenceError> {
        let weight = weights.tensor(
            &format!("{prefix}.{name}.weight"),
            &[out, input.dim(D::Minus1)?],
        )?;
        let y = input.matmul(&weight.t()?)?;
        if !config.attention_bias {
            return Ok(y);
        }
        let bias = weights.tensor(&format!("{prefix}.{name}.bias"), &[out])?;
        Ok(y.broadcast_add(&bias)?)
    };
    // [tokens, heads * dim] -> [heads, tokens, dim]
    let split = |y: Tensor, heads: usize| {
        y.reshape((tokens, heads, dim))?
            .transpose(0, 1)?
            .contiguous()
    };
    let normed = |y: &Tensor, name: &str| -> Result<Tensor, ReferenceError> {
        let weight = weights.tensor(&format!("{prefix}.{name}.weight"), &[dim])?;
        Ok(rms_norm(y, &weight, config.rms_norm_eps)?)
    };
    let q = split(projected("q_proj", heads * dim, x)?, heads)?;
    let q = rotation.turn(&normed(&q, "q_norm")?)?;
    let k = split(projected("k_proj", kv_heads * dim, x)?, kv_heads)?;
    let k = rotation.turn(&normed(&k, "k_norm")?)?;
    let v = split(projected("v_proj", kv_heads * dim, x)?, kv_heads)?;
    let group = heads / kv_heads;
    let mut out = Vec::with_capacity(kv_heads);
    for head in 0..kv_heads {
        let q = q.narrow(0, head * group, group)?.contiguous()?;
        out.push(attended(&q, &k.get(head)?, &v.get(head)?)?);
    }
    let out = Tensor::cat(&out, 0)?;
    let out = out.transpose(0, 1)?.reshape((tokens, heads * dim))?;
    projected("o_proj", config.hidden_size, &out)
}

/// Causal attention of the queries `[group, tokens, dim]` of one key-value head to its `k` and `v` `[tokens, dim]`.
pub(super) fn attended(q: &Tensor, k: &Tensor, v: &Tensor) -> candle_core::Result<Tensor> {
    let (group, tokens, dim) = q.dims3()?;
    let scores = q.reshape((group * tokens, dim))?.matmul(&k.t()?)?;
    let scores = (scores * (dim as f64).powf(-0.5))?.reshape((group, tokens, tokens))?;
    let later = |at: usize| match at % tokens > at / tokens {
        true => f32::NEG_INFINITY,
        false => 0.0,
    };
    let mask: Vec<f32> = (0..tokens * tokens).map(later).collect();
    let mask = Tensor::from_vec(mask, (tokens, tokens), q.device())?;
    let shares = softmax_last_dim(&scores.broadcast_add(&mask)?)?;
    let shares = shares.reshape((group * tokens, tokens))?;
    shares.matmul(v)?.reshape((group, tokens, dim))
}
