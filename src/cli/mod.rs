//! The command line: arguments, one file a command, and the [`Printer`] that decides what goes where.

mod bench;
mod chat;
mod config;
mod doctor;
mod encode;
mod error;
mod eval;
mod extract;
mod findings;
mod generate;
mod home;
mod inspect;
mod listening;
mod live;
mod media;
mod memory;
mod models;
mod names;
mod opening;
mod plan;
mod price;
mod printable;
mod printer;
mod pull;
mod recall;
mod recording;
mod replay;
mod report;
mod run;
mod salience;
mod sampling;
mod scenario;
mod sensors;
mod speaking;
mod synth;
mod template;
mod text;
mod trial;
mod trust;
mod verify;
mod version;
mod wake;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use crate::input::{Size, SizeError, human_bytes};
pub use error::{CliError, CommandOutcome};
use listening::ListenArgs;
pub use printer::{Printer, Table};

#[derive(Parser)]
#[command(
    name = "sage",
    version = version::short(),
    long_version = version::long(),
    about = "Runs mixture-of-experts models on machines smaller than the model",
    after_help = "Examples:
  sage generate MODEL --prompt 'What is 21 + 3?' --limit 64slots --timeline run.json   what took how long, for ui.perfetto.dev
  sage run SCENARIO --log info,read=trace     states, answers and limits as they come, and every read of an expert

Exit codes: 0 done; 1 it ran and the answer is no; 2 the request is wrong; 3 the run failed.",
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    listen: ListenArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what a model consists of, what is missing, and what memory it needs
    Inspect(inspect::InspectArgs),
    /// Extract a checkpoint into a store of single experts, or re-hash a store
    Extract(extract::ExtractArgs),
    /// Say what a model would need and do under a memory limit, before anything runs
    Plan(plan::PlanArgs),
    /// Say what of this machine limits a run, and what to do
    Doctor(doctor::DoctorArgs),
    /// Fetch a model from a hub, straight into a store
    Pull(pull::PullArgs),
    /// Show the models that were pulled; every MODEL argument takes their names
    List(models::ListArgs),
    /// Show where a model that was pulled came from
    Show(models::ShowArgs),
    /// Remove a model that was pulled
    Rm(models::RmArgs),
    /// Answer one prompt
    Generate(generate::GenerateArgs),
    /// Hold a conversation
    Chat(chat::ChatArgs),
    /// Look closely at one state: experts chosen in a layer, what each takes, and what of the layer is not needed
    Wake(wake::WakeArgs),
    /// Embed sounds and pictures with the towers alone; the decoder is neither loaded nor run
    Encode(encode::EncodeArgs),
    /// Compare a model with goldens of the reference implementation
    Verify(verify::VerifyArgs),
    /// Play a scenario
    Run(run::RunArgs),
    /// Show, export or import what is believed of every expert
    Trust(trust::TrustArgs),
    /// Check scenarios without running them
    Scenario(scenario::ScenarioArgs),
    /// Show the machine's own sensors: what is found, what it reads, what is left
    Sensors(sensors::SensorsArgs),
    /// Show every setting, its value and where it comes from
    Config(config::ConfigArgs),
    /// Measure what states, policies and limits cost in quality, against exact routing
    Eval(eval::EvalArgs),
    /// Find what every expert is worth on a text, and whether that holds on other text
    Price(price::PriceArgs),
    /// A process of `sage eval`
    #[command(hide = true)]
    EvalWorker(eval::WorkerArgs),
    /// Repeat a recorded run and compare, or ask what another cache policy would have done with recorded routing
    Replay(replay::ReplayArgs),
    /// Measure whether salience tells a change of domain from the run of a text
    Salience(salience::SalienceArgs),
    /// Measure how much of what was told once is remembered, beside simpler rules
    Recall(recall::RecallArgs),
    /// Measure how fast prompts are read and answered
    Bench(bench::BenchArgs),
    /// Make a store of random weights at real shapes, or a checkpoint of headers only
    Synth(synth::SynthArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let Cli { listen, command } = Cli::parse();
    let is_worker = matches!(command, Command::EvalWorker(_));
    let listening = match listen.begin(is_worker) {
        Ok(listening) => listening,
        Err(error) => return failed(&error, &Printer::new(false)),
    };
    let (result, printer) = match command {
        Command::Inspect(args) => with(args.json, |printer| inspect::run(&args, printer)),
        Command::Extract(args) => with(args.json, |printer| extract::run(&args, printer)),
        Command::Plan(args) => with(args.json, |printer| plan::run(&args, printer)),
        Command::Doctor(args) => with(args.json, |printer| doctor::run(&args, printer)),
        Command::Pull(args) => with(args.json, |printer| pull::run(&args, printer)),
        Command::List(args) => with(args.json, |printer| models::list(&args, printer)),
        Command::Show(args) => with(args.json, |printer| models::show(&args, printer)),
        Command::Rm(args) => with(args.json, |printer| models::rm(&args, printer)),
        Command::Generate(args) => with(args.json, |printer| generate::run(&args, printer)),
        Command::Chat(args) => with(args.json, |printer| chat::run(&args, printer)),
        Command::Wake(args) => with(args.json, |printer| wake::run(&args, printer)),
        Command::Encode(args) => with(args.json, |printer| encode::run(&args, printer)),
        Command::Verify(args) => with(args.json, |printer| verify::run(&args, printer)),
        Command::Run(args) => with(args.json, |printer| run::run(&args, printer)),
        Command::Trust(args) => with(args.json(), |printer| trust::run(&args, printer)),
        Command::Scenario(args) => with(args.json(), |printer| scenario::run(&args, printer)),
        Command::Sensors(args) => with(args.json, |printer| sensors::run(&args, printer)),
        Command::Config(args) => with(args.json, |printer| config::run(&args, printer)),
        Command::Eval(args) => with(args.json, |printer| eval::run(&args, &listen, printer)),
        Command::Price(args) => with(args.json, |printer| price::run(&args, printer)),
        Command::EvalWorker(args) => with(true, |_| eval::work(&args)),
        Command::Replay(args) => with(args.json, |printer| replay::run(&args, printer)),
        Command::Salience(args) => with(args.json, |printer| salience::run(&args, printer)),
        Command::Recall(args) => with(args.json, |printer| recall::run(&args, printer)),
        Command::Bench(args) => with(args.json, |printer| bench::run(&args, printer)),
        Command::Synth(args) => with(args.json, |printer| synth::run(&args, printer)),
    };
    match (result, listening.finish(&printer)) {
        (Ok(outcome), Ok(())) => outcome.into(),
        (Ok(_), Err(error)) => failed(&error, &printer),
        (Err(error), unwritten) => {
            if let Err(unwritten) = unwritten {
                printer.error(&unwritten);
            }
            failed(&error, &printer)
        }
    }
}

fn failed(error: &CliError, printer: &Printer) -> ExitCode {
    printer.error(error);
    error.exit_code()
}

/// Runs one command with the printer that its options ask for.
fn with(
    json: bool,
    run: impl FnOnce(&Printer) -> Result<CommandOutcome, CliError>,
) -> (Result<CommandOutcome, CliError>, Printer) {
    let printer = Printer::new(json);
    (run(&printer), printer)
}
