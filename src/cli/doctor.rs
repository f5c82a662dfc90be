//! `sage doctor`: what of this machine limits a run, and what to do about it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::findings::Finding;
use super::memory::MemoryArgs;
use super::trial::{ExpertSurvey, Measured, measure};
use super::{CliError, CommandOutcome, Printer, human_bytes, opening};
use crate::core::LimitOrigin;
use crate::cpu::probe::{WorkRates, memory_rate};
use crate::kernels::InstructionSet;
use crate::sensors::{HostSetup, HugePages, Machine};
use crate::session::opening::plan;
use crate::store::{WeightSource, is_direct};

const EXAMPLES: &str = "Examples:
  sage doctor
  sage doctor MODEL
  sage doctor --json

With a model its disk is tried too, and what bounds a token of it is said: the disk, or the arithmetic.

--json: findings[] with name, state (fine, notice, limits), found and advice (null where nothing is to be done);
measured{memory_bytes_per_second, disk_bytes_per_second, expert_bytes_per_second, problem (why experts were not tried)}.";

/// Files that a run has open at a time: shards of a checkpoint, and some more.
const OPEN_FILES: u64 = 256;

/// Arguments of `sage doctor`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    /// Checkpoint or store that would run
    #[arg(value_parser = crate::cli::models::model_argument())]
    model: Option<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Serialize)]
struct DoctorReport {
    findings: Vec<Finding>,
    measured: Measured,
}

/// Runs the command.
pub fn run(args: &DoctorArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let machine = Machine::of_process();
    let setup = HostSetup::of_process();
    opening::start_threads(None)?;
    let mut findings = vec![processor(), memory(&machine)];
    findings.push(pages(setup.huge_pages));
    findings.extend(setup_findings(&setup));
    let mut measured = match &args.model {
        Some(folder) => of_named(folder, machine, &mut findings, printer)?,
        None => Measured::nothing("no model was named"),
    };
    if measured.memory_bytes_per_second.is_none() {
        match memory_rate() {
            Ok(rate) => measured.memory_bytes_per_second = Some(rate),
            Err(error) => findings.push(unmeasured_memory(&error)),
        }
    }
    let report = DoctorReport { findings, measured };
    if printer.is_json() {
        printer.json(&report)?;
    } else {
        report.show(printer)?;
    }
    Ok(CommandOutcome::Done)
}

/// Looks at the model in `folder`, and tries it.
fn of_named(
    folder: &Path,
    machine: Machine,
    findings: &mut Vec<Finding>,
    printer: &Printer,
) -> Result<Measured, CliError> {
    let source = opening::source(folder)?;
    findings.push(reads(&*source));
    let survey = ExpertSurvey::of(&*source, false);
    findings.extend(survey.findings());
    let (rates, measured, finding) = measure(&source, &survey, printer);
    findings.extend(finding);
    findings.extend(of_model(&source, machine, rates)?);
    Ok(measured)
}

fn unmeasured_memory(error: &std::io::Error) -> Finding {
    let found = Finding::fine("memory rate", format!("not measured: {error}"));
    found.limits("the process has no 256 MiB to try it on: let it have more memory")
}

fn processor() -> Finding {
    let (set, threads) = (InstructionSet::best().name(), rayon::current_num_threads());
    let found = Finding::fine(
        "processor",
        format!("{set} instructions, {threads} threads"),
    );
    match set {
        "portable" => found.limits(
            "the arithmetic runs without vector instructions, several times slower: a processor with AVX2, AVX-512 or NEON has them",
        ),
        _ if threads == 1 => {
            found.notice("one thread: give the process more cores, if there are any")
        }
        _ => found,
    }
}

fn memory(machine: &Machine) -> Finding {
    let tightest = machine
        .bounds
        .iter()
        .min_by_key(|bound| bound.available_bytes);
    let Some(bound) = tightest else {
        return Finding::fine("memory", "the system does not say how much there is")
            .notice("no limit can be chosen: say one with --limit");
    };
    let found = Finding::fine("memory", bound.to_string());
    if bound.available_bytes < bound.total_bytes / 2 {
        return found.notice(
            "more than half is taken by others: a limit is chosen from what is left, and experts that have no room are read again and again",
        );
    }
    found
}

/// Large pages spare the system a fault for each 4 KiB of an expert.
fn pages(huge_pages: HugePages) -> Finding {
    match huge_pages {
        HugePages::Always => Finding::fine("pages", "of 2 MiB for all memory"),
        HugePages::Madvise => Finding::fine("pages", "of 2 MiB for memory that asks for them"),
        HugePages::Never => Finding::fine("pages", "of 4 KiB only").limits(
            "loading takes a page fault for every 4 KiB; `echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled` allows large ones",
        ),
        HugePages::Unknown => {
            Finding::fine("pages", "the system does not say whether there are large ones")
        }
    }
}

fn setup_findings(setup: &HostSetup) -> Vec<Finding> {
    let mut findings = Vec::new();
    match (setup.swap_bytes, setup.swap_used_bytes) {
        (Some(all), Some(used)) if all > 0 => {
            let shown = format!("{} of {} in use", human_bytes(used), human_bytes(all));
            let found = Finding::fine("swap", shown);
            findings.push(match used > 64 << 20 {
                true => found.limits(
                    "the system moves memory to disk behind the program's back, which then waits for it: a lower --limit leaves more to others",
                ),
                false => found,
            });
        }
        _ => findings.push(Finding::fine("swap", "none")),
    }
    if let Some(governor) = &setup.governor {
        let found = Finding::fine("frequency", format!("governor {governor}"));
        findings.push(match governor.as_str() {
            "powersave" | "conservative" => found.notice(
                "the processor may run below its speed; `sudo cpupower frequency-set -g performance` does not let it",
            ),
            _ => found,
        });
    }
    if setup.overcommit == Some(2) {
        let found = Finding::fine("overcommit", "vm.overcommit_memory is 2");
        findings.push(found.limits(
            "memory is refused when it is mapped, not when it is used: a long context may fail to open; `sudo sysctl vm.overcommit_memory=0`",
        ));
    }
    if let Some(files) = setup.open_files {
        let found = Finding::fine("open files", format!("{files} at most"));
        findings.push(match files < OPEN_FILES {
            true => found.limits(format!(
                "a checkpoint of many shards needs more; `ulimit -n {OPEN_FILES}`"
            )),
            false => found,
        });
    }
    findings
}

/// Whether the file system of a model reads past the page cache.
fn reads(source: &dyn WeightSource) -> Finding {
    let some_file = |folder: &Path| {
        let mut entries = std::fs::read_dir(folder).ok()?.flatten();
        entries.find_map(|entry| entry.path().is_file().then(|| entry.path()))
    };
    let file = some_file(&source.folder().join("experts")).or_else(|| some_file(source.folder()));
    match file.map(|file| is_direct(&file)) {
        Some(Ok(true)) => Finding::fine("reads", "past the page cache"),
        Some(Ok(false)) => Finding::fine("reads", "through the page cache").limits(
            "the file system of the model has no direct reads (tmpfs, some network ones): its pages stand beside the experts in memory; put the model on a local disk",
        ),
        _ => Finding::fine("reads", "unknown"),
    }
}

/// What of the machine bounds a token of the model.
fn of_model(
    source: &Arc<dyn WeightSource>,
    machine: Machine,
    rates: Option<WorkRates>,
) -> Result<Vec<Finding>, CliError> {
    // As `sage plan` asks it without options.
    let question = MemoryArgs::default().question(&**source, None)?;
    let options = question.options.limited(question.limit, machine);
    let planned = match plan(&**source, &options) {
        Ok(planned) => planned,
        Err(error) => {
            let found = Finding::fine("model", "does not run here");
            return Ok(vec![found.limits(error.to_string())]);
        }
    };
    let memory = planned.memory;
    let found = match memory.limit_bytes {
        None => Finding::fine(
            "model",
            format!(
                "fits into memory: {}",
                human_bytes(memory.everything_bytes())
            ),
        ),
        Some(limit) => {
            let chosen = matches!(planned.limit_origin, LimitOrigin::Chosen(_));
            let shown = format!(
                "takes {}, and runs under a limit of {}{}",
                human_bytes(memory.everything_bytes()),
                human_bytes(limit),
                if chosen { ", chosen" } else { "" }
            );
            Finding::fine("model", shown)
                .limits("experts that have no room are read when they are needed; `sage plan` says how fast that is, and what more memory gives")
        }
    };
    let mut findings = vec![found];
    if let Some(rates) = rates {
        let shown = format!(
            "experts come from disk at {}/s and work at {}/s",
            human_bytes(rates.read as u64),
            human_bytes(rates.experts as u64)
        );
        let found = Finding::fine("disk", shown);
        let advice = format!(
            "an expert takes {:.0} times as long to read as to work with: where experts are missing the disk sets the pace; smaller formats (--quant q4) and more memory help",
            rates.experts / rates.read
        );
        findings.push(match memory.limit_bytes {
            Some(_) if rates.read < rates.experts => found.limits(advice),
            _ => found,
        });
    }
    Ok(findings)
}

impl DoctorReport {
    /// For people.
    fn show(&self, printer: &Printer) -> Result<(), CliError> {
        for finding in &self.findings {
            finding.show(printer)?;
        }
        if let Some(rate) = self.measured.memory_bytes_per_second {
            printer.line(format_args!(
                "memory is read at {}/s by all threads",
                human_bytes(rate as u64)
            ))?;
        }
        Ok(())
    }
}
