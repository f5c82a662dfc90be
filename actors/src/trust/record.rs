//! What is known of one expert.

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use crate::protocol::{State, Tick};

/// Weight of the newest gate in an expert's usual gate and in its stability.
const GATE_RATE: f64 = 0.05;
/// Part of the way that full feedback moves convergence.
const FEEDBACK_RATE: f64 = 0.1;

/// Trials and successes, decayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tally {
    pub trials: f64,
    pub successes: f64,
}

impl Tally {
    /// With a prior of 1 in 2.
    pub fn share(&self) -> f64 {
        (self.successes + 1.0) / (self.trials + 2.0)
    }

    fn add(&mut self, success: bool) {
        self.trials += 1.0;
        self.successes += f64::from(u8::from(success));
    }

    fn decay(&mut self, keep: f64) {
        self.trials *= keep;
        self.successes *= keep;
    }
}

/// One record of the ledger. Values are in [0, 1] and decay towards their prior of 0.5; counts decay towards 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrustRecord {
    pub convergence: f64,
    pub stability: f64,
    /// Usual mixing weight; 0 before the first use.
    pub gate_mean: f64,
    /// Tokens that used the expert and could be judged.
    pub judged: Tally,
    pub by_state: [Tally; 6],
    /// Tokens that used the expert.
    pub visits: f64,
    /// Router mass that it was denied.
    pub regret: f64,
    pub last_used: Option<Tick>,
    /// Mixing weight in the turn that feedback will judge.
    pub turn_gate: f64,
    /// What denying it said.
    pub evidence: Evidence,
    /// Half-lives that had passed when this record was brought up to date.
    pub clock: f64,
}

impl Default for TrustRecord {
    fn default() -> Self {
        Self {
            convergence: 0.5,
            stability: 0.5,
            gate_mean: 0.0,
            judged: Tally::default(),
            by_state: [Tally::default(); 6],
            visits: 0.0,
            regret: 0.0,
            last_used: None,
            turn_gate: 0.0,
            evidence: Evidence::default(),
            clock: 0.0,
        }
    }
}

impl TrustRecord {
    /// 0.4 convergence + 0.3 stability + 0.3 efficiency.
    pub fn trust(&self) -> f64 {
        (0.4 * self.convergence + 0.3 * self.stability + 0.3 * self.judged.share()).clamp(0.0, 1.0)
    }

    /// Forgets what `clock` half-lives since the start ask for.
    pub fn decay(&mut self, clock: f64) {
        if clock <= self.clock {
            return;
        }
        let keep = libm::exp2(self.clock - clock);
        self.clock = clock;
        self.convergence = 0.5 + (self.convergence - 0.5) * keep;
        self.stability = 0.5 + (self.stability - 0.5) * keep;
        self.evidence.decay(keep);
        self.judged.decay(keep);
        for tally in &mut self.by_state {
            tally.decay(keep);
        }
        self.visits *= keep;
        self.regret *= keep;
    }

    /// One token that used the expert; `d` is None where the token cannot be judged yet.
    pub fn worked(&mut self, gate: f64, d: Option<f64>, state: State, tick: Tick) {
        if self.last_used.is_none() {
            self.gate_mean = gate;
        }
        let off = ((gate - self.gate_mean).abs() / (self.gate_mean + 0.05)).min(1.0);
        self.stability += GATE_RATE * (1.0 - off - self.stability);
        self.gate_mean += GATE_RATE * (gate - self.gate_mean);
        self.visits += 1.0;
        self.turn_gate += gate;
        self.last_used = Some(tick);
        if let Some(d) = d {
            let success = d > 0.5 && self.stability > 0.5;
            self.judged.add(success);
            self.by_state[state.index()].add(success);
        }
    }

    /// Moves convergence by what counterfactual scores have changed.
    pub fn move_convergence(&mut self, by: f64) {
        self.convergence = (self.convergence + by).clamp(0.0, 1.0);
    }

    /// Feedback in [-1, 1] on a turn of which the expert did `part`, in [0, 1].
    pub fn feedback(&mut self, feedback: f64, part: f64) {
        self.convergence += FEEDBACK_RATE * part * ((1.0 + feedback) / 2.0 - self.convergence);
        self.turn_gate = 0.0;
    }
}
