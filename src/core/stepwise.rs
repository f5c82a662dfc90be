//! Reading a given text one token a step, decided as decode decides: what each token costs on its own.
//!
//! A batch hides what residency does to a model: many tokens share the experts that are read. Here every token is
//! sensed, assessed, routed under the byte cap and the residency bias, and learned from, as a generated one is; only
//! the token that follows is given.

use std::time::{Duration, Instant};

use sage_actors::protocol::{Phase, TokenMeasure, TokenOrigin};

use super::orient::{Arrivals, Orientation};
use super::ports::Sequence;
use super::prediction::nll_and_entropy;
use super::reading::{GENERATED_SEGMENT_TOKENS, outcomes};
use super::segment::SegmentBuilder;
use super::{Engine, EngineError, Forward, drive};

/// One token read.
#[derive(Debug)]
pub struct TokenStep<'a> {
    /// Its position in the text.
    pub position: usize,
    /// The token that follows.
    pub next: u32,
    /// What was predicted to follow, `[vocabulary]`.
    pub logits: &'a [f32],
    /// What the step took.
    pub forward: &'a Forward,
    /// Time from sensing to learning.
    pub elapsed: Duration,
}

/// A reader of texts. What it has measured last is sensed with the first token of the next text.
#[derive(Debug)]
pub struct Stepwise {
    segment: SegmentBuilder,
    carried: Arrivals,
}

impl Stepwise {
    /// A reader for a model of this width.
    pub fn new(hidden: usize) -> Self {
        Self {
            segment: SegmentBuilder::new(TokenOrigin::Observed, hidden),
            carried: Arrivals::default(),
        }
    }

    /// Reads a text into an empty sequence; `heard` is told of every token that has a successor.
    ///
    /// The text arrives in observations of 32 tokens, each of them a segment of salience; the surprise of every token
    /// reaches the routers with the next.
    ///
    /// # Errors
    /// As [`Engine::forward`], and what `heard` returns.
    pub async fn read<E: From<EngineError>>(
        &mut self,
        engine: &mut Engine,
        kv: &mut Sequence,
        tokens: &[u32],
        mut heard: impl FnMut(TokenStep<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        kv.truncate(0);
        for (position, pair) in tokens.windows(2).enumerate() {
            let [token, next] = *pair else { continue };
            let started = Instant::now();
            if position % GENERATED_SEGMENT_TOKENS == 0 {
                let arriving = (tokens.len() - position).min(GENERATED_SEGMENT_TOKENS);
                self.carried.tokens_in = arriving as u32;
                self.carried.events_in = 1;
            }
            let arrivals = std::mem::take(&mut self.carried);
            let last = position + 2 == tokens.len();
            let (_, (forward, logits)) = drive::turn(
                engine,
                arrivals,
                async |engine: &mut Engine, orientation: &Orientation| {
                    self.step(engine, kv, (token, next), orientation, last)
                        .await
                },
            )
            .await?;
            heard(TokenStep {
                position,
                next,
                logits: &logits,
                forward: &forward,
                elapsed: started.elapsed(),
            })?;
        }
        Ok(())
    }

    /// Feeds one token, whose successor is given, and learns from it.
    async fn step(
        &mut self,
        engine: &mut Engine,
        kv: &mut Sequence,
        (token, next): (u32, u32),
        orientation: &Orientation,
        last: bool,
    ) -> Result<(Forward, Vec<f32>), EngineError> {
        let mut forward = engine
            .forward(kv, &[token], Phase::Decode, orientation, None)
            .await?;
        let logits = engine.logits(&forward.normed)?;
        let (nll, entropy) = nll_and_entropy(&logits, Some(next));
        let measure = TokenMeasure { nll, entropy };
        self.segment.add(&forward, &[measure], None);
        let worked = std::mem::take(&mut forward.work.worked);
        let learned = outcomes(TokenOrigin::Observed, worked, &[0], &[measure]);
        let denied = std::mem::take(&mut forward.denials.experts);
        engine.learn(orientation, learned, denied, None).await?;
        self.carried.last_token = Some(measure);
        if last || self.segment.rows() == GENERATED_SEGMENT_TOKENS {
            self.carried.segment = Some(self.segment.take());
        }
        Ok((forward, logits))
    }
}
