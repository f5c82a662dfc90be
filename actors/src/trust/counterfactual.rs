//! Convergence by counterfactuals: how much worse the tokens that used an expert are predicted without it.
//!
//! Δ of an expert is the mean loss increase over its scored tokens, shrunk by n / (n + 256) towards 0, as little
//! evidence is worth little. It is divided by the layer's deviation of Δ — the standard deviation over the layer's
//! scored experts, but no less than [`DEVIATION_FLOOR_NATS`] — because routers compare the experts of one layer. Φ of
//! that is what the ledger converges to: 0.5 for an expert that nothing misses, less for one that does harm.

use super::evidence::HALF_BELIEVED_TOKENS;
pub use super::evidence::{DEVIATION_FLOOR_NATS, Evidence, convergences};
use super::ledger::{Ledger, ModuleLedger, TrustError};
use crate::protocol::{ExpertUse, Propose, Scored, Worked};

impl Ledger {
    /// The experts of a segment that are worth scoring next, best first: those of one layer, namely of the layer whose
    /// best ones are together worth the most. An expert is worth the tokens that used it and the router mass that it
    /// was denied, as far as nothing is known of it yet; of equals the lowest goes first.
    ///
    /// # Errors
    /// An unknown module or expert.
    pub fn propose(&self, propose: &Propose) -> Result<Vec<ExpertUse>, TrustError> {
        let ledger = self.module(propose.module)?;
        let mut valued = Vec::with_capacity(propose.used.len());
        for used in &propose.used {
            let index = ledger.index(&worked(used.layer, used.expert))?;
            valued.push((ledger.worth(index, used.tokens), *used));
        }
        valued.sort_by(|(a, x), (b, y)| {
            (x.layer.cmp(&y.layer))
                .then(b.total_cmp(a))
                .then(x.expert.cmp(&y.expert))
        });
        let mut best: (f64, Vec<ExpertUse>) = (0.0, Vec::new());
        for layer in valued.chunk_by(|(_, a), (_, b)| a.layer == b.layer) {
            let layer = &layer[..layer.len().min(propose.most)];
            let worth: f64 = layer.iter().map(|(worth, _)| worth).sum();
            if best.1.is_empty() || worth > best.0 {
                best = (worth, layer.iter().map(|(_, used)| *used).collect());
            }
        }
        Ok(best.1)
    }
}

impl ModuleLedger {
    pub(super) fn check_scores(&self, scored: &[Scored]) -> Result<(), TrustError> {
        for scored in scored {
            self.index(&worked(scored.layer, scored.expert))?;
            if !scored.increase.is_finite() {
                return Err(TrustError::NotFinite);
            }
        }
        Ok(())
    }

    /// Learns from scores of denied experts. Every scored expert of a layer that is touched moves, because the layer's
    /// deviation does; what feedback did to a record stays.
    pub(super) fn score(
        &mut self,
        scored: &[Scored],
        touched: &mut Vec<usize>,
    ) -> Result<(), TrustError> {
        let mut ranks = Vec::new();
        for scored in scored {
            let index = self.index(&worked(scored.layer, scored.expert))?;
            let record = &mut self.records[index];
            record.decay(self.clock);
            record.evidence.tokens += f64::from(scored.tokens);
            record.evidence.increase += scored.increase;
            ranks.push(index / self.experts);
        }
        ranks.sort_unstable();
        ranks.dedup();
        for rank in ranks {
            self.bring_in(rank, touched);
        }
        Ok(())
    }

    /// Moves the records of a layer by what Φ has changed since it was brought in last.
    fn bring_in(&mut self, rank: usize, touched: &mut Vec<usize>) {
        let start = rank * self.experts;
        let layer = &mut self.records[start..start + self.experts];
        let clock = self.clock;
        layer.iter_mut().for_each(|record| record.decay(clock));
        let evidence: Vec<Evidence> = layer.iter().map(|record| record.evidence).collect();
        for (at, value) in convergences(&evidence).into_iter().enumerate() {
            let Some(value) = value else { continue };
            let record = &mut layer[at];
            record.move_convergence(value - record.evidence.brought_in);
            record.evidence.brought_in = value;
            touched.push(start + at);
        }
    }

    fn worth(&self, index: usize, tokens: u32) -> f64 {
        let record = &self.records[index];
        let unknown = HALF_BELIEVED_TOKENS / (HALF_BELIEVED_TOKENS + record.evidence.tokens);
        (f64::from(tokens) + record.regret) * unknown
    }
}

fn worked(layer: u16, expert: u16) -> Worked {
    Worked {
        layer,
        expert,
        gate: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModuleShape;
    use crate::math::normal_cdf;
    use crate::protocol::{ExpertKey, LayerKey, Module, Outcome, State, TokenOutcome};

    const MODULE: Module = Module::Thinker;

    fn ledger() -> Ledger {
        Ledger::new(&[ModuleShape {
            module: MODULE,
            layers: vec![1, 4],
            experts: 4,
            k_trained: 2,
            norm_topk_prob: true,
            expert_bytes: 1,
            smaller: Vec::new(),
        }])
    }

    fn key(layer: u16, expert: u16) -> ExpertKey {
        ExpertKey {
            layer: LayerKey {
                module: MODULE,
                layer,
            },
            expert,
        }
    }

    /// Nothing but time in a state.
    fn nothing(state: State, ticks: u32) -> Outcome {
        Outcome {
            tick: 1,
            ticks,
            state,
            module: MODULE,
            tokens: vec![],
            denied: vec![],
            feedback: None,
            scored: vec![],
        }
    }

    fn scores(scored: &[(u16, u16, u32, f64)]) -> Outcome {
        let scored = scored
            .iter()
            .map(|(layer, expert, tokens, increase)| Scored {
                layer: *layer,
                expert: *expert,
                tokens: *tokens,
                increase: *increase,
            });
        Outcome {
            scored: scored.collect(),
            ..nothing(State::Rest, 0)
        }
    }

    fn convergence(ledger: &Ledger, layer: u16, expert: u16) -> f64 {
        ledger.record(key(layer, expert)).unwrap().convergence
    }

    #[test]
    fn what_is_missed_is_trusted_and_what_harms_is_not() {
        let mut ledger = ledger();
        let told = [
            (1, 0, 256, 51.2),
            (1, 1, 256, -51.2),
            (1, 2, 256, 0.0),
            (4, 0, 1, 0.5),
        ];
        ledger.learn(&scores(&told)).unwrap();
        // Means 0.2, −0.2, 0; half believed; deviation √(2 · 0.1² / 3).
        let z = 0.1 / libm::sqrt(0.02 / 3.0);
        assert!((convergence(&ledger, 1, 0) - normal_cdf(z)).abs() < 1e-12);
        assert!((convergence(&ledger, 1, 1) - normal_cdf(-z)).abs() < 1e-12);
        assert!((convergence(&ledger, 1, 2) - 0.5).abs() < 1e-12);
        assert_eq!(convergence(&ledger, 1, 3), 0.5, "never scored");
        // Alone in its layer: nothing but the floor to compare with.
        let alone = normal_cdf(0.5 / 257.0 / DEVIATION_FLOOR_NATS);
        assert!((convergence(&ledger, 4, 0) - alone).abs() < 1e-12);
        // Views show it at once.
        let view = ledger.snapshot();
        let layer = &view.layers[&key(1, 0).layer];
        assert_eq!(layer.convergence[0], convergence(&ledger, 1, 0) as f32);
    }

    #[test]
    fn little_evidence_is_worth_little() {
        let mut few = ledger();
        few.learn(&scores(&[(1, 0, 8, 8.0), (1, 1, 4096, 4096.0)]))
            .unwrap();
        let (few, many) = (convergence(&few, 1, 0), convergence(&few, 1, 1));
        assert!(few < many && few > 0.5, "{few} {many}");
    }

    #[test]
    fn feedback_survives_the_next_score() {
        let feedback = |ledger: &mut Ledger, value| {
            let worked = vec![Worked {
                layer: 1,
                expert: 0,
                gate: 1.0,
            }];
            let outcome = Outcome {
                tokens: vec![TokenOutcome {
                    origin: crate::protocol::TokenOrigin::Observed,
                    error: 1.0,
                    entropy: 1.0,
                    worked,
                }],
                feedback: Some(value),
                ..nothing(State::Wake, 0)
            };
            ledger.learn(&outcome).unwrap();
        };
        let (mut praised, mut plain) = (ledger(), ledger());
        let told = scores(&[(1, 0, 100, 2.0), (1, 1, 100, -1.0)]);
        praised.learn(&told).unwrap();
        plain.learn(&told).unwrap();
        feedback(&mut praised, 1.0);
        let by = convergence(&praised, 1, 0) - convergence(&plain, 1, 0);
        assert!(by > 0.0);
        praised.learn(&told).unwrap();
        plain.learn(&told).unwrap();
        let still = convergence(&praised, 1, 0) - convergence(&plain, 1, 0);
        assert!((still - by).abs() < 1e-9, "{by} then {still}");
    }

    #[test]
    fn evidence_is_forgotten_with_everything_else() {
        let mut ledger = ledger();
        ledger
            .learn(&scores(&[(1, 0, 100, 20.0), (1, 1, 100, 0.0)]))
            .unwrap();
        let evidence = |ledger: &Ledger| ledger.modules[0].records[0].evidence;
        let before = evidence(&ledger);
        ledger.learn(&nothing(State::Dream, 5000)).unwrap();
        ledger.learn(&scores(&[(1, 1, 0, 0.0)])).unwrap();
        let after = evidence(&ledger);
        assert!((after.tokens - before.tokens / 2.0).abs() < 1e-9);
        assert!((after.increase - before.increase / 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_next_to_score_are_used_denied_and_unknown_and_of_one_layer() {
        let mut ledger = ledger();
        let used = |layer, expert, tokens| ExpertUse {
            layer,
            expert,
            tokens,
        };
        let all = vec![
            used(1, 0, 5),
            used(1, 1, 5),
            used(1, 3, 9),
            used(4, 0, 9),
            used(4, 2, 6),
        ];
        let propose = |ledger: &Ledger, most| {
            let propose = Propose {
                module: MODULE,
                used: all.clone(),
                most,
            };
            let chosen = ledger.propose(&propose).unwrap();
            let chosen = chosen.iter().map(|used| (used.layer, used.expert));
            chosen.collect::<Vec<_>>()
        };
        // 9 + 5 + 5 against 9 + 6; of the best two, 14 against 15; of equals the lowest.
        assert_eq!(propose(&ledger, 3), [(1, 3), (1, 0), (1, 1)]);
        assert_eq!(propose(&ledger, 2), [(4, 0), (4, 2)]);
        assert_eq!(propose(&ledger, 1), [(1, 3)]);
        // What is known is worth less, what was denied more.
        ledger.learn(&scores(&[(1, 3, 2560, 0.0)])).unwrap();
        assert_eq!(propose(&ledger, 1), [(4, 0)]);
        let denied = Outcome {
            denied: vec![Worked {
                layer: 1,
                expert: 1,
                gate: 7.0,
            }],
            ..nothing(State::Rest, 1)
        };
        ledger.learn(&denied).unwrap();
        assert_eq!(propose(&ledger, 1), [(1, 1)]);
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        let mut ledger = ledger();
        let before = ledger.snapshot();
        for told in [(1, 9, 1, 0.0), (2, 0, 1, 0.0), (1, 0, 1, f64::NAN)] {
            assert!(ledger.learn(&scores(&[(1, 1, 9, 9.0), told])).is_err());
        }
        assert_eq!(ledger.snapshot(), before);
        assert_eq!(convergence(&ledger, 1, 1), 0.5);
    }
}
