//! What the commands answer: one value for the lines and the JSON alike.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use sage_actors::protocol::{LayerTrust, Origin, State, Tick, TrustView};
use serde::Serialize;

use super::super::human_bytes;
use super::super::live::name;
use super::command::COMMANDS;
use super::why::Move;
use crate::engine::core_loop::recall::{Assessed, Work};
use crate::events::SalienceEvent;

/// Experts of a layer that are shown of each kind.
const SHOWN: usize = 3;

/// An answer to a command.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
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

/// See [`Reply::StateReport`].
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
    pub origin: Origin,
    /// Measured tokens.
    pub tokens: usize,
    /// Surprise.
    pub surprise: f32,
    /// Novelty.
    pub novelty: f32,
    /// Arousal.
    pub arousal: f32,
    /// Reward.
    pub reward: f32,
    /// Conflict.
    pub conflict: f32,
    /// The drive that they came to.
    pub drive: f32,
}

impl From<&Assessed> for SegmentLine {
    fn from(of: &Assessed) -> Self {
        let salience = of.report.salience;
        Self {
            tick: of.tick,
            origin: of.origin,
            tokens: of.tokens,
            surprise: salience.surprise,
            novelty: salience.novelty,
            arousal: salience.arousal,
            reward: salience.reward,
            conflict: salience.conflict,
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

/// See [`Reply::Trust`].
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
pub struct Part {
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
    pub experts: Vec<Part>,
    /// Experts that worked, in all.
    pub worked: usize,
    /// Experts that were denied, by router mass.
    pub denied: Vec<Part>,
    /// Router mass denied, in all.
    pub denied_mass: f64,
}

/// See [`Reply::Why`].
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
    /// Every sparse layer.
    pub layers: Vec<WorkLayer>,
}

impl TurnWork {
    /// Of the last request; none if nothing worked.
    pub fn of(work: &Work) -> Option<Self> {
        let mut layers: BTreeMap<u16, (Vec<Part>, Vec<Part>)> = BTreeMap::new();
        for ((layer, expert), gate) in &work.used {
            let (used, _) = layers.entry(*layer).or_default();
            used.push(Part {
                expert: *expert,
                share: *gate,
            });
        }
        for ((layer, expert), mass) in &work.denied {
            let (_, denied) = layers.entry(*layer).or_default();
            denied.push(Part {
                expert: *expert,
                share: *mass,
            });
        }
        let layer = |(layer, (mut experts, mut denied)): (u16, (Vec<Part>, Vec<Part>))| {
            let sum = |parts: &[Part]| parts.iter().map(|part| part.share).sum::<f64>();
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
            layers: layers.into_iter().map(layer).collect(),
        })
    }
}

fn greatest(parts: &mut Vec<Part>) {
    parts.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.expert.cmp(&b.expert)));
    parts.truncate(SHOWN);
}

impl Reply {
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

impl Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Help { commands } => {
                let lines = commands
                    .iter()
                    .map(|line| format!("{:<14} {}", line.command, line.meaning));
                write!(f, "{}", lines.collect::<Vec<_>>().join("\n"))
            }
            Self::StateReport(report) => state(f, report),
            Self::SalienceReport { now, segments } => salience(f, now, segments),
            Self::Trust { layers } => trust(f, layers),
            Self::Why { moves, turn } => why(f, moves, turn.as_ref()),
            Self::Feedback {
                value,
                reward,
                experts_moved,
                convergence_moved,
            } => write!(
                f,
                "feedback {value}: reward {reward:.2}; convergence of {experts_moved} experts moved by {convergence_moved:.4} in all"
            ),
            Self::Reset { turns } => write!(f, "forgotten: {}", counted(*turns as u64, "turn")),
            Self::Refused { message, hint } => match hint {
                Some(hint) => write!(f, "{message}\n  hint: {hint}"),
                None => write!(f, "{message}"),
            },
        }
    }
}

fn state(f: &mut fmt::Formatter<'_>, report: &StateReport) -> fmt::Result {
    let cap = report
        .miss_bytes_per_token
        .map_or("no cap".to_owned(), |bytes| {
            format!("{} a token", human_bytes(bytes))
        });
    let limit = report.limit_bytes.map_or("none".to_owned(), human_bytes);
    writeln!(
        f,
        "state    {} for {} (tick {}); drive {:.2}",
        name(&report.state),
        counted(report.dwell_ticks, "tick"),
        report.tick,
        report.drive
    )?;
    writeln!(
        f,
        "energy   {:.1}: compute {:.1} of {}, i/o {:.1}, level {:.2}",
        report.atp, report.compute, report.capacity_units, report.io, report.level
    )?;
    writeln!(
        f,
        "budgets  k {}, experts {}, misses {cap}",
        report.k,
        human_bytes(report.expert_bytes)
    )?;
    writeln!(
        f,
        "         lambda {:.2}, beta {:.2}, lookahead {}",
        report.lambda, report.beta, report.lookahead
    )?;
    writeln!(
        f,
        "experts  {} in {} of {}",
        report.resident_experts,
        human_bytes(report.resident_bytes),
        human_bytes(report.expert_bytes)
    )?;
    writeln!(
        f,
        "memory   {} used; limit {limit}, floor {}",
        human_bytes(report.rss_bytes),
        human_bytes(report.floor_bytes),
    )?;
    if report.limit_bytes.is_some() {
        writeln!(f, "         pool {}", human_bytes(report.pool_bytes))?;
    }
    write!(
        f,
        "context  {}, {} of {} tokens",
        counted(report.turns as u64, "turn"),
        report.context_tokens,
        report.context_capacity
    )
}

fn salience(
    f: &mut fmt::Formatter<'_>,
    now: &SalienceEvent,
    segments: &[SegmentLine],
) -> fmt::Result {
    write!(
        f,
        "surprise {:.2}  novelty {:.2}  arousal {:.2}  reward {:.2}  conflict {:.2}\ndrive {:.2}  (energy {:.0})",
        now.surprise, now.novelty, now.arousal, now.reward, now.conflict, now.drive, now.atp
    )?;
    if segments.is_empty() {
        return write!(f, "\nno segment yet");
    }
    write!(f, "\nlast segments, newest last:")?;
    for segment in segments {
        write!(
            f,
            "\n{:>6} {:<9} {:>3} tokens S{:.2} N{:.2} A{:.2} R{:.2} C{:.2} drive {:.2}",
            segment.tick,
            name(&segment.origin),
            segment.tokens,
            segment.surprise,
            segment.novelty,
            segment.arousal,
            segment.reward,
            segment.conflict,
            segment.drive
        )?;
    }
    Ok(())
}

fn trust(f: &mut fmt::Formatter<'_>, layers: &[TrustLayer]) -> fmt::Result {
    write!(f, "trust by layer, of experts that have worked")?;
    for layer in layers {
        let list = |experts: &[Trusted]| {
            let shown = experts
                .iter()
                .map(|of| format!("e{} {:.3}", of.expert, of.trust));
            shown.collect::<Vec<_>>().join(", ")
        };
        write!(f, "\n{:>3} ", layer.layer)?;
        match layer.worked {
            0 => write!(f, "nothing has worked yet")?,
            worked => {
                write!(f, "{worked} worked; most: {}", list(&layer.most))?;
                if !layer.least.is_empty() {
                    write!(f, "; least: {}", list(&layer.least))?;
                }
            }
        }
    }
    Ok(())
}

fn why(f: &mut fmt::Formatter<'_>, moves: &[Move], turn: Option<&TurnWork>) -> fmt::Result {
    if moves.is_empty() {
        write!(f, "no state was left since the last turn began")?;
    }
    for (at, change) in moves.iter().enumerate() {
        let line = if at == 0 { "" } else { "\n" };
        write!(
            f,
            "{line}{:>5} {} → {} ({}) after {} ticks; energy {:.1} by {}",
            change.tick,
            name(&change.from),
            name(&change.to),
            name(&change.cause),
            change.dwelt_ticks,
            change.atp,
            change.least_reserve
        )?;
        for crossed in &change.crossed {
            let measured = crossed
                .measured
                .map_or(String::new(), |measured| format!("{} ", short(measured)));
            let key = crossed.key.map_or(String::new(), |key| format!(" ({key})"));
            write!(
                f,
                "\n      {} {measured}{} {}{key}",
                crossed.what,
                crossed.is,
                short(crossed.threshold)
            )?;
        }
    }
    let Some(turn) = turn else {
        return write!(f, "\nnothing has been answered yet");
    };
    write!(
        f,
        "\nlast turn: {} tokens, {} of {} experts were in memory, {} read",
        turn.tokens,
        turn.hits,
        turn.hits + turn.misses,
        human_bytes(turn.miss_bytes)
    )?;
    for layer in &turn.layers {
        let parts = layer
            .experts
            .iter()
            .map(|part| format!("e{} {:.0} %", part.expert, part.share * 100.0));
        let parts = parts.collect::<Vec<_>>().join(", ");
        write!(
            f,
            "\n{:>3} {parts} of {} experts",
            layer.layer, layer.worked
        )?;
        if !layer.denied.is_empty() {
            let denied = layer
                .denied
                .iter()
                .map(|part| format!("e{} {:.2}", part.expert, part.share));
            let denied = denied.collect::<Vec<_>>().join(", ");
            write!(f, "; denied mass {:.2}: {denied}", layer.denied_mass)?;
        }
    }
    Ok(())
}

/// `1 turn`, `2 turns`.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A number without decimals that say nothing.
fn short(number: f64) -> String {
    if number.fract() == 0.0 {
        format!("{number}")
    } else {
        format!("{number:.2}")
    }
}
