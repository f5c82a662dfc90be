//! A run from its arguments to its report: the oracle, then arm by arm, each part in a process of its own.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sage_actors::config::MindConfig;
use serde::Serialize;

use super::arm::{Arm, Variation};
use super::bootstrap::{RESAMPLES, SEED};
use super::material::{Material, MaterialOptions};
use super::message::WorkerMessage;
use super::metrics::Answered;
use super::record::{PartResult, Results, ResultsHeader, ResumeFile};
use super::report::{EvalMode, EvalReport, report};
use super::scratch::Scratch;
use super::worker::{self, Job, Task};
use super::{EvalError, EvalPart};
use crate::core::EngineError;
use crate::store::WeightSource;
use crate::text::Text;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct EvalSettings {
    /// Text files.
    pub texts: Vec<PathBuf>,
    /// Task files.
    pub tasks: Vec<PathBuf>,
    /// How they are read.
    pub reading: MaterialOptions,
    /// Whether control tokens that are spelled in texts and prompts are such.
    pub control_tokens: bool,
    /// What is compared.
    pub arms: Vec<Arm>,
    /// Budgets, eviction and everything else that the arms have in common.
    pub mind: MindConfig,
    /// The minds of the arms that are varied.
    pub variations: Vec<Variation>,
    /// Tokens of a text read in a step: 1 is how decode reads.
    pub chunk_tokens: usize,
    /// Tokens of an answer at most.
    pub answer_tokens: usize,
    /// Processes at a time. What is measured of time is disturbed by more than one; nothing else is.
    pub jobs: usize,
    /// The file to resume from.
    pub record: Option<PathBuf>,
    /// Where the scratch file lies; none: where the system keeps temporary files.
    pub scratch: Option<PathBuf>,
}

impl EvalSettings {
    /// What the mind of an arm is made from.
    fn common_mind(&self, arm: &Arm) -> &MindConfig {
        let varied = self
            .variations
            .iter()
            .find(|one| Some(&one.name) == arm.variation.as_ref());
        varied.map_or(&self.mind, |one| &one.mind)
    }
}

/// Makes the command of a process that calls [`super::serve`] with this job (JSON) and its standard input.
pub type Commands<'a> = &'a (dyn Fn(&str) -> Command + Sync);

/// A run that can begin.
pub struct Evaluation<'a> {
    settings: EvalSettings,
    material: Material,
    text: Text,
    commands: Commands<'a>,
    scratch: Scratch,
    record: ResumeFile,
    results: Results,
    mode: EvalMode,
}

/// Everything that the results depend on besides the model.
#[derive(Serialize)]
struct Arguments<'a> {
    version: &'static str,
    arms: &'a [Arm],
    mind: &'a MindConfig,
    variations: &'a [Variation],
    chunk_tokens: usize,
    answer_tokens: usize,
    documents: Vec<&'a [u32]>,
    /// Task, prompt and answer.
    items: Vec<(&'a str, &'a [u32], &'a str)>,
}

impl<'a> Evaluation<'a> {
    /// Reads the material and what an earlier run left, and asks every process whether its memory would do.
    ///
    /// # Errors
    /// A file that cannot be used, a model without tokenizer, a record of another run, or a limit below the floor.
    pub fn prepare(
        source: &dyn WeightSource,
        settings: EvalSettings,
        commands: Commands<'a>,
    ) -> Result<Self, EvalError> {
        let text = Text::load(source)?.allowing_control_tokens(settings.control_tokens);
        let material = Material::read(&text, &settings.texts, &settings.tasks, settings.reading)?;
        let fingerprint = source.fingerprint().map_err(EngineError::from)?;
        let header = ResultsHeader::new(fingerprint.clone(), digest(&settings, &material)?);
        let (record, results) =
            ResumeFile::open(settings.record.as_deref(), &header, |part| match part {
                EvalPart::Text => (material.documents.len(), 0),
                EvalPart::Tasks => (0, material.items.len()),
            })?;
        let vocabulary = source.config().thinker.text.vocab_size;
        let scratch = Scratch::create(settings.scratch.as_deref(), &material, vocabulary)?;
        let mode = mode(&settings, &material, fingerprint);
        let evaluation = Self {
            settings,
            material,
            text,
            commands,
            scratch,
            record,
            results,
            mode,
        };
        for (arm, part) in evaluation.open_parts() {
            evaluation.start(
                &evaluation.settings.arms[arm],
                Task::Plan,
                part,
                &mut |_| Ok(()),
            )?;
        }
        Ok(evaluation)
    }

    /// Which run it is.
    pub fn mode(&self) -> &EvalMode {
        &self.mode
    }

    /// Parts that an earlier run finished, and all parts.
    pub fn finished(&self) -> (usize, usize) {
        let finished = self.results.len();
        (finished, finished + self.open_parts().len())
    }

    /// Documents and items that are still to be read and answered, the oracle's among them.
    pub fn units(&self) -> usize {
        let open = self.open_parts();
        let oracle = open.iter().any(|(_, part)| *part == EvalPart::Text);
        let oracle = usize::from(oracle) * self.material.documents.len();
        oracle
            + open
                .iter()
                .map(|(_, part)| self.part_units(*part))
                .sum::<usize>()
    }

    /// Runs what is not yet done, as many processes at a time as the settings say; `progress` hears of every document and
    /// item, by the arm's name.
    ///
    /// # Errors
    /// When a process fails, or the record cannot be written.
    pub fn run(mut self, progress: &mut (dyn FnMut(&str) + Send)) -> Result<EvalReport, EvalError> {
        let open = self.open_parts();
        if open.iter().any(|(_, part)| *part == EvalPart::Text) {
            let oracle = Arm::oracle();
            self.start(&oracle, Task::Oracle, EvalPart::Text, &mut |_| {
                progress("oracle");
                Ok(())
            })?;
        }
        let record = Mutex::new(std::mem::take(&mut self.record));
        let progress = Mutex::new(progress);
        let tell = |name: &str| (*lock(&progress))(name);
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            let mut results = Vec::new();
            while !failed.load(Ordering::Relaxed) {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some((index, part)) = open.get(at).copied() else {
                    break;
                };
                match self.part(index, part, &record, &tell) {
                    Ok(result) => results.push(((index, part), result)),
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(results)
        };
        let found: Result<Vec<_>, EvalError> = std::thread::scope(|scope| {
            let jobs = self.settings.jobs.clamp(1, open.len().max(1));
            let jobs: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            let ended = jobs.into_iter().map(|job| match job.join() {
                Ok(results) => results,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            ended.collect()
        });
        self.results.extend(found?.into_iter().flatten());
        Ok(report(
            self.mode,
            &self.settings.arms,
            &self.material,
            &self.results,
        ))
    }

    /// Runs a part to its end and appends it to the record, whole.
    fn part(
        &self,
        index: usize,
        part: EvalPart,
        record: &Mutex<ResumeFile>,
        progress: &dyn Fn(&str),
    ) -> Result<PartResult, EvalError> {
        let arm = &self.settings.arms[index];
        let name = arm.name();
        let mut result = PartResult::default();
        let done = self.start(arm, Task::Part(part), part, &mut |message| {
            match message {
                WorkerMessage::Document(document) => result.documents.push(document),
                WorkerMessage::Item(answer) => {
                    let text = self.text.decode(&answer.answer)?.trim().to_owned();
                    let expected = self.material.items.get(result.items.len());
                    result.items.push(Answered {
                        correct: expected.is_some_and(|item| item.answer == text),
                        answer: text,
                        tokens: answer.tokens,
                        hits: answer.hits,
                        misses: answer.misses,
                        miss_bytes: answer.miss_bytes,
                        seconds: answer.seconds,
                    });
                }
                WorkerMessage::Done(_) => return Ok(()),
            }
            progress(&name);
            Ok(())
        })?;
        result.done = done;
        lock(record).append(index, &name, part, &result)?;
        Ok(result)
    }

    /// Starts the process of a task and hears it to its end.
    fn start(
        &self,
        arm: &Arm,
        task: Task,
        part: EvalPart,
        hear: &mut dyn FnMut(WorkerMessage) -> Result<(), EvalError>,
    ) -> Result<super::PartConditions, EvalError> {
        let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(1);
        let context_tokens = match part {
            EvalPart::Text => longest(&mut self.material.documents.iter().map(|d| d.tokens.len())),
            EvalPart::Tasks => {
                longest(&mut self.material.items.iter().map(|item| item.tokens.len()))
                    + self.settings.answer_tokens
            }
        };
        let job = Job {
            task,
            mind: arm.mind(self.settings.common_mind(arm)),
            chunk_tokens: self.settings.chunk_tokens,
            limit: arm.limit.limit,
            kv: arm.kv,
            context_tokens,
            answer_tokens: self.settings.answer_tokens,
        };
        let job = serde_json::to_string(&job)
            .map_err(|error| EvalError::system("describing the job")(error.into()))?;
        worker::run((self.commands)(&job), &arm.name(), &self.scratch, hear)
    }

    fn part_units(&self, part: EvalPart) -> usize {
        match part {
            EvalPart::Text => self.material.documents.len(),
            EvalPart::Tasks => self.material.items.len(),
        }
    }

    /// Parts that are asked for and not done, in order.
    fn open_parts(&self) -> Vec<(usize, EvalPart)> {
        let arms = 0..self.settings.arms.len();
        arms.flat_map(|arm| [(arm, EvalPart::Text), (arm, EvalPart::Tasks)])
            .filter(|(_, part)| self.part_units(*part) > 0)
            .filter(|done| !self.results.contains_key(done))
            .collect()
    }
}

/// What a thread that panicked left is whole: it holds the lock while it appends or counts, and both end before anything else
/// can fail.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn digest(settings: &EvalSettings, material: &Material) -> Result<String, EvalError> {
    let arguments = Arguments {
        version: env!("CARGO_PKG_VERSION"),
        arms: &settings.arms,
        mind: &settings.mind,
        variations: &settings.variations,
        chunk_tokens: settings.chunk_tokens,
        answer_tokens: settings.answer_tokens,
        documents: material
            .documents
            .iter()
            .map(|document| document.tokens.as_slice())
            .collect(),
        items: material
            .items
            .iter()
            .map(|item| {
                (
                    item.task.as_str(),
                    item.tokens.as_slice(),
                    item.answer.as_str(),
                )
            })
            .collect(),
    };
    let json = serde_json::to_vec(&arguments)
        .map_err(|error| EvalError::system("describing the arguments")(error.into()))?;
    Ok(blake3::hash(&json).to_hex().to_string())
}

fn mode(settings: &EvalSettings, material: &Material, fingerprint: String) -> EvalMode {
    let (documents, items) = (material.documents.len(), material.items.len());
    let scored_tokens = material.scored_tokens();
    let eviction = eviction_name(settings);
    let arms = match settings.arms.len() {
        1 => "1 arm".to_owned(),
        arms => format!("{arms} arms"),
    };
    let steps = match settings.chunk_tokens {
        1 => "one token a step, as in decode".to_owned(),
        tokens => format!("texts in chunks of {tokens} tokens, as in reading"),
    };
    let text = format!(
        "priced against exact, {steps}; {arms}; {documents} documents of {scored_tokens} scored tokens, {items} items; eviction {eviction}; 95 % intervals of {RESAMPLES} resamples"
    );
    EvalMode {
        text,
        fingerprint,
        eviction: settings.mind.eviction,
        documents,
        scored_tokens,
        chunk_tokens: settings.chunk_tokens,
        items,
        answer_tokens: settings.answer_tokens,
        resamples: RESAMPLES,
        seed: SEED,
    }
}

/// The policy's name in a file of settings.
fn eviction_name(settings: &EvalSettings) -> String {
    match serde_json::to_value(settings.mind.eviction) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(named)) => named.keys().cloned().collect(),
        _ => String::new(),
    }
}
