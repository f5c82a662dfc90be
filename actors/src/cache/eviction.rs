//! Which resident expert leaves when room is needed: the arithmetic of the policies.
//!
//! Every policy gives each resident a score and the largest goes; of equals the lowest layer, then the lowest
//! expert. Pinned experts are never asked.

use std::cmp::Ordering;

/// Up to so many victims are found in one pass that keeps the farthest so far.
const FEW: usize = 16;

/// 2^(−n / half-life) for n tokens.
#[derive(Clone, Debug)]
pub(super) struct Decay {
    half_life_tokens: f64,
    /// Of the first n: a call of `exp2` for every resident would cost more than the rest of a decision.
    table: Vec<f64>,
}

impl Decay {
    pub fn new(half_life_tokens: f64) -> Self {
        let long = (half_life_tokens * 48.0).min(4096.0) as u32 + 2;
        Self {
            half_life_tokens,
            table: (0..long)
                .map(|n| libm::exp2(-f64::from(n) / half_life_tokens))
                .collect(),
        }
    }

    #[inline]
    pub fn of(&self, tokens: u64) -> f64 {
        usize::try_from(tokens)
            .ok()
            .and_then(|n| self.table.get(n))
            .copied()
            .unwrap_or_else(|| libm::exp2(-(tokens as f64) / self.half_life_tokens))
    }
}

/// `horizon`: how far away the next use is expected, in layer steps: to the layer's next turn, and a whole token
/// of `layers` steps more for every time that it is expected to be passed over: `to_layer + N·(1/p − 1)`.
#[inline]
pub(super) fn horizon(to_layer: usize, layers: usize, p: f64) -> f64 {
    to_layer as f64 + layers as f64 * (1.0 / p.max(1e-12) - 1.0)
}

/// How much the habits of a domain count beside recent use in an expected frequency of use.
const HABIT_WEIGHT: f64 = 0.65;

/// The frequency of use that is expected where the habits of the domain are known: what was used lately and what the
/// domain usually needs, weighed.
#[inline]
pub(super) fn expected(recent: f64, habit: f32) -> f64 {
    recent + HABIT_WEIGHT * (f64::from(habit) - recent)
}

/// `lfu`: the fewest uses first; of equal counts the one whose layer's next turn is farthest. As `to_layer` is in
/// 1..=N, one number says both: `to_layer − N·uses`, exact while it is below 2^53.
#[inline]
pub(super) fn lfu(to_layer: usize, layers: usize, uses: u64) -> f64 {
    to_layer as f64 - layers as f64 * uses as f64
}

/// `trust`: 0.4·age + 0.3·(1 − convergence) + 0.2·(1 − stability) + 0.1·size, as the project's founding text weighs
/// them; `age` and `size` normalised over the residents by [`share`].
#[inline]
pub(super) fn trust(age: f64, convergence: f32, stability: f32, size: f64) -> f64 {
    0.4 * age
        + 0.3 * (1.0 - f64::from(convergence))
        + 0.2 * (1.0 - f64::from(stability))
        + 0.1 * size
}

/// Where `x` lies between the least and the most of the residents, in [0, 1]; 0 where all are equal.
#[inline]
pub(super) fn share(x: u64, least: u64, most: u64) -> f64 {
    if most > least {
        (x - least) as f64 / (most - least) as f64
    } else {
        0.0
    }
}

/// The `count` candidates of the largest score, in order, into `victims`.
#[inline]
pub(super) fn farthest(
    candidates: impl Iterator<Item = (f64, u32)>,
    count: usize,
    victims: &mut Vec<(f64, u32)>,
) {
    victims.clear();
    // One loop for both cases, so that the score is inlined: it is asked for every resident at every miss.
    for candidate in candidates {
        if count > FEW {
            victims.push(candidate);
        } else {
            keep_farthest(candidate, count, victims);
        }
    }
    if count < victims.len() {
        victims.select_nth_unstable_by(count - 1, farther);
        victims.truncate(count);
    }
    victims.sort_unstable_by(farther);
}

/// The farthest first; of equals the lowest index first.
fn farther(a: &(f64, u32), b: &(f64, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Adds a candidate to the `count` farthest so far, which are in order, if it belongs there.
#[inline]
fn keep_farthest(candidate: (f64, u32), count: usize, kept: &mut Vec<(f64, u32)>) {
    if kept.len() == count {
        let nearer = |last: &(f64, u32)| candidate.0 < last.0 || farther(&candidate, last).is_gt();
        if kept.last().is_some_and(nearer) {
            return;
        }
        kept.pop();
    }
    let at = kept.partition_point(|other| farther(other, &candidate).is_lt());
    kept.insert(at, candidate);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_term_of_trust_can_change_who_leaves() {
        // The older, the less useful, the less steady, the larger goes, all else being equal.
        let base = trust(0.5, 0.5, 0.5, 0.5);
        for (worse, weight) in [
            (trust(1.0, 0.5, 0.5, 0.5), 0.4),
            (trust(0.5, 0.0, 0.5, 0.5), 0.3),
            (trust(0.5, 0.5, 0.0, 0.5), 0.2),
            (trust(0.5, 0.5, 0.5, 1.0), 0.1),
        ] {
            assert!((worse - base - weight / 2.0).abs() < 1e-12, "{worse}");
        }
        let weighed = |ages: [u64; 2], bytes: [u64; 2], i: usize| {
            let size = share(bytes[i], bytes[0].min(bytes[1]), bytes[0].max(bytes[1]));
            let age = share(ages[i], ages[0].min(ages[1]), ages[0].max(ages[1]));
            trust(age, 0.5, 0.5, size)
        };
        assert!(weighed([7, 7], [200, 100], 0) > weighed([7, 7], [200, 100], 1));
        assert!(weighed([9, 7], [100, 200], 0) > weighed([9, 7], [100, 200], 1));
        assert_eq!(weighed([7, 7], [100, 100], 0), 0.25, "constants count 0");
    }

    #[test]
    fn few_and_many_victims_are_the_same_ones() {
        let candidates: Vec<(f64, u32)> = (0..97u32)
            .map(|i| (f64::from(i * 37 % 10), i * 61 % 97))
            .collect();
        let mut all = Vec::new();
        farthest(candidates.iter().copied(), 97, &mut all);
        assert!(all.is_sorted_by(|a, b| farther(a, b).is_lt()));
        for count in 1..=40 {
            let mut some = Vec::new();
            farthest(candidates.iter().copied(), count, &mut some);
            assert_eq!(some, all[..count]);
        }
    }
}
