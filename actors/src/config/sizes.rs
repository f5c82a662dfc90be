//! What experts take in memory, one by one: they need not be alike, as their weights may be stored in several formats.

use super::{ExpertRun, ModuleShape};

/// Bytes of every expert of a module. Experts are numbered rank · experts + expert, rank being the position of their
/// layer among the sparse layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExpertSizes {
    largest: u64,
    smallest: u64,
    /// By number; empty where all are alike.
    each: Vec<u64>,
}

impl ExpertSizes {
    /// Bytes of the expert of this number.
    #[inline]
    pub fn of(&self, index: u32) -> u64 {
        self.each
            .get(index as usize)
            .copied()
            .unwrap_or(self.largest)
    }

    /// Bytes of these together.
    pub fn sum<'a>(&self, indices: impl IntoIterator<Item = &'a u32>) -> u64 {
        indices.into_iter().map(|index| self.of(*index)).sum()
    }

    /// Bytes of the smallest; never 0.
    pub fn smallest(&self) -> u64 {
        self.smallest.max(1)
    }

    /// Bytes of a layer's experts, by expert; empty where all are alike.
    pub fn of_layer(&self, rank: usize, experts: u16) -> Vec<u64> {
        let experts = usize::from(experts);
        let own = self.each.get(rank * experts..(rank + 1) * experts);
        own.unwrap_or_default().to_vec()
    }
}

impl ModuleShape {
    /// Bytes of every expert.
    pub(crate) fn sizes(&self) -> ExpertSizes {
        let mut sizes = ExpertSizes {
            largest: self.expert_bytes,
            smallest: self.expert_bytes,
            each: Vec::new(),
        };
        if self.smaller.is_empty() {
            return sizes;
        }
        let experts = usize::from(self.experts);
        sizes.each = vec![self.expert_bytes; self.layers.len() * experts];
        for run in &self.smaller {
            if let Ok(rank) = self.layers.binary_search(&run.layer) {
                let first = rank * experts + usize::from(run.first);
                let end = (first + usize::from(run.experts)).min((rank + 1) * experts);
                if let Some(own) = sizes.each.get_mut(first..end) {
                    own.fill(run.bytes);
                }
            }
        }
        sizes.smallest = sizes.each.iter().copied().min().unwrap_or(0);
        sizes
    }

    /// Bytes of one expert in memory; of the largest where there is no such expert.
    pub fn bytes_of(&self, layer: u16, expert: u16) -> u64 {
        let is_in = |run: &&ExpertRun| {
            run.layer == layer && (u32::from(run.first)..run.end()).contains(&u32::from(expert))
        };
        self.smaller
            .iter()
            .find(is_in)
            .map_or(self.expert_bytes, |run| run.bytes)
    }

    /// Bytes of all experts of all layers.
    pub fn total_bytes(&self) -> u64 {
        self.layers
            .iter()
            .map(|layer| self.layer_bytes(*layer))
            .sum()
    }

    /// Bytes of all experts of one layer.
    fn layer_bytes(&self, layer: u16) -> u64 {
        let runs = self.smaller.iter().filter(|run| run.layer == layer);
        let less = runs.map(|run| u64::from(run.experts) * (self.expert_bytes - run.bytes));
        u64::from(self.experts) * self.expert_bytes - less.sum::<u64>()
    }

    /// Expert bytes that one token touches at the trained k, its experts being of their layers' mean size: the unit of the
    /// I/O bucket.
    pub fn exact_token_bytes(&self) -> u64 {
        self.token_bytes(self.k_trained)
    }

    /// Expert bytes that one token touches with `k` experts a layer, each of its layer's mean size.
    pub fn token_bytes(&self, k: u16) -> u64 {
        let experts = u64::from(self.experts).max(1);
        let of_layer = |layer: &u16| u64::from(k) * self.layer_bytes(*layer) / experts;
        self.layers.iter().map(of_layer).sum()
    }

    /// How many experts of mean size have room in `bytes`.
    pub fn experts_within(&self, bytes: u64) -> u64 {
        let all = self.layers.len() as u128 * u128::from(self.experts);
        let total = u128::from(self.total_bytes()).max(1);
        u64::try_from(u128::from(bytes) * all / total).unwrap_or(u64::MAX)
    }

    /// What is wrong with the experts that take less than the largest.
    pub(super) fn wrong_sizes(&self) -> Option<&'static str> {
        if self.expert_bytes == 0 || self.smaller.iter().any(|run| run.bytes == 0) {
            return Some("an expert of no bytes");
        }
        let mut end = (0, 0);
        for run in &self.smaller {
            if run.bytes > self.expert_bytes {
                return Some("an expert of more bytes than the largest");
            }
            let is_there = self.layers.binary_search(&run.layer).is_ok()
                && run.experts > 0
                && run.end() <= u32::from(self.experts);
            if !is_there {
                return Some("sizes of experts that it does not have");
            }
            if (run.layer, u32::from(run.first)) < end {
                return Some("sizes of experts that are not in ascending order");
            }
            end = (run.layer, run.end());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Module;

    fn shape(smaller: Vec<ExpertRun>) -> ModuleShape {
        ModuleShape {
            module: Module::Thinker,
            layers: vec![1, 4],
            experts: 4,
            k_trained: 2,
            norm_topk_prob: true,
            expert_bytes: 100,
            smaller,
        }
    }

    fn run(layer: u16, first: u16, experts: u16, bytes: u64) -> ExpertRun {
        ExpertRun {
            layer,
            first,
            experts,
            bytes,
        }
    }

    #[test]
    fn bytes_add_up_expert_by_expert() {
        let mixed = shape(vec![run(1, 1, 2, 40), run(4, 0, 4, 60)]);
        assert_eq!(mixed.wrong_sizes(), None);
        let sizes = mixed.sizes();
        let each: Vec<u64> = (0..8).map(|index| sizes.of(index)).collect();
        assert_eq!(each, [100, 40, 40, 100, 60, 60, 60, 60]);
        for (index, bytes) in each.iter().enumerate() {
            let layer = mixed.layers[index / 4];
            assert_eq!(mixed.bytes_of(layer, (index % 4) as u16), *bytes);
        }
        assert_eq!((mixed.total_bytes(), sizes.smallest()), (520, 40));
        assert_eq!(sizes.of_layer(0, 4), [100, 40, 40, 100]);
        // 2 of a mean of 70, and 2 of 60.
        assert_eq!(mixed.exact_token_bytes(), 260);
        // The mean is 65.
        assert_eq!(mixed.experts_within(129), 1);
        assert_eq!(mixed.experts_within(130), 2);
    }

    #[test]
    fn experts_that_are_alike_are_counted_as_one_size() {
        let alike = shape(Vec::new());
        assert_eq!(alike.total_bytes(), 800);
        assert_eq!(alike.exact_token_bytes(), 400);
        assert_eq!(
            (alike.experts_within(299), alike.experts_within(300)),
            (2, 3)
        );
        assert!(alike.sizes().of_layer(0, 4).is_empty());
    }

    #[test]
    fn sizes_of_what_is_not_there_are_refused() {
        for (smaller, due) in [
            (vec![run(1, 0, 1, 0)], "no bytes"),
            (vec![run(1, 0, 1, 101)], "more bytes"),
            (vec![run(2, 0, 1, 50)], "does not have"),
            (vec![run(1, 3, 2, 50)], "does not have"),
            (vec![run(1, 0, 2, 50), run(1, 1, 1, 40)], "ascending"),
            (vec![run(4, 0, 2, 50), run(1, 1, 1, 40)], "ascending"),
        ] {
            let found = shape(smaller).wrong_sizes().unwrap();
            assert!(found.contains(due), "{found}");
        }
    }
}
