//! Both ends of the line between a run and the process of an arm: a job goes in, a line of JSON comes out for every
//! document or item, and one at the end.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use sage_actors::config::MindConfig;
use serde::{Deserialize, Serialize};

use super::measure;
use super::message::WorkerMessage;
use super::metrics::PartConditions;
use super::scratch::Scratch;
use super::{EvalError, EvalPart};
use crate::core::EngineError;
use crate::core::memory::resident_set;
use crate::input::Fault;
use crate::input::{KvPrecision, Limit};
use crate::session::opening::{EngineOptions, plan};
use crate::session::{Session, SessionPlan};
use crate::store::WeightSource;

/// Tokens of a prefill chunk at least, as in scenarios.
pub(super) const CHUNK_TOKENS: usize = 32;

/// What a process has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Task {
    /// Say whether the memory would do, and end.
    Plan,
    /// Read the documents and leave the logits.
    Oracle,
    /// A part of an arm.
    Part(EvalPart),
}

/// All that a process has to know besides the model and the scratch file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub(super) task: Task,
    pub(super) mind: MindConfig,
    pub(super) limit: Limit,
    pub(super) kv: KvPrecision,
    pub(super) chunk_tokens: usize,
    pub(super) context_tokens: usize,
    pub(super) answer_tokens: usize,
}

/// The end of the line in the arm's process: does the job and writes what it measured to `out`.
///
/// # Errors
/// When the model cannot be opened under the limit, an expert cannot be read, an actor failed, or nobody listens.
pub async fn serve(
    source: Arc<dyn WeightSource>,
    job: &Job,
    scratch: File,
    out: &mut dyn Write,
) -> Result<(), EvalError> {
    let mut tell = |message: WorkerMessage| {
        let line = serde_json::to_string(&message).map_err(std::io::Error::from);
        line.and_then(|line| {
            writeln!(out, "{line}")?;
            out.flush()
        })
        .map_err(EvalError::system("telling what was measured"))
    };
    let options = EngineOptions {
        limit: job.limit,
        context_tokens: job.context_tokens,
        chunk_tokens: Some(CHUNK_TOKENS.max(job.chunk_tokens)),
        // What a store lacks, the oracle could not do without.
        degrade: false,
        kv: Some(job.kv),
        mind: job.mind.clone(),
        ..EngineOptions::default()
    };
    if job.task == Task::Plan {
        plan(&*source, &options)?;
        return tell(WorkerMessage::Done(PartConditions::default()));
    }
    let mut scratch = Scratch::open(scratch)?;
    let session = SessionPlan::of_engine(options);
    let mut session = Session::open(source, session, |_, _| ()).await?;
    match job.task {
        Task::Plan => {}
        Task::Oracle | Task::Part(EvalPart::Text) => {
            let oracle = job.task == Task::Oracle;
            let (engine, tokens) = (session.engine_mut(), job.chunk_tokens);
            measure::texts(engine, &mut scratch, tokens, oracle, &mut tell).await?;
        }
        Task::Part(EvalPart::Tasks) => {
            measure::tasks(&mut session, &scratch, job.answer_tokens, &mut tell).await?;
        }
    }
    session.tick(&mut |_| ()).await?;
    let directive = session
        .orientation()
        .map(|orientation| orientation.directive);
    let directive = directive.ok_or(EngineError::NoDirective)?;
    let engine = session.engine();
    let done = PartConditions {
        k: directive.k,
        expert_bytes: directive.expert_bytes,
        lambda: directive.lambda,
        beta: directive.beta,
        miss_bytes_per_token: directive.miss_bytes_per_token,
        limit_bytes: engine.plan.limit_bytes,
        floor_bytes: engine.plan.floor.total(),
        peak_rss_bytes: resident_set().1,
        read_bytes: engine.read_bytes(),
    };
    session.close().await?;
    tell(WorkerMessage::Done(done))
}

/// What a line on a process's stderr begins with that tells what happens there, and is no complaint.
pub const TOLD_MARK: char = '\u{1e}';

/// Target of the events that pass on such lines.
pub const TOLD: &str = "sage::eval::told";

/// Exit code of a process whose request was wrong.
const REQUEST: i32 = 2;

/// The other end: starts `command` with the job's scratch file and hears it to its end.
pub(super) fn run(
    mut command: Command,
    name: &str,
    scratch: &Scratch,
    hear: &mut dyn FnMut(WorkerMessage) -> Result<(), EvalError>,
) -> Result<PartConditions, EvalError> {
    let mut child = command
        .stdin(scratch.share()?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(EvalError::system(format!("starting the process of {name}")))?;
    let stderr = child.stderr.take();
    // Read beside stdout: a process that has much to complain about must not wait for us.
    let read = move || {
        let mut text = String::new();
        let lines = stderr.map(|stderr| BufReader::new(stderr).lines());
        // What cannot be read is not shown; the exit code says what matters.
        for line in lines.into_iter().flatten().map_while(Result::ok) {
            match line.strip_prefix(TOLD_MARK) {
                Some(told) => tracing::info!(target: TOLD, "{told}"),
                None => text = text + &line + "\n",
            }
        }
        text
    };
    let complaints = std::thread::Builder::new().spawn(read);
    let complaints = complaints.inspect_err(|_| {
        // Nobody would listen to it.
        let _ = child.kill();
    });
    let complaints =
        complaints.map_err(EvalError::system(format!("starting a thread for {name}")))?;
    let heard = listen(&mut child, name, hear);
    if heard.is_err() {
        // It may have ended by itself meanwhile.
        let _ = child.kill();
    }
    let status = child.wait().map_err(EvalError::system(format!(
        "waiting for the process of {name}"
    )))?;
    let complaints = complaints.join().unwrap_or_default();
    let failed = |message: String, fault| EvalError::Worker {
        arm: name.to_owned(),
        message,
        fault,
    };
    let done = heard?;
    match (status.code(), done) {
        (Some(0), Some(done)) => Ok(done),
        (Some(0), None) => Err(failed(
            "its process ended before it was done".into(),
            Fault::Run,
        )),
        (Some(code), _) => {
            let message = complaints.trim().trim_start_matches("error: ").to_owned();
            let fault = if code == REQUEST {
                Fault::Request
            } else {
                Fault::Run
            };
            Err(failed(message, fault))
        }
        (None, _) => Err(failed(
            format!("its process was killed ({status}): the system may be short of memory"),
            Fault::Run,
        )),
    }
}

fn listen(
    child: &mut Child,
    name: &str,
    hear: &mut dyn FnMut(WorkerMessage) -> Result<(), EvalError>,
) -> Result<Option<PartConditions>, EvalError> {
    let trouble = || EvalError::system(format!("hearing the process of {name}"));
    let Some(stdout) = child.stdout.take() else {
        return Ok(None);
    };
    let mut done = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(trouble())?;
        let message = serde_json::from_str(&line).map_err(|error| trouble()(error.into()))?;
        match message {
            WorkerMessage::Done(found) => done = Some(found),
            message => hear(message)?,
        }
    }
    Ok(done)
}
