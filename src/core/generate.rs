//! One answer to one prompt.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use sage_actors::protocol::{CacheStats, Origin, Senses, State};
use serde::Serialize;

use super::asked::Asked;
use super::orient::{Arrivals, Orientation};
use super::perception::Sensed;
use super::reading::{Answering, GENERATED_SEGMENT_TOKENS, Reading};
use super::sampling::Sampling;
use super::segment::SegmentBuilder;
use super::speech::{Said, Turn};
use super::{Engine, EngineError};
use crate::events::Ended;

/// What to answer, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt; placeholders repeated.
    pub tokens: Vec<u32>,
    /// What is heard and seen in it.
    pub sensed: Option<Sensed>,
    /// Choice of tokens.
    pub sampling: Sampling,
    /// At most this many.
    pub max_tokens: usize,
    /// Tokens that end the answer; none: only its length does.
    pub stop: Vec<u32>,
    /// Measure the loss of the prompt for the mind's salience; an exact run needs none of it.
    pub measure: bool,
}

/// What a generation took.
#[derive(Clone, Debug, Serialize)]
pub struct Generation {
    /// The answer.
    #[serde(skip)]
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub ended: Ended,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub answer_tokens: usize,
    /// Mean loss of the prompt, nats; where it was measured.
    pub prompt_loss: Option<f64>,
    /// Until the first token was there.
    pub time_to_first_token_ms: f64,
    /// Prompt tokens a second.
    pub prefill_tokens_per_second: f64,
    /// Answer tokens a second after the first.
    pub decode_tokens_per_second: f64,
    /// Share of routed experts that were resident, decode only.
    pub decode_hit_rate: f64,
    /// Misses whose expert had been read ahead, decode only: no hit in any decision, and nothing to wait for.
    pub decode_waits_avoided: u64,
    /// Logical bytes missed per decoded token.
    pub decode_bytes_per_token: f64,
    /// Time the engine waited for reads, per decoded token.
    pub stall_ms_per_token: f64,
    /// Asks of actors per decoded token.
    pub asks_per_token: f64,
    /// Time that these asks took, per decoded token.
    pub asks_ms_per_token: f64,
    /// The same as a share of the time of decoding.
    pub asks_share: f64,
    /// The state at the end.
    pub state: State,
    /// What the talker hears of it, where the engine speaks.
    #[serde(skip)]
    pub said: Option<Said>,
}

/// States that are too shallow to read a prompt in, and how long to wait for a deeper one.
pub(crate) const SETTLE_TICKS: u32 = 16;

/// Reads the prompt and answers it; `on_token` hears of every token and may break off.
///
/// # Errors
/// When the prompt is empty or does not fit, an expert cannot be read, or an actor failed.
pub async fn generate(
    engine: &mut Engine,
    request: &Request,
    mut on_token: impl FnMut(u32, &Orientation) -> ControlFlow<()>,
) -> Result<Generation, EngineError> {
    if request.tokens.is_empty() {
        return Err(EngineError::EmptyPrompt);
    }
    let mut kv = engine.new_sequence()?;
    let hidden = engine.thinker.config.hidden_size;
    let (mut orientation, felt) = attend_to_request(engine, request).await?;
    let started = Instant::now();
    let scene = match &request.sensed {
        Some(sensed) => {
            let features = &sensed.features;
            Some(engine.perceive(&request.tokens, features, felt, &mut |_, _| {})?)
        }
        None => None,
    };
    let mut reading = Reading::of_scene(request.tokens.clone(), scene, hidden, request.measure);
    let mut said = engine.voice.is_some().then(|| {
        let features = request.sensed.as_ref().map(|sensed| &sensed.features);
        let answer_tokens = request.max_tokens.min(engine.context_tokens);
        Said::new(&request.tokens, features, answer_tokens, hidden)
    });
    let mut prompt_loss = None;
    while !reading.is_done() {
        let step = reading.step(engine, &mut kv, &orientation).await?;
        if let Some(said) = &mut said {
            said.read(&step.forward);
        }
        prompt_loss = reading.mean_loss();
        let segment = (reading.is_done() && request.measure).then(|| reading.segment());
        orientation = engine
            .orient(Arrivals {
                open_requests: 1,
                segment,
                unfinished: request.measure && !reading.is_done(),
                ..Arrivals::default()
            })
            .await?;
    }
    let logits = reading.logits(engine);
    let first_token_after = started.elapsed();
    let mut answering = Answering::new(
        logits,
        request.sampling,
        request.stop.clone(),
        request.max_tokens,
    );
    let mut own = SegmentBuilder::new(Origin::Generated, hidden);
    let before = Counters::of(engine).await?;
    let decoding = Instant::now();
    while answering.ended.is_none() {
        if orientation.directives.end_answer {
            answering.ended = Some(Ended::Depletion);
            break;
        }
        let mut arrivals = Arrivals {
            open_requests: 1,
            ..Arrivals::default()
        };
        if orientation.directives.may_step {
            let step = answering.step(engine, &mut kv, &orientation).await?;
            if let Some(forward) = &step.forward {
                own.add(forward, &[step.measure], None);
                if let Some(said) = &mut said {
                    said.wrote(forward);
                }
            }
            arrivals.last_token = Some(step.measure);
            arrivals.segment = (own.rows() >= GENERATED_SEGMENT_TOKENS).then(|| own.take());
            if let Some(token) = step.token
                && on_token(token, &orientation).is_break()
            {
                answering.ended.get_or_insert(Ended::Interrupted);
            }
        } else {
            engine.idle(1);
        }
        orientation = engine.orient(arrivals).await?;
    }
    let decoded_in = decoding.elapsed();
    let after = Counters::of(engine).await?;
    if let Some(said) = &mut said {
        said.turn = Turn::of(&orientation);
    }
    let generation = summary(
        request,
        &answering,
        prompt_loss,
        first_token_after,
        decoded_in,
        before,
        after,
        &orientation,
    );
    Ok(Generation { said, ..generation })
}

/// Tells the mind of the request, and lets time pass until it attends to it.
/// Also returns how the request's sounds and pictures felt as they arrived.
async fn attend_to_request(
    engine: &mut Engine,
    request: &Request,
) -> Result<(Orientation, Option<Senses>), EngineError> {
    let sensed = request.sensed.as_ref();
    let perceiving = sensed.map(Sensed::senses).unwrap_or_default();
    let arrivals = Arrivals {
        tokens_in: request.tokens.len() as u32,
        events_in: 1,
        open_requests: 1,
        stimuli: sensed.map_or(Vec::new(), |sensed| sensed.stimuli.clone()),
        perceiving: perceiving.clone(),
        ..Arrivals::default()
    };
    let mut orientation = engine.orient(arrivals).await?;
    let felt = orientation.report.senses;
    for _ in 0..SETTLE_TICKS {
        if matches!(orientation.directives.state, State::Focus | State::Threat) {
            break;
        }
        engine.idle(1);
        orientation = engine
            .orient(Arrivals {
                open_requests: 1,
                perceiving: perceiving.clone(),
                ..Arrivals::default()
            })
            .await?;
    }
    Ok((orientation, felt))
}

/// What has been counted up to a moment.
struct Counters {
    cache: CacheStats,
    stall: Duration,
    asked: Asked,
}

impl Counters {
    async fn of(engine: &Engine) -> Result<Self, EngineError> {
        Ok(Self {
            cache: engine.mind.cache_stats().await?,
            stall: engine.arena.telemetry().stall_time,
            asked: engine.asked,
        })
    }
}

#[allow(clippy::too_many_arguments)] // one number each, all of one report
fn summary(
    request: &Request,
    answering: &Answering,
    prompt_loss: Option<f64>,
    prefill: Duration,
    decode: Duration,
    before: Counters,
    after: Counters,
    orientation: &Orientation,
) -> Generation {
    let fed = answering.tokens.len().saturating_sub(1).max(1) as f64;
    let (hits, misses) = (
        after.cache.hits - before.cache.hits,
        after.cache.misses - before.cache.misses,
    );
    let asking = after.asked.time - before.asked.time;
    Generation {
        tokens: answering.tokens.clone(),
        ended: answering.ended.unwrap_or(Ended::Interrupted),
        prompt_tokens: request.tokens.len(),
        answer_tokens: answering.tokens.len(),
        prompt_loss,
        time_to_first_token_ms: prefill.as_secs_f64() * 1e3,
        prefill_tokens_per_second: request.tokens.len() as f64 / prefill.as_secs_f64(),
        decode_tokens_per_second: fed / decode.as_secs_f64(),
        decode_hit_rate: hits as f64 / (hits + misses).max(1) as f64,
        decode_waits_avoided: after.cache.waits_avoided - before.cache.waits_avoided,
        decode_bytes_per_token: (after.cache.miss_bytes - before.cache.miss_bytes) as f64 / fed,
        stall_ms_per_token: (after.stall - before.stall).as_secs_f64() * 1e3 / fed,
        asks_per_token: (after.asked.asks - before.asked.asks) as f64 / fed,
        asks_ms_per_token: asking.as_secs_f64() * 1e3 / fed,
        asks_share: asking.as_secs_f64() / decode.as_secs_f64(),
        state: orientation.directives.state,
        said: None,
    }
}
