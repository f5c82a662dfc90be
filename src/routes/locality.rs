//! How soon experts are used again, and routing that is drawn to be as local.
//!
//! Of every layer the experts stand in the order in which they were used last. How far from the front the next ones stand
//! (their stack distance) says how a least-recently-used cache of any size fares, and little else: routing that is drawn with
//! the same distances has the same hits.

use super::tokens::TokenRoutes;

/// How often a used expert stood at each distance, the most recent first.
#[derive(Clone, Debug, PartialEq)]
pub struct Locality {
    counts: Vec<f64>,
    /// Experts a token.
    k: usize,
}

/// Of Qwen3-30B-A3B, which has the thinker's shape (48 layers of 128 experts, run with 6), over 128 decoded tokens: from the
/// route trace that Helldez/BigMoeOnEdge published (Apache-2.0), 1024 in all, in 32 steps of four distances.
const QWEN3_30B_A3B: [u16; 32] = [
    283, 158, 101, 88, 65, 52, 48, 43, 34, 28, 22, 18, 15, 12, 9, 6, 5, 4, 3, 3, 2, 3, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2,
];

/// Layers draw independently of one another, from their own numbers.
struct Draws {
    state: u64,
}

impl Draws {
    /// In [0, 1).
    fn next(&mut self) -> f64 {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Experts of a layer by when they were used last.
struct RecencyStack(Vec<u16>);

impl RecencyStack {
    /// Nothing was used yet.
    fn new(experts: u16) -> Self {
        Self((0..experts).collect())
    }

    fn distance(&self, expert: u16) -> Option<usize> {
        self.0.iter().position(|held| *held == expert)
    }

    /// These were used by one token.
    fn used(&mut self, experts: &[u16]) {
        self.0.retain(|held| !experts.contains(held));
        self.0.splice(0..0, experts.iter().copied());
    }
}

impl Locality {
    /// Of recorded routing: its decoded tokens, behind the prompt.
    pub fn of(routes: &TokenRoutes) -> Self {
        let mut counts = vec![0.0; usize::from(routes.experts)];
        for layer in 0..routes.layers() {
            let mut stack = RecencyStack::new(routes.experts);
            for (at, token) in routes.tokens.iter().enumerate() {
                for expert in &token[layer] {
                    let distance = stack
                        .distance(*expert)
                        .filter(|_| at >= routes.prompt_tokens);
                    if let Some(count) = distance.and_then(|distance| counts.get_mut(distance)) {
                        *count += 1.0;
                    }
                }
                stack.used(&token[layer]);
            }
        }
        let k = routes.k();
        Self { counts, k }
    }

    /// Of Qwen3-30B-A3B as it was recorded, for layers of so many experts.
    pub fn of_qwen3(experts: u16) -> Self {
        let steps = QWEN3_30B_A3B.len();
        let at = |place: usize| f64::from(QWEN3_30B_A3B[place * steps / usize::from(experts)]);
        Self {
            counts: (0..usize::from(experts)).map(at).collect(),
            k: 6,
        }
    }

    /// The counts where a token has `k` experts: as many tokens ago is proportionally farther.
    fn stretched(&self, k: usize) -> Vec<f64> {
        let last = self.counts.len().saturating_sub(1);
        let at = |place: usize| self.counts[(place * self.k / k.max(1)).min(last)];
        (0..self.counts.len()).map(at).collect()
    }

    /// Routing of `layers` layers with `k` experts a token, of which the first `prompt_tokens` are a prompt: the same numbers
    /// for the same seed.
    pub fn draw(
        &self,
        layers: usize,
        k: usize,
        [prompt_tokens, decoded]: [usize; 2],
        seed: u64,
    ) -> TokenRoutes {
        let experts = u16::try_from(self.counts.len()).unwrap_or(u16::MAX);
        let k = k.min(self.counts.len());
        let counts = self.stretched(k);
        let mut tokens = vec![vec![Vec::new(); layers]; prompt_tokens + decoded];
        for layer in 0..layers {
            let mut draws = Draws {
                state: seed ^ (layer as u64).wrapping_mul(0x2545_f491_4f6c_dd1d),
            };
            let mut stack = RecencyStack::new(experts);
            shuffle(&mut stack.0, &mut draws);
            for token in &mut tokens {
                let mut left = counts.clone();
                let mut chosen = Vec::with_capacity(k);
                while chosen.len() < k {
                    let distance = draw_one(&left, &mut draws);
                    left[distance] = -1.0;
                    chosen.push(stack.0[distance]);
                }
                stack.used(&chosen);
                token[layer] = chosen;
            }
        }
        TokenRoutes {
            experts,
            prompt_tokens,
            tokens,
        }
    }
}

/// A place by how often it is to be drawn; one of those that were drawn already (below 0) never. Where nothing else is left,
/// any other.
fn draw_one(counts: &[f64], draws: &mut Draws) -> usize {
    let all: f64 = counts.iter().filter(|count| **count > 0.0).sum();
    let mut wanted = draws.next() * all;
    for (at, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
        wanted -= count;
        if wanted <= 0.0 {
            return at;
        }
    }
    let left = counts.iter().position(|count| *count >= 0.0);
    left.unwrap_or_default()
}

fn shuffle(experts: &mut [u16], draws: &mut Draws) {
    for end in (1..experts.len()).rev() {
        experts.swap(end, (draws.next() * (end + 1) as f64) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sage_actors::EvictionPolicy;
    use sage_actors::cache::whatif::{Chooser, WhatIfCounts, replay};

    /// Hits of a least-recently-used cache for `slots` experts, as a share.
    fn hits(routes: &TokenRoutes, slots: u64) -> f64 {
        let decoded = routes.tokens.len() - routes.prompt_tokens;
        let batches = routes.batches(routes.prompt_tokens, decoded, 1);
        let counts = replay(&batches, Chooser::Online(EvictionPolicy::Lru), slots, false);
        let sum = |of: fn(&WhatIfCounts) -> u64| counts.iter().map(of).sum::<u64>() as f64;
        sum(|counts| counts.hits) / sum(|counts| counts.routed)
    }

    #[test]
    fn what_is_drawn_is_as_local_as_what_it_is_drawn_from() {
        // The nearer the more likely.
        let counts: Vec<f64> = (0..32).map(|at| 0.85_f64.powi(at)).collect();
        let first = Locality { counts, k: 4 }.draw(6, 4, [10, 400], 1);
        let again = Locality::of(&first).draw(6, 4, [10, 400], 2);
        assert_ne!(first.tokens, again.tokens);
        for slots in [60, 90, 120] {
            let (one, other) = (hits(&first, slots), hits(&again, slots));
            println!("{slots}: {one:.3} {other:.3}");
            assert!((one - other).abs() < 0.05 && one > 0.1 && one < 0.99);
        }
        let every = first.tokens.iter().flatten();
        for chosen in every {
            let mut sorted = chosen.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 4, "no expert twice");
        }
    }
}
