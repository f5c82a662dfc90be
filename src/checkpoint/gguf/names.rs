//! What llama.cpp calls the tensors of a decoder.

/// Names that belong to no layer.
const WHOLE: [(&str, &str); 3] = [
    ("token_embd.weight", "thinker.model.embed_tokens.weight"),
    ("output_norm.weight", "thinker.model.norm.weight"),
    ("output.weight", "thinker.lm_head.weight"),
];

/// Names within a layer, `blk.N.` before them there and `thinker.model.layers.N.` here.
const OF_LAYER: [(&str, &str); 9] = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("attn_q_norm.weight", "self_attn.q_norm.weight"),
    ("attn_k_norm.weight", "self_attn.k_norm.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_gate_inp.weight", "mlp.gate.weight"),
];

/// Matrices of all experts of a layer in one tensor.
const OF_EXPERTS: [(&str, &str); 3] = [
    ("ffn_gate_exps.weight", "gate_proj.weight"),
    ("ffn_up_exps.weight", "up_proj.weight"),
    ("ffn_down_exps.weight", "down_proj.weight"),
];

/// What a tensor of a file is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// One tensor.
    One(String),
    /// Matrices of the experts of a layer: what stands before and behind the expert's number.
    Experts(String, &'static str),
    /// None that is known: it keeps its name.
    Unknown,
}

/// What the tensor that a file calls `name` is here.
pub(super) fn named(name: &str) -> Named {
    let of = |table: &[(&str, &'static str)], name: &str| {
        let found = table.iter().find(|(there, _)| *there == name);
        found.map(|(_, here)| *here)
    };
    if let Some(here) = of(&WHOLE, name) {
        return Named::One(here.to_owned());
    }
    let layered = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'));
    let Some((layer, rest)) = layered.filter(|(layer, _)| layer.parse::<u16>().is_ok()) else {
        return Named::Unknown;
    };
    let prefix = format!("thinker.model.layers.{layer}.");
    if let Some(here) = of(&OF_LAYER, rest) {
        return Named::One(format!("{prefix}{here}"));
    }
    match of(&OF_EXPERTS, rest) {
        Some(here) => Named::Experts(format!("{prefix}mlp.experts."), here),
        None => Named::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_layers_and_experts_are_ours() {
        let one = |name: &str| Named::One(name.to_owned());
        assert_eq!(named("output.weight"), one("thinker.lm_head.weight"));
        let q_norm = one("thinker.model.layers.7.self_attn.q_norm.weight");
        assert_eq!(named("blk.7.attn_q_norm.weight"), q_norm);
        let experts = "thinker.model.layers.0.mlp.experts.".to_owned();
        assert_eq!(
            named("blk.0.ffn_down_exps.weight"),
            Named::Experts(experts, "down_proj.weight")
        );
        assert_eq!(named("blk.x.attn_q.weight"), Named::Unknown);
        assert_eq!(named("rope_freqs.weight"), Named::Unknown);
    }
}
