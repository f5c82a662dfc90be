//! How likely each expert is used at its layer's next turn, learned while running.
//!
//! An expert's chance is a mixture of what several memories say: averages of its use over 0.5 to 128 tokens, its use
//! since the start, and the even share k / E. How much each memory counts is learned online for all layers together,
//! by exponentiated gradient descent of the log loss of "used or not" (Kivinen and Warmuth, 1997): no more than seven
//! numbers, so a few tokens already teach them. Where they start was learned from the routing of the model in this
//! repository.

/// Half-lives of the averages, tokens.
const HALF_LIVES: [f64; 5] = [0.5, 2.0, 8.0, 32.0, 128.0];
/// Averages, use since the start, even share.
const MEMORIES: usize = HALF_LIVES.len() + 2;
/// Weights to start from: learned from the routing of the model in the repository on its held-out texts and tasks.
const WEIGHTS: [f64; MEMORIES] = [0.073, 0.002, 0.130, 0.067, 0.048, 0.653, 0.027];
/// Step of the descent, and the least weight: a memory that counts for nothing could never come back.
const RATE: f64 = 0.01;
const WEIGHT_LEAST: f64 = 1e-4;
/// Tokens that the even share counts for in the use since the start.
const PRIOR_TOKENS: f64 = 2.0;
/// What a chance is at least and at most.
const CHANCE: (f64, f64) = (1e-5, 0.999);

/// Of one layer.
#[derive(Clone, Debug)]
struct LayerMixture {
    tokens: f64,
    /// Of the averages, how much is still the even share.
    unseen: [f64; HALF_LIVES.len()],
    /// By expert.
    averages: Vec<[f64; HALF_LIVES.len()]>,
    uses: Vec<f64>,
    chance: Vec<f64>,
}

/// Chances of all experts of one module.
#[derive(Clone, Debug)]
pub struct Mixture {
    /// k / E.
    even: f64,
    weights: [f64; MEMORIES],
    layers: Vec<LayerMixture>,
}

impl Mixture {
    /// Nothing seen yet: every expert has the even chance `k` / `experts`.
    pub fn new(layers: usize, experts: u16, k: u16) -> Self {
        let even = f64::from(k.max(1)) / f64::from(experts.max(1));
        let even = even.clamp(CHANCE.0, CHANCE.1);
        let layer = LayerMixture {
            tokens: 0.0,
            unseen: [1.0; HALF_LIVES.len()],
            averages: vec![[0.0; HALF_LIVES.len()]; usize::from(experts)],
            uses: vec![0.0; usize::from(experts)],
            chance: vec![even; usize::from(experts)],
        };
        Self {
            even,
            weights: WEIGHTS,
            layers: vec![layer; layers],
        }
    }

    /// Chance of use at the layer's next turn.
    #[inline]
    pub fn chance(&self, rank: usize, expert: usize) -> f64 {
        self.layers[rank].chance[expert]
    }

    /// A layer ran `tokens` tokens (0: a further window of the same ones), of which `uses` (expert, tokens) used
    /// experts. Single tokens teach the weights; a chunk, whose windows come one by one, does not.
    pub fn turn(&mut self, rank: usize, tokens: u32, of: u32, uses: &[(usize, u32)]) {
        let layer = &mut self.layers[rank];
        if tokens == 1 && layer.tokens > 0.0 {
            let gradient = gradient(layer, self.even, uses);
            descend(&mut self.weights, &gradient, uses.len());
        }
        if tokens > 0 {
            layer.pass(f64::from(tokens));
        }
        layer.add(f64::from(of.max(1)), uses);
        layer.predict(&self.weights, self.even);
    }
}

impl LayerMixture {
    /// `n` tokens pass in which nothing is used yet.
    fn pass(&mut self, n: f64) {
        let keep = HALF_LIVES.map(|half_life| libm::exp2(-n / half_life));
        self.tokens += n;
        for (unseen, keep) in self.unseen.iter_mut().zip(keep) {
            *unseen *= keep;
        }
        for averages in &mut self.averages {
            for (average, keep) in averages.iter_mut().zip(keep) {
                *average *= keep;
            }
        }
    }

    /// `uses` of the last `n` tokens.
    fn add(&mut self, n: f64, uses: &[(usize, u32)]) {
        let fresh = HALF_LIVES.map(|half_life| 1.0 - libm::exp2(-n / half_life));
        for (expert, used) in uses {
            let part = f64::from(*used).min(n);
            self.uses[*expert] += part;
            for (average, fresh) in self.averages[*expert].iter_mut().zip(fresh) {
                *average += fresh * part / n;
            }
        }
    }

    fn predict(&mut self, weights: &[f64; MEMORIES], even: f64) {
        let (short, long) = weights.split_at(HALF_LIVES.len());
        let known: f64 = short.iter().zip(self.unseen).map(|(w, u)| w * u).sum();
        let total = PRIOR_TOKENS + self.tokens;
        let base = even * (known + long[1] + long[0] * PRIOR_TOKENS / total);
        let experts = self.averages.iter().zip(&self.uses);
        for (chance, (averages, uses)) in self.chance.iter_mut().zip(experts) {
            let mut sum = base + long[0] * uses / total;
            for (weight, average) in short.iter().zip(averages) {
                sum += weight * average;
            }
            *chance = sum.clamp(CHANCE.0, CHANCE.1);
        }
    }
}

/// Of the log loss of this turn with respect to the weights.
fn gradient(layer: &LayerMixture, even: f64, uses: &[(usize, u32)]) -> [f64; MEMORIES] {
    let total = PRIOR_TOKENS + layer.tokens;
    let mut sum = [0.0; MEMORIES];
    let mut add = |expert: usize, slope: f64| {
        for (at, average) in layer.averages[expert].iter().enumerate() {
            sum[at] += slope * average;
        }
        sum[MEMORIES - 2] += slope * layer.uses[expert] / total;
        // What every memory says of every expert is added below.
        sum[MEMORIES - 1] += slope;
    };
    for (expert, chance) in layer.chance.iter().enumerate() {
        add(expert, 1.0 / (1.0 - chance));
    }
    for (expert, _) in uses {
        let chance = layer.chance[*expert];
        add(*expert, -1.0 / chance - 1.0 / (1.0 - chance));
    }
    let slopes = sum[MEMORIES - 1] * even;
    for (at, unseen) in layer.unseen.iter().enumerate() {
        sum[at] += slopes * unseen;
    }
    sum[MEMORIES - 2] += slopes * PRIOR_TOKENS / total;
    sum[MEMORIES - 1] = slopes;
    sum
}

/// One step along the gradient of a turn of `k` uses, on the simplex.
fn descend(weights: &mut [f64; MEMORIES], gradient: &[f64; MEMORIES], k: usize) {
    let rate = RATE / k.max(1) as f64;
    for (weight, slope) in weights.iter_mut().zip(gradient) {
        *weight = (*weight * libm::exp(-rate * slope)).max(WEIGHT_LEAST);
    }
    let sum: f64 = weights.iter().sum();
    for weight in weights {
        *weight /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPERTS: u16 = 16;

    fn run(mixture: &mut Mixture, tokens: impl Iterator<Item = Vec<usize>>) {
        for token in tokens {
            let uses: Vec<(usize, u32)> = token.into_iter().map(|e| (e, 1)).collect();
            mixture.turn(0, 1, 1, &uses);
        }
    }

    #[test]
    fn an_expert_in_use_is_more_likely_and_chances_add_up_to_about_k() {
        let mut mixture = Mixture::new(1, EXPERTS, 2);
        run(&mut mixture, (0..60).map(|_| vec![3, 5]));
        assert!(mixture.chance(0, 3) > 0.8 && mixture.chance(0, 5) > 0.8);
        assert!(mixture.chance(0, 4) < 0.05);
        let sum: f64 = (0..16).map(|expert| mixture.chance(0, expert)).sum();
        assert!((1.8..2.2).contains(&sum), "{sum}");
    }

    #[test]
    fn the_weights_follow_what_the_routing_is_like() {
        // Alternating every token: what was used just now will not be used next.
        let mut restless = Mixture::new(1, EXPERTS, 1);
        run(&mut restless, (0..400).map(|t| vec![t % 2]));
        // In spells of forty tokens: what was used just now will be used again.
        let mut steady = Mixture::new(1, EXPERTS, 1);
        run(&mut steady, (0..400).map(|t| vec![t / 40 % 10]));
        assert!(restless.weights[0] < WEIGHTS[0] && steady.weights[0] > WEIGHTS[0]);
        for mixture in [&restless, &steady] {
            let sum: f64 = mixture.weights.iter().sum();
            assert!((sum - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let mut mixture = Mixture::new(1, EXPERTS, 2);
        run(&mut mixture, (0..20).map(|t| vec![t % 7, 7 + t % 3]));
        let uses = [(2, 1), (9, 1)];
        let loss = |weights: &[f64; MEMORIES]| {
            let mut layer = mixture.layers[0].clone();
            layer.predict(weights, mixture.even);
            let chances = layer.chance.iter().enumerate();
            let each = chances.map(|(expert, p)| match uses.iter().any(|(e, _)| *e == expert) {
                true => -libm::log(*p),
                false => -libm::log(1.0 - p),
            });
            each.sum::<f64>()
        };
        let slopes = gradient(&mixture.layers[0], mixture.even, &uses);
        for at in 0..MEMORIES {
            let mut moved = mixture.weights;
            moved[at] += 1e-6;
            let slope = (loss(&moved) - loss(&mixture.weights)) / 1e-6;
            assert!(
                (slope - slopes[at]).abs() < 1e-3 * slope.abs().max(1.0),
                "{at}"
            );
        }
    }

    #[test]
    fn the_windows_of_a_chunk_count_its_tokens_once() {
        let (mut whole, mut parts) = (Mixture::new(1, EXPERTS, 2), Mixture::new(1, EXPERTS, 2));
        whole.turn(0, 8, 8, &[(1, 3), (4, 8), (6, 1)]);
        parts.turn(0, 8, 8, &[(1, 3), (4, 8)]);
        parts.turn(0, 0, 8, &[(6, 1)]);
        for expert in 0..16 {
            assert_eq!(whole.chance(0, expert), parts.chance(0, expert));
        }
    }
}
