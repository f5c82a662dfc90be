//! The commands' answers as lines for people: none much wider than a narrow terminal.

use std::fmt::{self, Display};

use super::super::human_bytes;
use super::super::live::name;
use super::reply::{CommandReply, SegmentLine, StateReport, TrustLayer, Trusted, TurnWork};
use super::why::Move;
use crate::events::SalienceEvent;
use crate::input::counted;

impl Display for CommandReply {
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
            Self::Why {
                moves,
                turn,
                read_bytes,
            } => {
                why(f, moves, turn.as_ref())?;
                write!(f, "\nread in all: {read_bytes}")
            }
            Self::Speak {
                spoken: true,
                speaker,
            } => write!(f, "answers are spoken by {speaker}"),
            Self::Speak { spoken: false, .. } => write!(f, "answers are not spoken"),
            Self::LimitReport {
                limit_bytes,
                limit_reason,
                floor_bytes,
                pool_bytes,
                everything_bytes,
                rss_bytes,
                ..
            } => {
                let (limit, pool) = match limit_bytes {
                    Some(limit) => (
                        human_bytes(*limit),
                        format!(", pool {}", human_bytes(*pool_bytes)),
                    ),
                    None => ("none".to_owned(), String::new()),
                };
                write!(
                    f,
                    "limit    {limit}, {limit_reason}\nmemory   {} used; floor {}{pool}, everything {}",
                    human_bytes(*rss_bytes),
                    human_bytes(*floor_bytes),
                    human_bytes(*everything_bytes)
                )
            }
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
    for tower in &report.towers {
        let may = match tower.weight_bytes {
            0 => "asleep".to_owned(),
            bytes => format!("may keep {}", human_bytes(bytes)),
        };
        let has = human_bytes(tower.resident_bytes);
        writeln!(
            f,
            "{:<8} tower {may}, {has} in memory",
            name(&tower.modality)
        )?;
    }
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
    if let Some(senses) = &now.senses {
        let all = [
            ("words", Some(senses.text)),
            ("sounds", senses.audio),
            ("pictures", senses.vision),
        ];
        for (of, salience) in all {
            let Some(s) = salience else { continue };
            write!(
                f,
                "\n{of:<8} S{:.2} N{:.2} A{:.2} C{:.2}",
                s.surprise, s.novelty, s.arousal, s.conflict
            )?;
        }
    }
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
            segment.salience.surprise,
            segment.salience.novelty,
            segment.salience.arousal,
            segment.salience.reward,
            segment.salience.conflict,
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
            write!(f, "\n      {}", crossed.condition)?;
            if let Some(number) = crossed.measured {
                write!(f, ": {} {}", number.what, short(number.measured))?;
            }
        }
    }
    let Some(turn) = turn else {
        return write!(f, "\nnothing has been answered yet");
    };
    write!(
        f,
        "\nlast turn: {} tokens, {} of {} experts were in memory, {} missed\nread since it began: {}",
        turn.tokens,
        turn.hits,
        turn.hits + turn.misses,
        human_bytes(turn.miss_bytes),
        turn.read_bytes
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

/// A number without decimals that say nothing.
fn short(number: f64) -> String {
    if number.fract() == 0.0 {
        format!("{number}")
    } else {
        format!("{number:.2}")
    }
}
