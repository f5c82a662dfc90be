//! Reads a prompt and goes on greedily, as the reference did.

use std::sync::Arc;

use sage_actors::protocol::Phase;

use super::recorder::Recorder;
use crate::core::forward::TokenChunk;
use crate::core::orient::Arrivals;
use crate::core::perception::Features;
use crate::core::ports::Sequence;
use crate::core::sampling::argmax;
use crate::core::scene::Scene;
use crate::core::{Engine, EngineError, Forward, Orientation, Probe, drive};

/// A prompt that was read.
pub(crate) struct Read {
    kv: Sequence,
    pub(crate) scene: Option<Arc<Scene>>,
    last: Forward,
}

/// Reads a prompt chunk by chunk; `kept` hears of every step.
pub(crate) async fn read(
    engine: &mut Engine,
    tokens: &[u32],
    features: Option<&Features>,
    recorder: &mut Recorder,
    kept: &mut dyn FnMut(&Forward),
) -> Result<Read, EngineError> {
    let mut kv = engine.new_sequence()?;
    let mut last = Forward::default();
    let scene = match features {
        Some(features) => {
            let mut heard = |name: &str, values: &[f32]| recorder.tensor(name, values);
            Some(engine.perceive(tokens, features, None, &mut heard)?)
        }
        None => None,
    };
    let mut first = 0;
    for ids in tokens.chunks(engine.chunk_tokens()) {
        let chunk = TokenChunk {
            tokens: ids,
            scene: scene.as_deref().map(|scene| (scene, first)),
            pieces: &[],
        };
        let act = async |engine: &mut Engine, orientation: &Orientation| {
            let probe: &mut dyn Probe = recorder;
            engine
                .forward_chunk(&mut kv, chunk, Phase::Prefill, orientation, Some(probe))
                .await
        };
        (_, last) = drive::turn(engine, Arrivals::default(), act).await?;
        kept(&last);
        first += ids.len();
    }
    Ok(Read { kv, scene, last })
}

/// Greedy continuation: the tokens, and the logits that each was chosen from.
pub(crate) struct Generated {
    pub(crate) tokens: Vec<u32>,
    pub(crate) logits: Vec<Vec<f32>>,
}

/// Goes on for `steps` tokens, or until `end`, which is one of them; `recorder` and `kept` hear of every step.
pub(crate) async fn greedy(
    engine: &mut Engine,
    read: &mut Read,
    steps: usize,
    end: u32,
    mut recorder: Option<&mut Recorder>,
    kept: &mut dyn FnMut(&Forward),
) -> Result<Generated, EngineError> {
    let hidden = engine.text_config().hidden_size;
    let mut out = Generated {
        tokens: Vec::new(),
        logits: Vec::new(),
    };
    let last = &read.last.normed;
    let mut logits = engine.logits(&last[last.len() - hidden..])?;
    loop {
        let token = argmax(&logits);
        out.tokens.push(token);
        out.logits.push(logits);
        if out.tokens.len() == steps || token == end {
            return Ok(out);
        }
        let act = async |engine: &mut Engine, orientation: &Orientation| {
            let probe = recorder.as_deref_mut();
            let probe = probe.map(|recorder| recorder as &mut dyn Probe);
            engine
                .forward(&mut read.kv, &[token], Phase::Decode, orientation, probe)
                .await
        };
        let (_, forward) = drive::turn(engine, Arrivals::default(), act).await?;
        kept(&forward);
        logits = engine.logits(&forward.normed)?;
    }
}
