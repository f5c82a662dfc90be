//! A recording, and what it is while it is read.

use std::collections::BTreeMap;
use std::path::Path;

use sage_actors::cache::whatif::Routes;
use sage_actors::protocol::Phase;

use super::tokens::{RecordedTokens, TokenRoutes};
use crate::trace::TraceError;

/// The most experts and layers that a recording may speak of.
pub(super) const MOST_EXPERTS: u64 = 1 << 14;
pub(super) const MOST_LAYERS: u64 = 1 << 10;

/// A recording, and what had to be assumed of it.
#[derive(Debug)]
pub struct Recording {
    /// The routing.
    pub routes: Routes,
    /// Experts a layer are a guess: the next power of two above the greatest number seen.
    pub experts_guessed: bool,
    /// Token by token; else why that cannot be had, in words.
    pub tokens: Result<TokenRoutes, String>,
    /// No sizes were recorded: every expert counts one byte, and capacities in bytes mean nothing.
    pub sizes_unknown: bool,
}

/// Experts with the tokens that used each, by layer.
pub(super) type Layers = Vec<Vec<(u16, u32)>>;

/// A recording while it is read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) layers: Option<u64>,
    pub(super) experts: Option<u64>,
    /// By layer; 0 where nothing is said.
    pub(super) expert_bytes: Vec<u64>,
    /// By expert, of layers whose experts differ.
    pub(super) each_bytes: BTreeMap<usize, Vec<u64>>,
    pub(super) steps: Vec<(Phase, u32, Layers)>,
    /// Token by token, where that was recorded.
    pub(super) tokens: RecordedTokens,
}

impl Draft {
    pub(super) fn finish(
        self,
        path: &Path,
        declared: Option<u64>,
        of_model: Option<u64>,
    ) -> Result<Recording, TraceError> {
        let whole = |problem: String| TraceError::Whole {
            path: path.to_owned(),
            problem,
        };
        let used = || self.steps.iter().flat_map(|(_, _, layers)| layers);
        let greatest = used().flatten().map(|(expert, _)| u64::from(*expert)).max();
        let greatest = greatest.ok_or_else(|| whole("records no expert".to_owned()))?;
        let said = self.experts.or(of_model);
        let experts = said.unwrap_or((greatest + 1).next_power_of_two());
        if greatest >= experts && self.experts.is_none() {
            return Err(whole(format!(
                "{} uses expert {greatest}; the model has experts 0 to {}: take a recording of such a model",
                self.tokens.who_uses(greatest),
                experts - 1
            )));
        }
        if greatest >= experts {
            return Err(whole(format!(
                "expert {greatest} is used, but there are {experts} a layer: correct --experts or the file"
            )));
        }
        let deepest = self.steps.iter().map(|(_, _, layers)| layers.len() as u64);
        let layers = self.layers.unwrap_or(0).max(deepest.max().unwrap_or(0));
        let mut sizes = self.expert_bytes;
        sizes.resize(layers as usize, 0);
        if let Some(bytes) = declared {
            sizes.fill(bytes);
        }
        let sizes_unknown = sizes.iter().all(|bytes| *bytes == 0);
        if sizes_unknown {
            sizes.fill(1);
        }
        if let Some(layer) = sizes.iter().position(|bytes| *bytes == 0) {
            return Err(whole(format!(
                "says the size of some experts, but not of layer {layer}: give --expert-bytes for all"
            )));
        }
        let by_layer = sizes.clone();
        let mut routes = Routes::new(u16::try_from(experts).unwrap_or(u16::MAX), sizes);
        if declared.is_none() && !self.each_bytes.is_empty() {
            routes = routes.with_sizes(|layer, expert| {
                let own = self.each_bytes.get(&layer);
                let own = own.and_then(|own| own.get(usize::from(expert)));
                own.copied()
                    .unwrap_or_else(|| by_layer.get(layer).copied().unwrap_or(0))
            });
        }
        for (phase, tokens, layers) in &self.steps {
            routes.push(*phase, *tokens, layers);
        }
        if routes.decoded() == 0 {
            return Err(whole("records no decoded token".to_owned()));
        }
        Ok(Recording {
            tokens: self
                .tokens
                .routes(u16::try_from(experts).unwrap_or(u16::MAX)),
            routes,
            experts_guessed: said.is_none(),
            sizes_unknown,
        })
    }
}
