//! Full replay: the inputs again, through the model; every line must come again, byte for byte.

use std::path::Path;
use std::sync::Arc;

use super::comparison::Comparison;
use super::recording::{fill, ledger_of};
use super::{KeepsNothing, ReplayError, Verdict, asked};
use crate::core::EngineError;
use crate::core::core_loop::{CoreLoop, Observation};
use crate::kernels::{LIBM, SPEC};
use crate::session::opening::{EngineOptions, open};
use crate::store::{WeightSource, open_model};
use crate::text::Text;
use crate::text::template::TemplateArgs;
use crate::trace::{Reader, Record, Tape};

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
pub async fn verify(trace: &Path, folder: &Path) -> Result<Verdict, ReplayError> {
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
) -> Result<Verdict, ReplayError> {
    let (reader, header) = Reader::open(trace)?;
    let fingerprint = source.fingerprint()?;
    if fingerprint != header.fingerprint {
        return Err(ReplayError::Lacks(format!(
            "the model is {fingerprint}, but the recording is of {}: name the model that was recorded",
            header.fingerprint
        )));
    }
    for (what, recorded, own) in [
        ("kernels", &header.kernels, SPEC),
        ("functions", &header.libm, LIBM),
    ] {
        if recorded != own {
            return Err(ReplayError::Lacks(format!(
                "the run was recorded with {what} {recorded}, this program has {own}: nothing would come again bit for bit; \
                 take the program that recorded it"
            )));
        }
    }
    let ledger = ledger_of(trace, &header)?;
    let (limit, sampling) = asked(&header)?;
    let args = TemplateArgs::from(header.template_args.clone());
    let text = Text::load_with(&*source, args).map_err(EngineError::from)?;
    let text = text.allowing_control_tokens(header.control_tokens);
    let options = EngineOptions {
        limit,
        context_tokens: header.context_tokens,
        chunk_tokens: header.chunk_tokens,
        mind: header.mind.clone(),
        degrade: header.degrade,
        base_bytes: Some(header.base_bytes),
        read_ahead: way.read_ahead,
        senses: header.senses.clone(),
        media_tokens: header.media_tokens,
        waiting_media_bytes: header.waiting_media_bytes,
        // Nothing that is recorded speaks.
        ..EngineOptions::default()
    };
    let mut engine = open(source, options, way.loading).await?;
    if let Some((ledger, tick)) = ledger {
        engine
            .remember(ledger, Box::new(KeepsNothing), tick)
            .await?;
    }
    let mut core = CoreLoop::new(engine, text, sampling, header.answer_tokens)?;
    let verdict = compare(trace, reader, header.logits, &mut core, way.progress).await;
    core.shutdown().await;
    verdict
}

/// Stops at the first difference, or where the recording ends.
async fn compare(
    trace: &Path,
    reader: Reader,
    logits: bool,
    core: &mut CoreLoop,
    progress: &mut dyn FnMut(u64),
) -> Result<Verdict, ReplayError> {
    let comparison = Comparison::new(reader)?;
    core.record(Tape::new(Box::new(comparison.clone()), logits));
    core.heed(Box::new(comparison.clone()));
    let mut whole = false;
    while let Some(record) = comparison.next()? {
        match record {
            Record::End { .. } => {
                whole = true;
                core.end_recording()?;
            }
            // What was shed never reached the loop.
            Record::Host { .. } => comparison.pass(),
            Record::Input {
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
                core.tick(&mut |_| {}).await?;
                progress(core.engine().tick());
            }
        }
    }
    let (lines, digest, difference) = comparison.so_far();
    Ok(Verdict {
        equal: difference.is_none(),
        lines,
        ticks: core.engine().tick(),
        whole,
        digest,
        difference,
    })
}
