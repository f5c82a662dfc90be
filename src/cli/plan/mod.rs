//! `sage plan`: what a model would need and do under a limit, before anything runs.

mod forecast;
mod held;
mod report;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sage_actors::config::{EvictionPolicy, ModuleShape};

use super::bench::ForcedRouting;
use super::memory::MemoryArgs;
use super::trial::{ExpertSurvey, Measured, measure};
use super::{CliError, CommandOutcome, Printer, opening};
use crate::checkpoint::Component;
use crate::core::EngineError;
use crate::cpu::probe::WorkRates;
use crate::cpu::slots::ExpertSlots;
use crate::model::Thinker;
use crate::routes::Locality;
use crate::sensors::Machine;
use crate::session::exact::EXACT;
use crate::session::least::least_plan;
use crate::session::opening::{EngineOptions, PlannedMemory, plan, thinker_shape};
use crate::store::WeightSource;
use crate::text::Text;
use forecast::{ANSWER_TOKENS, Forecast, Length, PROMPT_TOKENS, TokenWork};
use held::HeldMind;
use report::PlanReport;

const EXAMPLES: &str = "Examples:
  sage plan MODEL
  sage plan MODEL --limit 6GiB --context 1024 --kv bf16
  sage plan MODEL --limit 6GiB --exact
  sage plan MODEL --limit 6GiB --speak --hear --see
  sage plan MODEL --limit 6GiB --json --no-measure

Nothing is loaded but some experts and the head, to try the disk and the arithmetic for a second; --no-measure leaves that out. The
forecast is of the first tokens of an answer with the trained experts (exact) behind a short prompt, in all of the pool. Which
experts are in memory then is asked of the cache's own policy, on routing that is drawn to be as local as a trained model's
(Qwen3-30B-A3B); a model that spreads its tokens more finds fewer. --exact, which --routes implies, leaves out what a mind whose
states change takes beside that.

--json: floor_bytes (the least limit), floor_parts{}, floor_kv_precision, limit_bytes, limit_reason, held_bytes (what the run holds
beside its pool, with its own chunks and precision), pool_bytes, everything_bytes, context_tokens, chunk_tokens, kv_precision, exact,
cycle_cliff_bytes (the least limit at which all experts of one token stay; null where no limit below everything does it),
lru_hits_nothing_up_to_bytes (the greatest at which a least-recently-used cache finds none of them), k (experts a token and layer), expected{prompt_tokens, answer_tokens, hit_rate,
bytes_per_token, tokens_per_second, tokens_per_second_all_resident}, measured{disk_bytes_per_second, memory_bytes_per_second,
expert_bytes_per_second, problem (why there is none)}, findings[] with name, state (fine, notice, limits), found and advice: experts
that are missing or damaged, and a measurement that failed.

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
    /// Expect this recorded routing, as `sage bench --routes` forces it, and plan for that run, which is exact
    #[arg(long, value_name = "FILE")]
    routes: Option<PathBuf>,
    /// Expect routing with so many experts a token, drawn with the locality of the recording
    #[arg(long, value_name = "K", requires = "routes")]
    routes_experts: Option<usize>,
    /// Tokens of the answer that is expected, as far as the context has room behind the prompt
    #[arg(long, value_name = "N", default_value_t = ANSWER_TOKENS)]
    answer_tokens: usize,
    /// Do not try the disk and the arithmetic
    #[arg(long)]
    no_measure: bool,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What is planned with.
struct Planning<'a> {
    source: &'a Arc<dyn WeightSource>,
    options: EngineOptions,
    routing: Option<ForcedRouting>,
    answer_tokens: usize,
}

/// Runs the command.
pub fn run(args: &PlanArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    if args.answer_tokens == 0 {
        return Err(CliError::request(
            "--answer-tokens is 0; expected at least 1",
        ));
    }
    let source = opening::source(&args.model)?;
    let routed = args.routes.as_ref().map(|_| "--routes");
    let question = args.memory.question(&*source, routed)?;
    let mut options = question.options;
    // A run has its tokenizer in memory when it plans. A model without one runs too, on token ids.
    let text = Text::load(&*source).ok();
    let measured = least_plan(&*source, &options);
    drop(text);
    // What is read from here on is none of a run's.
    options.base_bytes = Some(measured?.memory.floor.base_bytes);
    let routing = args.routes.as_ref();
    let routing = routing
        .map(|file| ForcedRouting::read(file, args.routes_experts, &*source))
        .transpose()?;
    if let Some(routing) = &routing {
        let trained = source.config().thinker.text.num_experts_per_tok;
        routing.hold(&mut options.mind, trained);
    }
    let least = least_plan(&*source, &options)?;
    let options = options.limited(question.limit, Machine::of_process());
    let planned = plan(&*source, &options)?;
    // As a run does: what threads take is no part of the plan.
    opening::start_threads(None)?;
    let survey = ExpertSurvey::of(&*source, options.speaks);
    let mut findings = survey.findings();
    let (rates, measured) = match args.no_measure {
        true => (None, Measured::nothing("left out, as --no-measure asks")),
        false => {
            let (rates, measured, finding) = measure(&source, &survey, printer);
            findings.extend(finding);
            (rates, measured)
        }
    };
    let planning = Planning {
        source: &source,
        options,
        routing,
        answer_tokens: args.answer_tokens,
    };
    let report = planning.report(&least, &planned, rates)?;
    let report = PlanReport {
        exact: args.memory.exact || routed.is_some(),
        measured,
        findings,
        ..report
    };
    if printer.is_json() {
        printer.json(&report)?;
    } else {
        report.show(printer)?;
    }
    Ok(CommandOutcome::Done)
}

impl Planning<'_> {
    /// Experts a token and layer.
    fn k(&self) -> usize {
        let trained = self.source.config().thinker.text.num_experts_per_tok;
        self.routing.as_ref().map_or(trained, ForcedRouting::k)
    }

    fn report(
        &self,
        least: &PlannedMemory,
        planned: &PlannedMemory,
        rates: Option<WorkRates>,
    ) -> Result<PlanReport, CliError> {
        let memory = &planned.memory;
        let (held_bytes, everything_bytes) = (memory.floor.total(), memory.everything_bytes());
        let held = self.held(planned);
        let sparse = !held.shape.layers.is_empty();
        let expected = match sparse {
            true => Some(self.expected(&held, planned, rates)?),
            false => None,
        };
        Ok(PlanReport {
            floor_bytes: least.memory.floor.total(),
            floor_parts: least.memory.floor,
            floor_kv_precision: least.kv,
            limit_bytes: memory.limit_bytes,
            limit_reason: planned.limit_origin.reason(),
            held_bytes,
            pool_bytes: match memory.limit_bytes {
                Some(_) => memory.pool_bytes,
                None => everything_bytes - held_bytes,
            },
            everything_bytes,
            context_tokens: memory.context_tokens,
            chunk_tokens: planned.chunk_tokens,
            kv_precision: planned.kv,
            exact: false,
            cycle_cliff_bytes: sparse.then(|| held.cliff_bytes(memory)).flatten(),
            lru_hits_nothing_up_to_bytes: sparse
                .then(|| held.lru_hits_nothing_up_to_bytes(memory))
                .flatten(),
            expected,
            measured: Measured::default(),
            k: self.k(),
            findings: Vec::new(),
        })
    }

    /// The mind, held to the trained experts, or to as many as are forced.
    fn held(&self, planned: &PlannedMemory) -> HeldMind {
        let text = &self.source.config().thinker.text;
        let slots = ExpertSlots::of(&**self.source, Component::Thinker);
        let mut mind = self.options.mind.clone();
        mind.hold = Some(EXACT);
        if let Some(routing) = &self.routing {
            routing.hold(&mut mind, text.num_experts_per_tok);
        }
        HeldMind {
            mind,
            shape: ModuleShape {
                smaller: slots.smaller,
                ..thinker_shape(text, slots.largest_bytes)
            },
            window_experts: planned.window_experts,
        }
    }

    fn expected(
        &self,
        held: &HeldMind,
        planned: &PlannedMemory,
        rates: Option<WorkRates>,
    ) -> Result<Forecast, CliError> {
        let memory = &planned.memory;
        let token_bytes = Thinker::token_bytes(&**self.source).map_err(EngineError::from)?;
        let sparse = held.shape.layers.len();
        let work = TokenWork {
            resident_bytes: token_bytes,
            expert_bytes: memory.slot_bytes,
            layers: sparse,
            capacity_bytes: held.capacity_bytes(memory.pool_bytes),
        };
        let recorded = self.routing.as_ref().map(ForcedRouting::routes);
        let length = Length {
            prompt: recorded.map_or(PROMPT_TOKENS, |routes| routes.prompt_tokens),
            answer: self.answer_tokens,
        };
        let length = length.within(memory.context_tokens);
        let eviction: EvictionPolicy = self.options.mind.eviction;
        let forecast = |routes| Forecast::new(routes, length, eviction, &work, rates);
        Ok(match recorded {
            Some(routes) => forecast(routes),
            None => {
                let experts = self.source.config().thinker.text.num_experts as u16;
                let tokens = [length.prompt, length.answer];
                forecast(&Locality::of_qwen3(experts).draw(sparse, self.k(), tokens, 0))
            }
        })
    }
}
