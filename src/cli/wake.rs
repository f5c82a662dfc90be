//! `sage wake`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use sage_actors::protocol::{Module, State};
use serde::Serialize;

use super::opening::{self, LedgerArgs, RunningArgs, RunningSettings};
use super::template::TemplateOptions;
use super::text::token_ids;
use super::{CliError, CommandOutcome, Printer, Table, human_bytes};
use crate::checkpoint::Component;
use crate::core::EngineError;
use crate::core::closeup::{ANSWER_TOKENS, Belief, Closeup, CloseupRequest};
use crate::core::memory::resident_set;
use crate::core::request::{Request, RequestContent, Stop};
use crate::core::speech::{CollectedTurn, SPEAKER};
use crate::cpu::voice::can_speak;
use crate::events::RunMode;
use crate::sensors::Machine;
use crate::session::opening::EngineOptions;
use crate::session::{Session, SessionPlan};
use crate::store::WeightSource;
use crate::text::{Message, Text};

const EXAMPLES: &str = "Examples:
  sage wake MODEL                                   four experts of the first sparse layer, closely
  sage wake MODEL --state CRISIS --layer 3 --prompt 'Where does Helen live?'
  sage wake MODEL --component talker --json
  sage wake MODEL --prompt-tokens '17 4 250'        a model without tokenizer

The prompt runs up to the layer as the state has it; there its last token's experts are chosen, read from disk and run
one by one. Times, weights, the output and what is believed are measured; bytes are the model's own format on both
sides. A talker's layer is looked at behind an answer of 8 tokens to the prompt. Wake takes half of the experts that a
token was trained with, focus all, crisis (threat) twice as many; depletion, the other crisis, a quarter.";

/// Where nothing else is asked.
const PROMPT: &str = "Wake up. What do you hear and see?";

/// Arguments of `sage wake`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct WakeArgs {
    /// Checkpoint or store
    #[arg(value_parser = crate::cli::models::model_argument())]
    model: PathBuf,
    /// The state whose rules hold; upper case is accepted
    #[arg(long, value_enum, ignore_case = true, default_value_t = StateName::Wake)]
    state: StateName,
    /// Whose layer
    #[arg(long, value_enum, ignore_case = true, default_value_t = ModuleName::Thinker)]
    component: ModuleName,
    /// The layer, by its number in the checkpoint [default: the first that has experts]
    #[arg(long)]
    layer: Option<usize>,
    /// What is read; its last token is looked at
    #[arg(long, default_value = PROMPT)]
    prompt: String,
    /// Token ids in place of a prompt
    #[arg(long, conflicts_with_all = ["prompt", "raw"])]
    prompt_tokens: Option<String>,
    /// Read the prompt as it is, without the chat template
    #[arg(long)]
    raw: bool,
    /// Whose voice, for the talker
    #[arg(long, value_name = "NAME", default_value = SPEAKER)]
    speaker: String,
    #[command(flatten)]
    template: TemplateOptions,
    #[command(flatten)]
    running: RunningArgs,
    #[command(flatten)]
    learning: LedgerArgs,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// States by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StateName {
    Wake,
    Focus,
    Rest,
    Dream,
    /// The crisis that spends: an urgent event outside
    #[value(
        alias = "crisis",
        help = "The crisis that spends; `crisis` means this one"
    )]
    Threat,
    /// The crisis that sheds load
    Depletion,
}

impl From<StateName> for State {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Wake => Self::Wake,
            StateName::Focus => Self::Focus,
            StateName::Rest => Self::Rest,
            StateName::Dream => Self::Dream,
            StateName::Threat => Self::Threat,
            StateName::Depletion => Self::Depletion,
        }
    }
}

/// Modules by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModuleName {
    Thinker,
    Talker,
}

impl From<ModuleName> for Module {
    fn from(name: ModuleName) -> Self {
        match name {
            ModuleName::Thinker => Self::Thinker,
            ModuleName::Talker => Self::Talker,
        }
    }
}

/// Keys of the report whose numbers were measured in this run; the others follow from the model and the settings.
const MEASURED: [&str; 9] = [
    "experts[].weight",
    "experts[].load_ms",
    "experts[].forward_ms",
    "experts[].trust_before",
    "experts[].trust_after",
    "router",
    "output",
    "resident_expert_bytes",
    "peak_rss_bytes",
];

#[derive(Serialize)]
struct WakeReport<'a> {
    mode: &'a RunMode,
    #[serde(flatten)]
    seen: &'a Closeup,
    token_text: Option<&'a str>,
    rss_bytes: u64,
    peak_rss_bytes: u64,
    measured: [&'static str; 9],
}

/// Runs the command.
///
/// # Errors
/// If the layer has no experts or is not there, the talker cannot be looked at, or the model cannot be run.
pub fn run(args: &WakeArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    args.running.set_threads()?;
    let source = opening::source(&args.model)?;
    let module = Module::from(args.component);
    let layer = args.layer_of(&*source)?;
    let (text, tokens) = args.read(&*source)?;
    let RunningSettings { settings, mut mind } = args.running.resolve(None, |_| ())?;
    let state = State::from(args.state);
    let budget = mind.budgets[state];
    let speaks = module == Module::Talker;
    if speaks && !budget.talker {
        let name = format!("{state:?}").to_lowercase();
        return Err(CliError::request(format!(
            "--component talker --state {name}: the talker sleeps in {name}; it is awake in {}",
            awake(&mind.budgets)
        )));
    }
    mind.hold = Some(budget);
    mind.hold_state = Some(state);
    let answer = if speaks { ANSWER_TOKENS } else { 0 };
    let options = EngineOptions {
        context_tokens: tokens.len() + answer,
        mind,
        degrade: args.running.degrade,
        speaks,
        // Nothing is said: the talker only hears.
        codes: 2,
        ..EngineOptions::default()
    }
    .limited(settings.session.limit, Machine::of_process());
    let request = CloseupRequest {
        said: None,
        module,
        layer,
        tokens,
        speaker: args.speaker.clone(),
    };
    let plan = SessionPlan {
        learning: args.learning.learning(),
        ..SessionPlan::of_engine(options)
    };
    opening::runtime()?.block_on(look(source, plan, request, text, printer))
}

/// Opens the session, looks at the layer and shows what was seen.
async fn look(
    source: Arc<dyn WeightSource>,
    plan: SessionPlan,
    mut request: CloseupRequest,
    text: Option<Text>,
    printer: &Printer,
) -> Result<CommandOutcome, CliError> {
    let mut session = opening::session(source, plan, printer).await?;
    let mode = session.mode().clone();
    printer.note(format_args!("mode: {}", mode.text));
    if request.module == Module::Talker {
        request.said = Some(answered(&mut session, &request.tokens).await?);
    }
    let seen = session.engine_mut().look_closely(&request).await;
    // With everything that ran still in memory.
    let (rss_bytes, peak_rss_bytes) = resident_set();
    let seen = match seen {
        Ok(seen) => {
            session.close().await?;
            seen
        }
        Err(error) => {
            session.abort().await;
            return Err(error.into());
        }
    };
    let token_text = match (&text, seen.token) {
        (Some(text), Some(token)) => Some(text.decode(&[token]).map_err(EngineError::from)?),
        _ => None,
    };
    let report = WakeReport {
        mode: &mode,
        seen: &seen,
        token_text: token_text.as_deref(),
        rss_bytes,
        peak_rss_bytes,
        measured: MEASURED,
    };
    if printer.is_json() {
        printer.json(&report)?;
    } else {
        show(&report, printer)?;
    }
    Ok(CommandOutcome::Done)
}

/// What the talker hears of a short answer to the prompt.
async fn answered(session: &mut Session, tokens: &[u32]) -> Result<CollectedTurn, CliError> {
    let content = RequestContent::Tokens {
        media: Vec::new(),
        tokens: tokens.to_vec(),
    };
    let request = Request {
        max_tokens: Some(ANSWER_TOKENS),
        // An answer of fewer than two tokens has nothing to be heard.
        stop: Stop::Never,
        unmeasured: true,
        ..Request::new("wake", content)
    };
    let (answer, _) = session.answer(request, None, &mut |_| true).await?;
    Ok(session.last_turn(answer.prompt_tokens).unwrap_or_default())
}

impl WakeArgs {
    /// The prompt's tokens, and the tokenizer where one was used.
    fn read(&self, source: &dyn WeightSource) -> Result<(Option<Text>, Vec<u32>), CliError> {
        if let Some(ids) = &self.prompt_tokens {
            return Ok((None, token_ids(ids)?));
        }
        let text = self.template.text(source).map_err(|error| {
            CliError::request(format!(
                "{error}\n  hint: a model without tokenizer is looked at with --prompt-tokens '17 4 250'"
            ))
        })?;
        let tokens = if self.raw {
            text.encode_untrusted(&self.prompt)
        } else {
            text.prompt_tokens(&[Message::new("user", self.prompt.as_str())], "")
        };
        Ok((Some(text), tokens.map_err(EngineError::from)?))
    }

    /// The layer that is asked for, with experts in it; else the first one.
    fn layer_of(&self, source: &dyn WeightSource) -> Result<usize, CliError> {
        let component = match self.component {
            ModuleName::Thinker => Component::Thinker,
            ModuleName::Talker => Component::Talker,
        };
        let config = source.config();
        let Some(text) = component.text_config(config) else {
            return Err(CliError::request(format!(
                "--component {component}: this model has no {component}, it answers in text alone; expected --component thinker"
            )));
        };
        if component == Component::Talker && !can_speak(source) {
            return Err(CliError::request(
                "--component talker: the model does not speak here, for tensors of its talker or of code2wav are not in this folder; extract them with `--components thinker,talker,code2wav`, or expect --component thinker",
            ));
        }
        let layers = text.num_hidden_layers;
        let mut sparse = (0..layers).filter(|layer| component.is_sparse(config, *layer));
        let Some(layer) = self.layer else {
            return sparse.next().ok_or_else(|| {
                CliError::request(format!(
                    "every layer of this model's {component} is dense: it has no experts"
                ))
            });
        };
        if layer >= layers {
            return Err(CliError::request(format!(
                "--layer {layer}: this model's {component} has {layers} layers, expected 0 to {}",
                layers.saturating_sub(1)
            )));
        }
        if !component.is_sparse(config, layer) {
            let sparse: Vec<String> = sparse.map(|layer| layer.to_string()).collect();
            return Err(CliError::request(format!(
                "--layer {layer}: this layer of the {component} is dense, it has no experts; expected one of {}",
                sparse.join(", ")
            )));
        }
        Ok(layer)
    }
}

/// The states in which the talker is awake, in words.
fn awake(budgets: &sage_actors::config::Budgets) -> String {
    let states = State::ALL.iter().filter(|state| budgets[**state].talker);
    let names: Vec<String> = states
        .map(|state| format!("{state:?}").to_lowercase())
        .collect();
    names.join(", ")
}

fn show(report: &WakeReport<'_>, printer: &Printer) -> Result<(), CliError> {
    let seen = report.seen;
    let state = format!("{:?}", seen.state).to_lowercase();
    printer.line(format_args!(
        "Component: {}, layer {}\nState: {state}, at most {} of {} experts a token (trained with {})",
        seen.component, seen.layer, seen.k, seen.experts_of_layer, seen.k_trained
    ))?;
    let of = match (seen.token, report.token_text) {
        (Some(id), Some(text)) => format!("; its last token is {id}, {text:?}"),
        (Some(id), None) => format!("; its last token is {id}"),
        (None, _) => " that the talker hears of the turn".to_owned(),
    };
    printer.line(format_args!("Prompt: {} rows{of}\n", seen.prompt_rows))?;
    show_experts(report, printer)?;
    show_measured(report, printer)?;
    show_memory(report, printer)
}

/// The experts that the router chose, and what is believed of them.
fn show_experts(report: &WakeReport<'_>, printer: &Printer) -> Result<(), CliError> {
    let seen = report.seen;
    printer.line("Experts chosen, by the router's weight (measured):")?;
    let mut table = Table::new([
        "expert",
        "weight",
        "load ms",
        "forward ms",
        "trust before",
        "trust after",
        "(convergence, stability, efficiency)",
    ]);
    for chosen in &seen.experts {
        let load = chosen
            .load_ms
            .map_or("in memory".to_owned(), |ms| format!("{ms:.2}"));
        let trust = |belief: &Option<Belief>| {
            belief.map_or("-".to_owned(), |belief| format!("{:.3}", belief.trust))
        };
        let parts = chosen.trust_after.or(chosen.trust_before).map(|belief| {
            format!(
                "({:.3}, {:.3}, {:.3})",
                belief.convergence, belief.stability, belief.efficiency
            )
        });
        table.row([
            chosen.expert.to_string(),
            format!("{:.4}", chosen.weight),
            load,
            format!("{:.3}", chosen.forward_ms),
            trust(&chosen.trust_before),
            trust(&chosen.trust_after),
            parts.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    printer.table(&table)?;
    if seen
        .experts
        .iter()
        .all(|chosen| chosen.trust_after.is_none())
    {
        printer.line(
            "Nothing judges what the talker's experts say, so that trust in them does not change.",
        )?;
    }
    if seen.denied_mass > 0.0 {
        printer.line(format_args!(
            "Not in this store, or not admitted: {:.1} % of the router's mass.",
            seen.denied_mass * 100.0
        ))?;
    }
    Ok(())
}

/// What one run of the layer took, and what came of it.
fn show_measured(report: &WakeReport<'_>, printer: &Printer) -> Result<(), CliError> {
    let seen = report.seen;
    let reads = if seen.direct_reads {
        "read past the page cache"
    } else {
        "this file system has no direct reads: the page cache may have helped"
    };
    printer.line(format_args!("Loads: {reads} (measured)"))?;
    printer.line(format_args!(
        "Router: {:.3} ms, its product {:.3} and the choice {:.3} (measured)",
        seen.router.total_ms, seen.router.product_ms, seen.router.choice_ms
    ))?;
    printer.line(format_args!(
        "Memory in use: {} of experts up to this layer, the process {}, at its peak {} (measured)",
        human_bytes(seen.resident_expert_bytes),
        human_bytes(report.rss_bytes),
        human_bytes(report.peak_rss_bytes)
    ))?;
    let [rows, width] = seen.output.shape;
    printer.line(format_args!(
        "Output of the experts: shape [{rows}, {width}], mean {:+.6}, deviation {:.6} (measured)\n",
        seen.output.mean, seen.output.deviation
    ))
}

/// What a choice of experts saves of memory.
fn show_memory(report: &WakeReport<'_>, printer: &Printer) -> Result<(), CliError> {
    let seen = report.seen;
    let memory = &seen.memory;
    printer.line(format_args!(
        "Memory of this layer's experts in {}, {} each: {} chosen {}, all {} {}: {:.1} % less",
        seen.format,
        human_bytes(seen.expert_bytes),
        memory.chosen,
        human_bytes(memory.chosen_bytes),
        memory.experts,
        human_bytes(memory.all_bytes),
        memory.reduction_percent
    ))?;
    let memory = &seen.module_memory;
    printer.line(format_args!(
        "Of all {} sparse layers at this k: {} experts {}, all {} {}: {:.1} % less",
        memory.layers,
        memory.chosen,
        human_bytes(memory.chosen_bytes),
        memory.experts,
        human_bytes(memory.all_bytes),
        memory.reduction_percent
    ))
}
