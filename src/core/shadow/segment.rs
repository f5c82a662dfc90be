//! A segment on its way through its base pass and its batches.

use std::collections::BTreeMap;

use sage_actors::protocol::{ExpertUse, Scored};

use tracing::Instrument;

use super::bench::Shadow;
use super::layers::AblationRow;
use super::sizes::VARIANTS;
use crate::core::engine::Engine;
use crate::core::error::EngineError;
use crate::core::ports::{Decoder, DecoderInput, InputRows, LOGIT_ROWS, PlainRows};
use crate::core::prediction::nll_and_entropy;
use crate::model::Positions;
use crate::spans;

/// What a stride gave.
#[derive(Clone, Debug, PartialEq)]
pub enum AblationStep {
    /// There is more to do of what was begun.
    On,
    /// The base pass is complete: experts can be denied.
    Based,
    /// A batch is complete.
    Scored(Vec<Scored>),
    /// Nothing was begun.
    Idle,
}

/// Runs of one batch: experts of one layer, each denied in a run of its own.
#[derive(Debug)]
struct Batch {
    /// The layer that the experts belong to.
    layer: usize,
    /// The layer that runs next.
    next: usize,
    /// Each with the tokens that had used it and whose successor is known.
    denied: Vec<(u16, Vec<usize>)>,
    /// `[denied, tokens, hidden]`.
    streams: Vec<f32>,
}

/// Recorded tokens that are scored.
#[derive(Debug)]
pub struct AblationSegment {
    tokens: Vec<u32>,
    /// Residual stream at the entry of each layer, and behind the last: `[tokens, hidden]` each.
    streams: Vec<Vec<f32>>,
    /// By layer: who was chosen by which tokens.
    users: Vec<BTreeMap<u16, Vec<usize>>>,
    /// Loss of every token that has a successor, nats; once the base pass is complete.
    losses: Vec<f32>,
    batch: Option<Batch>,
}

impl AblationSegment {
    /// A segment of at least two tokens (fewer give nothing to score); more than the shadow takes are cut off.
    ///
    /// # Errors
    /// A token that the model does not have.
    pub fn new(engine: &Engine, shadow: &Shadow, tokens: &[u32]) -> Result<Self, EngineError> {
        let vocabulary = engine.text_config().vocab_size;
        let tokens = &tokens[..tokens.len().min(shadow.segment_tokens())];
        if let Some(id) = tokens.iter().find(|id| **id as usize >= vocabulary) {
            return Err(EngineError::UnknownToken {
                id: *id,
                vocabulary,
            });
        }
        Ok(Self {
            tokens: tokens.to_vec(),
            streams: Vec::new(),
            users: Vec::new(),
            losses: Vec::new(),
            batch: None,
        })
    }

    /// Tokens in it.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Losses of its tokens as the exact model predicts them, nats; empty before the base pass is complete.
    pub fn losses(&self) -> &[f32] {
        &self.losses
    }

    /// Whether the base pass is complete.
    pub fn is_based(&self) -> bool {
        !self.losses.is_empty()
    }

    /// Experts that were used by tokens whose successor is known, by layer and number.
    pub fn used(&self) -> Vec<ExpertUse> {
        let mut used = Vec::new();
        for (layer, users) in self.users.iter().enumerate() {
            for (expert, rows) in users {
                let known = rows.iter().filter(|row| **row < self.losses.len());
                let (layer, tokens) = (layer as u16, known.count() as u32);
                if tokens > 0 {
                    used.push(ExpertUse {
                        layer,
                        expert: *expert,
                        tokens,
                    });
                }
            }
        }
        used
    }

    /// Tokens, by their position, that used an expert and whose successor is known.
    pub fn users(&self, layer: u16, expert: u16) -> Vec<usize> {
        let layer = self.users.get(usize::from(layer));
        let users = layer.and_then(|users| users.get(&expert));
        let users = users.into_iter().flatten().copied();
        users.filter(|user| *user < self.losses.len()).collect()
    }

    /// Begins a batch: at most [`VARIANTS`] experts of one layer. What the segment did not use is left out.
    pub fn deny(&mut self, layer: u16, experts: &[u16]) {
        let experts = experts.iter().take(VARIANTS);
        let denied: Vec<(u16, Vec<usize>)> = experts
            .map(|expert| (*expert, self.users(layer, *expert)))
            .filter(|(_, users)| !users.is_empty())
            .collect();
        let layer = usize::from(layer);
        self.batch = (!denied.is_empty()).then(|| Batch {
            layer,
            next: layer,
            denied,
            streams: Vec::new(),
        });
    }

    /// What the next stride costs, in tokens through the whole model.
    pub fn cost(&self, layers: usize) -> f64 {
        let runs = self.batch.as_ref().map_or(1, |batch| batch.denied.len());
        (runs * self.tokens.len()) as f64 / layers.max(1) as f64
    }

    /// Runs one layer of what was begun.
    ///
    /// # Errors
    /// When an expert cannot be read.
    pub async fn stride(
        &mut self,
        engine: &Engine,
        shadow: &mut Shadow,
    ) -> Result<AblationStep, EngineError> {
        let span = spans::stride(self.tokens.len());
        self.run_stride(engine, shadow).instrument(span).await
    }

    async fn run_stride(
        &mut self,
        engine: &Engine,
        shadow: &mut Shadow,
    ) -> Result<AblationStep, EngineError> {
        let thinker = &*engine.body.thinker;
        if self.tokens.len() < 2 {
            return Ok(AblationStep::Idle);
        }
        if !self.is_based() {
            return self.base(thinker, shadow).await;
        }
        let Some(mut batch) = self.batch.take() else {
            return Ok(AblationStep::Idle);
        };
        let layers = thinker.config().num_hidden_layers;
        if batch.next == batch.layer {
            self.begin(thinker, shadow, &mut batch).await?;
        } else {
            shadow.attend(thinker, batch.next, &mut batch.streams, self.tokens.len())?;
            let last = batch.next + 1 == layers;
            let rows = batch.rows(self.tokens.len(), last);
            shadow
                .feed_forward(thinker, batch.next, &mut batch.streams, &rows)
                .await?;
        }
        batch.next += 1;
        if batch.next < layers {
            self.batch = Some(batch);
            return Ok(AblationStep::On);
        }
        Ok(AblationStep::Scored(self.scores(thinker, &batch)?))
    }

    /// One layer of the base pass.
    async fn base(
        &mut self,
        thinker: &dyn Decoder,
        shadow: &mut Shadow,
    ) -> Result<AblationStep, EngineError> {
        if self.streams.is_empty() {
            let input = DecoderInput {
                rows: InputRows::Tokens {
                    ids: &self.tokens,
                    replaced: Vec::new(),
                },
                positions: &Positions::text(0, self.tokens.len()),
            };
            self.streams.push(thinker.embed(input)?.into_numbers()?);
        }
        let layer = self.streams.len() - 1;
        let mut stream = self.streams[layer].clone();
        shadow.attend(thinker, layer, &mut stream, self.tokens.len())?;
        let rows: Vec<AblationRow> = (0..self.tokens.len())
            .map(|at| AblationRow { at, denied: None })
            .collect();
        let choices = shadow.feed_forward(thinker, layer, &mut stream, &rows);
        let choices = choices.await?;
        let mut users = BTreeMap::<u16, Vec<usize>>::new();
        for (row, choice) in choices.iter().enumerate() {
            for chosen in choice {
                users.entry(chosen.expert).or_default().push(row);
            }
        }
        self.users.push(users);
        self.streams.push(stream);
        if layer + 1 < thinker.config().num_hidden_layers {
            return Ok(AblationStep::On);
        }
        let rows: Vec<usize> = (0..self.tokens.len() - 1).collect();
        let end = &self.streams[layer + 1];
        self.losses = losses(thinker, end, &rows, &self.tokens)?;
        Ok(AblationStep::Based)
    }

    /// The layer of the denied experts: only the tokens that had used one differ from the base pass behind it.
    async fn begin(
        &self,
        thinker: &dyn Decoder,
        shadow: &mut Shadow,
        batch: &mut Batch,
    ) -> Result<(), EngineError> {
        let (layer, tokens) = (batch.layer, self.tokens.len());
        let hidden = thinker.config().hidden_size;
        let mut attended = self.streams[layer].clone();
        shadow.attend(thinker, layer, &mut attended, tokens)?;
        batch.streams = self.streams[layer + 1].repeat(batch.denied.len());
        let mut rows = Vec::new();
        let users = &self.users[layer];
        for (run, (expert, _)) in batch.denied.iter().enumerate() {
            for row in users.get(expert).into_iter().flatten() {
                let at = run * tokens + row;
                batch.streams[at * hidden..(at + 1) * hidden]
                    .copy_from_slice(&attended[row * hidden..(row + 1) * hidden]);
                let denied = Some(*expert);
                rows.push(AblationRow { at, denied });
            }
        }
        shadow
            .feed_forward(thinker, layer, &mut batch.streams, &rows)
            .await?;
        Ok(())
    }

    fn scores(&self, thinker: &dyn Decoder, batch: &Batch) -> Result<Vec<Scored>, EngineError> {
        let hidden = thinker.config().hidden_size;
        let runs = batch.streams.chunks_exact(self.tokens.len() * hidden);
        let score = |((expert, rows), stream): (&(u16, Vec<usize>), &[f32])| {
            let without = losses(thinker, stream, rows, &self.tokens)?;
            let with = rows.iter().map(|row| self.losses[*row]);
            let increase = without.iter().zip(with);
            Ok(Scored {
                layer: batch.layer as u16,
                expert: *expert,
                tokens: rows.len() as u32,
                increase: increase
                    .map(|(without, with)| f64::from(*without) - f64::from(with))
                    .sum(),
            })
        };
        batch.denied.iter().zip(runs).map(score).collect()
    }
}

impl Batch {
    /// Rows that a layer behind the denied experts must run; of the last, only those that are scored.
    fn rows(&self, tokens: usize, last: bool) -> Vec<AblationRow> {
        let row = |at| AblationRow { at, denied: None };
        if !last {
            return (0..self.denied.len() * tokens).map(row).collect();
        }
        let runs = self.denied.iter().enumerate();
        runs.flat_map(|(run, (_, rows))| rows.iter().map(move |at| row(run * tokens + at)))
            .collect()
    }
}

/// Losses of `rows` of a stream behind the last layer, nats; a few rows of logits exist at a time.
fn losses(
    thinker: &dyn Decoder,
    stream: &[f32],
    rows: &[usize],
    tokens: &[u32],
) -> Result<Vec<f32>, EngineError> {
    let config = thinker.config();
    let hidden = config.hidden_size;
    let mut losses = Vec::with_capacity(rows.len());
    for rows in rows.chunks(LOGIT_ROWS) {
        let x = rows
            .iter()
            .flat_map(|row| stream[row * hidden..(row + 1) * hidden].iter().copied());
        let normed = thinker.final_norm(&PlainRows::new(x.collect(), hidden))?;
        let logits = thinker.logits(&normed)?;
        for (row, logits) in rows.iter().zip(logits.chunks_exact(config.vocab_size)) {
            let (nll, _) = nll_and_entropy(logits, tokens.get(row + 1).copied());
            losses.push(nll);
        }
    }
    Ok(losses)
}
