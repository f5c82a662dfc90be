//! `sage replay TRACE --fork TICK`: what one event or setting changed.

use std::path::Path;
use std::sync::Arc;

use sage_actors::config::Named;
use serde::Serialize;

use crate::cli::{CliError, CommandOutcome, Printer, Table, opening};
use crate::input::human_bytes;
use crate::replay::{self, ForkAnswer, ForkChange, ForkOutcome, ForkReport, Way};
use crate::store::WeightSource;
use crate::trace::TraceHeader;

#[derive(Serialize)]
struct Written<'a> {
    trace: String,
    how: &'static str,
    #[serde(flatten)]
    report: &'a ForkReport,
}

/// What it runs with; nothing of it changes a decision.
pub(super) struct ForkWith {
    pub source: Arc<dyn WeightSource>,
    pub read_ahead: bool,
    pub actor_threads: usize,
}

/// Runs the command.
pub(super) fn run(
    trace: &Path,
    header: &TraceHeader,
    change: &ForkChange,
    with: ForkWith,
    printer: &Printer,
) -> Result<CommandOutcome, CliError> {
    let ForkWith {
        source,
        read_ahead,
        actor_threads,
    } = with;
    let bar = printer.counter("replaying", "ticks");
    let way = Way {
        read_ahead,
        loading: &mut |_, _| (),
        progress: &mut |tick| bar.set_position(tick),
    };
    let forked = replay::fork(trace, source, change, way);
    let report = opening::runtime_of(actor_threads)?.block_on(forked)?;
    bar.finish_and_clear();
    if printer.is_json() {
        printer.json(&Written {
            trace: trace.display().to_string(),
            how: "fork",
            report: &report,
        })?;
    } else {
        show(header, &report, printer)?;
    }
    Ok(CommandOutcome::Done)
}

fn show(header: &TraceHeader, report: &ForkReport, printer: &Printer) -> Result<(), CliError> {
    let dropped = report.dropped.iter().map(|one| {
        let from = match one.source.is_empty() {
            true => String::new(),
            false => format!(" of {}", one.source),
        };
        format!("without {} {}{from} (tick {})", one.kind, one.id, one.tick)
    });
    let set = report.set.iter().map(|set| format!("with {set}"));
    let changes: Vec<String> = dropped.chain(set).collect();
    printer.line(format_args!(
        "{}: from tick {} on {}",
        header.about,
        report.fork_tick,
        changes.join(", ")
    ))?;
    let (recorded, forked) = (&report.recorded, &report.forked);
    let titles = ["from the fork on", "recorded", "forked"];
    let mut table = Table::with_titles(titles.map(str::to_owned).to_vec());
    let mut row = |name: &str, of: fn(&ForkOutcome) -> String| {
        table.push(vec![name.to_owned(), of(recorded), of(forked)]);
    };
    row("last tick", |outcome| outcome.last_tick.to_string());
    row("experts missed", |outcome| outcome.misses.to_string());
    row("bytes missed", |outcome| human_bytes(outcome.miss_bytes));
    row("router mass denied", |outcome| {
        format!("{:.2}", outcome.denied_mass)
    });
    printer.table(&table)?;
    match recorded.states == forked.states {
        true => printer.line(format_args!("states in both: {}", states(recorded)))?,
        false => {
            printer.line(format_args!("states recorded: {}", states(recorded)))?;
            printer.line(format_args!("states forked:   {}", states(forked)))?;
        }
    }
    let mut ids: Vec<u64> = recorded.answers.keys().copied().collect();
    ids.extend(
        forked
            .answers
            .keys()
            .filter(|id| !recorded.answers.contains_key(id)),
    );
    for id in ids {
        answer(
            id,
            recorded.answers.get(&id),
            forked.answers.get(&id),
            printer,
        )?;
    }
    if recorded == forked {
        printer.line(format_args!("nothing changed"))?;
    }
    if !report.whole {
        printer.line(format_args!(
            "the forked run was broken off: something is still open"
        ))?;
    }
    Ok(())
}

fn answer(
    id: u64,
    recorded: Option<&ForkAnswer>,
    forked: Option<&ForkAnswer>,
    printer: &Printer,
) -> Result<(), CliError> {
    let Some(one) = recorded.or(forked) else {
        return Ok(());
    };
    let said = |answer: Option<&ForkAnswer>| match answer {
        Some(answer) => format!("“{}” at tick {}", answer.text, answer.tick),
        None => "no answer".to_owned(),
    };
    let asked = one.question.lines().last().unwrap_or_default();
    match recorded == forked {
        true => printer.line(format_args!("{id} “{asked}”: {} in both", said(recorded))),
        false => printer.line(format_args!(
            "{id} “{asked}”: recorded {}, forked {}",
            said(recorded),
            said(forked)
        )),
    }
}

/// `focus 12, threat 40`: states with the ticks at which they were entered.
fn states(outcome: &ForkOutcome) -> String {
    let states = outcome.states.iter();
    let states: Vec<String> = states
        .map(|entered| format!("{} {}", entered.state.name(), entered.tick))
        .collect();
    match states.is_empty() {
        true => "no change".to_owned(),
        false => states.join(", "),
    }
}
