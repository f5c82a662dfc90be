//! Mechanisms that can be held off one by one, so that each can be priced.

use super::{Budgets, MindConfig, Named, StateBudget};

/// One way in which the mind lets a token's experts differ from the router's own at the trained k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// The state's k.
    K,
    /// The share of the state's k for what is read.
    ReadingShare,
    /// The share of router mass at which a token has experts enough.
    RouterMass,
    /// The cap of missed bytes.
    MissCap,
    /// The bias towards residents.
    ResidencyBias,
    /// The bias by surprise, trust and affinity.
    SalienceBias,
}

impl Mechanism {
    /// `mind` without it, in every state.
    #[must_use]
    pub fn off(self, mind: &MindConfig) -> MindConfig {
        let mut mind = mind.clone();
        for budget in mind.budgets.all_mut().into_iter().chain(&mut mind.hold) {
            self.switch_off(budget);
        }
        mind
    }

    /// `mind` with it alone of them all.
    #[must_use]
    pub fn alone(self, mind: &MindConfig) -> MindConfig {
        let others = Self::ALL.iter().filter(|other| **other != self);
        others.fold(mind.clone(), |mind, other| other.off(&mind))
    }

    fn switch_off(self, budget: &mut StateBudget) {
        match self {
            Self::K => budget.f = 1.0,
            Self::ReadingShare => budget.reading_share = 1.0,
            Self::RouterMass => budget.router_mass = 1.0,
            Self::MissCap => budget.miss_bytes_per_token = 0.0,
            Self::ResidencyBias => budget.residency_bias = 0.0,
            Self::SalienceBias => budget.salience_bias = 0.0,
        }
    }
}

impl Budgets {
    fn all_mut(&mut self) -> [&mut StateBudget; 6] {
        [
            &mut self.wake,
            &mut self.focus,
            &mut self.rest,
            &mut self.dream,
            &mut self.threat,
            &mut self.depletion,
        ]
    }
}

impl Named for Mechanism {
    const ALL: &'static [Self] = &[
        Self::K,
        Self::ReadingShare,
        Self::RouterMass,
        Self::MissCap,
        Self::ResidencyBias,
        Self::SalienceBias,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::K => "k",
            Self::ReadingShare => "reading_share",
            Self::RouterMass => "router_mass",
            Self::MissCap => "miss_cap",
            Self::ResidencyBias => "residency_bias",
            Self::SalienceBias => "salience_bias",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::K => "The state's number of experts a token; off: the trained number",
            Self::ReadingShare => {
                "Fewer experts a token that is read; off: as many as one that is written"
            }
            Self::RouterMass => "Experts until they have a share of the router's mass; off: all k",
            Self::MissCap => "The cap of bytes that a decoded token may miss; off: none",
            Self::ResidencyBias => "Residents are preferred; off: they are not",
            Self::SalienceBias => "Surprise, trust and affinity count; off: they do not",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_off_in_every_state_and_alone_leaves_the_others_off() {
        let mut mind = MindConfig::default();
        for budget in mind.budgets.all_mut() {
            *budget = StateBudget {
                router_mass: 0.8,
                reading_share: 0.5,
                miss_bytes_per_token: 0.5,
                residency_bias: 0.1,
                salience_bias: 0.1,
                f: 0.5,
                ..*budget
            };
        }
        mind.hold = Some(mind.budgets.wake);
        let none = Mechanism::ALL
            .iter()
            .fold(mind.clone(), |m, one| one.off(&m));
        for one in Mechanism::ALL {
            assert_ne!(one.off(&mind), mind, "{one:?}");
            let alone = one.alone(&mind);
            assert_ne!(alone, none, "{one:?}");
            assert_eq!(one.off(&alone), none, "{one:?}");
        }
        assert_eq!(none.budgets.rest.f, 1.0);
        assert_eq!(none.hold.map(|hold| hold.salience_bias), Some(0.0));
    }
}
