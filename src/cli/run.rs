//! `sage run`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::home;
use super::live::View;
use super::opening::{self, LedgerArgs, RunningArgs, RunningSettings};
use super::recording::RecordArgs;
use super::report::Destination;
use super::speaking::{SpeakFolderArgs, check_speaker};
use super::template::TemplateOptions;
use super::{CliError, CommandOutcome, Printer, Table, human_bytes, sensors};
use crate::events::{Event, Summary};
use crate::report::{Collector, ScenarioSummary};
use crate::scenario::{self, Scenario, Speak};
use crate::sensors::{Live, Machine};
use crate::session::opening::EngineOptions;
use crate::session::{SessionPlan, context_tokens};
use crate::settings::{Sources, keys};
use crate::store::WeightSource;
use crate::text::Text;
use crate::trace::SensorMode;

const EXAMPLES: &str = "Examples:
  sage run scenarios/wake-focus-crisis.toml
  sage run scenarios/wake-focus-crisis.toml --limit 40slots
  sage run SCENARIO --report out              what happened, as out/report.html and out/report.json
  sage run SCENARIO --model STORE --json
  sage run SCENARIO --ledger trust.redb       go on from what earlier runs learned
  sage run SCENARIO --live-sensors
  sage run SCENARIO --record run.trace        every input, decision and token; sage replay run.trace --verify

Without --model the model in the repository runs; its store is made in a cache folder at first use
(SAGE_CACHE, else XDG_CACHE_HOME/sage, else ~/.cache/sage). Exit code 1 says that an expectation is not met.";

/// Arguments of `sage run`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Scenario
    scenario: PathBuf,
    /// Checkpoint or store [default: the model in the repository]
    #[arg(value_parser = crate::cli::models::model_argument(), long)]
    model: Option<PathBuf>,
    /// Milliseconds that a tick is shown on a terminal; the run itself does not depend on it
    #[arg(long, default_value_t = 10)]
    pace: u16,
    /// Observe the machine's own sensors too, every sensors.every_ticks ticks; `sage sensors` shows them
    #[arg(long)]
    live_sensors: bool,
    /// With --live-sensors: folder that holds `proc` and `sys` [default: /]
    #[arg(long, value_name = "DIR", requires = "live_sensors")]
    sysfs: Option<PathBuf>,
    /// Write what happened as a page (report.html) and as data (report.json) into this folder
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    #[command(flatten)]
    template: TemplateOptions,
    #[command(flatten)]
    speaking: SpeakFolderArgs,
    #[command(flatten)]
    recording: RecordArgs,
    #[command(flatten)]
    running: RunningArgs,
    #[command(flatten)]
    learning: LedgerArgs,
    /// Report every event as one JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
pub fn run(args: &RunArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let script = Scenario::read(&args.scenario)?;
    args.running.set_threads()?;
    let destination = args.report.as_deref().map(Destination::prepare);
    let destination = destination.transpose()?;
    let folder = match &args.model {
        Some(folder) => folder.clone(),
        None => home::store_of_own_model(printer)?,
    };
    let source = opening::source(&folder)?;
    let text = args.template.text(&*source)?;
    let resolved = args
        .running
        .resolve(None, |sources| say(&script, sources))?;
    let mut live = match args.live_sensors {
        true => Some(sensors::live(
            args.sysfs.as_deref(),
            resolved.settings.sensors,
        )?),
        false => None,
    };
    args.check_voices(&script, &*source, printer)?;
    let plan = args.plan(&script, resolved, text, &*source)?;
    let mut collector = destination.as_ref().map(|_| {
        Collector::new(ScenarioSummary {
            name: script.name.clone(),
            description: script.description.clone(),
            ticks: script.ticks,
        })
    });
    let playing = args.play(
        &script,
        (source, plan),
        live.as_mut(),
        collector.as_mut(),
        printer,
    );
    let (summary, trouble) = opening::runtime()?.block_on(playing)?;
    // Nobody may be reading the output any more; who asked for a report still wants it.
    if let (Some(destination), Some(collector)) = (destination, collector) {
        destination.write(&collector.finish(), printer)?;
    }
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    if !printer.is_json() {
        table(printer, &summary)?;
    }
    Ok(if summary.expectations_failed == 0 {
        CommandOutcome::Done
    } else {
        CommandOutcome::No
    })
}

impl RunArgs {
    /// Refuses voices that the model does not have.
    fn check_voices(
        &self,
        script: &Scenario,
        source: &dyn WeightSource,
        printer: &Printer,
    ) -> Result<(), CliError> {
        self.speaking.check(source)?;
        let hint = "give an observation of the scenario the key `speak = true`";
        self.speaking.check_needed(script.speaks(), hint)?;
        for entry in &script.observe {
            if let Some(Speak::As(name)) = &entry.speak {
                let at = entry.at;
                check_speaker(source, name).map_err(|unknown| {
                    CliError::request(format!("`speak` of what is observed at {at}: {unknown}"))
                })?;
            }
        }
        if self.speaking.is_asked() && !script.speaks() {
            printer.warn("nothing is spoken: no observation of the scenario says `speak = true`");
        }
        Ok(())
    }

    /// Plays the scenario to its end, and shows it. With its summary comes the first thing that could not be shown or kept.
    async fn play(
        &self,
        script: &Scenario,
        (source, plan): (Arc<dyn WeightSource>, SessionPlan),
        mut live: Option<&mut Live>,
        mut collector: Option<&mut Collector>,
        printer: &Printer,
    ) -> Result<(Summary, Option<CliError>), CliError> {
        let voice = self.speaking.choice(false);
        // Before a recording is begun, which a second try would not write over.
        let mut speech = self.speaking.folder()?;
        let mut session = opening::session(source, plan, printer).await?;
        let mut view = View::new(printer, Duration::from_millis(self.pace.into()));
        let mut trouble = None;
        let mut sink = |event: Event| {
            event.emit();
            if let Some(collector) = &mut collector {
                collector.hear(&event);
            }
            if trouble.is_none() {
                trouble = view.show(&event).and_then(|()| speech.hear(&event)).err();
            }
        };
        sink(session.mode_event());
        let summary =
            scenario::run(script, &voice, &mut session, live.as_deref_mut(), &mut sink).await;
        view.finish();
        if let Some(live) = live {
            sensors::say(live, printer);
        }
        // Of a run that failed the log keeps what was learned.
        let closed = match &summary {
            Ok(_) => session.close().await,
            Err(_) => {
                session.abort().await;
                Ok(())
            }
        };
        let unkept = closed.err().map(CliError::from);
        match (summary, trouble) {
            (Ok(summary), trouble) => Ok((summary, trouble.or(unkept))),
            (Err(_), Some(trouble)) => Err(trouble),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// The session that the scenario is played to.
    fn plan(
        &self,
        script: &Scenario,
        resolved: RunningSettings,
        text: Text,
        source: &dyn WeightSource,
    ) -> Result<SessionPlan, CliError> {
        let RunningSettings { settings, mind } = resolved;
        let codes = script.speaks().then(|| self.speaking.codes()).transpose()?;
        let engine = EngineOptions {
            context_tokens: context_tokens(&settings.session, source),
            chunk_tokens: settings.session.chunk_tokens,
            kv: settings.session.kv_precision,
            mind,
            degrade: self.running.degrade,
            senses: script.senses(),
            media_tokens: settings.session.media_tokens,
            speaks: codes.is_some(),
            codes: codes.unwrap_or_default(),
            ..EngineOptions::default()
        }
        .limited(settings.session.limit, machine(self.sysfs.as_deref()));
        let sensors = match self.live_sensors {
            true => SensorMode::Live,
            false => SensorMode::Scripted,
        };
        Ok(SessionPlan {
            text: Some(text),
            learning: self.learning.learning(),
            recording: self.recording.plan(&script.name, sensors),
            ..SessionPlan::new(engine, &settings)
        })
    }
}

/// What the scenario says of its own run; what it does not say holds as for all scenarios.
fn say(script: &Scenario, sources: &mut Sources) {
    let place = |key: &str| script.places.get(key).cloned();
    let limit = script.limit.filter(|_| script.places.contains_key("limit"));
    sources.scenario(keys::LIMIT, limit, place("limit"));
    for (key, name, value) in [
        (
            keys::CONTEXT_TOKENS,
            "context_tokens",
            script.context_tokens,
        ),
        (keys::CHUNK_TOKENS, "chunk_tokens", script.chunk_tokens),
        (keys::ANSWER_TOKENS, "answer_tokens", script.answer_tokens),
        (keys::MEDIA_TOKENS, "media_tokens", script.media_tokens),
    ] {
        sources.scenario(key, Some(value), place(name));
    }
}

/// The folder that stands for the machine stands for its memory too.
fn machine(sysfs: Option<&Path>) -> Machine {
    match sysfs {
        Some(folder) => Machine::read(Some(folder)),
        None => Machine::of_process(),
    }
}

/// What each state did, and how it ended.
fn table(printer: &Printer, summary: &Summary) -> Result<(), CliError> {
    let mut table = Table::new([
        "state",
        "k",
        "ticks",
        "tokens",
        "tokens/s",
        "hits",
        "missed/token",
        "mean loss",
    ]);
    for (name, state) in &summary.states {
        table.row([
            name.clone(),
            state.k.to_string(),
            state.ticks.to_string(),
            state.tokens.to_string(),
            format!("{:.0}", state.tokens_per_second),
            format!("{:.1} %", state.hit_rate * 100.0),
            human_bytes(state.bytes_per_token as u64),
            state
                .mean_loss
                .map_or("-".to_owned(), |loss| format!("{loss:.3}")),
        ]);
    }
    printer.line("")?;
    printer.table(&table)?;
    let limit = summary.limit_bytes.map_or("no limit".to_owned(), |limit| {
        format!("limit {}", human_bytes(limit))
    });
    printer.line(format_args!(
        "\npeak memory {} ({limit}); read {}; {} expectations met, {} not met",
        human_bytes(summary.peak_rss_bytes),
        summary.read_bytes,
        summary.expectations_met,
        summary.expectations_failed,
    ))
}
