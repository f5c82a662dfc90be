//! Which experts worked on whose tokens.

use crate::core::{Engine, Forward};
use crate::events::{DomainUse, ExpertsEvent};

/// Sources that are counted apart; those that come later are counted together. A domain takes four bytes an expert.
const MOST_DOMAINS: usize = 16;

/// What all sources beyond [`MOST_DOMAINS`] are counted as.
const OTHERS: &str = "others";

/// Counts of the whole run, by the source of the observation that the tokens were read or generated for.
pub(super) struct Usage {
    layers: Vec<u16>,
    experts: usize,
    domains: Vec<DomainUse>,
}

impl Usage {
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            layers: engine.sparse_layers().iter().map(|key| key.layer).collect(),
            experts: engine.text_config().num_experts,
            domains: Vec::new(),
        }
    }

    /// A step for an observation of this kind and `source`.
    pub(super) fn note(
        &mut self,
        kind: &'static str,
        source: &str,
        forward: &Forward,
        tokens: usize,
    ) {
        let at = self.domain(kind, source);
        let domain = &mut self.domains[at];
        domain.tokens += tokens as u64;
        for used in &forward.work.used {
            let Ok(layer) = self.layers.binary_search(&used.layer) else {
                continue;
            };
            let count = &mut domain.worked[layer][usize::from(used.expert)];
            *count = count.saturating_add(used.tokens);
        }
    }

    /// Position of a source's domain; it is made at its first token.
    fn domain(&mut self, kind: &'static str, source: &str) -> usize {
        let known = |domain: &DomainUse| domain.kind == kind && domain.source == source;
        if let Some(at) = self.domains.iter().position(known) {
            return at;
        }
        let (kind, source) = if self.domains.len() < MOST_DOMAINS {
            (kind, source)
        } else {
            (OTHERS, "")
        };
        if self.domains.len() > MOST_DOMAINS {
            return MOST_DOMAINS;
        }
        self.domains.push(DomainUse {
            kind,
            source: source.to_owned(),
            tokens: 0,
            worked: vec![vec![0; self.experts]; self.layers.len()],
        });
        self.domains.len() - 1
    }

    pub(super) fn event(&self) -> ExpertsEvent {
        ExpertsEvent {
            layers: self.layers.clone(),
            experts: self.experts,
            domains: self.domains.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sage_actors::protocol::ExpertUse;

    fn step(expert: u16, tokens: u32) -> Forward {
        let mut step = Forward::default();
        step.work.used = vec![ExpertUse {
            layer: 7,
            expert,
            tokens,
        }];
        step
    }

    #[test]
    fn sources_are_counted_apart_and_late_ones_together() {
        let mut usage = Usage {
            layers: vec![3, 7],
            experts: 4,
            domains: Vec::new(),
        };
        for source in 0..MOST_DOMAINS + 3 {
            usage.note("text", &format!("source {source}"), &step(1, 2), 5);
        }
        usage.note("question", "source 0", &step(2, 1), 1);
        usage.note("text", "source 0", &step(2, 1), 1);
        let event = usage.event();
        assert_eq!(event.domains.len(), MOST_DOMAINS + 1);
        let first = &event.domains[0];
        assert_eq!((first.kind, first.tokens), ("text", 6));
        assert_eq!(first.worked, [[0, 0, 0, 0], [0, 2, 1, 0]]);
        let others = &event.domains[MOST_DOMAINS];
        assert_eq!((others.kind, others.tokens), (OTHERS, 16));
        assert_eq!(others.worked[1], [0, 6, 1, 0]);
    }
}
