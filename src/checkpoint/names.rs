//! The spellings in which writers name the same tensors, and the names of fused experts.
//!
//! Everything behind this room knows one spelling, that of the released Qwen3-Omni files: `thinker.model.layers.0.…`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{Component, ExpertMatrix};

/// How names begin in files, and how the same names begin here. The first that fits counts, so the longer ones come first.
const SPELLINGS: [(&str, &str); 10] = [
    // The whole model as transformers 5 holds it in memory.
    ("thinker.model.language_model.", "thinker.model."),
    ("thinker.model.audio_tower.", "thinker.audio_tower."),
    ("thinker.model.visual.", "thinker.visual."),
    // Its thinker, saved alone.
    ("model.language_model.", "thinker.model."),
    ("model.audio_tower.", "thinker.audio_tower."),
    ("model.visual.", "thinker.visual."),
    // The thinker saved alone under the released names, and decoders of text alone.
    ("model.", "thinker.model."),
    ("lm_head.", "thinker.lm_head."),
    ("audio_tower.", "thinker.audio_tower."),
    ("visual.", "thinker.visual."),
];

/// The name of the output head.
pub(crate) const HEAD: &str = "thinker.lm_head.weight";

/// Which of the spellings a checkpoint's files use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spellings(BTreeSet<usize>);

impl Spellings {
    /// The name by which the tensor that a file calls `name` is known here; remembers how it was spelled.
    pub(super) fn canonical<'a>(&mut self, name: &'a str) -> Cow<'a, str> {
        let spelled = SPELLINGS
            .iter()
            .enumerate()
            .find_map(|(index, (from, to))| Some((index, name.strip_prefix(from)?, to)));
        let Some((index, rest, to)) = spelled else {
            return Cow::Borrowed(name);
        };
        self.0.insert(index);
        Cow::Owned(format!("{to}{rest}"))
    }

    /// How the files would call a tensor that they do not hold.
    pub(super) fn in_files(&self, name: &str) -> String {
        let used = || self.0.iter().filter_map(|&index| SPELLINGS.get(index));
        let known = used().find_map(|(from, to)| Some(format!("{from}{}", name.strip_prefix(to)?)));
        // No file of this checkpoint names a part of that kind: at least it has `thinker.` before all names, or before none.
        let whole = used().all(|(from, _)| from.starts_with("thinker."));
        let rest = name.strip_prefix("thinker.").filter(|_| !whole);
        known.unwrap_or_else(|| rest.unwrap_or(name).to_owned())
    }
}

/// The matrices that one fused tensor of a layer holds, expert by expert, in the order of its rows.
pub(super) const FUSED: [(&str, &[ExpertMatrix]); 2] = [
    ("gate_up_proj", &[ExpertMatrix::Gate, ExpertMatrix::Up]),
    ("down_proj", &[ExpertMatrix::Down]),
];

/// The name of a layer's fused tensor; none for a component without experts.
pub(super) fn fused_tensor_name(
    component: Component,
    layer: usize,
    module: &str,
) -> Option<String> {
    let prefix = component.layers_prefix()?;
    Some(format!("{prefix}.{layer}.mlp.experts.{module}"))
}

/// The name of the fused tensor that holds this matrix of every expert of a layer.
pub(super) fn fused_name_of(
    component: Component,
    layer: usize,
    part: ExpertMatrix,
) -> Option<String> {
    let (module, _) = FUSED.iter().find(|(_, parts)| parts.contains(&part))?;
    fused_tensor_name(component, layer, module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_means_one_name() {
        for (spelled, name) in [
            ("thinker.model.norm.weight", "thinker.model.norm.weight"),
            (
                "thinker.model.language_model.norm.weight",
                "thinker.model.norm.weight",
            ),
            (
                "model.language_model.norm.weight",
                "thinker.model.norm.weight",
            ),
            ("model.norm.weight", "thinker.model.norm.weight"),
            ("lm_head.weight", HEAD),
            (
                "thinker.model.visual.pos_embed.weight",
                "thinker.visual.pos_embed.weight",
            ),
            ("visual.pos_embed.weight", "thinker.visual.pos_embed.weight"),
            (
                "model.audio_tower.proj1.bias",
                "thinker.audio_tower.proj1.bias",
            ),
            ("talker.model.norm.weight", "talker.model.norm.weight"),
            ("code2wav.decoder.5.alpha", "code2wav.decoder.5.alpha"),
        ] {
            let mut spellings = Spellings::default();
            assert_eq!(spellings.canonical(spelled), name);
            assert_eq!(spellings.in_files(name), spelled);
        }
    }
    /// A part of which no file names anything is called as its neighbours suggest.
    #[test]
    fn what_is_missing_is_spelled_like_what_is_there() {
        let mut spellings = Spellings::default();
        assert_eq!(spellings.in_files(HEAD), HEAD);
        spellings.canonical("model.norm.weight");
        assert_eq!(spellings.in_files(HEAD), "lm_head.weight");
        assert_eq!(
            spellings.in_files("talker.model.norm.weight"),
            "talker.model.norm.weight"
        );
    }
}
