//! `sage verify --reference candle`: the model, then the reference on the same tokens, and what differs.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::args::VerifyArgs;
use super::case_line::show;
use crate::cli::opening::RunningSettings;
use crate::cli::text::token_ids;
use crate::cli::{CliError, CommandOutcome, Printer, human_bytes, opening};
use crate::core::EngineError;
use crate::core::memory::resident_set;
use crate::goldens::{CaseReport, Status};
use crate::reference::{NAME, PromptRun, compare, listen, working_bytes};
use crate::sensors::Machine;
use crate::session::SessionPlan;
use crate::session::opening::EngineOptions;
use crate::store::WeightSource;
use crate::text::{Message, Text, TextError};

/// Read where nothing else is asked for.
const QUESTION: &str =
    "Name three rivers of Europe, and say in one sentence where each of them ends.";
/// As many ids stand for it where there is no tokenizer.
const IDS: u64 = 24;
/// Tokens of the continuation where nothing else is asked for.
const STEPS: usize = 8;

#[derive(Serialize)]
struct ReferenceReport {
    cases: [CaseReport; 1],
    passed: usize,
    failed: usize,
    skipped: usize,
    reference: Run,
}

/// What the reference did, and what it took.
#[derive(Serialize)]
struct Run {
    name: &'static str,
    /// Tokens that both read, the prompt first.
    tokens: Vec<u32>,
    /// The greedy continuation.
    said: Vec<u32>,
    layers: usize,
    /// Choices of experts that were compared.
    choices: usize,
    /// Those that differed among experts that are equally good.
    near_ties: usize,
    /// Tokens that differed among logits that are equal.
    near_tied_tokens: usize,
    /// What the reference holds at most, by its plan.
    working_bytes: u64,
    /// The most that the process had in memory.
    peak_rss_bytes: u64,
    model_seconds: f64,
    reference_seconds: f64,
}

/// Runs the command.
pub(super) fn run(args: &VerifyArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    args.running.set_threads()?;
    let source = opening::source(&args.model)?;
    let weights = match &args.reference_weights {
        Some(folder) => opening::source(folder)?,
        None => source.clone(),
    };
    if weights.config().thinker.text != source.config().thinker.text {
        return Err(CliError::request(format!(
            "{} and {} are decoders of different shapes: their config.json must say the same",
            source.folder().display(),
            weights.folder().display()
        )));
    }
    let prompt = prompt(args, &*source)?;
    let steps = match args.layers {
        Some(_) => 0,
        None => args.max_tokens.unwrap_or(STEPS),
    };
    let all = source.config().thinker.text.num_hidden_layers;
    let layers = args.layers.map_or(all, |layers| (layers as usize).min(all));

    let began = Instant::now();
    let found = model(args, printer, source, &prompt, steps)?;
    let model_seconds = began.elapsed().as_secs_f64();

    let tokens = found.tokens();
    let working_bytes = working_bytes(&*weights, tokens.len())?;
    printer.note(format_args!(
        "the model is closed; the reference ({NAME}) runs {} tokens through {layers} layers in one pass, one matrix at a time: at most {} of working memory",
        tokens.len(),
        human_bytes(working_bytes)
    ));
    let bar = printer.steps("layers of the reference", layers as u64);
    let began = Instant::now();
    let mut progress = |layer: usize| bar.set_position(layer as u64);
    let outcome = compare(&*weights, &found, layers, &mut progress)?;
    bar.finish_and_clear();
    let failed = outcome.case.status == Status::Fail;
    let report = ReferenceReport {
        passed: usize::from(!failed),
        failed: usize::from(failed),
        skipped: 0,
        reference: Run {
            name: NAME,
            said: found.said().to_vec(),
            tokens,
            layers,
            choices: outcome.choices,
            near_ties: outcome.near_ties,
            near_tied_tokens: outcome.near_tied_tokens,
            working_bytes,
            peak_rss_bytes: resident_set().1,
            model_seconds,
            reference_seconds: began.elapsed().as_secs_f64(),
        },
        cases: [outcome.case],
    };
    tell(&report, printer)?;
    Ok(if failed {
        CommandOutcome::No
    } else {
        CommandOutcome::Done
    })
}

/// What the model computes; it is closed again.
fn model(
    args: &VerifyArgs,
    printer: &Printer,
    source: Arc<dyn WeightSource>,
    prompt: &[u32],
    steps: usize,
) -> Result<PromptRun, CliError> {
    let RunningSettings { settings, mind } = args.running.resolve(Some("`sage verify`"), |_| ())?;
    let options = EngineOptions {
        context_tokens: prompt.len().saturating_add(steps),
        chunk_tokens: Some(usize::from(args.chunk)),
        mind,
        degrade: args.running.degrade,
        ..EngineOptions::default()
    }
    .limited(settings.session.limit, Machine::of_process());
    opening::runtime()?.block_on(async {
        let plan = SessionPlan::of_engine(options);
        let mut session = opening::session(source, plan, printer).await?;
        printer.note(format_args!("mode: {}", session.mode().text));
        let found = listen(session.engine_mut(), prompt, steps).await;
        session.abort().await;
        Ok(found?)
    })
}

/// What both read.
fn prompt(args: &VerifyArgs, source: &dyn WeightSource) -> Result<Vec<u32>, CliError> {
    let ids = match (&args.prompt_tokens, &args.prompt) {
        (Some(ids), _) => token_ids(ids)?,
        (None, Some(prompt)) => asked(&Text::load(source).map_err(EngineError::from)?, prompt)?,
        (None, None) => match Text::load(source) {
            Ok(text) => asked(&text, QUESTION)?,
            // Spread over the vocabulary, and the same every time.
            Err(TextError::NoTokenizer) => {
                let vocabulary = source.config().thinker.text.vocab_size as u64;
                let id = |n: u64| (n * 2_654_435_761 % vocabulary) as u32;
                (1..=IDS).map(id).collect()
            }
            Err(error) => return Err(EngineError::from(error).into()),
        },
    };
    match ids.is_empty() {
        true => Err(EngineError::EmptyPrompt.into()),
        false => Ok(ids),
    }
}

fn asked(text: &Text, prompt: &str) -> Result<Vec<u32>, CliError> {
    let ids = text.prompt_tokens(&[Message::new("user", prompt)], "");
    Ok(ids.map_err(EngineError::from)?)
}

fn tell(report: &ReferenceReport, printer: &Printer) -> Result<(), CliError> {
    if printer.is_json() {
        return printer.json(report);
    }
    for case in &report.cases {
        show(printer, case)?;
    }
    let run = &report.reference;
    printer.line(format_args!(
        "{} tokens read, {} said; {} layers; {} choices of experts, {} of them near-ties; near-tied tokens: {}",
        run.tokens.len(),
        run.said.len(),
        run.layers,
        run.choices,
        run.near_ties,
        run.near_tied_tokens
    ))?;
    printer.line(format_args!(
        "model {:.1} s, reference {:.1} s, peak memory of the process {}",
        run.model_seconds,
        run.reference_seconds,
        human_bytes(run.peak_rss_bytes)
    ))?;
    printer.line(format_args!(
        "{} passed, {} failed, {} skipped",
        report.passed, report.failed, report.skipped
    ))
}
