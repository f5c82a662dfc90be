//! `sage eval`.

mod shown;

use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use sage_actors::config::{EvictionPolicy, Mechanism, MindConfig, Named};
use sage_actors::protocol::State;

use super::listening::ListenArgs;
use super::names::by_name;
use super::opening::{self, RunningArgs, SettingsArgs};
use super::printable::printable;
use super::text::TextArgs;
use super::{CliError, CommandOutcome, Printer, SizeError};
use crate::eval::{
    self, ArmPolicy, EvalSettings, Evaluation, Job, MaterialOptions, NamedLimit, Variation, arms,
};
use crate::input::KvPrecision;

const EXAMPLES: &str = "Examples:
  sage eval MODEL --text BOOK.txt --tasks QUESTIONS.jsonl
  sage eval MODEL --text models/tiny/heldout/*.txt --limits none,96slots,48slots --documents 8
  sage eval MODEL --text models/tiny/heldout/*.txt --states wake --documents 8 --kv bf16,q8
  sage eval MODEL --tasks models/tiny/tasks/*.jsonl --items 25 --states wake,rest --policy topk,salient,sage
  sage eval MODEL --text models/tiny/heldout/*.txt --documents 8 --limits 48slots --states wake --without k,residency_bias
  sage eval MODEL --text BOOK.txt --limits 48slots --states rest --vary mind.budgets.rest.router_mass=0.8 --jobs 2
  sage eval MODEL --text BOOK.txt --limits 6GiB --out prices.jsonl     killed and started again, it goes on

Every arm is a state held, a policy and a limit, and perhaps one thing that differs (--vary, --without, --only), which is
compared with the same arm without it; the exact arm (trained k, exact routing) runs under every limit and
the others are compared with it. Each token of a text is a step of its own with real residency, as in decode, unless
--chunk says how many are read together, as in reading; the oracle of the
divergence is exact routing without a limit. An arm reads and answers in processes of its own: the limit and the peak
of memory are theirs. Within each, what is resident and trusted carries over from one document or item to the next,
so --out resumes between processes, never inside one; salience says nothing of its first eight segments of 32 tokens.
Intervals are 95 % percentiles of 2,000 resamples of documents or items; `tie`: the interval of the difference to
exact contains 0.";

/// Arguments of `sage eval`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct EvalArgs {
    /// Checkpoint or store
    #[arg(value_parser = crate::cli::models::model_argument())]
    model: PathBuf,
    /// Texts to read; documents are separated by <|endoftext|>
    #[arg(long, num_args = 1.., value_name = "FILE", required_unless_present = "tasks")]
    text: Vec<PathBuf>,
    /// Tasks to answer: lines of JSON with `task`, `prompt` and `answer`
    #[arg(long, num_args = 1.., value_name = "FILE")]
    tasks: Vec<PathBuf>,
    /// States to hold
    #[arg(long, value_parser = by_name::<State>(), value_delimiter = ',', default_values_t = STATES)]
    states: Vec<State>,
    /// How routers choose
    #[arg(long, value_parser = by_name::<ArmPolicy>(), value_delimiter = ',', default_values_t = [ArmPolicy::Salient])]
    policy: Vec<ArmPolicy>,
    /// Memory limits of an arm's process: none, 512MiB, 25%, 48slots, …
    #[arg(long, value_delimiter = ',', default_value = "none")]
    limits: Vec<LimitArg>,
    /// Also run exact routing with rounded keys and values: bf16, q8 (f32 is how the exact arm keeps them)
    #[arg(long, value_delimiter = ',', value_name = "PRECISION")]
    kv: Vec<KvPrecision>,
    /// Also run every arm but the exact one with these settings instead; may be repeated
    #[arg(long, value_name = "KEY=VALUE,…")]
    vary: Vec<String>,
    /// Also run every arm but the exact one without one mechanism of the mind, for each of those named
    #[arg(long, value_parser = by_name::<Mechanism>(), value_delimiter = ',')]
    without: Vec<Mechanism>,
    /// Also run every arm but the exact one with one mechanism alone, for each of those named
    #[arg(long, value_parser = by_name::<Mechanism>(), value_delimiter = ',')]
    only: Vec<Mechanism>,
    /// Tokens of a text that are read in a step
    #[arg(long, default_value_t = 1, value_name = "N")]
    chunk: usize,
    /// Processes at a time; more than one disturb each other's times, and nothing else
    #[arg(long, default_value_t = 1, value_name = "N")]
    jobs: usize,
    /// Keep finished results in this file, and go on from it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A longer document is read in pieces of so many tokens, each a document with an empty context
    #[arg(long, default_value_t = 256, value_name = "N")]
    max_tokens_per_document: usize,
    /// Documents of each text file at most [default: all]
    #[arg(long, value_name = "N")]
    documents: Option<usize>,
    /// Items of each task file at most [default: all]
    #[arg(long, value_name = "N")]
    items: Option<usize>,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 64, value_name = "N")]
    answer_tokens: usize,
    /// Where the oracle's logits lie meanwhile: 4 bytes a token of text and entry of the vocabulary [default: TMPDIR]
    #[arg(long, value_name = "FOLDER")]
    scratch: Option<PathBuf>,
    /// Which expert makes room [default: horizon]
    #[arg(long, value_parser = by_name::<EvictionPolicy>())]
    eviction: Option<EvictionPolicy>,
    #[command(flatten)]
    untrusted: TextArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Threads of the arithmetic [default: all cores]; the result does not depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// In the order in which a report lists them.
const STATES: [State; 6] = [
    State::Wake,
    State::Focus,
    State::Rest,
    State::Threat,
    State::Depletion,
    State::Dream,
];

/// A size, or none.
#[derive(Clone, Debug)]
struct LimitArg(NamedLimit);

impl FromStr for LimitArg {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        Ok(Self(NamedLimit {
            name: text.to_owned(),
            limit: text.parse()?,
        }))
    }
}

impl EvalArgs {
    fn check(&self) -> Result<(), CliError> {
        let least = [
            (
                "max-tokens-per-document",
                Some(self.max_tokens_per_document),
                2,
            ),
            ("documents", self.documents, 1),
            ("items", self.items, 1),
            ("answer-tokens", Some(self.answer_tokens), 1),
            ("chunk", Some(self.chunk), 1),
            ("jobs", Some(self.jobs), 1),
        ];
        if self.kv.contains(&KvPrecision::Exact) {
            return Err(CliError::request(
                "--kv is f32, as the exact arm has it anyway; expected bf16, q8, or both: leave f32 out",
            ));
        }
        for (name, value, least) in least {
            if let Some(value) = value {
                opening::at_least(name, value, least)?;
            }
        }
        Ok(())
    }

    fn settings(&self) -> Result<EvalSettings, CliError> {
        let running = RunningArgs {
            eviction: self.eviction,
            settings: self.settings.clone(),
            threads: self.threads,
            ..RunningArgs::default()
        };
        running.set_threads()?;
        let mind = running.resolve(None, |_| ())?.mind;
        let variations = self.variations(&running, &mind)?;
        let limits: Vec<NamedLimit> = self.limits.iter().map(|limit| limit.0.clone()).collect();
        Ok(EvalSettings {
            texts: self.text.clone(),
            tasks: self.tasks.clone(),
            reading: MaterialOptions {
                max_tokens_per_document: self.max_tokens_per_document,
                documents: self.documents,
                items: self.items,
            },
            control_tokens: self.untrusted.allow_control_tokens,
            arms: arms(&self.states, &self.policy, &limits, &self.kv, &variations),
            mind,
            variations,
            chunk_tokens: self.chunk,
            answer_tokens: self.answer_tokens,
            jobs: self.jobs,
            record: self.out.clone(),
            scratch: self.scratch.clone(),
        })
    }

    /// The minds of the arms that are varied, by their names.
    fn variations(
        &self,
        running: &RunningArgs,
        mind: &MindConfig,
    ) -> Result<Vec<Variation>, CliError> {
        let mut variations = Vec::new();
        for vary in &self.vary {
            let mut varied = running.settings.clone();
            varied.set.extend(several(vary).map(str::to_owned));
            let varied = RunningArgs {
                settings: varied,
                eviction: running.eviction,
                ..RunningArgs::default()
            };
            variations.push(Variation {
                name: vary.clone(),
                mind: varied.resolve(None, |_| ())?.mind,
            });
        }
        let without = |one: &Mechanism| (format!("without {}", one.name()), one.off(mind));
        let only = |one: &Mechanism| (format!("only {}", one.name()), one.alone(mind));
        let held_off = self.without.iter().map(without);
        for (name, mind) in held_off.chain(self.only.iter().map(only)) {
            variations.push(Variation { name, mind });
        }
        if let Some(idle) = variations.iter().find(|one| one.mind == *mind) {
            return Err(CliError::request(format!(
                "`{}` changes nothing: every arm has that already; leave it out",
                idle.name
            )));
        }
        Ok(variations)
    }
}

/// Settings that are written in one argument, at the commas that stand in no bracket and no quotes.
fn several(settings: &str) -> impl Iterator<Item = &str> {
    let (mut depth, mut quoted) = (0i32, false);
    settings.split(move |c| {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0 && !quoted
    })
}

/// Runs the command.
pub fn run(
    args: &EvalArgs,
    listen: &ListenArgs,
    printer: &Printer,
) -> Result<CommandOutcome, CliError> {
    args.check()?;
    let settings = args.settings()?;
    let source = opening::source(&args.model)?;
    let program = std::env::current_exe()?;
    let started = AtomicUsize::new(0);
    let commands = |job: &str| {
        let mut command = Command::new(&program);
        command.arg("eval-worker").arg(&args.model);
        command.args(["--job", job]);
        let number = started.fetch_add(1, Ordering::Relaxed) + 1;
        listen.pass_on(&mut command, number);
        if let Some(threads) = args.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        command
    };
    let evaluation = Evaluation::prepare(&*source, settings, &commands)?;
    printer.note(format_args!("mode: {}", evaluation.mode().text));
    if let (finished @ 1.., all) = evaluation.finished() {
        printer.note(format_args!(
            "going on: {finished} of {all} parts (texts or tasks of an arm) are finished"
        ));
    }
    let bar = printer.steps("evaluating", evaluation.units() as u64);
    let report = evaluation.run(&mut |arm| {
        bar.set_message(printable(arm).into_owned());
        bar.inc(1);
    });
    bar.finish_and_clear();
    shown::show(&report?, printer)?;
    Ok(CommandOutcome::Done)
}

/// Arguments of the process of an arm; not for people.
#[derive(Args)]
pub struct WorkerArgs {
    model: PathBuf,
    #[arg(long)]
    job: String,
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs a job of [`run`].
pub fn work(args: &WorkerArgs) -> Result<CommandOutcome, CliError> {
    let running = RunningArgs {
        threads: args.threads,
        ..RunningArgs::default()
    };
    running.set_threads()?;
    let job: Job = serde_json::from_str(&args.job)
        .map_err(|error| CliError::request(format!("--job: {error}; `sage eval` gives it")))?;
    let source = opening::source(&args.model)?;
    let scratch = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?;
    let mut out = std::io::stdout().lock();
    opening::runtime()?.block_on(eval::serve(source, &job, scratch.into(), &mut out))?;
    Ok(CommandOutcome::Done)
}

#[cfg(test)]
mod tests {
    use super::several;

    #[test]
    fn settings_are_parted_at_commas_outside_of_brackets_and_quotes() {
        let parted = |text| several(text).collect::<Vec<_>>();
        assert_eq!(parted("a.b=0.5"), ["a.b=0.5"]);
        let text = "w=[1, 0],e={ h = { l = 2, m = 3 } },r=\"a,b\"";
        assert_eq!(
            parted(text),
            ["w=[1, 0]", "e={ h = { l = 2, m = 3 } }", "r=\"a,b\""]
        );
    }
}
