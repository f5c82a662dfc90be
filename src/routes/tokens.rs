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

/// A token of a recording: its turn, whether it was decoded, and its number there.
pub(super) type TokenKey = (u64, bool, u64);

/// The tokens of a recording as they come: of each its experts, by the numbers of the decoder's layers.
#[derive(Debug, Default)]
pub(super) struct RecordedTokens {
    tokens: BTreeMap<TokenKey, Vec<Vec<u16>>>,
    /// Numbers are those of lines, not of steps.
    by_line: bool,
}

impl RecordedTokens {
    /// What is known of a step so far.
    pub(super) fn of_step(&mut self, token: TokenKey) -> &mut Vec<Vec<u16>> {
        self.tokens.entry(token).or_default()
    }

    /// A line is a decoded token.
    pub(super) fn push_line(&mut self, line: u64, layers: Vec<Vec<u16>>) {
        self.by_line = true;
        self.tokens.insert((0, true, line), layers);
    }

    /// The first token that uses an expert, with the layer, in words.
    pub(super) fn who_uses(&self, expert: u64) -> String {
        let mut layers = self.tokens.iter().flat_map(|(token, layers)| {
            let numbered = layers.iter().enumerate();
            numbered.map(move |(layer, used)| (token, layer, used))
        });
        let found = layers.find(|(_, _, used)| used.iter().any(|one| u64::from(*one) == expert));
        match found {
            Some((token, layer, _)) => format!("{}, layer {layer},", self.name(token)),
            None => "a token".to_owned(),
        }
    }

    fn name(&self, (turn, decoded, number): &TokenKey) -> String {
        let turn = match turn {
            0 => String::new(),
            turn => format!(" of turn {turn}"),
        };
        match (self.by_line, decoded) {
            (true, _) => format!("line {number}"),
            (false, true) => format!("decoded step {number}{turn}"),
            (false, false) => format!("step {number} of the prompt{turn}"),
        }
    }

    /// The first turn of what was recorded, of layers with so many experts: each token has as many in each layer that has any.
    /// Only of a prompt the last layer may have recorded nothing (engines skip it where nothing is predicted): it has the experts
    /// of the next token then.
    ///
    /// # Errors
    /// Names the token, the layer, what was found there and what was expected.
    pub(super) fn routes(&self, experts: u16) -> Result<TokenRoutes, String> {
        let Some((turn, ..)) = self.tokens.keys().next() else {
            return Err(
                "does not say which experts each token used in every layer; expected a route trace, or lines with `layers`"
                    .to_owned(),
            );
        };
        let of_turn = || self.tokens.iter().filter(|((own, ..), _)| own == turn);
        let layers = of_turn().map(|(_, layers)| layers.len()).max().unwrap_or(0);
        let has_experts = |layer: usize| {
            of_turn().any(|(_, used)| used.get(layer).is_some_and(|used| !used.is_empty()))
        };
        let sparse: Vec<usize> = (0..layers).filter(|layer| has_experts(*layer)).collect();
        let mut tokens: Vec<Vec<Vec<u16>>> = Vec::new();
        let mut expected: Option<(usize, String)> = None;
        for (token, used) in of_turn() {
            let mut used = used.clone();
            used.resize(layers, Vec::new());
            for layer in &sparse {
                let skipped = !token.1 && Some(layer) == sparse.last() && used[*layer].is_empty();
                if !skipped {
                    let place = format!("{}, layer {layer}", self.name(token));
                    check(&used[*layer], &place, &mut expected)?;
                }
            }
            tokens.push(used);
        }
        if let Some(last) = sparse.last() {
            let mut next: Option<Vec<u16>> = None;
            for token in tokens.iter_mut().rev() {
                match (token[*last].is_empty(), &next) {
                    (true, Some(next)) => token[*last].clone_from(next),
                    (true, None) => {
                        return Err(format!(
                            "no token behind the prompt says which experts layer {last} used; expected at least one"
                        ));
                    }
                    (false, _) => next = Some(token[*last].clone()),
                }
            }
        }
        Ok(TokenRoutes {
            experts,
            prompt_tokens: of_turn().filter(|((_, decoded, _), _)| !decoded).count(),
            tokens,
        })
    }
}

/// That a token's experts in one layer are as many as those of the first that was looked at, and none of them twice.
fn check(used: &[u16], place: &str, expected: &mut Option<(usize, String)>) -> Result<(), String> {
    if used.is_empty() {
        return Err(format!(
            "{place} has no expert; expected some, as other tokens have there"
        ));
    }
    let (count, first) = expected.get_or_insert_with(|| (used.len(), place.to_owned()));
    if used.len() != *count {
        return Err(format!(
            "{place}: experts: {}; expected {count}, as {first} has",
            used.len()
        ));
    }
    let twice = used.iter().enumerate();
    let mut twice = twice.filter(|(at, expert)| used[..*at].contains(expert));
    match twice.next() {
        Some((_, expert)) => Err(format!(
            "{place} has expert {expert} twice; expected every expert of a token once"
        )),
        None => Ok(()),
    }
}

impl TokenRoutes {
    /// Of the decoder layers with these numbers, in this order.
    ///
    /// # Errors
    /// Names the first of them that nothing was recorded of.
    pub fn of_layers(&self, numbers: &[usize]) -> Result<Self, String> {
        let recorded = |layer: &usize| {
            let first = self.tokens.first();
            first.is_some_and(|token| token.get(*layer).is_some_and(|used| !used.is_empty()))
        };
        if let Some(layer) = numbers.iter().find(|layer| !recorded(layer)) {
            let last = (0..self.layers()).rev().find(recorded);
            return Err(format!(
                "says nothing of layer {layer}, which has experts in the model; the last layer that it speaks of is {}",
                last.map_or("none".to_owned(), |last| last.to_string())
            ));
        }
        let of_token = |token: &Vec<Vec<u16>>| {
            let used = numbers.iter().map(|layer| token[*layer].clone());
            used.collect()
        };
        Ok(Self {
            tokens: self.tokens.iter().map(of_token).collect(),
            ..*self
        })
    }

    /// Layers; of a recording the decoder's, of which the dense ones have no experts.
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

    fn recorded<const N: usize>(tokens: [(TokenKey, Vec<Vec<u16>>); N]) -> RecordedTokens {
        let mut recorded = RecordedTokens::default();
        for (token, layers) in tokens {
            *recorded.of_step(token) = layers;
        }
        recorded
    }

    #[test]
    fn a_layer_that_skipped_a_token_takes_the_next_one() {
        let recorded = recorded([
            ((0, false, 0), vec![vec![1, 2]]),
            ((0, false, 1), vec![vec![3, 4], vec![5, 6]]),
            ((0, true, 0), vec![vec![7, 1], vec![2, 0]]),
            ((1, false, 0), vec![vec![0, 0], vec![0, 0]]),
        ]);
        let routes = recorded.routes(8).unwrap();
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
    }

    #[test]
    fn what_is_not_whole_is_named_with_token_and_layer() {
        let say = |tokens| recorded(tokens).routes(8).unwrap_err();
        let whole = || vec![vec![1, 2], vec![3, 4]];
        for (layers, expected) in [
            (
                vec![vec![1, 2], vec![]],
                "decoded step 7, layer 1 has no expert; expected some",
            ),
            (
                vec![vec![1, 2], vec![3, 4, 5]],
                "layer 1: experts: 3; expected 2, as decoded step 6, layer 0 has",
            ),
            (
                vec![vec![1, 1], vec![3, 4]],
                "decoded step 7, layer 0 has expert 1 twice",
            ),
        ] {
            let problem = say([((0, true, 6), whole()), ((0, true, 7), layers)]);
            assert!(problem.contains(expected), "{problem}");
        }
        // Of a prompt only the last layer may be left out.
        let problem = say([
            ((0, false, 0), vec![vec![], vec![3, 4]]),
            ((0, true, 0), whole()),
        ]);
        let expected = "step 0 of the prompt, layer 0 has no expert";
        assert!(problem.starts_with(expected), "{problem}");
        let never = recorded([]).routes(8).unwrap_err();
        assert!(never.contains("expected a route trace"), "{never}");
    }

    #[test]
    fn layers_are_those_with_the_same_numbers() {
        let recorded = recorded([((0, true, 0), vec![vec![], vec![1, 2], vec![], vec![5, 6]])]);
        let routes = recorded.routes(8).unwrap();
        let of_model = routes.of_layers(&[1, 3]).unwrap();
        assert_eq!(of_model.tokens, [[[1, 2], [5, 6]]]);
        assert_eq!(routes.of_layers(&[3]).unwrap().at(9, 0), [5, 6]);
        let problem = routes.of_layers(&[1, 2]).unwrap_err();
        assert!(problem.contains("nothing of layer 2"), "{problem}");
        assert!(problem.ends_with("speaks of is 3"), "{problem}");
        assert!(routes.of_layers(&[4]).is_err());
    }
}
