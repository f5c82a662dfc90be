//! Tensors that a store holds in another format than the checkpoint does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::plan::PlannedRecord;
use super::record::{RecordKind, TensorSpec, file_bytes};
use crate::checkpoint::{Component, ModelConfig};
use crate::formats::WeightFormat;

/// Which tensors of a decoder a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum TensorGroup {
    /// Matrices of routed experts.
    Experts,
    /// The other matrices of its layers, but not the routers: attention, dense and shared blocks.
    Trunk,
    /// Matrices that make logits of the residual stream.
    Head,
    /// Tables of embeddings.
    Embedding,
}

impl TensorGroup {
    const ALL: [Self; 4] = [Self::Experts, Self::Trunk, Self::Head, Self::Embedding];

    fn name(self) -> &'static str {
        match self {
            Self::Experts => "experts",
            Self::Trunk => "trunk",
            Self::Head => "head",
            Self::Embedding => "embedding",
        }
    }

    /// The group and the layer of a tensor; none of what is always stored as in the checkpoint: vectors, routers,
    /// projections between modules, towers and vocoder.
    fn of(record: &PlannedRecord, tensor: &TensorSpec) -> Option<(Self, Option<usize>)> {
        let is_decoder = matches!(record.component, Component::Thinker | Component::Talker);
        if tensor.shape.len() != 2 || !is_decoder {
            return None;
        }
        let name = tensor.name.as_str();
        match record.kind {
            RecordKind::Expert { layer, .. } => return Some((Self::Experts, Some(layer))),
            RecordKind::Router { .. } => return None,
            RecordKind::Rest => {}
        }
        if name.ends_with("_proj.weight") {
            let layer = name.split(".layers.").nth(1)?.split('.').next()?;
            return Some((Self::Trunk, layer.parse().ok()));
        }
        if name.contains("lm_head.") || name.ends_with("codec_head.weight") {
            return Some((Self::Head, None));
        }
        let is_table = name.contains("embed_tokens.") || name.contains("codec_embedding.");
        is_table.then_some((Self::Embedding, None))
    }
}

/// In which format some of the tensors are to be stored, as `FORMAT[:GROUP][:COMPONENT][:LAYERS]`: `f16`, `f16:0-11`,
/// `q8_0:trunk`, `q4_k:experts:thinker:0,3,8-11`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatRule {
    format: WeightFormat,
    group: TensorGroup,
    /// Whose tensors; of both decoders where none is named.
    component: Option<Component>,
    /// First and last layer of each range; every layer where there is none.
    layers: Vec<(usize, usize)>,
}

/// What stands for several rules: experts in one format, trunk and head in another.
const PRESETS: [(&str, WeightFormat, WeightFormat); 3] = [
    ("q8", WeightFormat::Q8_0, WeightFormat::Q8_0),
    ("q4", WeightFormat::Q4_K, WeightFormat::Q8_0),
    ("q2", WeightFormat::Q2_K, WeightFormat::Q8_0),
];

impl FormatRule {
    /// The rules that a text stands for: one, or those of `q8`, `q4` or `q2` with what follows them.
    ///
    /// # Errors
    /// Says what is not a format, a group, a component or layers, and what is.
    pub fn all_of(text: &str) -> Result<Vec<Self>, String> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let Some((_, experts, others)) = PRESETS.into_iter().find(|preset| preset.0 == name) else {
            return Ok(vec![text.parse()?]);
        };
        let with = |format: WeightFormat, group| {
            let rule = Self::with(format, rest)?;
            match rule.group {
                TensorGroup::Experts => Ok(Self { group, ..rule }),
                named => Err(format!(
                    "{name} is a format for every group: leave {} out, or name a format such as {}",
                    named.name(),
                    experts.option()
                )),
            }
        };
        let mut rules = vec![
            with(experts, TensorGroup::Experts)?,
            with(others, TensorGroup::Trunk)?,
        ];
        let head = with(others, TensorGroup::Head)?;
        // A head belongs to no layer.
        if head.layers.is_empty() {
            rules.push(head);
        }
        Ok(rules)
    }

    /// A rule whose parts behind the format are `rest`.
    fn with(format: WeightFormat, rest: &str) -> Result<Self, String> {
        let mut rule = Self {
            format,
            group: TensorGroup::Experts,
            component: None,
            layers: Vec::new(),
        };
        let mut is_grouped = false;
        for part in rest.split(':').filter(|_| !rest.is_empty()) {
            let group = TensorGroup::ALL
                .into_iter()
                .find(|group| group.name() == part);
            let component = Component::from_name(part);
            let is_first = rule.component.is_none() && rule.layers.is_empty();
            match (group, component) {
                (Some(group), _) if is_first && !is_grouped => {
                    (rule.group, is_grouped) = (group, true);
                }
                (_, Some(component)) if is_first => rule.component = Some(component),
                _ if rule.layers.is_empty() => rule.layers = ranges(part)?,
                _ => return Err(format!("`{part}` is one part too many; {EXPECTED}")),
            }
        }
        Ok(rule)
    }

    fn covers(&self, group: TensorGroup, component: Component, layer: Option<usize>) -> bool {
        let is_in = |layer| self.layers.iter().any(|(a, b)| (*a..=*b).contains(&layer));
        self.group == group
            && self.component.is_none_or(|own| own == component)
            && (self.layers.is_empty() || layer.is_some_and(is_in))
    }
}

impl FromStr for FormatRule {
    type Err = String;

    /// # Errors
    /// As [`Self::all_of`].
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = match text.split_once(':') {
            Some((_, "")) => return Err(format!("`` is no layers; {EXPECTED}")),
            Some(parts) => parts,
            None => (text, ""),
        };
        let format = WeightFormat::from_option(name).ok_or_else(|| {
            let presets = PRESETS.iter().map(|preset| preset.0);
            let known: Vec<&str> = presets
                .chain(WeightFormat::ALL.map(WeightFormat::option))
                .collect();
            format!("{name} is no format; there are {}", known.join(", "))
        })?;
        Self::with(format, rest)
    }
}

/// What a rule looks like.
const EXPECTED: &str = "expected FORMAT[:GROUP][:COMPONENT][:LAYERS], such as q4_k:0-11 or q8_0:trunk:thinker, with a group \
                        of experts, trunk, head, embedding";

/// `0,3,8-11` as first and last of each range.
fn ranges(text: &str) -> Result<Vec<(usize, usize)>, String> {
    let one = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let range = (first.parse().ok()?, last.parse().ok()?);
        (range.0 <= range.1).then_some(range)
    };
    text.split(',')
        .map(|range| one(range).ok_or_else(|| format!("`{range}` is no layers; {EXPECTED}")))
        .collect()
}

impl fmt::Display for FormatRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.format.option())?;
        if self.group != TensorGroup::Experts {
            write!(f, ":{}", self.group.name())?;
        }
        if let Some(component) = self.component {
            write!(f, ":{component}")?;
        }
        for (at, (first, last)) in self.layers.iter().enumerate() {
            f.write_str(if at == 0 { ":" } else { "," })?;
            match first == last {
                true => write!(f, "{first}")?,
                false => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// What a store holds otherwise than the checkpoint that it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    /// Fingerprint of the checkpoint.
    pub of: String,
    /// The tensors, by name; those that are not in a partial store as well.
    pub tensors: Vec<ConvertedTensors>,
}

/// Tensors that were converted alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConvertedTensors {
    /// Their name, with `*` for the numbers of layers and experts.
    pub name: String,
    /// Format in the checkpoint.
    pub from: WeightFormat,
    /// Format in the store.
    pub to: WeightFormat,
    /// Their layers; none of what is in no layer.
    pub layers: BTreeSet<usize>,
    /// How many there are.
    pub tensors: usize,
}

/// The name of a tensor with `*` for the numbers of layers and experts.
pub fn name_pattern(name: &str) -> String {
    let is_number = |part: &str| part.parse::<usize>().is_ok();
    let parts = name
        .split('.')
        .map(|part| if is_number(part) { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// Changes planned records to the formats that the rules ask for; of several that cover a tensor the last one counts, and
/// where none does, what `kept` says of its name. Answers what changes.
pub(crate) fn apply(
    rules: &[FormatRule],
    config: &ModelConfig,
    kept: &dyn Fn(&str) -> Option<WeightFormat>,
    records: &mut BTreeMap<String, PlannedRecord>,
) -> Result<Vec<ConvertedTensors>, StoreError> {
    refuse_idle(rules, config, records)?;
    let mut changed =
        BTreeMap::<(String, WeightFormat, WeightFormat), (BTreeSet<usize>, usize)>::new();
    for record in records.values_mut() {
        let mut tensors = std::mem::take(&mut record.tensors);
        for tensor in &mut tensors {
            let Some((group, layer)) = TensorGroup::of(record, tensor) else {
                continue;
            };
            let covers = |rule: &&FormatRule| rule.covers(group, record.component, layer);
            let asked = rules.iter().rev().find(covers);
            let asked = asked.map(|rule| rule.format.fitting(tensor.shape[1]));
            let Some(to) = asked.or_else(|| kept(&tensor.name)) else {
                continue;
            };
            let from = tensor.dtype;
            let Some(bytes) = to.tensor_bytes(&tensor.shape).filter(|_| to != from) else {
                continue;
            };
            (tensor.dtype, tensor.bytes) = (to, bytes);
            let key = (name_pattern(&tensor.name), from, to);
            let entry = changed.entry(key).or_default();
            entry.0.extend(layer);
            entry.1 += 1;
        }
        record.tensors = tensors;
        record.file_bytes = file_bytes(&record.tensors);
    }
    let converted = changed
        .into_iter()
        .map(|(key, (layers, tensors))| ConvertedTensors {
            name: key.0,
            from: key.1,
            to: key.2,
            layers,
            tensors,
        });
    Ok(converted.collect())
}

/// Refuses a rule of which a range covers nothing: a slip of the pen.
fn refuse_idle(
    rules: &[FormatRule],
    config: &ModelConfig,
    records: &BTreeMap<String, PlannedRecord>,
) -> Result<(), StoreError> {
    let mut there = BTreeSet::new();
    for record in records.values() {
        for tensor in &record.tensors {
            let found = TensorGroup::of(record, tensor);
            there.extend(found.map(|(group, layer)| (group, record.component, layer)));
        }
    }
    // Experts that a checkpoint lacks are the model's all the same.
    for component in Component::ALL {
        let layers = component
            .text_config(config)
            .map_or(0, |text| text.num_hidden_layers);
        let sparse = (0..layers).filter(|layer| component.is_sparse(config, *layer));
        there.extend(sparse.map(|layer| (TensorGroup::Experts, component, Some(layer))));
    }
    for rule in rules {
        let covers_some = |rule: &FormatRule| {
            there
                .iter()
                .any(|(group, component, layer)| rule.covers(*group, *component, *layer))
        };
        let one_range = |range: &(usize, usize)| FormatRule {
            layers: vec![*range],
            ..rule.clone()
        };
        let idle = match rule
            .layers
            .iter()
            .find(|range| !covers_some(&one_range(range)))
        {
            Some((first, last)) if first == last => format!("layer {first}"),
            Some((first, last)) => format!("layers {first}-{last}"),
            None if !covers_some(rule) => "component".to_owned(),
            None => continue,
        };
        let group = match rule.group {
            TensorGroup::Experts => "routed experts",
            other => other.name(),
        };
        return Err(StoreError::Selection(format!(
            "--quant {rule}: there is no {idle} of this model with {group}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_written_alike() {
        for text in [
            "f16",
            "bf16:talker",
            "f16:0-11",
            "f32:thinker:0,3,8-11",
            "q8_0:trunk",
            "q6_k:head:thinker",
        ] {
            assert_eq!(text.parse::<FormatRule>().unwrap().to_string(), text);
        }
        let rule: FormatRule = "f16:thinker:1,4-5".parse().unwrap();
        let experts = TensorGroup::Experts;
        let covered: Vec<usize> = (0..8)
            .filter(|layer| rule.covers(experts, Component::Thinker, Some(*layer)))
            .collect();
        assert_eq!(covered, [1, 4, 5]);
        assert!(!rule.covers(experts, Component::Talker, Some(4)));
        assert!(!rule.covers(TensorGroup::Trunk, Component::Thinker, Some(4)));
    }

    #[test]
    fn short_names_stand_for_several_rules() {
        let rules = |text: &str| {
            let rules = FormatRule::all_of(text).unwrap();
            rules.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(rules("q4"), ["q4_k", "q8_0:trunk", "q8_0:head"]);
        assert_eq!(
            rules("q2:thinker:0-3"),
            ["q2_k:thinker:0-3", "q8_0:trunk:thinker:0-3"]
        );
        assert_eq!(rules("f16:0"), ["f16:0"]);
        assert!(
            FormatRule::all_of("q4:trunk")
                .unwrap_err()
                .contains("leave trunk out")
        );
    }

    #[test]
    fn what_is_no_rule_is_named() {
        for (text, due) in [
            (
                "q5",
                "q5 is no format; there are q8, q4, q2, f32, bf16, f16, q8_0",
            ),
            ("f16:5-3", "`5-3` is no layers"),
            ("f16:vocoder", "`vocoder` is no layers"),
            ("f16:1:2", "`2` is one part too many"),
            ("f16:", "`` is no layers"),
            ("f16:thinker:trunk", "`trunk` is no layers"),
        ] {
            let error = text.parse::<FormatRule>().unwrap_err();
            assert!(error.contains(due), "{text}: {error}");
        }
    }

    #[test]
    fn numbers_in_names_are_one_kind() {
        let name = "thinker.model.layers.3.mlp.experts.17.up_proj.weight";
        assert_eq!(
            name_pattern(name),
            "thinker.model.layers.*.mlp.experts.*.up_proj.weight"
        );
    }
}
