//! Opening the model, the mind and the ledger of an embedded loop.

use std::path::Path;
use std::sync::Arc;

use super::builder::CONTEXT_TOKENS;
use super::driver::Plan;
use super::error::BuildError;
use crate::core::core_loop::CoreLoop;
use crate::core::{Engine, EngineError};
use crate::events::Mode;
use crate::ledger::{About, LedgerError, LedgerFile};
use crate::replay;
use crate::session::mode::mode;
use crate::session::opening::{EngineOptions, open};
use crate::store::open_model;
use crate::text::Text;
use crate::trace::SensorMode;

/// The loop that was planned, and the line that says which mode it runs in.
pub(super) async fn core_loop(plan: &Plan) -> Result<(CoreLoop, Mode), BuildError> {
    let source = Arc::from(open_model(&plan.model).map_err(EngineError::from)?);
    let text = Text::load_with(&*source, plan.template_args.clone()).map_err(EngineError::from)?;
    let text = text.allowing_control_tokens(plan.control_tokens);
    let longest = source.config().thinker.text.max_position_embeddings;
    let context_tokens = match plan.options.context_tokens {
        0 => CONTEXT_TOKENS.min(longest),
        declared => declared,
    };
    let options = EngineOptions {
        context_tokens,
        ..plan.options.clone()
    };
    if plan.answer_tokens >= context_tokens {
        return Err(BuildError::Value {
            name: "answer_tokens",
            value: format!("{} in a context of {context_tokens}", plan.answer_tokens),
            expected: "fewer than .context_tokens, so that a question fits beside its answer",
        });
    }
    let mut engine = open(source, options, |_, _| ()).await?;
    let mut mode = mode(&engine, &plan.options.mind)?;
    let ledger = match &plan.ledger {
        Some(path) => {
            let (about, _) = go_on_from::<BuildError>(&mut engine, &mut mode, path).await?;
            Some(about)
        }
        None => None,
    };
    let tape = match &plan.record {
        Some(path) => {
            let about = replay::About {
                name: "embedded".to_owned(),
                sampling: plan.sampling,
                answer_tokens: plan.answer_tokens,
                degrade: plan.options.degrade,
                sensors: SensorMode::Live,
                logits: plan.record_logits,
                control_tokens: plan.control_tokens,
                template_args: text.template().args().clone(),
            };
            Some(replay::begin(path, &engine, about, ledger.as_ref()).await?)
        }
        None => None,
    };
    let mut core = CoreLoop::new(engine, text, plan.sampling, plan.answer_tokens)?;
    if let Some(tape) = tape {
        core.record(tape);
    }
    Ok((core, mode))
}

/// Puts the ledger at `path` in use, and into the line that says which mode runs; made if it is not there. Call before the
/// first step. Answers what it is, and the bytes at its log's end that were no whole entry.
pub(crate) async fn go_on_from<E>(
    engine: &mut Engine,
    mode: &mut Mode,
    path: &Path,
) -> Result<(About, u64), E>
where
    E: From<EngineError> + From<LedgerError>,
{
    // The ledger of this run has not learned anything yet.
    let fresh = engine.mind.trust_state().await.map_err(EngineError::from)?;
    let (file, ledger) = LedgerFile::open_for(path, &mode.fingerprint, &fresh)?;
    let (about, torn_bytes) = (file.about().clone(), file.torn_bytes());
    engine.remember(ledger, Box::new(file), about.tick).await?;
    mode.text += &about.words(path);
    mode.ledger = Some(path.to_owned());
    Ok((about, torn_bytes))
}
