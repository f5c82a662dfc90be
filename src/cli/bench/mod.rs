//! `sage bench`.

mod args;
mod arm_report;
mod arms;
mod cold;
mod figures;
mod machine;
mod measure;
mod ratios;
mod report;
mod rounds;
mod rows;
mod speech;
mod towers;

use std::sync::Arc;

use super::opening::{self, RunningSettings};
use super::{CliError, CommandOutcome, Printer};
use crate::sensors::Machine;
use crate::session::opening::{EngineOptions, ExpertIo};
use crate::settings::keys;
pub use args::BenchArgs;
use arms::{Arm, Io, Mind};
use report::BenchReport;
use rounds::{PlannedArm, Rounds};
use towers::TowerBench;

/// Runs the command.
pub fn run(args: &BenchArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    args.check()?;
    args.running.set_threads()?;
    let first = Arm {
        mind: args.mind,
        io: args.io,
    };
    let arms = first.against(&args.against)?;
    if arms.iter().any(|arm| arm.io == Io::Mmap) {
        args.check_mapped()?;
    }
    let planned = arms.iter().map(|arm| plan(args, *arm));
    let planned = planned.collect::<Result<Vec<_>, _>>()?;
    let source = opening::source(&args.model)?;
    if args.speech {
        speech::check(&*source)?;
    }
    let towers = TowerBench {
        source: &*source,
        rounds: args.rounds,
        limit: planned[0].settings.session.limit,
    };
    let patches = args.seeing.map(|patches| patches as usize);
    towers.check(args.hearing.is_some(), patches)?;
    let rounds = Rounds::new(args, planned, Arc::clone(&source), printer);
    let figures = opening::runtime()?.block_on(rounds.run())?;
    let hearing = args.hearing.map(|of| towers.hear(of)).transpose()?;
    let seeing = patches.map(|of| towers.see(of)).transpose()?;
    let arms = report::compared(args, &arms, &figures);
    BenchReport::new(args.rounds, &arms, hearing, seeing, &*source).show(printer)?;
    Ok(CommandOutcome::Done)
}

/// How the sessions of an arm are opened.
fn plan(args: &BenchArgs, arm: Arm) -> Result<PlannedArm, CliError> {
    let context = args.longest_prompt().saturating_add(args.answer_tokens);
    let exact = arm.mind == Mind::Off;
    let RunningSettings { settings, mut mind } = args.running.resolve(exact, |sources| {
        let answer = Some(args.answer_tokens);
        sources.option(keys::ANSWER_TOKENS, "--answer-tokens", answer);
        sources.option(keys::CONTEXT_TOKENS, "--prompt-tokens", Some(context));
    })?;
    mind.budgets.focus.expert_memory = 1.0;
    let engine = EngineOptions {
        speaks: args.speech,
        codes: args.codes()?,
        context_tokens: context,
        chunk_tokens: settings.session.chunk_tokens,
        kv: settings.session.kv_precision,
        mind,
        degrade: args.running.degrade,
        expert_io: match arm.io {
            Io::Direct => ExpertIo::Direct,
            Io::Mmap => ExpertIo::Mapped,
        },
        ..EngineOptions::default()
    }
    .limited(settings.session.limit, Machine::of_process());
    Ok(PlannedArm {
        arm,
        engine,
        settings,
    })
}
