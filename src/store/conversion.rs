//! Routed experts that a store holds in another format than the checkpoint does.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::plan::PlannedRecord;
use super::record::{RecordKind, file_bytes};
use crate::checkpoint::{Component, ModelConfig};
use crate::formats::WeightFormat;

/// In which format some of the routed experts are to be stored, as `FORMAT[:COMPONENT][:LAYERS]`: `f16`, `f16:0-11`,
/// `bf16:talker`, `f16:thinker:0,3,8-11`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatRule {
    format: WeightFormat,
    /// Whose experts; of every component where none is named.
    component: Option<Component>,
    /// First and last layer of each range; every layer where there is none.
    layers: Vec<(usize, usize)>,
}

impl FormatRule {
    fn covers(&self, component: Component, layer: usize) -> bool {
        let mut ranges = self.layers.iter();
        self.component.is_none_or(|own| own == component)
            && (self.layers.is_empty() || ranges.any(|(a, b)| (*a..=*b).contains(&layer)))
    }

    /// A range of the rule that names no layer with routed experts, in words; none if each names some.
    fn idle_range(&self, config: &ModelConfig) -> Option<String> {
        let components = Component::ALL.map(|component| {
            let layers = component
                .text_config(config)
                .map_or(0, |text| text.num_hidden_layers);
            (component, layers)
        });
        let is_used = |first: usize, last: usize| {
            components.iter().any(|(component, layers)| {
                self.component.is_none_or(|own| own == *component)
                    && (first..=last.min(layers.saturating_sub(1)))
                        .any(|layer| layer < *layers && component.is_sparse(config, layer))
            })
        };
        match self.layers.iter().find(|(a, b)| !is_used(*a, *b)) {
            Some((first, last)) if first == last => Some(format!("layer {first}")),
            Some((first, last)) => Some(format!("layers {first}-{last}")),
            None if !is_used(0, usize::MAX) => Some("component".to_owned()),
            None => None,
        }
    }
}

impl FromStr for FormatRule {
    type Err = String;

    /// # Errors
    /// Says what is not a format, a component or layers, and what is.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let format = WeightFormat::from_option(name).ok_or_else(|| {
            let known = WeightFormat::ALL.map(WeightFormat::option).join(", ");
            format!("{name} is not available yet; available: {known}")
        })?;
        let mut rule = Self {
            format,
            component: None,
            layers: Vec::new(),
        };
        for part in parts {
            let component = Component::from_name(part);
            if component.is_some() && rule.component.is_none() && rule.layers.is_empty() {
                rule.component = component;
            } else if rule.layers.is_empty() {
                rule.layers = ranges(part)?;
            } else {
                return Err(format!("`{part}` is one part too many; {EXPECTED}"));
            }
        }
        Ok(rule)
    }
}

/// What a rule looks like.
const EXPECTED: &str =
    "expected FORMAT, FORMAT:LAYERS, FORMAT:COMPONENT or FORMAT:COMPONENT:LAYERS, such as f16:0-11";

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
    /// The experts, layer by layer; those that are not in a partial store as well.
    pub layers: Vec<ConvertedLayer>,
}

/// Experts of one layer that were converted alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConvertedLayer {
    /// Part of the model that it belongs to.
    pub component: Component,
    /// Number of the decoder layer, from 0.
    pub layer: usize,
    /// Format in the checkpoint.
    pub from: WeightFormat,
    /// Format in the store.
    pub to: WeightFormat,
    /// How many there are.
    pub experts: usize,
}

/// Changes planned records to the formats that the rules ask for; of several that cover an expert the last one counts.
/// Answers what changes, by layer.
pub(super) fn apply(
    rules: &[FormatRule],
    config: &ModelConfig,
    records: &mut BTreeMap<String, PlannedRecord>,
) -> Result<Vec<ConvertedLayer>, StoreError> {
    for rule in rules {
        if let Some(idle) = rule.idle_range(config) {
            return Err(StoreError::Selection(format!(
                "--quant {rule}: there is no {idle} of this model with routed experts"
            )));
        }
    }
    let mut changed = BTreeMap::<(Component, usize, WeightFormat, WeightFormat), usize>::new();
    for record in records.values_mut() {
        let RecordKind::Expert { layer, .. } = record.kind else {
            continue;
        };
        let covers = |rule: &&FormatRule| rule.covers(record.component, layer);
        let rule = rules.iter().rev().find(covers);
        let from = record.tensors.first().map(|tensor| tensor.dtype);
        let (Some(rule), Some(from)) = (rule, from) else {
            continue;
        };
        if rule.format == from {
            continue;
        }
        for tensor in &mut record.tensors {
            tensor.dtype = rule.format;
            tensor.bytes = rule.format.tensor_bytes(&tensor.shape).ok_or_else(|| {
                StoreError::Selection(format!(
                    "--quant {rule}: rows of tensor `{}` {:?} are not whole blocks of {} numbers",
                    tensor.name,
                    tensor.shape,
                    rule.format.block_numbers()
                ))
            })?;
        }
        record.file_bytes = file_bytes(&record.tensors);
        let key = (record.component, layer, from, rule.format);
        *changed.entry(key).or_default() += 1;
    }
    let layers = changed.into_iter().map(|(key, experts)| ConvertedLayer {
        component: key.0,
        layer: key.1,
        from: key.2,
        to: key.3,
        experts,
    });
    Ok(layers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_written_alike() {
        for text in ["f16", "bf16:talker", "f16:0-11", "f32:thinker:0,3,8-11"] {
            assert_eq!(text.parse::<FormatRule>().unwrap().to_string(), text);
        }
        let rule: FormatRule = "f16:thinker:1,4-5".parse().unwrap();
        let covered: Vec<usize> = (0..8)
            .filter(|layer| rule.covers(Component::Thinker, *layer))
            .collect();
        assert_eq!(covered, [1, 4, 5]);
        assert!(!rule.covers(Component::Talker, 4));
    }

    #[test]
    fn what_is_no_rule_is_named() {
        for (text, due) in [
            ("q4", "q4 is not available yet; available: f32, bf16, f16"),
            ("f16:5-3", "`5-3` is no layers"),
            ("f16:vocoder", "`vocoder` is no layers"),
            ("f16:1:2", "`2` is one part too many"),
            ("f16:", "`` is no layers"),
        ] {
            let error = text.parse::<FormatRule>().unwrap_err();
            assert!(error.contains(due), "{text}: {error}");
        }
    }
}
