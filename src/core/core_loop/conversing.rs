//! A conversation: one context that its turns continue.
//!
//! What a turn sees is the chat template's rendering of every turn before it, exactly as if all had been asked at once.
//! Of that, the cache keeps what it holds already; only the rest is read. When the declared context is full some of it
//! goes (`remembering.rs`), and what is left is read again from where it differs.

use sage_actors::protocol::State;

use super::conductor::CoreLoop;
use super::prompts::fits;
use super::telling::MemoryNews;
use crate::core::EngineError;
use crate::events::Event;

/// Ticks between two turns at most: a full bucket fills in 342, and three quarters of one are enough for anything.
const MOST_SETTLE_TICKS: u32 = 256;

impl CoreLoop {
    /// Begins a conversation; one before it is forgotten.
    pub fn converse(&mut self, system: Option<String>) {
        let forget = self.remembers() && self.conversation.was_used();
        self.conversation.begin(system);
        self.minding.news = MemoryNews {
            forget,
            ..MemoryNews::default()
        };
        if self.context.is("conversation") {
            self.context.rename(None);
        }
    }

    /// Forgets what was said; the system message stays.
    pub fn forget(&mut self) {
        let system = self.conversation.system.take();
        self.converse(system);
    }

    /// Turns that are in the conversation's context.
    pub fn turns(&self) -> usize {
        self.conversation.turns()
    }

    /// Tokens that the cache holds of the context that it holds.
    pub fn context_tokens(&self) -> usize {
        self.context.len()
    }

    /// Refuses a turn for which the context is too short even alone.
    ///
    /// # Errors
    /// [`EngineError::ContextFull`]; [`EngineError::EmptyPrompt`] for a text without content.
    pub fn check_turn(&self, text: &str) -> Result<(), EngineError> {
        let capacity = self.engine.context_tokens();
        self.turn_alone(text, self.policy.answer_tokens, capacity)
            .map(|_| ())
    }

    /// Tokens that a turn adds to the conversation at least; in a context of `capacity` tokens.
    pub(super) fn turn_alone(
        &self,
        text: &str,
        answer_tokens: usize,
        capacity: usize,
    ) -> Result<Vec<u32>, EngineError> {
        if text.trim().is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let alone = self.rendered_turn(self.conversation.len(), "", text)?;
        fits(alone.len() + answer_tokens, capacity)?;
        Ok(alone)
    }

    /// Token ids of the turns from `first` on and of `places` (what the program wrote) with `text` behind them.
    pub(super) fn rendered_turn(
        &self,
        first: usize,
        places: &str,
        text: &str,
    ) -> Result<Vec<u32>, EngineError> {
        let messages = self.conversation.messages(first, places, text);
        Ok(self.tokenizer()?.prompt_tokens(&messages, places)?)
    }

    /// The prompt of a question that is heard at `places`, with `text` behind it: it sees the turns before it, those at the end
    /// that have room beside its `more_tokens` (those of media and of the answer) in a context of `capacity`.
    pub(super) fn spoken_prompt(
        &self,
        places: &str,
        text: &str,
        more_tokens: usize,
        capacity: usize,
    ) -> Result<Vec<u32>, EngineError> {
        let mut first = 0;
        loop {
            let prompt = self.rendered_turn(first, places, text)?;
            let needed = prompt.len() + more_tokens;
            if needed <= capacity || first == self.conversation.len() {
                return Ok(prompt);
            }
            first += 1;
        }
    }

    /// Lets time pass between turns, as much as the mind itself says and no clock: until it is neither in Focus, Threat nor
    /// Depletion and has the energy to attend to the next turn (`mind.transitions.wake_focus_atp`), 256 ticks at most. A
    /// mind that is held does not change, so that no time passes.
    ///
    /// # Errors
    /// As [`CoreLoop::tick`].
    pub async fn settle(&mut self, sink: &mut dyn FnMut(Event)) -> Result<(), EngineError> {
        for _ in 0..MOST_SETTLE_TICKS {
            if self.is_settled() {
                break;
            }
            self.tick(sink).await?;
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        let mind = &self.engine.mind_config;
        let Some(orientation) = self.orientation() else {
            return true;
        };
        let calm = matches!(self.state(), State::Wake | State::Rest | State::Dream);
        let rested = orientation.directives.energy.atp > mind.transitions.wake_focus_atp;
        mind.hold.is_some() || (calm && rested)
    }
}
