//! What a step through a module's layers gave, by who reads it.

use std::collections::BTreeMap;

use sage_actors::protocol::{Chosen, ExpertUse, LeasedExpert, Selection, Worked};

/// What a step gave, and what it took.
#[derive(Debug, Default)]
pub struct Forward {
    /// Final hidden states after `model.norm`, `[tokens, hidden]`.
    pub normed: Vec<f32>,
    /// It was given up between two layers: there are no hidden states, and the sequence holds none of its tokens.
    pub given_up: bool,
    /// For salience.
    pub entropy: RouterEntropy,
    /// For trust, habits, and whoever counts.
    pub work: ExpertWork,
    /// What the budgets denied.
    pub denials: Denials,
    /// What memory gave and lacked.
    pub traffic: ExpertTraffic,
    /// For the talker.
    pub heard: HeardRows,
}

/// How unsure the routers were.
#[derive(Debug, Default)]
pub struct RouterEntropy {
    /// Mean over tokens and sparse layers of the router's entropy, normalised by ln E.
    pub mean: f32,
    /// Sum over the tokens of each run of another modality, and the mean over sparse layers, of the router's entropy.
    pub spans: Vec<f32>,
}

/// Which experts worked.
#[derive(Debug, Default)]
pub struct ExpertWork {
    /// Who worked on each token.
    pub worked: Vec<Vec<Worked>>,
    /// How many of the step's tokens each expert worked on, layer by layer.
    pub used: Vec<ExpertUse>,
    /// Mixing weight of each expert that worked, summed over the step's tokens.
    pub gates: Vec<Worked>,
}

/// Choices of the exact router that were not admitted.
#[derive(Debug, Default)]
pub struct Denials {
    /// Router mass that experts were denied.
    pub experts: Vec<Worked>,
    /// Sum over layers and tokens of the denied router mass.
    pub mass: f32,
    /// How many choices.
    pub count: usize,
}

/// Leases of experts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertTraffic {
    /// Leased experts that were resident.
    pub hits: u64,
    /// Leased experts that were not.
    pub misses: u64,
    /// Logical bytes of the misses.
    pub miss_bytes: u64,
}

/// What the talker hears of the thinker; nothing where the engine does not speak.
#[derive(Debug, Default)]
pub struct HeardRows {
    /// Input embeddings, media merged, `[tokens, hidden]`.
    pub embeds: Vec<f32>,
    /// Hidden states at `accept_hidden_layer`, `[tokens, hidden]`.
    pub accepted: Vec<f32>,
}

impl ExpertTraffic {
    /// Counts a lease.
    pub(super) fn add(&mut self, leased: &[LeasedExpert], miss_bytes: u64) {
        let hits = leased.iter().filter(|expert| expert.hit).count() as u64;
        self.hits += hits;
        self.misses += leased.len() as u64 - hits;
        self.miss_bytes += miss_bytes;
    }
}

impl Forward {
    /// Of a step of `rows` tokens that has not begun.
    pub(super) fn of_rows(rows: usize) -> Self {
        Self {
            work: ExpertWork {
                worked: vec![Vec::new(); rows],
                ..ExpertWork::default()
            },
            ..Self::default()
        }
    }

    /// Notes what a layer's router chose and was denied; its entropy as a sum.
    pub(super) fn note_selection(&mut self, layer: u16, selection: &Selection) {
        self.entropy.mean += selection.entropy_sum;
        for (row, worked) in self.work.worked.iter_mut().enumerate() {
            let row = selection.row(row).iter();
            worked.extend(row.map(|Chosen { expert, weight }| Worked {
                layer,
                expert: *expert,
                gate: *weight,
            }));
        }
        let mut used = BTreeMap::<u16, f32>::new();
        for Chosen { expert, weight } in &selection.chosen {
            *used.entry(*expert).or_default() += weight;
        }
        let gates = used.into_iter().map(|(expert, gate)| Worked {
            layer,
            expert,
            gate,
        });
        self.work.gates.extend(gates);
        self.denials.mass += selection.denied_mass;
        self.denials.count += selection.denied.len();
        let denied = selection.denied.iter().zip(&selection.denied_each);
        self.denials
            .experts
            .extend(denied.map(|(expert, mass)| Worked {
                layer,
                expert: *expert,
                gate: *mass,
            }));
    }
}
