//! What `sage inspect` finds out.

use std::collections::{BTreeMap, BTreeSet};

use sage_actors::cache::cycle_cliff;

use super::report::{
    ComponentReport, InspectReport, ModuleMemory, StateMemory, Stored, Straddling, TensorKind,
    WrongShape, WrongType,
};
use crate::checkpoint::{
    Checkpoint, Component, ExpectedTensor, Findings, ModelConfig, Role, expected_tensors,
};
use crate::store::{Store, WeightSource, name_pattern};

struct SurveyedTensor {
    dtype: Stored,
    bytes: u64,
    shard: Option<usize>,
}

/// The shards that hold matrices of an expert, by component, layer and expert.
type ShardsOfExperts = BTreeMap<(Component, usize, usize), BTreeSet<usize>>;

/// The tensors of a model, wherever they lie.
pub(super) struct Survey<'a> {
    kind: &'static str,
    config: &'a ModelConfig,
    found: BTreeMap<&'a str, SurveyedTensor>,
    total_bytes: u64,
    shards: Vec<&'a str>,
    missing_shards: &'a [String],
    /// Whether matrices are packed: a store of them runs, and they do not.
    is_packed: bool,
    /// Which absent tensors were absent from the checkpoint already; `None` if this is the checkpoint.
    known_missing: Option<&'a BTreeSet<String>>,
    /// What is wrong with a checkpoint's tensors; a store that has anything like that cannot be opened.
    findings: Findings,
    notes: Vec<String>,
}

impl<'a> Survey<'a> {
    pub(super) fn of_checkpoint(checkpoint: &'a Checkpoint) -> Self {
        let found = checkpoint.tensors().map(|tensor| {
            let dtype = match &tensor.packed {
                Some(_) => Stored::Packed(tensor.stored_format()),
                None => Stored::As(tensor.dtype),
            };
            let bytes = tensor.stored_bytes();
            (
                tensor.name.as_str(),
                SurveyedTensor {
                    dtype,
                    bytes,
                    shard: Some(tensor.shard),
                },
            )
        });
        Self {
            kind: "checkpoint",
            config: checkpoint.config(),
            found: found.collect(),
            total_bytes: checkpoint.total_bytes(),
            findings: checkpoint.findings(),
            notes: notes(checkpoint),
            shards: checkpoint.shards().map(|(name, _)| name).collect(),
            missing_shards: checkpoint.missing_shards(),
            is_packed: checkpoint.packing().is_some(),
            known_missing: None,
        }
    }

    pub(super) fn of_store(store: &'a Store) -> Self {
        let tensors = store
            .manifest()
            .records
            .values()
            .flat_map(|record| &record.tensors);
        let found = tensors.map(|tensor| {
            let (dtype, bytes) = (Stored::As(tensor.dtype), tensor.bytes);
            (
                tensor.name.as_str(),
                SurveyedTensor {
                    dtype,
                    bytes,
                    shard: None,
                },
            )
        });
        Self {
            kind: "store",
            config: store.config(),
            total_bytes: store
                .manifest()
                .records
                .values()
                .flat_map(|record| &record.tensors)
                .map(|tensor| tensor.bytes)
                .sum(),
            found: found.collect(),
            findings: Findings::default(),
            notes: notes(store),
            shards: Vec::new(),
            missing_shards: &[],
            is_packed: false,
            known_missing: Some(&store.manifest().missing),
        }
    }

    pub(super) fn report(&self) -> InspectReport {
        let mut report = InspectReport {
            model_type: self.config.model_type.clone(),
            kind: self.kind,
            total_bytes: self.total_bytes,
            tensors: self.found.len(),
            components: Vec::new(),
            memory_per_state: Vec::new(),
            memory: None,
            memory_unknown: None,
            straddling_experts: Vec::new(),
            missing: self.findings.missing.clone(),
            missing_shards: self.missing_shards.to_vec(),
            misshapen: self.misshapen(),
            other_types: self.other_types(),
            unexpected: self.findings.unexpected.clone(),
            not_extracted: 0,
            notes: self.notes.clone(),
            complete: false,
            runnable: false,
        };
        let expected = expected_tensors(self.config);
        let mut thinker_is_whole = true;
        let mut tallies: BTreeMap<Component, Tally> = BTreeMap::new();
        let mut experts = ShardsOfExperts::new();
        for tensor in &expected {
            let Some(found) = self.found.get(tensor.name.as_str()) else {
                thinker_is_whole &= tensor.component != Component::Thinker;
                match self.known_missing {
                    Some(missing) if missing.contains(&tensor.name) => {
                        report.missing.push(tensor.name.clone());
                    }
                    Some(_) => report.not_extracted += 1,
                    None => {}
                }
                continue;
            };
            tallies
                .entry(tensor.component)
                .or_default()
                .add(tensor, found);
            if let (Role::Expert { layer, expert, .. }, Some(shard)) = (tensor.role, found.shard) {
                experts
                    .entry((tensor.component, layer, expert))
                    .or_default()
                    .insert(shard);
            }
        }
        report.straddling_experts = self.straddling(experts);
        for (component, tally) in tallies {
            report.components.push(self.component(component, tally));
        }
        report.memory_per_state = states(&report.components);
        let sound = report.misshapen.is_empty() && report.other_types.is_empty();
        // Opening wants every shard, whatever was in it.
        report.runnable =
            sound && thinker_is_whole && report.missing_shards.is_empty() && !self.is_packed;
        report.complete = sound && report.missing.is_empty() && report.not_extracted == 0;
        report
    }

    /// The experts whose matrices lie in several shards.
    fn straddling(&self, experts: ShardsOfExperts) -> Vec<Straddling> {
        let apart = experts.into_iter().filter(|(_, shards)| shards.len() > 1);
        let named = apart.map(|((component, layer, expert), shards)| Straddling {
            component,
            layer,
            expert,
            shards: shards
                .into_iter()
                .map(|shard| self.shards[shard].to_owned())
                .collect(),
        });
        named.collect()
    }

    fn misshapen(&self) -> Vec<WrongShape> {
        let found = self.findings.misshapen.iter().cloned();
        found
            .map(|found| WrongShape {
                name: found.name,
                shape: found.shape,
                expected: found.expected,
            })
            .collect()
    }

    fn other_types(&self) -> Vec<WrongType> {
        let found = self.findings.other_formats.iter();
        found
            .map(|found| WrongType {
                name: found.name.clone(),
                dtype: found.format.name(),
                expected: found.gate.name(),
            })
            .collect()
    }

    fn component(&self, component: Component, tally: Tally) -> ComponentReport {
        let layers = layers_of(component, self.config);
        let text = component.text_config(self.config);
        let sparse_layers = (0..layers)
            .filter(|&layer| component.is_sparse(self.config, layer))
            .count();
        let text = text.filter(|_| sparse_layers > 0);
        let bytes_per_expert = tally.experts.values().max().copied();
        ComponentReport {
            name: component,
            bytes: tally.bytes,
            tensors: tally.tensors,
            layers,
            sparse_layers,
            experts_per_layer: text.map_or(0, |text| text.num_experts),
            experts_per_token: text.map_or(0, |text| text.num_experts_per_tok),
            bytes_per_expert: bytes_per_expert.filter(|_| text.is_some()).unwrap_or(0),
            always_resident_bytes: tally.bytes - tally.expert_bytes,
            dtype: one_or_mixed(tally.formats.keys()).unwrap_or_else(|| MIXED.to_owned()),
            bytes_by_format: tally.formats,
            kinds: tally.kinds.into_values().collect(),
            expert_format: one_or_mixed(tally.expert_formats.iter()),
        }
    }
}

/// What is said of tensors of several formats.
const MIXED: &str = "mixed";

/// The name of the only format, or that there are several; none where there is none.
fn one_or_mixed<'a>(formats: impl Iterator<Item = &'a Stored>) -> Option<String> {
    match formats.collect::<Vec<_>>()[..] {
        [] => None,
        [only] => Some(only.name().to_owned()),
        _ => Some(MIXED.to_owned()),
    }
}

#[derive(Default)]
struct Tally {
    bytes: u64,
    expert_bytes: u64,
    tensors: usize,
    /// Bytes in each.
    formats: BTreeMap<Stored, u64>,
    expert_formats: BTreeSet<Stored>,
    /// Bytes of each expert, by layer and number.
    experts: BTreeMap<(usize, usize), u64>,
    /// Tensors and bytes by name, numbers apart, and format.
    kinds: BTreeMap<(String, Stored), TensorKind>,
}

impl Tally {
    fn add(&mut self, tensor: &ExpectedTensor, found: &SurveyedTensor) {
        let (role, name) = (tensor.role, name_pattern(&tensor.name));
        let new = |name| TensorKind {
            name,
            format: found.dtype,
            is_matrix: tensor.shape.len() > 1,
            tensors: 0,
            bytes: 0,
        };
        let key = (name.clone(), found.dtype);
        let kind = self.kinds.entry(key).or_insert_with(|| new(name));
        kind.tensors += 1;
        kind.bytes += found.bytes;
        self.bytes += found.bytes;
        self.tensors += 1;
        *self.formats.entry(found.dtype).or_default() += found.bytes;
        if let Role::Expert { layer, expert, .. } = role {
            *self.experts.entry((layer, expert)).or_default() += found.bytes;
            self.expert_bytes += found.bytes;
            self.expert_formats.insert(found.dtype);
        }
    }
}

/// How the model is stored, and whether text can be turned into tokens.
fn notes(source: &dyn WeightSource) -> Vec<String> {
    let mut notes = source.notes().to_vec();
    let has = |name: &str| source.file(name).is_some();
    if !(has("tokenizer.json") || (has("vocab.json") && has("merges.txt"))) {
        notes.push(
            "there is no tokenizer beside the weights (tokenizer.json, or vocab.json with merges.txt): without one only \
             token ids can be given"
                .to_owned(),
        );
    }
    notes
}

/// In each state a token uses a share of the experts that the model was trained with: half, all, or twice as many.
fn states(components: &[ComponentReport]) -> Vec<StateMemory> {
    let always_resident_bytes = components
        .iter()
        .map(|part| part.always_resident_bytes)
        .sum();
    let state = |state, halves: usize| {
        let with_experts = components.iter().filter(|part| part.experts_per_layer > 0);
        let module = |part: &ComponentReport| {
            let k = (halves * part.experts_per_token)
                .div_ceil(2)
                .min(part.experts_per_layer);
            let expert_bytes = (k * part.sparse_layers) as u64 * part.bytes_per_expert;
            let cliff = cycle_cliff(0, part.sparse_layers as u64, k as u64);
            ModuleMemory {
                component: part.name,
                experts_per_token: k,
                token_experts: cliff.token_experts,
                lru_hits_nothing_up_to_experts: cliff.token_experts.saturating_sub(k as u64),
                expert_bytes,
            }
        };
        let modules: Vec<ModuleMemory> = with_experts.map(module).collect();
        let expert_bytes = modules.iter().map(|module| module.expert_bytes).sum();
        let total_bytes = expert_bytes + always_resident_bytes;
        StateMemory {
            state,
            modules,
            expert_bytes,
            always_resident_bytes,
            total_bytes,
        }
    };
    vec![state("wake", 1), state("focus", 2), state("crisis", 4)]
}

/// Layers of a component, however its configuration calls them.
fn layers_of(component: Component, config: &ModelConfig) -> usize {
    match component {
        Component::Thinker => config.thinker.text.num_hidden_layers,
        Component::Talker => config
            .talker
            .as_ref()
            .map_or(0, |talker| talker.text.num_hidden_layers),
        Component::Vision => config
            .thinker
            .vision
            .as_ref()
            .map_or(0, |vision| vision.depth),
        Component::Audio => config
            .thinker
            .audio
            .as_ref()
            .map_or(0, |audio| audio.encoder_layers),
        Component::Code2Wav => config
            .code2wav
            .as_ref()
            .map_or(0, |code2wav| code2wav.num_hidden_layers),
    }
}
