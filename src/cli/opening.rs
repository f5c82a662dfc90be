//! Opening a model to run it: the options that every running command shares, and the line that says which mode runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use sage_actors::MindError;
use sage_actors::cache::StateCliff;
use sage_actors::config::{EvictionPolicy, MindConfig, RoutingPolicy};
use sage_actors::protocol::Module;

use super::{CliError, Printer};
use crate::core::{Engine, EngineError, Limit, LimitOrigin, MOST_THREADS};
use crate::events::Mode;
use crate::goldens::hold_to_reference;
use crate::ledger::About;
use crate::reads::{ReadPurpose, kernel_read_bytes};
use crate::session::go_on_from;
pub use crate::session::mode::mode;
use crate::session::opening::{EngineOptions, open};
use crate::settings::{Origin, Settings, SettingsError, Sources};
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
    /// The settings of all layers.
    pub fn load(&self) -> Result<Settings, CliError> {
        Ok(Sources::of_process(self.config.clone(), self.set.clone()).load()?)
    }
}

/// Options of every command that runs a model.
#[derive(Args, Debug, Default)]
pub struct RunningArgs {
    /// Memory limit of the whole process: 512MiB, 6GiB, 25% (of everything resident), 64slots (experts), or none [default: none
    /// where everything fits into what the machine and its control groups have left, else that, less a reserve]
    #[arg(long, value_name = "SIZE")]
    pub limit: Option<Limit>,
    /// How routers choose experts [default: salient]
    #[arg(long, value_enum)]
    pub routing: Option<Routing>,
    /// Which expert makes room [default: horizon]
    #[arg(long, value_enum)]
    pub eviction: Option<Eviction>,
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

    /// Puts the ledger in use, if one is asked for, and into the line that says which mode runs. Call before the first
    /// step. Answers what the ledger is, if there is one.
    pub async fn begin(
        &self,
        engine: &mut Engine,
        mode: &mut Mode,
        printer: &Printer,
    ) -> Result<Option<About>, CliError> {
        let Some(path) = &self.ledger else {
            return Ok(None);
        };
        let (about, torn_bytes) = go_on_from::<CliError>(engine, mode, path).await?;
        say_torn(torn_bytes, printer);
        Ok(Some(about))
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

/// Routing policies by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Routing {
    /// The trained top-k
    Exact,
    /// Logit, novelty, trust and affinity
    Sage,
    /// The best are sacred, the rest is biased by residency and salience
    Salient,
}

/// Eviction policies by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Eviction {
    /// Least recently used
    Lru,
    /// Least often used
    Lfu,
    /// Old, little trusted, unsteady
    Trust,
    /// Farthest expected next use
    Horizon,
    /// As horizon, with a chance of use learned while running
    Learned,
}

impl RunningArgs {
    /// The mind that the options ask for; `exact` holds it to the reference.
    pub fn mind(&self, exact: bool) -> Result<MindConfig, CliError> {
        let settings = self.settings.load()?;
        let mut mind = settings.mind.clone();
        // A file may say how to route in general; beside --exact on one command line it is a contradiction.
        let routing = settings.get("mind.routing").map(|set| set.origin.clone());
        if exact
            && mind.routing != RoutingPolicy::Exact
            && matches!(routing, Some(Origin::CommandLine { .. }))
        {
            return Err(CliError::request(
                "--exact routes exactly: leave --set mind.routing out, or --exact",
            ));
        }
        match (exact, self.routing) {
            (true, Some(Routing::Sage | Routing::Salient)) => {
                return Err(CliError::request(
                    "--exact routes exactly: leave --routing out, or --exact",
                ));
            }
            (true, _) => hold_to_reference(&mut mind),
            (false, Some(Routing::Exact)) => mind.routing = RoutingPolicy::Exact,
            (false, Some(Routing::Sage)) => mind.routing = RoutingPolicy::Sage,
            (false, Some(Routing::Salient)) => mind.routing = RoutingPolicy::Salient,
            (false, None) => {}
        }
        if self.degrade && mind.routing == RoutingPolicy::Exact {
            return Err(CliError::request(
                "exact routing does without no expert: leave --degrade out, or the exactness",
            ));
        }
        match self.eviction {
            Some(Eviction::Lru) => mind.eviction = EvictionPolicy::Lru,
            // Its half-life may have been set.
            Some(Eviction::Horizon) if matches!(mind.eviction, EvictionPolicy::Horizon { .. }) => {}
            Some(Eviction::Lfu) => mind.eviction = EvictionPolicy::Lfu,
            Some(Eviction::Trust) => mind.eviction = EvictionPolicy::Trust,
            Some(Eviction::Learned) => mind.eviction = EvictionPolicy::Learned,
            Some(Eviction::Horizon) => mind.eviction = EvictionPolicy::default(),
            None => {}
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

/// Opens the engine with progress on a terminal; says which limit was chosen and why, and where a pool holds less than one token uses.
pub async fn engine(
    source: Arc<dyn WeightSource>,
    options: EngineOptions,
    printer: &Printer,
) -> Result<Engine, CliError> {
    for note in source.notes() {
        printer.note(format_args!("note: {note}"));
    }
    let layers = source.config().thinker.text.num_hidden_layers as u64;
    let bar = printer.steps("loading layers", layers);
    let eviction = options.mind.eviction;
    let machine = options.limit_policy.machine();
    for garbled in machine.into_iter().flat_map(|machine| &machine.garbled) {
        printer.warn(format_args!("{garbled}; it counts for no limit"));
    }
    let engine = open(source, options, |done, _| bar.set_position(done as u64)).await?;
    bar.finish_and_clear();
    if let Some(line) = engine.limit_origin.line(&engine.plan) {
        match engine.limit_origin {
            LimitOrigin::Fits => printer.aside(line),
            _ => printer.note(line),
        }
    }
    match cycle_cliff(&engine.cliffs, eviction) {
        Some(text) if eviction == EvictionPolicy::Lru => printer.warn(text),
        Some(text) => printer.note(format_args!("note: {text}")),
        None => {}
    }
    Ok(engine)
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
        EvictionPolicy::Lfu | EvictionPolicy::Horizon { .. } | EvictionPolicy::Learned => {
            "; lru would find few or none"
        }
    };
    let below = below.join(", ");
    Some(format!(
        "the pool holds fewer experts than one token uses ({below}){so}"
    ))
}

impl From<SettingsError> for CliError {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Schema(_) => CliError::Failed(error.into()),
            error => CliError::Request(error.into()),
        }
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => error.into(),
            EngineError::Load(crate::model::load::LoadError::Source(error)) => error.into(),
            EngineError::Mind(error @ MindError::Config(_)) => CliError::Request(error.into()),
            error if error.is_request() => CliError::Request(error.into()),
            error => CliError::Failed(error.into()),
        }
    }
}
