//! `sage bench`.

mod args;
mod arm_report;
mod arms;
mod cold;
mod figures;
mod forced;
mod machine;
mod measure;
mod ratios;
mod report;
mod rounds;
mod routes;
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
pub(super) use routes::ForcedRouting;
use towers::TowerBench;

/// Runs the command.
pub fn run(args: &BenchArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    args.check()?;
    args.running.set_threads()?;
    let arms = args.first_arm().against(&args.against)?;
    if arms.iter().any(|arm| arm.io == Io::Mmap) {
        args.check_mapped()?;
    }
    let planned = arms.iter().map(|arm| plan(args, *arm));
    let mut planned = planned.collect::<Result<Vec<_>, _>>()?;
    let source = opening::source(&args.model)?;
    let routing = args.routes.as_ref().map(|file| {
        let routing = ForcedRouting::read(file, args.routes_experts, &*source)?;
        let k_trained = source.config().thinker.text.num_experts_per_tok;
        for planned in &mut planned {
            routing.hold(&mut planned.engine.mind, k_trained);
        }
        Ok::<_, CliError>(routing)
    });
    let routing = routing.transpose()?;
    if let Some(routing) = &routing {
        printer.note(routing.words());
    }
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
    let rounds = Rounds::new(args, planned, routing.clone(), Arc::clone(&source), printer);
    let figures = opening::runtime()?.block_on(rounds.run())?;
    let hearing = args.hearing.map(|of| towers.hear(of)).transpose()?;
    let seeing = patches.map(|of| towers.see(of)).transpose()?;
    let arms = report::compared(args, &arms, &figures);
    let report = BenchReport::new(args.rounds, routing, &arms, &*source);
    report.with_towers(hearing, seeing).show(printer)?;
    Ok(CommandOutcome::Done)
}

/// How the sessions of an arm are opened.
fn plan(args: &BenchArgs, arm: Arm) -> Result<PlannedArm, CliError> {
    let context = args.longest_prompt().saturating_add(args.answer_tokens);
    let exact = (arm.mind == Mind::Off).then(|| args.why_off());
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
