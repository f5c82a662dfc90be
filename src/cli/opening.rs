//! Opening a model to run it: the options that every running command shares, and the line that says which mode runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use sage_actors::cache::StateCliff;
use sage_actors::config::{EvictionPolicy, MindConfig, Named, RoutingPolicy};
use sage_actors::protocol::Module;

use super::names::by_name;
use super::{CliError, Printer};
use crate::core::{LimitOrigin, MOST_THREADS};
use crate::input::{KvPrecision, Limit};
use crate::reads::{ReadPurpose, kernel_read_bytes};
use crate::session::exact::{RoutingContradiction, resolve_mind};
use crate::session::{Learning, Session, SessionPlan};
use crate::settings::{Settings, Sources, keys};
use crate::store::{WeightSource, open_model};

/// Options of every command that has settings.
#[derive(Args, Clone, Debug, Default)]
pub struct SettingsArgs {
    /// Settings that differ from config/default.toml, as TOML; `sage config` shows what comes of them
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting, such as mind.budgets.wake.f=0.75; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl SettingsArgs {
    /// The layers that the command line names, and those of the process.
    pub fn sources(&self) -> Sources {
        Sources::of_process(self.config.clone(), self.set.clone())
    }

    /// The settings of all layers.
    pub fn load(&self) -> Result<Settings, CliError> {
        Ok(self.sources().load()?)
    }
}

/// Options of every command that runs a model.
#[derive(Args, Debug, Default)]
pub struct RunningArgs {
    /// Memory limit of the whole process: 512MiB, 6GiB, 25% (of everything resident), 64slots (experts), or none [default: none
    /// where everything fits into what the machine and its control groups have left, else that, less a reserve]
    #[arg(long, value_name = "SIZE")]
    pub limit: Option<Limit>,
    /// How keys and values are kept: f32 (as computed), bf16 (half the memory), q8 (a quarter) [default: f32 where the limit has
    /// room for that, else the first of the others that fits]
    #[arg(long, value_name = "PRECISION")]
    pub kv: Option<KvPrecision>,
    /// How routers choose experts [default: salient]
    #[arg(long, value_parser = by_name::<RoutingPolicy>())]
    pub routing: Option<RoutingPolicy>,
    /// Which expert makes room [default: horizon]
    #[arg(long, value_parser = by_name::<EvictionPolicy>())]
    pub eviction: Option<EvictionPolicy>,
    /// Run a store that lacks experts (`sage extract --experts`): what the router loses is counted as denied
    #[arg(long)]
    pub degrade: bool,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Threads of the arithmetic [default: all cores]; the result does not depend on it
    #[arg(long)]
    pub threads: Option<usize>,
}

/// Options of every command that learns.
#[derive(Args, Debug, Default)]
pub struct LedgerArgs {
    /// Trust ledger to go on from, and to keep in what is learned; made if it is not there [default: none, every run
    /// begins anew]
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}

impl LedgerArgs {
    /// Refuses a ledger for a run that would not use it.
    pub fn check(&self, exact: bool) -> Result<(), CliError> {
        if exact && self.ledger.is_some() {
            return Err(CliError::request(
                "--exact asks no trust and learns none: leave --ledger out, or --exact",
            ));
        }
        Ok(())
    }

    /// Where what is learned comes from, and where it is kept.
    pub fn learning(&self) -> Learning {
        self.ledger
            .clone()
            .map_or(Learning::Forgotten, Learning::Kept)
    }
}

/// Says that the last entry of a log was not whole.
pub fn say_torn(bytes: u64, printer: &Printer) {
    if bytes > 0 {
        printer.warn(format_args!(
            "the ledger's log ends in {bytes} bytes of an entry that was not finished; they are left out"
        ));
    }
}

/// What a running command asks for, from every layer of settings and its own options.
pub struct RunningSettings {
    /// All settings.
    pub settings: Settings,
    /// The mind of them, as the command asks for it.
    pub mind: MindConfig,
}

impl RunningArgs {
    /// The settings with the command's own options over them, of which `say` tells those that not every command has; what is
    /// `exact`, by the name of the option or the command that asks for it, holds the mind to the reference.
    pub fn resolve(
        &self,
        exact: Option<&str>,
        say: impl FnOnce(&mut Sources),
    ) -> Result<RunningSettings, CliError> {
        let mut sources = self.settings.sources();
        sources.option(keys::LIMIT, "--limit", self.limit);
        sources.option(keys::KV_PRECISION, "--kv", self.kv);
        say(&mut sources);
        let settings = sources.load()?;
        let mind = self.mind(&settings, exact)?;
        Ok(RunningSettings { settings, mind })
    }

    fn mind(&self, settings: &Settings, exact: Option<&str>) -> Result<MindConfig, CliError> {
        let contradiction = |asked_for: &str| inexact(exact, asked_for);
        let mut mind = mind_of(settings, exact)?;
        match (exact, self.routing) {
            (Some(_), Some(RoutingPolicy::Sage | RoutingPolicy::Salient)) => {
                return Err(contradiction("--routing"));
            }
            (Some(_), _) => {}
            (None, Some(routing)) => mind.routing = routing,
            (None, None) => {}
        }
        if self.degrade && mind.routing == RoutingPolicy::Exact {
            return Err(CliError::request(
                "exact routing does without no expert: leave --degrade out, or the exactness",
            ));
        }
        match self.eviction {
            // Its own settings may have been set.
            Some(eviction) if eviction.name() != mind.eviction.name() => mind.eviction = eviction,
            _ => {}
        }
        Ok(mind)
    }

    /// Sets the number of threads; call once. Where none is given they are started as the model is opened, so that its memory
    /// is planned without them.
    pub fn set_threads(&self) -> Result<(), CliError> {
        match self.threads {
            Some(threads) if !(1..=MOST_THREADS).contains(&threads) => Err(CliError::request(
                format!("--threads is {threads}; expected 1 to {MOST_THREADS}"),
            )),
            Some(threads) => start_threads(Some(threads)),
            None => Ok(()),
        }
    }
}

/// The mind and the limit of an instrument that compares: without a limit in the options or the settings there is none, and
/// none is chosen, so that what is compared is compared alike on every machine.
pub fn of_instrument(
    settings: &SettingsArgs,
    threads: Option<usize>,
    limit: Option<Limit>,
) -> Result<(MindConfig, Limit), CliError> {
    let running = RunningArgs {
        settings: settings.clone(),
        threads,
        ..RunningArgs::default()
    };
    running.set_threads()?;
    let resolved = running.resolve(None, |_| ())?;
    let limit = limit.or(resolved.settings.session.limit);
    Ok((resolved.mind, limit.unwrap_or(Limit::None)))
}

/// Refuses the value of an option that is below the least that makes sense.
pub fn at_least(option: &str, value: usize, least: usize) -> Result<(), CliError> {
    match value < least {
        true => Err(CliError::request(format!(
            "--{option} is {value}; expected at least {least}"
        ))),
        false => Ok(()),
    }
}

/// The mind of the settings; what is `exact`, by the name of the option or the command that asks for it, holds it to the reference.
pub fn mind_of(settings: &Settings, exact: Option<&str>) -> Result<MindConfig, CliError> {
    let resolved = resolve_mind(settings, exact.is_some());
    resolved.map_err(|RoutingContradiction| inexact(exact, "--set mind.routing"))
}

/// Another routing was `asked_for` beside what is `exact`.
fn inexact(exact: Option<&str>, asked_for: &str) -> CliError {
    let exact = exact.unwrap_or("exactness");
    let or = match exact.starts_with("--") {
        true => format!(", or {exact}"),
        false => String::new(),
    };
    CliError::request(format!("{exact} routes exactly: leave {asked_for} out{or}"))
}

/// Starts the threads of the arithmetic: `threads` of them, or as many as there are cores.
pub fn start_threads(threads: Option<usize>) -> Result<(), CliError> {
    crate::kernels::threads::start(threads).map_err(|error| {
        CliError::Failed(anyhow::anyhow!(
            "cannot start the threads of the arithmetic: {error}: let the process have more threads, or try --threads 1"
        ))
    })
}

/// Opens the model in `folder`, whatever it is.
pub fn source(folder: &Path) -> Result<Arc<dyn WeightSource>, CliError> {
    // Of the program itself, as far as the system had to fetch it, and of what was named beside the model.
    let before = kernel_read_bytes().unwrap_or(0);
    let source: Arc<dyn WeightSource> = Arc::from(open_model(folder)?);
    source.reads().add(ReadPurpose::Other, before);
    Ok(source)
}

/// The runtime on which engine and actors live: one thread, where an ask costs least.
pub fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    runtime_of(0)
}

/// A runtime whose actors live on `threads` threads of their own; 0: on the engine's.
pub fn runtime_of(threads: usize) -> Result<tokio::runtime::Runtime, CliError> {
    let mut builder = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 0 {
        builder.worker_threads(threads.min(MOST_THREADS));
    }
    builder
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(error.into()))
}

/// Opens a session with progress on a terminal; says which limit was chosen and why, where a pool holds less than one token
/// uses, and that a ledger's log was not whole.
pub async fn session(
    source: Arc<dyn WeightSource>,
    plan: SessionPlan,
    printer: &Printer,
) -> Result<Session, CliError> {
    for note in source.notes() {
        printer.note(format_args!("note: {note}"));
    }
    let layers = source.config().thinker.text.num_hidden_layers as u64;
    let bar = printer.steps("loading layers", layers);
    let eviction = plan.engine.mind.eviction;
    let machine = plan.engine.limit_policy.machine();
    for garbled in machine.into_iter().flat_map(|machine| &machine.garbled) {
        printer.warn(format_args!("{garbled}; it counts for no limit"));
    }
    let progress = |done, _| bar.set_position(done as u64);
    let session = Session::open(source, plan, progress).await?;
    bar.finish_and_clear();
    let engine = session.engine();
    if let Some(line) = engine.limit_origin().line(&engine.plan) {
        match engine.limit_origin() {
            LimitOrigin::Fits => printer.aside(line),
            _ => printer.note(line),
        }
    }
    match cycle_cliff(engine.cliffs(), eviction) {
        Some(text) if eviction == EvictionPolicy::Lru => printer.warn(text),
        Some(text) => printer.note(format_args!("note: {text}")),
        None => {}
    }
    say_torn(session.torn_ledger_bytes(), printer);
    Ok(session)
}

/// Which states' pools hold fewer experts than one token uses, and what that means; none if there is no such state.
fn cycle_cliff(cliffs: &[StateCliff], eviction: EvictionPolicy) -> Option<String> {
    let lru = eviction == EvictionPolicy::Lru;
    let below = cliffs.iter().filter(|at| at.cliff.is_below()).map(|at| {
        let state = match at.module {
            Module::Thinker => format!("{:?}", at.state).to_lowercase(),
            Module::Talker => format!("{:?} while speaking", at.state).to_lowercase(),
        };
        let (holds, uses) = (at.cliff.capacity_experts, at.cliff.token_experts);
        let hits = match at.cliff.lru_hits_per_layer_most {
            0 if lru => ": exactly 0 hits".to_owned(),
            most if lru => format!(": at most {most} hits in {}", at.k),
            _ => String::new(),
        };
        format!("{state} {holds} of {uses}{hits}")
    });
    let below: Vec<String> = below.collect();
    if below.is_empty() {
        return None;
    }
    let so = match eviction {
        EvictionPolicy::Lru => "; another --eviction, or a higher --limit, finds some",
        EvictionPolicy::Trust => "; trust finds as little as lru until the ledger tells them apart",
        _ => "; lru would find few or none",
    };
    let below = below.join(", ");
    Some(format!(
        "the pool holds fewer experts than one token uses ({below}){so}"
    ))
}
