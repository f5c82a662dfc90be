//! Full replay: the inputs again, through the model; every line must come again, byte for byte.

use std::path::Path;
use std::sync::Arc;

use super::comparison::ReplayComparison;
use super::files::{fill, ledger_of};
use super::{KeepsNothing, ReplayError, ReplayVerdict, asked};
use crate::core::EngineError;
use crate::core::core_loop::{AnswerPolicy, Observation};
use crate::session::opening::EngineOptions;
use crate::session::{Learning, Session, SessionPlan};
use crate::store::{WeightSource, open_model};
use crate::text::Text;
use crate::text::template::TemplateArgs;
use crate::trace::{Tape, TraceHeader, TraceReader, TraceRecord};

/// How to run what was recorded; no decision depends on it.
pub struct Way<'a> {
    /// Whether experts are read ahead.
    pub read_ahead: bool,
    /// Hears of loaded layers, and how many there are.
    pub loading: &'a mut dyn FnMut(usize, usize),
    /// Hears of ticks.
    pub progress: &'a mut dyn FnMut(u64),
}

/// Repeats the recorded run `trace` with the model in `folder` and compares every line. Inside a tokio runtime; the calling
/// thread computes.
///
/// # Errors
/// When the recording cannot be read, is of another model, or the engine fails.
pub async fn verify(trace: &Path, folder: &Path) -> Result<ReplayVerdict, ReplayError> {
    let source = open_model(folder)?;
    let way = Way {
        read_ahead: true,
        loading: &mut |_, _| (),
        progress: &mut |_| (),
    };
    verify_with(trace, Arc::from(source), way).await
}

/// As [`verify`], in a way that is said, with a model that is open.
///
/// # Errors
/// As [`verify`].
pub async fn verify_with(
    trace: &Path,
    source: Arc<dyn WeightSource>,
    way: Way<'_>,
) -> Result<ReplayVerdict, ReplayError> {
    let (reader, header) = TraceReader::open(trace)?;
    let Way {
        read_ahead,
        loading,
        progress,
    } = way;
    let mut session = open(trace, source, &header, read_ahead, loading).await?;
    let verdict = compare(trace, reader, &header, &mut session, progress).await;
    session.abort().await;
    verdict
}

/// Opens the model as the recorded run had it.
pub(super) async fn open(
    trace: &Path,
    source: Arc<dyn WeightSource>,
    header: &TraceHeader,
    read_ahead: bool,
    loading: &mut dyn FnMut(usize, usize),
) -> Result<Session, ReplayError> {
    let fingerprint = source.fingerprint()?;
    if fingerprint != header.fingerprint {
        return Err(ReplayError::Lacks(format!(
            "the model is {fingerprint}, but the recording is of {}: name the model that was recorded",
            header.fingerprint
        )));
    }
    let ledger = ledger_of(trace, header)?;
    let (limit, sampling) = asked(header)?;
    let args = TemplateArgs::from(header.template_args.clone());
    let text = Text::load_with(&*source, args).map_err(EngineError::from)?;
    let text = text.allowing_control_tokens(header.control_tokens);
    let engine = EngineOptions {
        limit,
        context_tokens: header.context_tokens,
        chunk_tokens: Some(header.chunk_tokens),
        kv: Some(header.kv_precision),
        mind: header.mind.clone(),
        degrade: header.degrade,
        base_bytes: Some(header.base_bytes),
        read_ahead,
        senses: header.senses.clone(),
        media_tokens: header.media_tokens,
        waiting_media_bytes: header.waiting_media_bytes,
        speaks: header.speech_codes.is_some(),
        codes: header.speech_codes.unwrap_or_default(),
        ..EngineOptions::default()
    };
    let plan = SessionPlan {
        text: Some(text),
        answers: AnswerPolicy {
            sampling,
            answer_tokens: header.answer_tokens,
        },
        system: header.system.clone(),
        learning: match ledger {
            Some((ledger, ticks)) => {
                Learning::Resumed(Box::new(ledger), Box::new(KeepsNothing), ticks)
            }
            None => Learning::Forgotten,
        },
        ..SessionPlan::of_engine(engine)
    };
    let session = Session::open(source, plan, loading).await?;
    if let Err(other) = of_arithmetic(header, &session) {
        session.abort().await;
        return Err(other);
    }
    Ok(session)
}

/// Whether the model that is open computes as the recorded one did.
///
/// # Errors
/// When it does not.
fn of_arithmetic(header: &TraceHeader, session: &Session) -> Result<(), ReplayError> {
    let recorded = [&header.kernels, &header.libm];
    for ((what, own), recorded) in session.arithmetic().into_iter().zip(recorded) {
        if recorded != own {
            return Err(ReplayError::Lacks(format!(
                "the run was recorded with {what} {recorded}, this program has {own}: nothing would come again bit for bit; \
                 take the program that recorded it"
            )));
        }
    }
    Ok(())
}

/// Stops at the first difference, or where the recording ends.
async fn compare(
    trace: &Path,
    reader: TraceReader,
    header: &TraceHeader,
    core: &mut Session,
    progress: &mut dyn FnMut(u64),
) -> Result<ReplayVerdict, ReplayError> {
    let comparison = ReplayComparison::new(reader)?;
    let sink = Box::new(comparison.clone());
    core.record(Tape::of_schema(sink, header.logits, header.schema));
    core.heed(Box::new(comparison.clone()));
    let mut whole = false;
    while let Some(record) = comparison.next()? {
        match record {
            TraceRecord::End { .. } => {
                whole = true;
                core.end_recording()?;
            }
            // What was shed never reached the loop.
            TraceRecord::Host { .. } => comparison.pass(),
            TraceRecord::Input {
                id, observation, ..
            } => {
                let mut observation: Observation =
                    serde_json::from_value(observation).map_err(|error| {
                        ReplayError::Lacks(format!("a recorded observation: {error}"))
                    })?;
                for medium in observation.media_mut() {
                    fill(trace, medium)?;
                }
                core.submit_as(id, observation);
            }
            _ => {
                core.tick(&mut |event| event.emit()).await?;
                progress(core.engine().tick());
            }
        }
    }
    let (lines, digest, difference) = comparison.so_far();
    Ok(ReplayVerdict {
        equal: difference.is_none(),
        lines,
        ticks: core.engine().tick(),
        whole,
        digest,
        difference,
    })
}
