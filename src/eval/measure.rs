//! Inside an arm's process: reading the documents and answering the items, measured.

use std::time::Instant;

use super::EvalError;
use super::message::{ItemAnswer, WorkerMessage};
use super::metrics::{DocumentResult, Prediction};
use super::scratch::Scratch;
use crate::core::request::{Request, RequestContent, Stop};
use crate::core::stepwise::Stepwise;
use crate::core::{Engine, EngineError};
use crate::session::Session;

/// Who hears of what was measured.
pub(super) type Tell<'a> = &'a mut dyn FnMut(WorkerMessage) -> Result<(), EvalError>;

/// Reads every document; the oracle leaves its logits, an arm is compared with them.
pub(super) async fn texts(
    engine: &mut Engine,
    scratch: &mut Scratch,
    chunk_tokens: usize,
    oracle: bool,
    tell: Tell<'_>,
) -> Result<(), EvalError> {
    let mut reader = Stepwise::new(engine.text_config().hidden_size, chunk_tokens);
    let mut kv = engine.new_sequence()?;
    let mut expected = Vec::new();
    for document in 0..scratch.documents() {
        let tokens = scratch.document(document)?;
        let mut result = DocumentResult::default();
        let took = reader
            .read(engine, &mut kv, &tokens, |step| {
                let found = Prediction::new(step.logits);
                result.tokens += 1;
                result.nll += found.nll(step.next);
                if let Some(forward) = step.forward {
                    result.hits += forward.traffic.hits;
                    result.misses += forward.traffic.misses;
                    result.miss_bytes += forward.traffic.miss_bytes;
                    result.denied_mass += f64::from(forward.denials.mass);
                }
                if oracle {
                    result.agreed += 1;
                    return scratch.write_logits(document, step.position, step.logits);
                }
                scratch.read_logits(document, step.position, &mut expected)?;
                let wanted = Prediction::new(&expected);
                result.kl += wanted.divergence(&found);
                result.agreed += u64::from(wanted.best() == found.best());
                Ok(())
            })
            .await?;
        // The judge's own work is not counted.
        result.seconds = took.as_secs_f64();
        tell(WorkerMessage::Document(result))?;
    }
    Ok(())
}

/// Answers every item as a request is answered: the prompt in chunks, then greedily token by token.
pub(super) async fn tasks(
    session: &mut Session,
    scratch: &Scratch,
    answer_tokens: usize,
    tell: Tell<'_>,
) -> Result<(), EvalError> {
    for item in 0..scratch.items() {
        let content = RequestContent::Tokens {
            media: Vec::new(),
            tokens: scratch.item(item)?,
        };
        let request = Request {
            max_tokens: Some(answer_tokens),
            stop: Stop::Model,
            ..Request::new("item", content)
        };
        let stats = session.engine().mind.cache_stats();
        let before = stats.await.map_err(EngineError::from)?;
        let started = Instant::now();
        let (answer, _) = session.answer(request, None, &mut |_| true).await?;
        let seconds = started.elapsed().as_secs_f64();
        let stats = session.engine().mind.cache_stats();
        let after = stats.await.map_err(EngineError::from)?;
        tell(WorkerMessage::Item(ItemAnswer {
            tokens: (answer.cost.prompt_tokens + answer.tokens.len()) as u64,
            answer: answer.tokens,
            hits: after.hits - before.hits,
            misses: after.misses - before.misses,
            miss_bytes: after.miss_bytes - before.miss_bytes,
            seconds,
        }))?;
    }
    Ok(())
}
