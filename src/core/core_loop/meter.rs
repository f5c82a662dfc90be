//! What one request took.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::core::{Engine, Forward};

/// What one request took, by the counters and by the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RequestCost {
    /// Tokens that were read for it.
    pub prompt_tokens: usize,
    /// Tokens of the answer, stop tokens not included.
    pub answer_tokens: usize,
    /// Mean loss of what was read, nats; where it was measured.
    pub prompt_loss: Option<f64>,
    /// Until the first token of the answer was there.
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
}

/// Counters of the engine up to a moment.
#[derive(Clone, Copy, Debug)]
struct Marks {
    at: Instant,
    waits_avoided: u64,
    stall: Duration,
    asks: u64,
    asking: Duration,
}

impl Marks {
    fn of(engine: &Engine, waits_avoided: u64) -> Self {
        Self {
            at: Instant::now(),
            waits_avoided,
            stall: engine.stall_time(),
            asks: engine.asked().asks,
            asking: engine.asked().time,
        }
    }
}

/// Measures a request on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    reading: Option<Instant>,
    prompt_tokens: usize,
    prompt_loss: Option<f64>,
    answering: Option<Marks>,
    prefill: Duration,
    hits: u64,
    misses: u64,
    miss_bytes: u64,
}

impl Meter {
    /// Reading begins; a context that was lost is read again.
    pub(super) fn begin_reading(&mut self) {
        self.prompt_tokens = 0;
        self.reading.get_or_insert_with(Instant::now);
    }

    /// A part of the prompt was read.
    pub(super) fn read(&mut self, tokens: usize, mean_loss: Option<f64>) {
        self.prompt_tokens += tokens;
        self.prompt_loss = mean_loss;
    }

    /// The first token can be chosen.
    pub(super) fn begin_answering(&mut self, engine: &Engine, waits_avoided: u64) {
        self.prefill = self.reading.map_or(Duration::ZERO, |began| began.elapsed());
        self.answering = Some(Marks::of(engine, waits_avoided));
    }

    /// A token of the answer was fed.
    pub(super) fn decoded(&mut self, forward: &Forward) {
        self.hits += forward.traffic.hits;
        self.misses += forward.traffic.misses;
        self.miss_bytes += forward.traffic.miss_bytes;
    }

    /// At the end of an answer of so many tokens.
    pub(super) fn cost(&self, engine: &Engine, tokens: usize, waits_avoided: u64) -> RequestCost {
        let prefill = self.prefill.as_secs_f64();
        let read = RequestCost {
            prompt_tokens: self.prompt_tokens,
            answer_tokens: tokens,
            prompt_loss: self.prompt_loss,
            time_to_first_token_ms: prefill * 1e3,
            prefill_tokens_per_second: rate(self.prompt_tokens as f64, prefill),
            ..RequestCost::default()
        };
        let Some(before) = self.answering else {
            return read;
        };
        let after = Marks::of(engine, waits_avoided);
        let seconds = (after.at - before.at).as_secs_f64();
        let fed = tokens.saturating_sub(1).max(1) as f64;
        let asking = (after.asking - before.asking).as_secs_f64();
        RequestCost {
            decode_tokens_per_second: rate(fed, seconds),
            decode_hit_rate: self.hits as f64 / (self.hits + self.misses).max(1) as f64,
            decode_waits_avoided: after.waits_avoided - before.waits_avoided,
            decode_bytes_per_token: self.miss_bytes as f64 / fed,
            stall_ms_per_token: (after.stall - before.stall).as_secs_f64() * 1e3 / fed,
            asks_per_token: (after.asks - before.asks) as f64 / fed,
            asks_ms_per_token: asking * 1e3 / fed,
            asks_share: if seconds > 0.0 { asking / seconds } else { 0.0 },
            ..read
        }
    }
}

fn rate(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}
