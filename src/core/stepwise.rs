//! Reading a given text one token a step, decided as decode decides, or in chunks, decided as reading decides: what each
//! token costs.
//!
//! A chunk hides what residency does to a model: many tokens share the experts that are read, and neither the byte cap nor the
//! residency bias acts. One token a step is sensed, assessed, routed and learned from as a generated one is; only the token
//! that follows is given.

use std::time::{Duration, Instant};

use sage_actors::protocol::{Phase, TokenMeasure, TokenOrigin};

use super::orient::{Arrivals, Orientation};
use super::ports::{LOGIT_ROWS, Sequence};
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
    /// What the step took in which it was read: with the first token of each.
    pub forward: Option<&'a Forward>,
}

/// A reader of texts. What it has measured last is sensed with the first token of the next text.
#[derive(Debug)]
pub struct Stepwise {
    chunk_tokens: usize,
    segment: SegmentBuilder,
    carried: Arrivals,
    /// Time spent in whoever hears.
    hearing: Duration,
}

/// The tokens of one step, in a text.
struct Span<'a> {
    tokens: &'a [u32],
    first: usize,
    end: usize,
    /// Whether a segment of salience ends with it.
    ends_segment: bool,
}

impl Stepwise {
    /// A reader for a model of this width, of so many tokens a step: 1 reads as decode does, more as reading does. The engine
    /// must have been opened for chunks of as many.
    pub fn new(hidden: usize, chunk_tokens: usize) -> Self {
        Self {
            chunk_tokens: chunk_tokens.max(1),
            segment: SegmentBuilder::new(TokenOrigin::Observed, hidden),
            carried: Arrivals::default(),
            hearing: Duration::ZERO,
        }
    }

    /// Reads a text into an empty sequence; `heard` is told of every token that has a successor. Gives the time from sensing to
    /// learning, over all steps, without that of `heard`.
    ///
    /// The text arrives in observations of 32 tokens, or of a chunk where that is longer, each of them a segment of salience;
    /// the surprise of every token reaches the routers with the next step.
    ///
    /// # Errors
    /// As [`Engine::forward`], and what `heard` returns.
    pub async fn read<E: From<EngineError>>(
        &mut self,
        engine: &mut Engine,
        kv: &mut Sequence,
        tokens: &[u32],
        mut heard: impl FnMut(TokenStep<'_>) -> Result<(), E>,
    ) -> Result<Duration, E> {
        kv.truncate(0);
        let started = Instant::now();
        self.hearing = Duration::ZERO;
        let last = tokens.len().saturating_sub(1);
        let (mut first, mut arrived) = (0, 0);
        while first < last {
            if first >= arrived {
                let observation = GENERATED_SEGMENT_TOKENS.max(self.chunk_tokens);
                let arriving = (tokens.len() - first).min(observation);
                arrived = first + arriving;
                self.carried.tokens_in = arriving as u32;
                self.carried.events_in = 1;
            }
            let end = (first + self.chunk_tokens).min(arrived).min(last);
            let span = Span {
                tokens,
                first,
                end,
                ends_segment: end == arrived || end == last,
            };
            let arrivals = std::mem::take(&mut self.carried);
            drive::turn(
                engine,
                arrivals,
                async |engine: &mut Engine, orientation: &Orientation| {
                    self.step(engine, kv, &span, orientation, &mut heard).await
                },
            )
            .await?;
            first = end;
        }
        Ok(started.elapsed().saturating_sub(self.hearing))
    }

    /// Feeds the tokens of a step, whose successors are given, and learns from them.
    async fn step<E: From<EngineError>>(
        &mut self,
        engine: &mut Engine,
        kv: &mut Sequence,
        span: &Span<'_>,
        orientation: &Orientation,
        heard: &mut impl FnMut(TokenStep<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let phase = match self.chunk_tokens {
            1 => Phase::Decode,
            _ => Phase::Prefill,
        };
        let fed = &span.tokens[span.first..span.end];
        let mut forward = engine.forward(kv, fed, phase, orientation, None).await?;
        let measures = self.measure(engine, span, &forward, heard)?;
        self.segment.add(&forward, &measures, None);
        let worked = std::mem::take(&mut forward.work.worked);
        let rows: Vec<usize> = (0..fed.len()).collect();
        let learned = outcomes(TokenOrigin::Observed, worked, &rows, &measures);
        let denied = std::mem::take(&mut forward.denials.experts);
        engine.learn(orientation, learned, denied, None).await?;
        self.carried.last_token = measures.last().copied();
        if span.ends_segment {
            self.carried.segment = Some(self.segment.take());
        }
        Ok(())
    }

    /// How well each token's successor was predicted; logits of a few rows exist at a time.
    fn measure<E: From<EngineError>>(
        &mut self,
        engine: &Engine,
        span: &Span<'_>,
        forward: &Forward,
        heard: &mut impl FnMut(TokenStep<'_>) -> Result<(), E>,
    ) -> Result<Vec<TokenMeasure>, E> {
        let hidden = engine.text_config().hidden_size;
        let vocabulary = engine.text_config().vocab_size;
        let mut measures = Vec::with_capacity(span.end - span.first);
        for rows in forward.normed.chunks(hidden * LOGIT_ROWS) {
            let logits = engine.logits(rows)?;
            for logits in logits.chunks_exact(vocabulary) {
                let position = span.first + measures.len();
                let next = span.tokens[position + 1];
                let (nll, entropy) = nll_and_entropy(logits, Some(next));
                measures.push(TokenMeasure { nll, entropy });
                let told = Instant::now();
                heard(TokenStep {
                    position,
                    next,
                    logits,
                    forward: (position == span.first).then_some(forward),
                })?;
                self.hearing += told.elapsed();
            }
        }
        Ok(measures)
    }
}
