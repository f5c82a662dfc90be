//! Who gets how much: bytes of the pool and of the I/O budget are shared over the modules awake.
//!
//! A module's share is in proportion to base · (0.25 + drive): what it takes in the state, and how much it is driven now. One
//! whose share is below its floor sleeps, the least driven first, and leaves its share to the others; the first module never
//! sleeps. Shares stand until one of them would change by half: every change moves experts out of memory and in again.

use crate::protocol::Module;

/// Of the drive, what even a module that nothing drives has.
const REST_DRIVE: f64 = 0.25;
/// A share changes, and a module that sleeps wakes, by this factor at least.
const HYSTERESIS: f64 = 1.5;

/// What a module asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// Which.
    pub module: Module,
    /// What it takes in the state, in any unit that all share; above 0.
    pub base: f64,
    /// Drive of its modality, in [0, 1].
    pub drive: f32,
    /// With less of the pool it is of no use, bytes.
    pub floor_bytes: u64,
}

/// Shares that are in force.
#[derive(Clone, Debug, Default)]
pub struct Arbiter {
    shares: Vec<(Module, f64)>,
}

impl Arbiter {
    /// Divides the pool over the claims, the one that never sleeps first. Shares sum to 1; who has none sleeps.
    pub fn divide(&mut self, claims: &[Claim], pool_bytes: u64) -> &[(Module, f64)] {
        let mut awake: Vec<Claim> = claims.to_vec();
        let fresh = loop {
            let fresh = shares(&awake);
            let needed = |claim: &Claim| {
                let asleep = self.share(claim.module).is_none();
                let margin = if asleep { HYSTERESIS } else { 1.0 };
                margin * claim.floor_bytes as f64
            };
            let starved = awake.iter().zip(&fresh).enumerate().skip(1);
            let starved = starved
                .filter(|(_, (claim, (_, share)))| share * (pool_bytes as f64) < needed(claim));
            // Of equals the later.
            let least = starved
                .min_by(|(i, (a, _)), (j, (b, _))| a.drive.total_cmp(&b.drive).then(j.cmp(i)));
            match least.map(|(at, _)| at) {
                Some(at) => drop(awake.remove(at)),
                None => break fresh,
            }
        };
        let stands = fresh.len() == self.shares.len()
            && fresh.iter().all(|(module, share)| {
                self.share(*module).is_some_and(|before| {
                    share / before < HYSTERESIS && before / share < HYSTERESIS
                })
            });
        if !stands {
            self.shares = fresh;
        }
        &self.shares
    }

    fn share(&self, module: Module) -> Option<f64> {
        let found = self.shares.iter().find(|(known, _)| *known == module);
        found.map(|(_, share)| *share)
    }
}

fn shares(claims: &[Claim]) -> Vec<(Module, f64)> {
    let weight = |claim: &Claim| claim.base * (REST_DRIVE + f64::from(claim.drive));
    let all: f64 = claims.iter().map(weight).sum();
    let share = |claim: &Claim| (claim.module, weight(claim) / all);
    claims.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(speech: f32) -> [Claim; 2] {
        [
            Claim {
                module: Module::Thinker,
                base: 3.0,
                drive: 0.25,
                floor_bytes: 0,
            },
            Claim {
                module: Module::Talker,
                base: 1.0,
                drive: speech,
                floor_bytes: 100,
            },
        ]
    }

    fn talker(arbiter: &mut Arbiter, speech: f32, pool_bytes: u64) -> Option<f64> {
        let shares = arbiter.divide(&claims(speech), pool_bytes);
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{shares:?}");
        assert_eq!(shares[0].0, Module::Thinker, "it never sleeps");
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
            [(Module::Thinker, 1.0)]
        );
    }
}
