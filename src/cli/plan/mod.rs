//! `sage plan`: what a model would need and do under a limit, before anything runs.

mod forecast;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sage_actors::cache::{CycleCliff, state_cliffs};
use sage_actors::config::{MindConfig, ModuleShape};
use sage_actors::protocol::Module;
use serde::Serialize;

use super::bench::ForcedRouting;
use super::memory::MemoryArgs;
use super::{CliError, CommandOutcome, Printer, human_bytes, opening};
use crate::checkpoint::Component;
use crate::core::memory::Floor;
use crate::core::{EngineError, MemoryPlan};
use crate::cpu::probe::{WorkRates, work_rates};
use crate::cpu::slots::ExpertSlots;
use crate::input::KvPrecision;
use crate::model::Thinker;
use crate::routes::Locality;
use crate::sensors::Machine;
use crate::session::exact::EXACT;
use crate::session::opening::{EngineOptions, PlannedMemory, plan, thinker_shape};
use crate::store::WeightSource;
use crate::text::Text;
use forecast::{ANSWER_TOKENS, Forecast, PROMPT_TOKENS, TokenWork};

const EXAMPLES: &str = "Examples:
  sage plan MODEL
  sage plan MODEL --limit 6GiB --context 1024 --kv bf16
  sage plan MODEL --limit 6GiB --speak --hear --see
  sage plan MODEL --limit 6GiB --json --no-measure

Nothing is loaded but some experts and the head, to try the disk and the arithmetic for a second; --no-measure leaves that out. The
forecast is of the first 128 tokens of an answer with the trained experts (exact) behind a short prompt, in all of the pool. Which
experts are in memory then is asked of the cache's own policy, on routing that is drawn to be as local as a trained model's
(Qwen3-30B-A3B); a model that spreads its tokens more finds fewer.

--json: floor_bytes, floor_parts{}, limit_bytes, limit_reason, pool_bytes, everything_bytes, context_tokens, chunk_tokens,
kv_precision, cycle_cliff_bytes (the least limit at which all experts of one token stay: below it a least-recently-used cache finds
none), expected{hit_rate, bytes_per_token, tokens_per_second, tokens_per_second_all_resident}, measured{disk_bytes_per_second,
memory_bytes_per_second, expert_bytes_per_second}.

Exit code 2 says that the limit is below the floor; the message names the least that would do.";

/// Arguments of `sage plan`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct PlanArgs {
    /// Checkpoint or store
    #[arg(value_parser = crate::cli::models::model_argument())]
    model: PathBuf,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Expect this recorded routing, as `sage bench --routes` forces it
    #[arg(long, value_name = "FILE")]
    routes: Option<PathBuf>,
    /// Expect routing with so many experts a token, drawn with the locality of the recording
    #[arg(long, value_name = "K", requires = "routes")]
    routes_experts: Option<usize>,
    /// Do not try the disk and the arithmetic
    #[arg(long)]
    no_measure: bool,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What was measured; none where it was left out, or could not be.
#[derive(Clone, Copy, Debug, Serialize)]
struct PlanMeasurements {
    /// Of experts, read as a run reads them.
    disk_bytes_per_second: Option<f64>,
    /// At which all threads read memory.
    memory_bytes_per_second: Option<f64>,
    /// Of experts at work on one token.
    expert_bytes_per_second: Option<f64>,
}

#[derive(Debug, Serialize)]
struct PlanReport {
    floor_bytes: u64,
    floor_parts: Floor,
    /// None: no limit.
    limit_bytes: Option<u64>,
    limit_reason: String,
    /// What is left for experts.
    pool_bytes: u64,
    everything_bytes: u64,
    context_tokens: usize,
    chunk_tokens: usize,
    kv_precision: KvPrecision,
    /// None where the model has no experts.
    cycle_cliff_bytes: Option<u64>,
    /// None where the model has no experts.
    expected: Option<Forecast>,
    measured: PlanMeasurements,
    /// Experts a token and layer that are expected.
    k: usize,
}

/// Runs the command.
pub fn run(args: &PlanArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let source = opening::source(&args.model)?;
    let options = args.memory.options(&*source)?;
    let options = options.limited(args.memory.limit, Machine::of_process());
    // A run has its tokenizer in memory when it plans. A model without one runs too, on token ids.
    let text = Text::load(&*source).ok();
    let planned = plan(&*source, &options);
    drop(text);
    let planned = planned?;
    // As a run does: what threads take is no part of the plan.
    opening::start_threads(None)?;
    let routing = args.routes.as_ref();
    let routing = routing
        .map(|file| ForcedRouting::read(file, args.routes_experts, &*source))
        .transpose()?;
    let rates = match args.no_measure {
        true => None,
        false => {
            let bar = printer.steps("trying disk and arithmetic", 1);
            let rates = work_rates(&source);
            bar.finish_and_clear();
            rates
        }
    };
    let report = report(&source, &options, &planned, routing.as_ref(), rates)?;
    if printer.is_json() {
        printer.json(&report)?;
    } else {
        report.show(printer)?;
    }
    Ok(CommandOutcome::Done)
}

fn report(
    source: &Arc<dyn WeightSource>,
    options: &EngineOptions,
    planned: &PlannedMemory,
    routing: Option<&ForcedRouting>,
    rates: Option<WorkRates>,
) -> Result<PlanReport, CliError> {
    let memory = &planned.memory;
    let text = &source.config().thinker.text;
    let slots = ExpertSlots::of(&**source, Component::Thinker);
    let shape = ModuleShape {
        smaller: slots.smaller,
        ..thinker_shape(text, slots.largest_bytes)
    };
    let trained = text.num_experts_per_tok;
    let k = routing.map_or(trained, ForcedRouting::k);
    let mut mind = options.mind.clone();
    mind.hold = Some(EXACT);
    if let Some(routing) = routing {
        routing.hold(&mut mind, trained);
    }
    let sparse = shape.layers.len();
    let token_bytes = Thinker::token_bytes(&**source).map_err(EngineError::from)?;
    let held = HeldMind {
        mind,
        shape,
        window_experts: planned.window_experts,
    };
    let expected = (sparse > 0).then(|| {
        let work = TokenWork {
            resident_bytes: token_bytes,
            expert_bytes: memory.slot_bytes,
            layers: sparse,
            capacity_bytes: held.capacity_bytes(memory.pool_bytes),
        };
        let drawn = |k| {
            let locality = Locality::of_qwen3(text.num_experts as u16);
            locality.draw(sparse, k, [PROMPT_TOKENS, ANSWER_TOKENS], 0)
        };
        let routes = routing.map_or_else(|| drawn(k), |routing| routing.of_layers(sparse));
        Forecast::new(&routes, options.mind.eviction, &work, rates)
    });
    Ok(PlanReport {
        floor_bytes: memory.floor.total(),
        floor_parts: memory.floor,
        limit_bytes: memory.limit_bytes,
        limit_reason: planned.limit_origin.reason(),
        pool_bytes: memory.pool_bytes,
        everything_bytes: memory.everything_bytes(),
        context_tokens: memory.context_tokens,
        chunk_tokens: planned.chunk_tokens,
        kv_precision: planned.kv,
        cycle_cliff_bytes: (sparse > 0).then(|| held.cliff_bytes(memory)),
        expected,
        measured: PlanMeasurements {
            disk_bytes_per_second: rates.map(|rates| rates.read),
            memory_bytes_per_second: rates.map(|rates| rates.memory),
            expert_bytes_per_second: rates.map(|rates| rates.experts),
        },
        k,
    })
}

/// The mind of an exact run, as far as it divides the pool.
struct HeldMind {
    mind: MindConfig,
    shape: ModuleShape,
    window_experts: usize,
}

impl HeldMind {
    /// How a pool of so many bytes holds a token's experts.
    fn cliff(&self, pool_bytes: u64) -> CycleCliff {
        let mind = MindConfig {
            modules: vec![self.shape.clone()],
            window_experts: self.window_experts as u16,
            pool_bytes,
            ..self.mind.clone()
        };
        let cliffs = state_cliffs(&mind).into_iter();
        let mut thinkers = cliffs.filter(|found| found.module == Module::Thinker);
        thinkers.next().map(|found| found.cliff).unwrap_or_default()
    }

    /// Bytes of the experts that a pool holds.
    fn capacity_bytes(&self, pool_bytes: u64) -> u64 {
        self.cliff(pool_bytes).capacity_experts * self.shape.expert_bytes
    }

    /// The least limit at which all experts of one token stay.
    fn cliff_bytes(&self, memory: &MemoryPlan) -> u64 {
        let (mut below, mut enough) = (0, memory.all_experts_bytes.saturating_mul(2));
        while enough - below > 1 << 20 {
            let middle = below + (enough - below) / 2;
            match self.cliff(middle).is_below() {
                true => below = middle,
                false => enough = middle,
            }
        }
        memory.floor.total() + enough
    }
}

impl PlanReport {
    /// For people.
    fn show(&self, printer: &Printer) -> Result<(), CliError> {
        printer.line(format_args!(
            "floor {} for a context of {} tokens, keys and values in {}",
            human_bytes(self.floor_bytes),
            self.context_tokens,
            self.kv_precision
        ))?;
        printer.line(format_args!("  {}", self.floor_parts.breakdown()))?;
        match self.limit_bytes {
            Some(limit) => printer.line(format_args!(
                "limit {}, {}: a pool of {} for experts of {}",
                human_bytes(limit),
                self.limit_reason,
                human_bytes(self.pool_bytes),
                human_bytes(self.everything_bytes - self.floor_bytes)
            ))?,
            None => printer.line(format_args!(
                "no limit, {}: everything takes {}",
                self.limit_reason,
                human_bytes(self.everything_bytes)
            ))?,
        }
        if let Some(cliff) = self.cycle_cliff_bytes {
            printer.line(format_args!(
                "from {} on all experts of one token stay in memory: below it a least-recently-used cache finds none of them",
                human_bytes(cliff)
            ))?;
        }
        if let Some(rates) = self.rates() {
            printer.line(rates)?;
        }
        self.show_expected(printer)
    }

    fn rates(&self) -> Option<String> {
        let rate = |bytes: Option<f64>| Some(format!("{}/s", human_bytes(bytes? as u64)));
        Some(format!(
            "measured: experts from disk at {}, at work at {}; memory at {}",
            rate(self.measured.disk_bytes_per_second)?,
            rate(self.measured.expert_bytes_per_second)?,
            rate(self.measured.memory_bytes_per_second)?
        ))
    }

    fn show_expected(&self, printer: &Printer) -> Result<(), CliError> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        let speed = match (
            expected.tokens_per_second,
            expected.tokens_per_second_all_resident,
        ) {
            (Some(rate), Some(most)) => {
                format!("; {rate:.1} tokens/s (with everything in memory {most:.1})")
            }
            _ => String::new(),
        };
        printer.line(format_args!(
            "expected of the first {ANSWER_TOKENS} tokens of an answer, with {} experts a token and layer: {:.1} % of them in memory, {} read for a token{speed}",
            self.k,
            expected.hit_rate * 100.0,
            human_bytes(expected.bytes_per_token as u64)
        ))
    }
}
