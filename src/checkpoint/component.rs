//! Components, experts and roles of tensors, and the names that go with them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ModelConfig;
use super::config::TextConfig;

/// A part of the model that is stored, loaded and counted on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// The text decoder with embeddings and output head.
    Thinker,
    /// The speech decoder, with its projections and the code predictor.
    Talker,
    /// The vision tower.
    Vision,
    /// The audio tower.
    Audio,
    /// The vocoder.
    Code2Wav,
}

impl Component {
    /// All components.
    pub const ALL: [Self; 5] = [
        Self::Thinker,
        Self::Talker,
        Self::Vision,
        Self::Audio,
        Self::Code2Wav,
    ];

    /// The name on the command line, in reports and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Thinker => "thinker",
            Self::Talker => "talker",
            Self::Vision => "vision",
            Self::Audio => "audio",
            Self::Code2Wav => "code2wav",
        }
    }

    /// The component of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|component| component.name() == name)
    }

    /// The prefix of its decoder layers' tensors, for the components that have experts.
    pub fn layers_prefix(self) -> Option<&'static str> {
        match self {
            Self::Thinker => Some("thinker.model.layers"),
            Self::Talker => Some("talker.model.layers"),
            _ => None,
        }
    }

    /// Its decoder's configuration, for the components that have experts.
    pub fn text_config(self, config: &ModelConfig) -> Option<&TextConfig> {
        match self {
            Self::Thinker => Some(&config.thinker.text),
            Self::Talker => config.talker.as_ref().map(|talker| &talker.text),
            _ => None,
        }
    }

    /// Whether decoder layer `layer` has experts: as the configuration says in the thinker, always in the talker.
    pub fn is_sparse(self, config: &ModelConfig, layer: usize) -> bool {
        match self {
            Self::Thinker => config.thinker.text.is_sparse(layer),
            Self::Talker => config
                .talker
                .as_ref()
                .is_some_and(|talker| layer < talker.text.num_hidden_layers),
            _ => false,
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One of the three matrices of an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExpertMatrix {
    /// `gate_proj`, `[moe_intermediate_size, hidden_size]`.
    Gate,
    /// `up_proj`, `[moe_intermediate_size, hidden_size]`.
    Up,
    /// `down_proj`, `[hidden_size, moe_intermediate_size]`.
    Down,
}

impl ExpertMatrix {
    /// In the order in which an expert's record holds them.
    pub const ALL: [Self; 3] = [Self::Gate, Self::Up, Self::Down];

    /// The module name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// Shape of this matrix.
    pub fn shape(self, hidden: usize, intermediate: usize) -> [usize; 2] {
        match self {
            Self::Gate | Self::Up => [intermediate, hidden],
            Self::Down => [hidden, intermediate],
        }
    }
}

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The router of a sparse layer.
    Router {
        /// Number of the decoder layer, from 0.
        layer: usize,
    },
    /// A matrix of a routed expert.
    Expert {
        /// Number of the decoder layer, from 0.
        layer: usize,
        /// Expert of the layer.
        expert: usize,
        /// Which matrix.
        part: ExpertMatrix,
    },
    /// Anything that is always needed.
    Other,
}

/// The name of an expert's matrix; `None` for a component without experts.
pub fn expert_tensor_name(
    component: Component,
    layer: usize,
    expert: usize,
    part: ExpertMatrix,
) -> Option<String> {
    let prefix = component.layers_prefix()?;
    Some(format!(
        "{prefix}.{layer}.mlp.experts.{expert}.{}.weight",
        part.name()
    ))
}

/// The name of a layer's router; `None` for a component without experts.
pub fn router_tensor_name(component: Component, layer: usize) -> Option<String> {
    Some(format!(
        "{}.{layer}.mlp.gate.weight",
        component.layers_prefix()?
    ))
}
