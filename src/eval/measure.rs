//! Inside an arm's process: reading the documents and answering the items, measured.

use std::ops::ControlFlow;
use std::time::Instant;

use super::EvalError;
use super::metrics::{DocumentResult, Prediction};
use super::scratch::Scratch;
use super::worker::{ItemAnswer, Message};
use crate::core::generate::{Request, generate};
use crate::core::sampling::Sampling;
use crate::core::stepwise::Stepwise;
use crate::core::{Engine, EngineError};

/// Who hears of what was measured.
pub(super) type Tell<'a> = &'a mut dyn FnMut(Message) -> Result<(), EvalError>;

/// Reads every document; the oracle leaves its logits, an arm is compared with them.
pub(super) async fn texts(
    engine: &mut Engine,
    scratch: &mut Scratch,
    oracle: bool,
    tell: Tell<'_>,
) -> Result<(), EvalError> {
    let mut reader = Stepwise::new(engine.thinker.config.hidden_size);
    let mut kv = engine.new_sequence()?;
    let mut expected = Vec::new();
    for document in 0..scratch.documents() {
        let tokens = scratch.document(document)?;
        let mut result = DocumentResult::default();
        reader
            .read(engine, &mut kv, &tokens, |step| {
                let found = Prediction::new(step.logits);
                result.tokens += 1;
                result.nll += found.nll(step.next);
                result.hits += step.forward.hits;
                result.misses += step.forward.misses;
                result.miss_bytes += step.forward.miss_bytes;
                result.denied_mass += f64::from(step.forward.denied_mass);
                // What follows is the judge's own work, and is not counted.
                result.seconds += step.elapsed.as_secs_f64();
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
        tell(Message::Document(result))?;
    }
    Ok(())
}

/// Answers every item as a request is answered: the prompt in chunks, then greedily token by token.
pub(super) async fn tasks(
    engine: &mut Engine,
    scratch: &Scratch,
    answer_tokens: usize,
    stop: &[u32],
    tell: Tell<'_>,
) -> Result<(), EvalError> {
    for item in 0..scratch.items() {
        let request = Request {
            tokens: scratch.item(item)?,
            sensed: None,
            sampling: Sampling::GREEDY,
            max_tokens: answer_tokens,
            stop: stop.to_vec(),
            measure: true,
        };
        let before = engine.mind.cache_stats().await.map_err(EngineError::from)?;
        let started = Instant::now();
        let generation = generate(engine, &request, |_, _| ControlFlow::Continue(())).await?;
        let seconds = started.elapsed().as_secs_f64();
        let after = engine.mind.cache_stats().await.map_err(EngineError::from)?;
        tell(Message::Item(ItemAnswer {
            tokens: (generation.prompt_tokens + generation.answer_tokens) as u64,
            answer: generation.tokens,
            hits: after.hits - before.hits,
            misses: after.misses - before.misses,
            miss_bytes: after.miss_bytes - before.miss_bytes,
            seconds,
        }))?;
    }
    Ok(())
}
