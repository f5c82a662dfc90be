//! The one context that the key-value cache holds, and what a talker would hear of it.

use crate::core::ports::Sequence;
use crate::core::speech::{TurnRows, TurnStyle};
use crate::core::{Engine, EngineError, Forward};
use crate::input::KvPrecision;

/// What a talker hears of every token in the context.
#[derive(Debug, Default)]
struct TalkerContext {
    /// Input embeddings with media merged, `[tokens, thinker hidden]`.
    embeddings: Vec<f32>,
    /// Hidden states that the talker listens to, likewise.
    hidden: Vec<f32>,
}

/// Tokens that the key-value cache holds, and whose they are.
pub(super) struct Context {
    name: Option<String>,
    pub(super) kv: Sequence,
    /// How its keys and values are kept.
    precision: KvPrecision,
    tokens: Vec<u32>,
    /// Kept where the engine speaks.
    heard: Option<TalkerContext>,
    /// Numbers of a row.
    width: usize,
}

impl Context {
    /// An empty one of the engine's declared length.
    pub(super) fn new(engine: &Engine) -> Result<Self, EngineError> {
        Ok(Self {
            name: None,
            kv: engine.new_sequence()?,
            precision: engine.kv_precision(),
            tokens: Vec::new(),
            heard: engine.speaks().then(TalkerContext::default),
            width: engine.text_config().hidden_size,
        })
    }

    /// From now on keys and values are kept in `precision`; where that is another one, what it holds is forgotten.
    ///
    /// # Errors
    /// When the system has no memory to map, or this model's cannot be kept so.
    pub(super) fn keep_in(
        &mut self,
        engine: &Engine,
        precision: KvPrecision,
    ) -> Result<(), EngineError> {
        if precision == self.precision {
            return Ok(());
        }
        self.truncate(0);
        self.name = None;
        self.kv = engine.new_sequence_in(precision)?;
        self.precision = precision;
        Ok(())
    }

    /// Whether it is this one's.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    /// From now on it is this one's; what it holds stays.
    pub(super) fn rename(&mut self, name: Option<String>) {
        self.name = name;
    }

    /// Tokens in it.
    pub(super) fn len(&self) -> usize {
        self.kv.len()
    }

    /// Tokens that fit.
    pub(super) fn capacity(&self) -> usize {
        self.kv.capacity()
    }

    /// Forgets every token beyond the first `tokens`.
    pub(super) fn truncate(&mut self, tokens: usize) {
        self.kv.truncate(tokens);
        self.tokens.truncate(tokens);
        if let Some(heard) = &mut self.heard {
            heard.embeddings.truncate(tokens * self.width);
            heard.hidden.truncate(tokens * self.width);
        }
    }

    /// A step has put `tokens` behind those that are there.
    pub(super) fn append(&mut self, tokens: &[u32], forward: &Forward) {
        self.tokens.extend_from_slice(tokens);
        if let Some(heard) = &mut self.heard {
            heard.embeddings.extend_from_slice(&forward.heard.embeds);
            heard.hidden.extend_from_slice(&forward.heard.accepted);
        }
    }

    /// How many of its first tokens a prompt begins with.
    pub(super) fn shared_with(&self, prompt: &[u32]) -> usize {
        let pairs = self.tokens.iter().zip(prompt);
        pairs.take_while(|(held, new)| held == new).count()
    }

    /// What a talker hears of it, where its first `prompt_tokens` are the prompt and the rest is the answer.
    pub(super) fn turn_rows(&self, prompt_tokens: usize, style: TurnStyle) -> Option<TurnRows<'_>> {
        let heard = self.heard.as_ref()?;
        let prompt_tokens = prompt_tokens.min(self.tokens.len());
        let at = prompt_tokens * self.width;
        Some(TurnRows {
            ids: &self.tokens[..prompt_tokens],
            embeddings: &heard.embeddings[..at],
            hidden: &heard.hidden[..at],
            generated: &heard.embeddings[at..],
            style,
        })
    }
}
