//! The feed-forward block of a decoder layer: dense, or a router and its experts, one after the other.

use candle_core::{D, Device, Tensor};
use candle_nn::ops::{silu, softmax_last_dim};

use super::ReferenceError;
use super::weights::Weights;
use super::witness::ReferenceProbe;
use crate::checkpoint::config::TextConfig;

/// `down(silu(gate(x)) * up(x))` of `x` `[tokens, hidden]` with the matrices `{prefix}.{gate,up,down}_proj.weight`.
fn gated(
    weights: Weights<'_>,
    prefix: &str,
    inner: usize,
    x: &Tensor,
) -> Result<Tensor, ReferenceError> {
    let hidden = x.dim(D::Minus1)?;
    let product = |name: &str, shape: [usize; 2], x: &Tensor| -> Result<Tensor, ReferenceError> {
        let weight = weights.tensor(&format!("{prefix}.{name}.weight"), &shape)?;
        Ok(x.matmul(&weight.t()?)?)
    };
    let gate = silu(&product("gate_proj", [inner, hidden], x)?)?;
    let up = product("up_proj", [inner, hidden], x)?;
    product("down_proj", [hidden, inner], &(gate * up)?)
}

/// What the feed-forward block of `layer` gives for `x` `[tokens, hidden]`, normed already; to be added to the residual
/// stream. `witness` hears the router's logits and has a say in near-ties.
pub(super) fn feed_forward(
    weights: Weights<'_>,
    config: &TextConfig,
    layer: usize,
    x: &Tensor,
    witness: &mut dyn ReferenceProbe,
) -> Result<Tensor, ReferenceError> {
    let prefix = format!("thinker.model.layers.{layer}.mlp");
    if !config.is_sparse(layer) {
        return gated(weights, &prefix, config.intermediate_size, x);
    }
    let shape = [config.num_experts, config.hidden_size];
    let router = weights.tensor(&format!("{prefix}.gate.weight"), &shape)?;
    let logits = x.matmul(&router.t()?)?;
    let name = format!("thinker.router_logits.{layer}");
    witness.tensor(&name, config.num_experts, &logits.flatten_all()?.to_vec1()?);
    let (logits, shares) = (logits.to_vec2()?, softmax_last_dim(&logits)?.to_vec2()?);
    // Of every expert: its tokens, and its weights for them.
    let mut work = vec![(Vec::<u32>::new(), Vec::<f32>::new()); config.num_experts];
    for (token, (logits, shares)) in logits.iter().zip(&shares).enumerate() {
        let own = greatest(shares, config.num_experts_per_tok);
        let chosen = witness.choice(layer, token, logits, own);
        let sum: f32 = match config.norm_topk_prob {
            true => chosen.iter().map(|expert| shares[*expert]).sum(),
            false => 1.0,
        };
        let gates: Vec<(usize, f32)> = chosen
            .iter()
            .map(|expert| (*expert, shares[*expert] / sum))
            .collect();
        witness.gates(layer, token, &gates);
        for (expert, gate) in gates {
            work[expert].0.push(token as u32);
            work[expert].1.push(gate);
        }
    }
    let mut out = x.zeros_like()?;
    for (expert, (tokens, gates)) in work.into_iter().enumerate() {
        if tokens.is_empty() {
            continue;
        }
        let count = tokens.len();
        let tokens = Tensor::from_vec(tokens, count, &Device::Cpu)?;
        let gates = Tensor::from_vec(gates, (count, 1), &Device::Cpu)?;
        let expert = format!("{prefix}.experts.{expert}");
        let x = x.index_select(&tokens, 0)?;
        let given = gated(weights, &expert, config.moe_intermediate_size, &x)?;
        out = out.index_add(&tokens, &given.broadcast_mul(&gates)?, 0)?;
    }
    Ok(out)
}

/// The `k` greatest of `shares`, descending; the lower index first of equals.
pub(super) fn greatest(shares: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|a, b| shares[*b].total_cmp(&shares[*a]).then(a.cmp(b)));
    order.truncate(k);
    order
}
