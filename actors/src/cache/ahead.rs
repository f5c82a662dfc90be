//! Which predicted experts are worth a read ahead.
//!
//! A read ahead that was right saves a wait. One that was wrong holds up the next read that somebody waits for, and takes
//! time of the processor: on routers that are hard to predict that costs more than the right ones save. So every prediction
//! is judged, whether it was read or not, by its rank (the best guess, the second best, …), and a rank is read while its
//! experts are needed often enough. What is counted are predictions, never time: equal runs read equal experts.

use std::collections::VecDeque;

/// Judged predictions after which what was counted before weighs half.
const HALF_LIFE: f64 = 512.0;

/// Predictions that every share begins with, half of them true, so that the first few do not decide alone.
const AT_FIRST: f64 = 16.0;

/// What a wrong read costs although nobody waits behind it, in units of what a right one saves: measured on two cores, where
/// reading takes time from computing.
const COST_OF_A_READ: f64 = 0.25;

/// Predictions that wait for what their layer asks for: a layer's are made before the layer in front of it has asked.
const OPEN: usize = 2;

/// How often something was true of late.
#[derive(Clone, Copy, Debug)]
struct Share {
    judged: f64,
    held: f64,
}

impl Share {
    const UNKNOWN: Self = Self {
        judged: AT_FIRST,
        held: AT_FIRST / 2.0,
    };

    fn add(&mut self, held: bool) {
        let keep = libm::exp2(-1.0 / HALF_LIFE);
        self.judged = self.judged * keep + 1.0;
        self.held = self.held * keep + f64::from(u8::from(held));
    }

    fn value(self) -> f64 {
        self.held / self.judged
    }
}

/// What was predicted for a layer, best first.
#[derive(Debug)]
struct Prediction {
    layer: usize,
    /// Index of the expert, and whether it was needed; none where it was resident, so that nothing was to be read.
    ranks: Vec<Option<(u32, bool)>>,
    /// Whether the layer asked for anything that was not resident.
    missed: bool,
}

/// What is known of the predictions of one module.
#[derive(Debug)]
pub struct Predictions {
    /// Of the predicted experts that were not resident, by rank: whether they were needed.
    needed: Vec<Share>,
    /// Of the layers that were predicted: whether they missed anything.
    missed: Share,
    open: VecDeque<Prediction>,
}

impl Default for Predictions {
    fn default() -> Self {
        Self {
            needed: Vec::new(),
            missed: Share::UNKNOWN,
            open: VecDeque::with_capacity(OPEN),
        }
    }
}

impl Predictions {
    /// Notes what is predicted for the layer of rank `layer`: indices of experts, best first, and whether each is resident.
    /// Answers those that are worth a read.
    pub fn predict(&mut self, layer: usize, experts: &[(u32, bool)]) -> Vec<u32> {
        if self.open.len() >= OPEN
            && let Some(oldest) = self.open.pop_front()
        {
            self.judge(&oldest);
        }
        if self.needed.len() < experts.len() {
            self.needed.resize(experts.len(), Share::UNKNOWN);
        }
        let ranks = experts.iter().map(|(index, resident)| match resident {
            true => None,
            false => Some((*index, false)),
        });
        self.open.push_back(Prediction {
            layer,
            ranks: ranks.collect(),
            missed: false,
        });
        let least = self.least_share();
        let worth = experts
            .iter()
            .zip(&self.needed)
            .filter(|((_, resident), needed)| !resident && needed.value() >= least);
        worth.map(|((index, _), _)| *index).collect()
    }

    /// Notes that a decoded token asks for an expert of a layer, and whether it was resident.
    pub fn asked(&mut self, layer: usize, index: u32, hit: bool) {
        let mut newest_first = self.open.iter_mut().rev();
        if let Some(open) = newest_first.find(|open| open.layer == layer) {
            open.missed |= !hit;
            for (predicted, needed) in open.ranks.iter_mut().flatten() {
                *needed |= *predicted == index;
            }
        }
    }

    /// What is open when something else runs through the layers says nothing.
    pub fn forget_open(&mut self) {
        self.open.clear();
    }

    /// A right read saves one wait; a wrong one costs one where the layer misses something, and its own cost in any case.
    fn least_share(&self) -> f64 {
        let cost = self.missed.value() + COST_OF_A_READ;
        cost / (1.0 + cost)
    }

    fn judge(&mut self, prediction: &Prediction) {
        self.missed.add(prediction.missed);
        for (rank, share) in prediction.ranks.iter().zip(&mut self.needed) {
            if let Some((_, needed)) = rank {
                share.add(*needed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a layer be predicted `[0, 1]`, and ask for what is given.
    fn token(predictions: &mut Predictions, asked: &[u32]) -> Vec<u32> {
        let worth = predictions.predict(0, &[(0, false), (1, false)]);
        for index in asked {
            predictions.asked(0, *index, false);
        }
        worth
    }

    #[test]
    fn a_rank_is_read_while_it_is_right_often_enough() {
        let mut predictions = Predictions::default();
        assert_eq!(
            token(&mut predictions, &[0, 7]),
            [0, 1],
            "nothing is known yet"
        );
        for _ in 0..200 {
            token(&mut predictions, &[0, 7]);
        }
        assert_eq!(
            token(&mut predictions, &[1, 7]),
            [0],
            "the second was never right"
        );
        for _ in 0..2000 {
            token(&mut predictions, &[1, 7]);
        }
        assert_eq!(
            token(&mut predictions, &[0, 7]),
            [1],
            "what is not read is judged as well, and what was true is forgotten"
        );
    }

    #[test]
    fn where_little_is_missed_a_wrong_read_costs_less() {
        let rarely = |missed: bool| {
            let mut predictions = Predictions::default();
            for at in 0..4000 {
                predictions.predict(0, &[(0, false)]);
                let right = at % 3 == 0;
                predictions.asked(
                    0,
                    if right { 0 } else { 7 },
                    !(missed || right && at % 2 == 0),
                );
            }
            predictions.predict(0, &[(0, false)])
        };
        assert_eq!(rarely(false), [0]);
        assert_eq!(rarely(true), []);
    }

    #[test]
    fn residents_are_neither_read_nor_judged() {
        let mut predictions = Predictions::default();
        for _ in 0..100 {
            assert_eq!(predictions.predict(0, &[(0, true)]), []);
            predictions.asked(0, 5, true);
        }
        assert_eq!(predictions.predict(0, &[(0, false)]), [0]);
    }
}
