//! Reading given tokens, and answering: one step at a time, measured.

use std::sync::Arc;

use sage_actors::protocol::{Phase, Segment, TokenMeasure, TokenOrigin, TokenOutcome, Worked};

use super::engine::Engine;
use super::episodes::Uses;
use super::error::EngineError;
use super::forward::TokenChunk;
use super::orient::Orientation;
use super::pieces::PieceMeter;
use super::ports::{LOGIT_ROWS, Sequence};
use super::prediction::nll_and_entropy;
use super::sampling::Sampling;
use super::scene::Scene;
use super::segment::SegmentBuilder;
use super::step_result::Forward;
use crate::events::Ended;

/// Tokens of a segment of the model's own words.
pub const GENERATED_SEGMENT_TOKENS: usize = 32;

/// Given tokens on their way into a sequence.
#[derive(Debug)]
pub struct PrefillRun {
    tokens: Vec<u32>,
    scene: Option<Arc<Scene>>,
    done: usize,
    segment: SegmentBuilder,
    measure: bool,
    last_row: Vec<f32>,
    uses: Uses,
    /// Where the pieces of a text are measured each by itself.
    pieces: Option<PieceMeter>,
}

/// What one step of reading gave.
#[derive(Debug)]
pub struct ReadStep {
    /// Of the step.
    pub forward: Forward,
    /// Tokens read.
    pub tokens: usize,
    /// Measures of the tokens whose successor is known.
    pub measures: Vec<TokenMeasure>,
}

impl PrefillRun {
    /// `tokens` to be read; `measure` asks for the loss of each, which costs the vocabulary head on every row.
    pub fn new(tokens: Vec<u32>, hidden: usize, measure: bool) -> Self {
        Self::of_scene(tokens, None, hidden, measure)
    }

    /// As [`PrefillRun::new`], with what was perceived among the tokens.
    pub fn of_scene(
        tokens: Vec<u32>,
        scene: Option<Arc<Scene>>,
        hidden: usize,
        measure: bool,
    ) -> Self {
        let segment = SegmentBuilder::new(TokenOrigin::Observed, hidden);
        Self {
            tokens,
            scene,
            done: 0,
            segment,
            measure,
            last_row: Vec::new(),
            uses: Uses::default(),
            pieces: None,
        }
    }

    /// The same, its pieces measured each by itself.
    #[must_use]
    pub fn in_pieces(mut self, pieces: PieceMeter) -> Self {
        self.pieces = Some(pieces);
        self
    }

    /// Forgets what was read.
    pub fn begin_again(&mut self) {
        self.done = 0;
        self.segment.take();
        self.uses.clear();
        if let Some(pieces) = &mut self.pieces {
            pieces.begin_again();
        }
    }

    /// Whether everything is read.
    pub fn is_done(&self) -> bool {
        self.done == self.tokens.len()
    }

    /// Tokens that are read.
    pub fn done(&self) -> usize {
        self.done
    }

    /// All of its tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Who worked on those that are read.
    pub fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Tokens that are not yet read.
    pub fn left(&self) -> usize {
        self.tokens.len() - self.done
    }

    /// Reads the next chunk.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub async fn step(
        &mut self,
        engine: &mut Engine,
        kv: &mut Sequence,
        orientation: &Orientation,
    ) -> Result<ReadStep, EngineError> {
        let tokens = self.next_tokens(engine, orientation);
        let never = &mut |_| false;
        self.step_of(tokens, engine, kv, orientation, never).await
    }

    /// Tokens of the next chunk at most.
    pub fn next_tokens(&self, engine: &Engine, orientation: &Orientation) -> usize {
        self.left().min(engine.step_tokens(orientation))
    }

    /// Reads a chunk of `tokens`. Before every layer `interrupt` is asked whether it is to be given up; then nothing of it is
    /// read.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub async fn step_of(
        &mut self,
        tokens: usize,
        engine: &mut Engine,
        kv: &mut Sequence,
        orientation: &Orientation,
        interrupt: &mut dyn FnMut(usize) -> bool,
    ) -> Result<ReadStep, EngineError> {
        let end = self.done + tokens;
        if kv.is_empty() && engine.mind_config.salience.beginnings_apart {
            self.segment.begin_context();
        }
        let scene = self.scene.as_deref().map(|scene| (scene, self.done));
        let of = self.done..end;
        let pieces = self.pieces.as_ref();
        let pieces = pieces.map_or(Vec::new(), |pieces| pieces.rows(&of));
        let chunk = TokenChunk {
            tokens: &self.tokens[of.clone()],
            scene,
            pieces: &pieces,
        };
        let mut forward = engine
            .forward_unless(kv, chunk, Phase::Prefill, orientation, interrupt)
            .await?;
        if forward.given_up {
            return Ok(ReadStep {
                forward,
                tokens: 0,
                measures: Vec::new(),
            });
        }
        let hidden = engine.text_config().hidden_size;
        let rows = self.measured_rows(end);
        let targets: Vec<u32> = rows
            .iter()
            .map(|row| self.tokens[self.done + row + 1])
            .collect();
        let measures = if rows.iter().enumerate().all(|(at, row)| at == *row) {
            engine.measure(&forward.normed[..rows.len() * hidden], &targets)?
        } else {
            engine.measure(&gathered(&forward.normed, &rows, hidden), &targets)?
        };
        self.segment.add(&forward, &measures, scene);
        if let Some(pieces) = &mut self.pieces {
            pieces.add(self.done, &forward, &measures, end - self.done);
        }
        if self.measure {
            let mut worked = std::mem::take(&mut forward.work.worked);
            let perceived = scene.map_or(Vec::new(), |scene| perceived(scene, &mut worked));
            let mut outcomes = outcomes(TokenOrigin::Observed, worked, &rows, &measures);
            outcomes.extend(perceived);
            let denied = forward.denials.experts.clone();
            engine.learn(orientation, outcomes, denied, None).await?;
        }
        self.last_row = forward.normed[forward.normed.len() - hidden..].to_vec();
        let tokens = end - self.done;
        self.uses.add(&forward, tokens);
        self.done = end;
        Ok(ReadStep {
            forward,
            tokens,
            measures,
        })
    }

    /// Rows of the chunk up to `end` whose successor is known and is a word: only words are predicted.
    fn measured_rows(&self, end: usize) -> Vec<usize> {
        if !self.measure {
            return Vec::new();
        }
        let known = self.tokens.len().min(end + 1) - self.done - 1;
        let is_word = |row: &usize| {
            let next = self.done + row + 1;
            self.scene.as_ref().is_none_or(|scene| scene.is_word(next))
        };
        (0..known).filter(is_word).collect()
    }

    /// The scene among its tokens, if there is one.
    pub fn scene(&self) -> Option<&Scene> {
        self.scene.as_deref()
    }

    /// The tokens of every finished piece, and its segment; none where pieces are not measured.
    pub fn take_pieces(&mut self) -> Vec<(std::ops::Range<usize>, Segment)> {
        self.pieces.as_mut().map_or(Vec::new(), PieceMeter::take)
    }

    /// The finished segment.
    pub fn segment(&mut self) -> Segment {
        self.segment.take()
    }

    /// Mean loss so far, nats.
    pub fn mean_loss(&self) -> Option<f64> {
        self.segment.mean_loss()
    }

    /// Logits after the last token read.
    ///
    /// # Errors
    /// As [`Engine::logits`].
    pub fn logits(&self, engine: &Engine) -> Result<Vec<f32>, EngineError> {
        engine.logits(&self.last_row)
    }
}

/// What came of the tokens of `rows`.
pub(super) fn outcomes(
    origin: TokenOrigin,
    mut worked: Vec<Vec<Worked>>,
    rows: &[usize],
    measures: &[TokenMeasure],
) -> Vec<TokenOutcome> {
    rows.iter()
        .zip(measures)
        .map(|(row, measure)| TokenOutcome {
            origin,
            error: if origin == TokenOrigin::Observed {
                measure.nll
            } else {
                measure.entropy
            },
            entropy: measure.entropy,
            worked: std::mem::take(&mut worked[*row]),
        })
        .collect()
}

/// Who worked on the tokens of sounds and pictures. What cannot be judged is counted all the same: it is worked for.
fn perceived((scene, first): (&Scene, usize), worked: &mut [Vec<Worked>]) -> Vec<TokenOutcome> {
    let rows = worked.iter_mut().enumerate();
    rows.filter(|(row, _)| !scene.is_word(first + row))
        .map(|(_, worked)| TokenOutcome {
            origin: TokenOrigin::Perceived,
            error: 0.0,
            entropy: 0.0,
            worked: std::mem::take(worked),
        })
        .collect()
}

/// Some rows of `x` `[rows, width]`, one after the other.
fn gathered(x: &[f32], rows: &[usize], width: usize) -> Vec<f32> {
    let row = |row: &usize| x[row * width..(row + 1) * width].iter().copied();
    rows.iter().flat_map(row).collect()
}

/// An answer on its way.
#[derive(Debug)]
pub struct Answering {
    logits: Vec<f32>,
    sampling: Sampling,
    stop: Vec<u32>,
    max_tokens: usize,
    /// Chosen so far, stop tokens not included.
    pub tokens: Vec<u32>,
    /// Set when it ended.
    pub ended: Option<Ended>,
}

/// What one step of answering gave.
#[derive(Debug)]
pub struct AnswerStep {
    /// The token, unless it was a stop token.
    pub token: Option<u32>,
    /// How likely it was.
    pub measure: TokenMeasure,
    /// Of the step that fed it; none for the last one, which nothing follows.
    pub forward: Option<Forward>,
}

impl Answering {
    /// An answer that begins with `logits`.
    pub fn new(logits: Vec<f32>, sampling: Sampling, stop: Vec<u32>, max_tokens: usize) -> Self {
        let ended = (max_tokens == 0).then_some(Ended::Length);
        Self {
            logits,
            sampling,
            stop,
            max_tokens,
            tokens: Vec::new(),
            ended,
        }
    }

    /// The logits that the next token is chosen from.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Chooses the next token, and feeds it unless the answer ends with it.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub async fn step(
        &mut self,
        engine: &mut Engine,
        kv: &mut Sequence,
        orientation: &Orientation,
    ) -> Result<AnswerStep, EngineError> {
        let token = self.sampling.choose(&self.logits, self.tokens.len() as u64);
        let (nll, entropy) = nll_and_entropy(&self.logits, Some(token));
        let measure = TokenMeasure { nll, entropy };
        if self.stop.contains(&token) {
            self.ended = Some(Ended::Stop);
            return Ok(AnswerStep {
                token: None,
                measure,
                forward: None,
            });
        }
        self.tokens.push(token);
        if self.tokens.len() == self.max_tokens {
            self.ended = Some(Ended::Length);
        } else if kv.len() == kv.capacity() {
            self.ended = Some(Ended::Context);
        }
        if self.ended.is_some() {
            return Ok(AnswerStep {
                token: Some(token),
                measure,
                forward: None,
            });
        }
        let mut forward = engine
            .forward(kv, &[token], Phase::Decode, orientation, None)
            .await?;
        self.logits = engine.logits(&forward.normed)?;
        let (_, entropy) = nll_and_entropy(&self.logits, None);
        let after = TokenMeasure {
            nll: entropy,
            entropy,
        };
        let worked = std::mem::take(&mut forward.work.worked);
        let outcomes = outcomes(TokenOrigin::Generated, worked, &[0], &[after]);
        let denied = forward.denials.experts.clone();
        engine.learn(orientation, outcomes, denied, None).await?;
        Ok(AnswerStep {
            token: Some(token),
            measure,
            forward: Some(forward),
        })
    }
}

impl Engine {
    /// Tokens that one step of reading may take: a chunk, or what the directive leaves.
    pub fn step_tokens(&self, orientation: &Orientation) -> usize {
        let most = orientation
            .directives
            .tokens_max
            .map_or(usize::MAX, |tokens| tokens as usize);
        self.work.chunk_tokens.min(most).max(1)
    }

    /// Logits of one final hidden state.
    ///
    /// # Errors
    /// When the decoder is lost.
    pub fn logits(&self, row: &[f32]) -> Result<Vec<f32>, EngineError> {
        Ok(self.body.thinker.logits(row)?)
    }

    /// How well each row `[tokens, hidden]` predicted its target; a few rows of logits exist at a time.
    fn measure(&self, rows: &[f32], targets: &[u32]) -> Result<Vec<TokenMeasure>, EngineError> {
        let hidden = self.text_config().hidden_size;
        let vocabulary = self.text_config().vocab_size;
        let mut measures = Vec::with_capacity(targets.len());
        for (rows, targets) in rows
            .chunks(hidden * LOGIT_ROWS)
            .zip(targets.chunks(LOGIT_ROWS))
        {
            let logits = self.logits(rows)?;
            for (logits, target) in logits.chunks_exact(vocabulary).zip(targets) {
                let (nll, entropy) = nll_and_entropy(logits, Some(*target));
                measures.push(TokenMeasure { nll, entropy });
            }
        }
        Ok(measures)
    }
}
