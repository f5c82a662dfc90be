//! What an episode of a domain usually needs: frequencies of use that Dream has consolidated from recorded routing.
//!
//! A list belongs to a state and a domain, because states differ in how many experts they use and domains in which.
//! Where a domain is known from another state only, that list serves. The lists are bounded; the one that was neither
//! entered nor added to for longest goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::protocol::State;

/// Lists kept.
pub const LISTS: usize = 32;
/// Tokens of a domain after which an older episode counts half.
const HALF_LIFE_TOKENS: f64 = 2048.0;
/// Fewer tokens than this say nothing of a domain.
const TOKENS_MIN: f64 = 64.0;

/// Frequencies of one (state, domain).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct List {
    /// Tokens seen, decayed.
    tokens: f64,
    /// Of every expert of the module, by rank of the layer, then number: tokens that used it, decayed alike.
    uses: Vec<f64>,
    /// When it was entered or added to last.
    touched: u64,
}

/// The lists of one module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Habits {
    /// By domain, then state.
    lists: BTreeMap<(String, State), List>,
    clock: u64,
}

impl Habits {
    /// Adds an episode: `uses` are (index of the expert in the module, tokens that used it), indices below `experts`.
    pub fn add(
        &mut self,
        domain: &str,
        state: State,
        experts: usize,
        tokens: u32,
        uses: &[(u32, u32)],
    ) {
        self.clock += 1;
        let key = (domain.to_owned(), state);
        if !self.lists.contains_key(&key) && self.lists.len() == LISTS {
            let oldest = self.lists.iter().min_by_key(|(_, list)| list.touched);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.lists.remove(&oldest);
            }
        }
        let list = self.lists.entry(key).or_default();
        list.touched = self.clock;
        list.uses.resize(experts, 0.0);
        let keep = libm::exp2(-f64::from(tokens) / HALF_LIFE_TOKENS);
        list.tokens = list.tokens * keep + f64::from(tokens);
        list.uses.iter_mut().for_each(|uses| *uses *= keep);
        for (index, tokens) in uses {
            if let Some(uses) = list.uses.get_mut(*index as usize) {
                *uses += f64::from(*tokens);
            }
        }
    }

    /// Share of the domain's tokens that use each expert; none where too little is known.
    pub fn enter(&mut self, domain: &str, state: State) -> Option<Arc<[f32]>> {
        self.clock += 1;
        let known = |list: &List| list.tokens >= TOKENS_MIN;
        let own = (domain.to_owned(), state);
        let key = if self.lists.get(&own).is_some_and(known) {
            own
        } else {
            let mut others = State::ALL
                .into_iter()
                .map(|state| (domain.to_owned(), state));
            others.find(|key| self.lists.get(key).is_some_and(known))?
        };
        let list = self.lists.get_mut(&key)?;
        list.touched = self.clock;
        let share = |uses: &f64| (uses / list.tokens).min(1.0) as f32;
        Some(list.uses.iter().map(share).collect())
    }

    /// (domain, state, tokens, experts that at least a quarter of the tokens use): what reports show of each list.
    pub fn hot(&self) -> Vec<(String, State, f64, u32)> {
        let hot = |list: &List| {
            let often = |uses: &&f64| **uses >= 0.25 * list.tokens;
            list.uses.iter().filter(often).count() as u32
        };
        self.lists
            .iter()
            .map(|((domain, state), list)| (domain.clone(), *state, list.tokens, hot(list)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_the_shares_of_what_was_added() {
        let mut habits = Habits::default();
        assert_eq!(habits.enter("book", State::Wake), None);
        habits.add("book", State::Wake, 3, 40, &[(0, 40)]);
        assert_eq!(
            habits.enter("book", State::Wake),
            None,
            "too little is known"
        );
        habits.add("book", State::Wake, 3, 40, &[(0, 40), (2, 20)]);
        let shares = habits.enter("book", State::Wake).unwrap();
        assert!((shares[0] - 1.0).abs() < 1e-6 && shares[1] == 0.0);
        assert!((0.25..0.27).contains(&shares[2]), "{shares:?}");
        // Another state of the same domain is better than nothing; another domain is not.
        assert_eq!(habits.enter("book", State::Focus), Some(shares));
        assert_eq!(habits.enter("libro", State::Wake), None);
    }

    #[test]
    fn the_list_that_was_not_touched_for_longest_goes() {
        let mut habits = Habits::default();
        for number in 0..LISTS {
            habits.add(&format!("{number}"), State::Wake, 1, 100, &[(0, 50)]);
        }
        assert!(habits.enter("0", State::Wake).is_some());
        habits.add("new", State::Wake, 1, 100, &[(0, 50)]);
        assert!(habits.enter("0", State::Wake).is_some());
        assert_eq!(habits.enter("1", State::Wake), None);
        assert_eq!(habits.hot().len(), LISTS);
    }
}
