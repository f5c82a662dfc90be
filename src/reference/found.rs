//! What the running model computes, to be compared.

use crate::core::{Engine, EngineError};
use crate::goldens::recorder::Recorder;
use crate::goldens::{Generated, greedy, read};

/// Everything that the running model computed for a prompt, and how it went on.
pub struct PromptRun {
    /// The prompt.
    pub(super) prompt: Vec<u32>,
    pub(super) recorder: Recorder,
    /// The greedy continuation, where one was asked for.
    pub(super) generated: Option<Generated>,
}

impl PromptRun {
    /// Tokens that the reference has to run: the prompt, and of the continuation all but the last.
    pub fn tokens(&self) -> Vec<u32> {
        let said = self.said();
        [&self.prompt, &said[..said.len().saturating_sub(1)]].concat()
    }

    pub fn said(&self) -> &[u32] {
        self.generated
            .as_ref()
            .map_or(&[], |generated| &generated.tokens)
    }
}

/// Runs the model on a prompt, chunk by chunk, and goes on greedily for `steps` tokens, or until its end token, which is one
/// of them; with 0 it only reads.
///
/// # Errors
/// When a token is unknown, the context is full, or an expert cannot be read.
pub async fn listen(
    engine: &mut Engine,
    prompt: &[u32],
    steps: usize,
) -> Result<PromptRun, EngineError> {
    let mut recorder = Recorder::default();
    let mut so_far = read(engine, prompt, None, &mut recorder, &mut |_| ()).await?;
    let generated = if steps > 0 {
        // Where nothing ends an answer, no token is this one.
        let end = engine.source.config().end_token_id().unwrap_or(u32::MAX);
        let heard = Some(&mut recorder);
        Some(greedy(engine, &mut so_far, steps, end, heard, &mut |_| ()).await?)
    } else {
        None
    };
    Ok(PromptRun {
        prompt: prompt.to_vec(),
        recorder,
        generated,
    })
}
