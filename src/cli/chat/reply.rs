//! What the commands answer: one value for the lines and the JSON alike.

use std::collections::BTreeMap;
use std::fmt::Display;

use sage_actors::protocol::{LayerTrust, Modality, Salience, State, Tick, TokenOrigin, TrustView};
use serde::Serialize;

use super::command::COMMANDS;
use super::why::Move;
use crate::core::core_loop::recall::{AssessedSegment, RequestWork};
use crate::events::SalienceEvent;
use crate::reads::ReadBytes;

/// Experts of a layer that are shown of each kind.
const SHOWN: usize = 3;

/// An answer to a command.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CommandReply {
    /// To `/help`.
    Help {
        /// The commands.
        commands: Vec<HelpLine>,
    },
    /// To `/state`.
    StateReport(Box<StateReport>),
    /// To `/salience`.
    SalienceReport {
        /// Of the last tick.
        now: SalienceEvent,
        /// Segments, newest last.
        segments: Vec<SegmentLine>,
    },
    /// To `/trust`.
    Trust {
        /// Every sparse layer.
        layers: Vec<TrustLayer>,
    },
    /// To `/why`.
    Why {
        /// Changes of state since the last turn began.
        moves: Vec<Move>,
        /// Who worked on the last turn; none before the first.
        #[serde(skip_serializing_if = "Option::is_none")]
        turn: Option<TurnWork>,
        /// What was read from disk since the model was opened.
        read_bytes: ReadBytes,
    },
    /// To `/speak`.
    Speak {
        /// Whether answers are spoken from now on.
        spoken: bool,
        /// In whose voice.
        speaker: String,
    },
    /// To `/limit` alone.
    LimitReport {
        /// The limit, if there is one.
        limit_bytes: Option<u64>,
        /// Whether it was chosen from what the machine has.
        limit_chosen: bool,
        /// Where it comes from.
        limit_reason: String,
        /// What must be in memory.
        floor_bytes: u64,
        /// What is left for experts.
        pool_bytes: u64,
        /// What the process would take with everything in memory.
        everything_bytes: u64,
        /// Resident set of the process.
        rss_bytes: u64,
    },
    /// To `/feedback`.
    Feedback {
        /// In [-1, 1].
        value: f32,
        /// Reward after it, in [0, 1].
        reward: f32,
        /// Experts whose convergence it moved.
        experts_moved: usize,
        /// How far, summed.
        convergence_moved: f64,
    },
    /// To `/reset`.
    Reset {
        /// Turns that are forgotten.
        turns: usize,
    },
    /// To what cannot be done.
    Refused {
        /// Why.
        message: String,
        /// What to do.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// A command and what it does.
#[derive(Clone, Debug, Serialize)]
pub struct HelpLine {
    /// As it is written.
    pub command: String,
    /// What it does.
    pub meaning: &'static str,
}

/// A tower in [`StateReport`].
#[derive(Clone, Debug, Serialize)]
pub struct TowerLine {
    /// What it perceives.
    pub modality: Modality,
    /// Bytes of its weights that it may keep; 0: it sleeps.
    pub weight_bytes: u64,
    /// Bytes that are in memory.
    pub resident_bytes: u64,
}

/// See [`CommandReply::StateReport`].
#[derive(Clone, Debug, Serialize)]
pub struct StateReport {
    /// When.
    pub tick: Tick,
    /// The state in force.
    pub state: State,
    /// Ticks that it has lasted.
    pub dwell_ticks: u64,
    /// Energy, 0 to 100: the least of the reserves.
    pub atp: f64,
    /// Compute bucket, units.
    pub compute: f64,
    /// I/O bucket, units.
    pub io: f64,
    /// Of each bucket when full.
    pub capacity_units: f64,
    /// Memory and outside sensors, 0 to 1.
    pub level: f64,
    /// What moves states.
    pub drive: f32,
    /// Experts a token.
    pub k: u16,
    /// Capacity for experts.
    pub expert_bytes: u64,
    /// What hears and sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub towers: Vec<TowerLine>,
    /// Bytes that one decoded token may miss; none: no cap.
    pub miss_bytes_per_token: Option<u64>,
    /// Residency bias.
    pub lambda: f32,
    /// Salience bias.
    pub beta: f32,
    /// Experts a layer that are read ahead.
    pub lookahead: u16,
    /// Resident experts.
    pub resident_experts: u64,
    /// Their bytes.
    pub resident_bytes: u64,
    /// The limit, if there is one.
    pub limit_bytes: Option<u64>,
    /// What must be in memory.
    pub floor_bytes: u64,
    /// What is left for experts.
    pub pool_bytes: u64,
    /// Resident set of the process.
    pub rss_bytes: u64,
    /// Turns in the context.
    pub turns: usize,
    /// Tokens in the context.
    pub context_tokens: usize,
    /// Tokens that fit.
    pub context_capacity: usize,
}

/// A segment that was assessed.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentLine {
    /// When.
    pub tick: Tick,
    /// Read or generated.
    pub origin: TokenOrigin,
    /// Measured tokens.
    pub tokens: usize,
    /// The five numbers.
    #[serde(flatten)]
    pub salience: Salience,
    /// The drive that they came to.
    pub drive: f32,
}

impl From<&AssessedSegment> for SegmentLine {
    fn from(of: &AssessedSegment) -> Self {
        Self {
            tick: of.tick,
            origin: of.origin,
            tokens: of.tokens,
            salience: of.report.salience,
            drive: of.drive,
        }
    }
}

/// An expert and what is believed of it.
#[derive(Clone, Debug, Serialize)]
pub struct Trusted {
    /// Which.
    pub expert: usize,
    /// In [0, 1].
    pub trust: f32,
    /// Usefulness.
    pub convergence: f32,
    /// How steady its mixing weight is.
    pub stability: f32,
    /// Tokens that used it, decayed.
    pub visits: f32,
}

/// See [`CommandReply::Trust`].
#[derive(Clone, Debug, Serialize)]
pub struct TrustLayer {
    /// The layer.
    pub layer: u16,
    /// Experts that have worked.
    pub worked: usize,
    /// Best first.
    pub most: Vec<Trusted>,
    /// Worst first; none that is among the best.
    pub least: Vec<Trusted>,
}

impl TrustLayer {
    /// Of every layer of a view. Who never worked is not ranked: of it nothing is known.
    pub fn all(view: &TrustView) -> Vec<Self> {
        let layers = view.layers.iter();
        layers
            .map(|(key, layer)| Self::of(key.layer, layer))
            .collect()
    }

    fn of(number: u16, layer: &LayerTrust) -> Self {
        let experts = (0..layer.trust.len()).filter(|expert| layer.visits[*expert] > 0.0);
        let mut ranked: Vec<Trusted> = experts
            .map(|expert| Trusted {
                expert,
                trust: layer.trust[expert],
                convergence: layer.convergence[expert],
                stability: layer.stability[expert],
                visits: layer.visits[expert],
            })
            .collect();
        ranked.sort_by(|a, b| b.trust.total_cmp(&a.trust).then(a.expert.cmp(&b.expert)));
        let worked = ranked.len();
        let rest = ranked.split_off(worked.min(SHOWN));
        Self {
            layer: number,
            worked,
            most: ranked,
            least: rest.into_iter().rev().take(SHOWN).collect(),
        }
    }
}

/// An expert's part.
#[derive(Clone, Debug, Serialize)]
pub struct ExpertShare {
    /// Which.
    pub expert: u16,
    /// Of those who worked: share of the layer's mixing weight. Of those denied: router mass.
    pub share: f64,
}

/// One layer of a turn.
#[derive(Clone, Debug, Serialize)]
pub struct WorkLayer {
    /// The layer.
    pub layer: u16,
    /// Experts that worked, by mixing weight.
    pub experts: Vec<ExpertShare>,
    /// Experts that worked, in all.
    pub worked: usize,
    /// Experts that were denied, by router mass.
    pub denied: Vec<ExpertShare>,
    /// Router mass denied, in all.
    pub denied_mass: f64,
}

/// See [`CommandReply::Why`].
#[derive(Clone, Debug, Serialize)]
pub struct TurnWork {
    /// Tokens read and generated.
    pub tokens: usize,
    /// Leased experts that were resident.
    pub hits: u64,
    /// Leased experts that were not.
    pub misses: u64,
    /// Logical bytes of the misses.
    pub miss_bytes: u64,
    /// What was read from disk since the turn began.
    pub read_bytes: ReadBytes,
    /// Every sparse layer.
    pub layers: Vec<WorkLayer>,
}

impl TurnWork {
    /// Of the last request, in whose time so much was read; none if nothing worked.
    pub fn of(work: &RequestWork, read_bytes: ReadBytes) -> Option<Self> {
        let mut layers: BTreeMap<u16, (Vec<ExpertShare>, Vec<ExpertShare>)> = BTreeMap::new();
        for ((layer, expert), gate) in &work.used {
            let (used, _) = layers.entry(*layer).or_default();
            used.push(ExpertShare {
                expert: *expert,
                share: *gate,
            });
        }
        for ((layer, expert), mass) in &work.denied {
            let (_, denied) = layers.entry(*layer).or_default();
            denied.push(ExpertShare {
                expert: *expert,
                share: *mass,
            });
        }
        let layer =
            |(layer, (mut experts, mut denied)): (u16, (Vec<ExpertShare>, Vec<ExpertShare>))| {
                let sum = |parts: &[ExpertShare]| parts.iter().map(|part| part.share).sum::<f64>();
                let (all, denied_mass) = (sum(&experts).max(f64::MIN_POSITIVE), sum(&denied));
                let worked = experts.len();
                experts.iter_mut().for_each(|part| part.share /= all);
                greatest(&mut experts);
                greatest(&mut denied);
                WorkLayer {
                    layer,
                    experts,
                    worked,
                    denied,
                    denied_mass,
                }
            };
        (work.tokens > 0).then(|| Self {
            tokens: work.tokens,
            hits: work.hits,
            misses: work.misses,
            miss_bytes: work.miss_bytes,
            read_bytes,
            layers: layers.into_iter().map(layer).collect(),
        })
    }
}

fn greatest(parts: &mut Vec<ExpertShare>) {
    parts.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.expert.cmp(&b.expert)));
    parts.truncate(SHOWN);
}

impl CommandReply {
    /// What cannot be done, and what to do instead.
    pub fn refused(message: impl Display, hint: Option<String>) -> Self {
        Self::Refused {
            message: message.to_string(),
            hint,
        }
    }

    /// The list of commands.
    pub fn help() -> Self {
        let line = |(name, argument, meaning): (&str, &str, &'static str)| HelpLine {
            command: format!("{name} {argument}").trim().to_owned(),
            meaning,
        };
        Self::Help {
            commands: COMMANDS.map(line).into(),
        }
    }
}
