//! Who gets how much: bytes of the pool and of the I/O budget are shared over the modules awake.
//!
//! A module's share is in proportion to base · (0.25 + drive): what it takes in the state, and how much it is driven now. None
//! gets more than it can use: what is beyond goes to the others. One whose share is below its floor sleeps, the least
//! driven first, and leaves its share to the others; the first module never sleeps. Shares stand until one of them would
//! change by half: every change moves experts out of memory and in again.

use crate::protocol::{Modality, Module};

/// Of the drive, what even a module that nothing drives has.
const REST_DRIVE: f64 = 0.25;
/// A share changes, and a module that sleeps wakes, by this factor at least.
const HYSTERESIS: f64 = 1.5;

/// Who shares in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharer {
    /// A decoder with experts.
    Module(Module),
    /// An encoder of a sense.
    Tower(Modality),
}

/// Who has which share of the pool.
pub type PoolShare = (Sharer, f64);

/// What a module asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoolClaim {
    /// Who.
    pub sharer: Sharer,
    /// What it takes in the state, in any unit that all share; above 0.
    pub base: f64,
    /// Drive of its modality, in [0, 1].
    pub drive: f32,
    /// With less of the pool it is of no use, bytes.
    pub floor_bytes: u64,
    /// It can use no more of the pool than this, bytes; none: all of it.
    pub most_bytes: Option<u64>,
}

/// Shares that are in force.
#[derive(Clone, Debug, Default)]
pub struct Arbiter {
    shares: Vec<PoolShare>,
}

impl Arbiter {
    /// Divides the pool over the claims, the one that never sleeps first. Shares sum to 1; who has none sleeps.
    pub fn divide(&mut self, claims: &[PoolClaim], pool_bytes: u64) -> &[PoolShare] {
        let mut awake: Vec<PoolClaim> = claims.to_vec();
        let fresh = loop {
            let fresh = shares(&awake, pool_bytes);
            let needed = |claim: &PoolClaim| {
                let asleep = self.share(claim.sharer).is_none();
                let margin = if asleep { HYSTERESIS } else { 1.0 };
                // What it can use at most is always enough to wake for.
                let most = claim.most_bytes.unwrap_or(u64::MAX) as f64;
                (margin * claim.floor_bytes as f64).min(most)
            };
            let starved = awake.iter().zip(&fresh).enumerate().skip(1);
            let starved = starved
                // Half a byte: a share is a quotient, and is rounded.
                .filter(|(_, (claim, (_, share)))| {
                    share * (pool_bytes as f64) + 0.5 < needed(claim)
                });
            // Of equals the later.
            let least = starved
                .min_by(|(i, (a, _)), (j, (b, _))| a.drive.total_cmp(&b.drive).then(j.cmp(i)));
            match least.map(|(at, _)| at) {
                Some(at) => drop(awake.remove(at)),
                None => break fresh,
            }
        };
        let stands = fresh.len() == self.shares.len()
            && fresh.iter().all(|(sharer, share)| {
                self.share(*sharer).is_some_and(|before| {
                    share / before < HYSTERESIS && before / share < HYSTERESIS
                })
            });
        if !stands {
            self.shares = fresh;
        }
        &self.shares
    }

    fn share(&self, sharer: Sharer) -> Option<f64> {
        let found = self.shares.iter().find(|(known, _)| *known == sharer);
        found.map(|(_, share)| *share)
    }
}

/// In proportion to the weights, nobody above what it can use; the first takes all that nobody else can.
fn shares(claims: &[PoolClaim], pool_bytes: u64) -> Vec<PoolShare> {
    let weight = |claim: &PoolClaim| claim.base * (REST_DRIVE + f64::from(claim.drive));
    let most = |claim: &PoolClaim| match claim.most_bytes {
        Some(bytes) if pool_bytes > 0 => bytes as f64 / pool_bytes as f64,
        _ => f64::INFINITY,
    };
    let mut capped = vec![false; claims.len()];
    loop {
        let free = |at: usize| !capped[at] || at == 0;
        let taken: f64 = (0..claims.len())
            .filter(|at| !free(*at))
            .map(|at| most(&claims[at]))
            .sum();
        let all: f64 = (0..claims.len())
            .filter(|at| free(*at))
            .map(|at| weight(&claims[at]))
            .sum();
        let share = |at: usize| {
            if free(at) {
                (1.0 - taken).max(0.0) * weight(&claims[at]) / all
            } else {
                most(&claims[at])
            }
        };
        let over = (1..claims.len()).find(|at| free(*at) && share(*at) > most(&claims[*at]));
        match over {
            Some(at) => capped[at] = true,
            None => {
                return claims
                    .iter()
                    .enumerate()
                    .map(|(at, claim)| (claim.sharer, share(at)))
                    .collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(speech: f32) -> [PoolClaim; 2] {
        [
            PoolClaim {
                sharer: Sharer::Module(Module::Thinker),
                base: 3.0,
                drive: 0.25,
                floor_bytes: 0,
                most_bytes: None,
            },
            PoolClaim {
                sharer: Sharer::Module(Module::Talker),
                base: 1.0,
                drive: speech,
                floor_bytes: 100,
                most_bytes: None,
            },
        ]
    }

    fn talker(arbiter: &mut Arbiter, speech: f32, pool_bytes: u64) -> Option<f64> {
        let shares = arbiter.divide(&claims(speech), pool_bytes);
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{shares:?}");
        assert_eq!(
            shares[0].0,
            Sharer::Module(Module::Thinker),
            "it never sleeps"
        );
        shares.get(1).map(|(_, share)| *share)
    }

    #[test]
    fn shares_follow_base_and_drive() {
        // 1 · (0.25 + 0.25) beside 3 · (0.25 + 0.25).
        assert_eq!(talker(&mut Arbiter::default(), 0.25, 10_000), Some(0.25));
        // 1 · 1.25 beside 1.5.
        let driven = talker(&mut Arbiter::default(), 1.0, 10_000);
        assert!((driven.unwrap() - 1.25 / 2.75).abs() < 1e-7);
    }

    #[test]
    fn a_little_more_drive_changes_nothing_and_a_lot_does() {
        let mut arbiter = Arbiter::default();
        let before = talker(&mut arbiter, 0.25, 10_000);
        assert_eq!(talker(&mut arbiter, 0.4, 10_000), before);
        let after = talker(&mut arbiter, 0.9, 10_000);
        assert!(after > before, "{after:?}");
        assert_eq!(talker(&mut arbiter, 0.7, 10_000), after);
    }

    #[test]
    fn below_its_floor_a_module_sleeps_and_wakes_with_a_margin() {
        let mut arbiter = Arbiter::default();
        // A share of 0.25 of 500 bytes is 125: enough to stay awake, not to wake up.
        assert_eq!(talker(&mut arbiter, 0.25, 500), None);
        assert_eq!(talker(&mut arbiter, 0.25, 700), Some(0.25));
        assert_eq!(talker(&mut arbiter, 0.25, 500), Some(0.25));
        assert_eq!(talker(&mut arbiter, 0.25, 300), None);
        // Driven enough it wakes where it would not otherwise.
        assert!(talker(&mut arbiter, 1.0, 400).is_some());
    }

    #[test]
    fn the_first_gets_all_where_it_is_alone_however_little_there_is() {
        let alone = &claims(1.0)[..1];
        assert_eq!(
            Arbiter::default().divide(alone, 0),
            [(Sharer::Module(Module::Thinker), 1.0)]
        );
    }

    #[test]
    fn nobody_gets_more_than_it_can_use() {
        let tower = |drive| PoolClaim {
            sharer: Sharer::Tower(Modality::Audio),
            base: 1.0,
            drive,
            floor_bytes: 10,
            most_bytes: Some(100),
        };
        let share = |drive, pool_bytes| {
            let both = [claims(0.0)[0], tower(drive)];
            let mut arbiter = Arbiter::default();
            let shares = arbiter.divide(&both, pool_bytes).to_vec();
            let sum: f64 = shares.iter().map(|(_, share)| share).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{shares:?}");
            shares.get(1).map(|(_, share)| share * pool_bytes as f64)
        };
        // 1 · 0.5 beside 3 · 0.5.
        assert_eq!(share(0.25, 200), Some(50.0));
        assert_eq!(share(0.25, 4000), Some(100.0));
        // A quarter of 50 bytes is below one and a half floors.
        assert_eq!(share(0.25, 50), None);
    }
}
