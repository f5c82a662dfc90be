//! Recorded routing token by token, for whoever wants to repeat it.

use std::collections::BTreeMap;

use sage_actors::cache::whatif::Routes;
use sage_actors::protocol::Phase;

/// Which experts every token of one turn used, in every sparse layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRoutes {
    /// Experts a layer.
    pub experts: u16,
    /// Tokens at the beginning that are the prompt's.
    pub prompt_tokens: usize,
    /// By token, then by layer: experts in the order in which they are named.
    pub tokens: Vec<Vec<Vec<u16>>>,
}

/// The tokens of a recording as they come, by turn, phase and number.
pub(super) type RecordedTokens = BTreeMap<(u64, bool, u64), Vec<Vec<u16>>>;

impl TokenRoutes {
    /// The first turn of what was recorded. A layer that recorded nothing for a token of the prompt (engines skip the last one
    /// where nothing is predicted) has the experts of the next token that it did record. None where nothing is known of a layer.
    pub(super) fn new(recorded: &RecordedTokens, experts: u16) -> Option<Self> {
        let turn = recorded.keys().next()?.0;
        let of_turn = || recorded.iter().filter(|((own, ..), _)| *own == turn);
        let layers = of_turn().map(|(_, layers)| layers.len()).max()?;
        let mut tokens: Vec<Vec<Vec<u16>>> = Vec::new();
        for (_, used) in of_turn() {
            let mut used = used.clone();
            used.resize(layers, Vec::new());
            tokens.push(used);
        }
        for layer in 0..layers {
            let mut next: Option<Vec<u16>> = None;
            for token in tokens.iter_mut().rev() {
                match (token[layer].is_empty(), &next) {
                    (false, _) => next = Some(token[layer].clone()),
                    (true, Some(next)) => token[layer].clone_from(next),
                    (true, None) => return None,
                }
            }
        }
        Some(Self {
            experts,
            prompt_tokens: of_turn().filter(|((_, decoded, _), _)| !decoded).count(),
            tokens,
        })
    }

    /// Sparse layers.
    pub fn layers(&self) -> usize {
        self.tokens.first().map_or(0, Vec::len)
    }

    /// Experts a token and layer, at most.
    pub fn k(&self) -> usize {
        let used = self.tokens.iter().flatten();
        used.map(Vec::len).max().unwrap_or(0)
    }

    /// Experts of the token at a place of the context, in one layer: behind its last token the recording begins again.
    pub fn at(&self, place: usize, layer: usize) -> &[u16] {
        &self.tokens[place % self.tokens.len()][layer]
    }

    /// The same as batches and tokens, for asking cache policies: `prompt_tokens` tokens are one batch, and so many more are
    /// decoded. `bytes` is what an expert of a layer takes.
    pub fn batches(&self, prompt_tokens: usize, decoded: usize, bytes: u64) -> Routes {
        let mut routes = Routes::new(self.experts, vec![bytes; self.layers()]);
        let uses_of = |places: std::ops::Range<usize>| -> Vec<Vec<(u16, u32)>> {
            let layers = (0..self.layers()).map(|layer| {
                let mut uses: BTreeMap<u16, u32> = BTreeMap::new();
                for place in places.clone() {
                    for expert in self.at(place, layer) {
                        *uses.entry(*expert).or_default() += 1;
                    }
                }
                uses.into_iter().collect()
            });
            layers.collect()
        };
        if prompt_tokens > 0 {
            let prompt = uses_of(0..prompt_tokens);
            routes.push(Phase::Prefill, prompt_tokens as u32, &prompt);
        }
        for place in prompt_tokens..prompt_tokens + decoded {
            routes.push(Phase::Decode, 1, &uses_of(place..place + 1));
        }
        routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_skipped_a_token_takes_the_next_one() {
        let recorded = RecordedTokens::from([
            ((0, false, 0), vec![vec![1, 2]]),
            ((0, false, 1), vec![vec![3, 4], vec![5, 6]]),
            ((0, true, 0), vec![vec![7, 1], vec![2, 0]]),
            ((1, false, 0), vec![vec![0, 0], vec![0, 0]]),
        ]);
        let routes = TokenRoutes::new(&recorded, 8).unwrap();
        assert_eq!(
            (routes.layers(), routes.k(), routes.prompt_tokens),
            (2, 2, 2)
        );
        assert_eq!(routes.tokens.len(), 3);
        assert_eq!(routes.at(0, 1), [5, 6]);
        assert_eq!(routes.at(5, 0), [7, 1]);
        let batches = routes.batches(2, 4, 10);
        assert_eq!(
            (batches.decoded(), batches.layers(), batches.k()),
            (4, 2, 2)
        );
        let unknown = RecordedTokens::from([((0, true, 0), vec![vec![1], vec![]])]);
        assert_eq!(TokenRoutes::new(&unknown, 8), None);
    }
}
