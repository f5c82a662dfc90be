//! The conversation's memory: what of it stands in the context, what comes back, and what the mind is told of it.
//!
//! A text that is told is read into the conversation portion by portion, at the head of the question that will come. Its
//! pieces, and every turn, are remembered one by one. When the context is full the mind says which of them stay; what is
//! left is rendered and read anew, at fresh positions, from where it differs. A question first brings back what resembles it.

use std::collections::VecDeque;
use std::ops::Range;

use sage_actors::config::Retention;
use sage_actors::protocol::{Condense, Recall, Remember, Segment};

use super::conductor::CoreLoop;
use super::conversation::EntryContent;
use super::job::{Job, Stage};
use super::prompts::fits;
use crate::core::EngineError;
use crate::core::pieces::{PieceMeter, cut, first_token, token_ends};
use crate::core::reading::PrefillRun;
use crate::events::{Event, EventKind};

/// Part of the context that is read in one go of a text that is told.
const PORTION_SHARE: usize = 8;

impl CoreLoop {
    /// Whether segments are kept beyond the context.
    pub(super) fn remembers(&self) -> bool {
        self.engine.mind_config.memory.retention != Retention::Off
    }

    /// Tells the mind what became of the conversation since it was told last.
    pub(super) async fn tell_memory(&mut self) -> Result<(), EngineError> {
        if !self.remembers() {
            return Ok(());
        }
        let news = std::mem::take(&mut self.minding.news);
        if news.forget {
            self.engine.mind.forget_segments().await?;
        }
        let mut feedback = news.feedback;
        if news.read.is_empty() {
            self.minding.news.feedback = feedback;
        }
        for remember in news.read {
            let remember = Remember {
                feedback: feedback.take(),
                ..remember
            };
            let answer = self.engine.mind.remember(remember).await?;
            self.conversation.forget(&answer.forgotten);
        }
        Ok(())
    }

    /// What the context shall hold before a step of a job that continues the conversation and has not begun.
    pub(super) async fn prepare_conversation(
        &mut self,
        job: &mut Job,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        if job.is_told() {
            return self.prepare_telling(job, sink).await;
        }
        // A question that is begun again has it already.
        if self.remembers() && !job.recalled {
            self.bring_back(job, sink).await?;
            job.recalled = true;
        }
        let reserve_tokens = self.answer_tokens(&job.request);
        let text = job.text.clone();
        let prompt = self
            .prompt_with_room(job.id, &text, reserve_tokens, sink)
            .await?;
        // Something must be read: the answer begins with what is predicted after it.
        job.stage = Stage::Waiting(self.unread(&prompt));
        Ok(())
    }

    /// The next portion of a text that is told.
    async fn prepare_telling(
        &mut self,
        job: &mut Job,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        let capacity = self.context.capacity();
        if !job.telling.is_cut {
            let most_tokens = (capacity / PORTION_SHARE).max(1);
            job.telling.portions = self.portions(&job.text, most_tokens)?;
            job.telling.is_cut = true;
            job.telling.skip_blank();
        }
        let Some(portion) = self.portion_that_fits(job)? else {
            return Ok(());
        };
        // Room for an answer is made when there is a question.
        let closed = self.prompt_with_room(job.id, &portion, 0, sink).await?;
        // Where a question would go on, there the prompt is still open.
        let asked = self.rendered_turn(0, "", &format!("{portion}?"))?;
        let pairs = closed.iter().zip(&asked);
        let open = pairs.take_while(|(a, b)| a == b).count();
        let unread = self.unread(&closed[..open]);
        job.telling.pieces = cut(&portion);
        job.stage = Stage::Waiting(unread);
        Ok(())
    }

    /// The first portion of a text, cut in two as long as it has no room even alone.
    ///
    /// # Errors
    /// When not even a character has.
    fn portion_that_fits(&self, job: &mut Job) -> Result<Option<String>, EngineError> {
        let capacity = self.context.capacity();
        let portions = &mut job.telling.portions;
        while let Some(portion) = portions.front_mut() {
            let alone = self.rendered_turn(self.conversation.len(), "", portion)?;
            if alone.len() <= capacity {
                return Ok(Some(portion.clone()));
            }
            let mut half = portion.len() / 2;
            while !portion.is_char_boundary(half) {
                half -= 1;
            }
            if half == 0 {
                return fits(alone.len(), capacity).map(|()| None);
            }
            let rest = portion.split_off(half);
            portions.insert(1, rest);
        }
        Ok(None)
    }

    /// A text in portions of at most about so many tokens, cut between pieces.
    fn portions(&self, text: &str, most_tokens: usize) -> Result<VecDeque<String>, EngineError> {
        let mut portions = VecDeque::new();
        let (mut portion, mut tokens) = (String::new(), 0);
        for piece in cut(text) {
            let piece = &text[piece];
            let more = self.tokenizer()?.encode_untrusted(piece)?.len();
            if tokens + more > most_tokens && !portion.is_empty() {
                portions.push_back(std::mem::take(&mut portion));
                tokens = 0;
            }
            portion.push_str(piece);
            tokens += more;
        }
        if !portion.trim().is_empty() {
            portions.push_back(portion);
        }
        // What is told next begins on a line of its own.
        if let Some(last) = portions.back_mut()
            && !last.ends_with(char::is_whitespace)
        {
            last.push('\n');
        }
        Ok(portions)
    }

    /// Of a prompt, what the context does not hold; it holds nothing else any more.
    fn unread(&mut self, prompt: &[u32]) -> Vec<u32> {
        let shared = self.context.shared_with(prompt);
        let kept = shared.min(prompt.len().saturating_sub(1));
        self.context.truncate(kept);
        prompt[kept..].to_vec()
    }

    /// The prompt of `text` behind what stands in the conversation, which loses what there is no room for.
    async fn prompt_with_room(
        &mut self,
        request: u64,
        text: &str,
        reserve_tokens: usize,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Vec<u32>, EngineError> {
        let capacity = self.context.capacity();
        let mut prompt = self.rendered_turn(0, "", text)?;
        if prompt.len() + reserve_tokens <= capacity {
            return Ok(prompt);
        }
        let before = self.conversation.len();
        let mut tokens = (capacity as f64 * self.engine.mind_config.memory.context_share) as u32;
        while prompt.len() + reserve_tokens > capacity && self.conversation.len() > 0 {
            if self.remembers() {
                let recent = self.engine.mind_config.memory.recent_share;
                let condense = Condense {
                    tokens,
                    recent_tokens: (f64::from(tokens) * recent) as u32,
                };
                let stay = self.engine.mind.condense(condense).await?;
                self.conversation.condense(&stay);
                // The template's own tokens may leave less room; a budget of nothing empties the context.
                tokens /= 2;
            } else {
                self.conversation.drop_oldest(1);
            }
            prompt = self.rendered_turn(0, "", text)?;
        }
        let left = self.conversation.len();
        let tick = self.engine.tick();
        let gone = before - left;
        let kind = match self.remembers() {
            true => EventKind::Condensed {
                request,
                segments: gone,
                left,
                tokens: prompt.len(),
            },
            false => EventKind::Forgotten {
                request,
                turns: gone,
                left,
            },
        };
        if gone > 0 {
            sink(Event { tick, kind });
        }
        Ok(prompt)
    }

    /// Brings back what resembles a question.
    async fn bring_back(
        &mut self,
        job: &Job,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        let share = self.engine.mind_config.memory.recall_share;
        let tokens = (self.context.capacity() as f64 * share) as u32;
        if tokens == 0 {
            return Ok(());
        }
        let question = self.tokenizer()?.encode_untrusted(&job.text)?;
        let recall = Recall { question, tokens };
        let ids = self.engine.mind.recall(recall).await?;
        let segments = self.conversation.bring_back(&ids);
        if segments > 0 {
            let tick = self.engine.tick();
            let kind = EventKind::Recalled {
                request: job.id,
                segments,
            };
            sink(Event { tick, kind });
        }
        Ok(())
    }

    /// The reading of a part of the conversation, its pieces measured where they will be remembered.
    pub(super) fn measured_pieces(
        &self,
        job: &Job,
        tokens: &[u32],
        reading: PrefillRun,
    ) -> Result<PrefillRun, EngineError> {
        let measured = job.is_turn() && job.percept.is_none() && !job.request.unmeasured;
        if !measured || !self.remembers() {
            return Ok(reading);
        }
        let (decoded, lengths) = self.tokenizer()?.decode_each(tokens)?;
        // What the template wrote and what is read again belong to no piece.
        let ends = match job.telling.portions.front() {
            Some(portion) => token_ends(&decoded, &lengths, portion, &job.telling.pieces)
                .map(|(first, found)| std::iter::once(first).chain(found).collect()),
            None => {
                first_token(&decoded, &lengths, &job.text).map(|first| vec![first, tokens.len()])
            }
        };
        let ends = match ends {
            Some(ends) => ends,
            // The tokenizer wrote it otherwise (it composes characters): about as many tokens at the end.
            None => {
                let said = job.telling.portions.front().unwrap_or(&job.text);
                let of_text = self.tokenizer()?.encode_untrusted(said)?.len();
                vec![tokens.len().saturating_sub(of_text), tokens.len()]
            }
        };
        let hidden = self.engine.text_config().hidden_size;
        Ok(reading.in_pieces(PieceMeter::new(ends, hidden)))
    }

    /// A portion of a text that is told is read: its pieces stand in the conversation. Whether the text goes on.
    pub(super) fn end_portion(&mut self, job: &mut Job) -> bool {
        let Stage::Reading(reading) = &mut job.stage else {
            return false;
        };
        let Some(portion) = job.telling.portions.pop_front() else {
            return false;
        };
        let segments = reading.take_pieces();
        let tokens = reading.tokens();
        let pieces = std::mem::take(&mut job.telling.pieces);
        // The first is what stood before the text.
        let measured: Vec<(Range<usize>, Segment)> = segments.into_iter().skip(1).collect();
        let whole = 0..portion.len();
        let texts = match measured.len() == pieces.len() || measured.is_empty() {
            true => pieces,
            false => vec![whole],
        };
        let mut measured = measured.into_iter();
        for piece in texts {
            let text = portion[piece].to_owned();
            let bytes = text.len() as u64;
            let heard = measured.next();
            let id = (self.conversation).add(EntryContent::Told(text), heard.is_some());
            if let Some((of, segment)) = heard {
                self.minding.news.read.push(Remember {
                    id,
                    bytes: bytes + (of.len() * size_of::<u32>()) as u64,
                    tokens: tokens[of].to_vec(),
                    segment,
                    urgency: job.request.urgency,
                    feedback: None,
                });
            }
        }
        job.telling.skip_blank();
        job.stage = Stage::Waiting(Vec::new());
        !job.telling.portions.is_empty()
    }

    /// A turn is answered: it stands in the conversation.
    pub(super) fn end_turn(&mut self, job: &mut Job) -> Result<(), EngineError> {
        let content = EntryContent::Turn {
            asked: job.text.clone(),
            answered: job.answer.clone(),
        };
        let asked = job.asked.take();
        let id = self.conversation.add(content, asked.is_some());
        let Some(segment) = asked else {
            return Ok(());
        };
        let text = format!("{}\n{}", job.text, job.answer);
        let tokens = self.tokenizer()?.encode_untrusted(&text)?;
        self.minding.news.read.push(Remember {
            id,
            bytes: (text.len() + tokens.len() * size_of::<u32>()) as u64,
            tokens,
            segment,
            urgency: job.request.urgency,
            feedback: None,
        });
        Ok(())
    }
}
