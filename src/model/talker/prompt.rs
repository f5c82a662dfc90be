//! What the talker hears before it speaks: the conversation's user turns, and the beginning of the answer.

use std::ops::Range;

use super::{PromptTokens, Talker};
use crate::kernels::pointwise::add_scaled;
use crate::model::experts::ExpertScratch;
use crate::model::speech::{PromptError, TalkerPrompt, ThinkerTurn};

/// Tokens before the answer's text in the last segment: `<|im_start|>`, the assistant's role, a line break.
const OPENING_TOKENS: usize = 3;

/// Rows of the answer's beginning: the opening, six codec tokens that say how to speak.
const ANSWER_ROWS: usize = 9;

impl Talker {
    /// The talker's prompt: every token of the user's segments, as text or, where a placeholder stands for media, as the
    /// thinker's hidden state; then the answer's beginning, text and codec tokens summed; the rest of the answer is left
    /// for the steps. Order and sums are those of the reference implementation's `generate`.
    ///
    /// # Errors
    /// When fewer than two tokens were generated, the speaker is unknown, the prompt does not end with the three tokens
    /// that open an answer, a segment has no role, or rows are missing.
    pub fn prompt(&self, heard: &ThinkerTurn<'_>) -> Result<TalkerPrompt, PromptError> {
        let speaker = self.speaker(heard.speaker)?;
        let (users, answer) = segments(&self.tokens, heard.ids)?;
        let user: Vec<usize> = users.into_iter().flatten().collect();
        self.check(heard, &user)?;
        let is_media = |at: &usize| self.tokens.media.contains(&heard.ids[*at]);
        let (media, text): (Vec<usize>, Vec<usize>) = user.iter().copied().partition(is_media);

        let mut scratch = ExpertScratch::default();
        let width = self.config.thinker_hidden_size;
        let spoken = [
            self.rows_of(heard.embeddings, &text),
            heard.embeddings[answer.start * width..].to_vec(),
        ];
        let mut spoken = spoken.concat();
        spoken.extend_from_slice(heard.generated);
        spoken.extend_from_slice(heard.tts);
        let spoken = self.text_projection.apply(&spoken, &mut scratch);
        let hidden = self.config.text.hidden_size;
        let (text_rows, answer_rows) = spoken.split_at(text.len() * hidden);
        let seen = self.rows_of(heard.hidden, &media);
        let media_rows = self.hidden_projection.apply(&seen, &mut scratch);

        let (mut text_rows, mut media_rows) = (
            text_rows.chunks_exact(hidden),
            media_rows.chunks_exact(hidden),
        );
        let mut prompt = self.begin(answer_rows, speaker);
        let mut rows = Vec::with_capacity((user.len() + ANSWER_ROWS) * hidden);
        for at in &user {
            let of = if is_media(at) {
                &mut media_rows
            } else {
                &mut text_rows
            };
            rows.extend(of.next().into_iter().flatten());
        }
        rows.append(&mut prompt.rows);
        prompt.rows = rows;
        prompt.ids = user.iter().map(|at| heard.ids[*at]).collect();
        prompt.ids.extend([self.tokens.tts_pad; ANSWER_ROWS]);
        Ok(prompt)
    }

    /// The answer's part of a prompt from its projected text, `[opening + spoken + 3, hidden]`.
    fn begin(&self, text: &[f32], speaker: u32) -> TalkerPrompt {
        let hidden = self.config.text.hidden_size;
        let (text, tts) = text.split_at(text.len() - 3 * hidden);
        let row = |rows: &[f32], at: usize| rows[at * hidden..(at + 1) * hidden].to_vec();
        let (pad, bos, eos) = (row(tts, 0), row(tts, 1), row(tts, 2));
        let config = &self.config;
        let mut rows = text[..OPENING_TOKENS * hidden].to_vec();
        for (text, code) in [
            (&pad, config.codec_nothink_id),
            (&pad, config.codec_think_bos_id),
            (&pad, config.codec_think_eos_id),
            (&pad, speaker),
            (&bos, config.codec_pad_id),
            (&row(text, OPENING_TOKENS), config.codec_bos_id),
        ] {
            let mut row = text.clone();
            add_scaled(&mut row, &self.embed_code(code), 1.0);
            rows.extend(row);
        }
        let mut trailing = text[(OPENING_TOKENS + 1) * hidden..].to_vec();
        trailing.extend(eos);
        TalkerPrompt {
            rows,
            ids: Vec::new(),
            trailing,
            tts_pad: pad,
        }
    }

    /// That a prompt could be spoken to: it ends with the three tokens that open an answer, and every segment has a role.
    ///
    /// # Errors
    /// [`PromptError::Ending`], [`PromptError::Role`].
    pub fn check_opening(&self, ids: &[u32]) -> Result<(), PromptError> {
        segments(&self.tokens, ids).map(|_| ())
    }

    /// The codec token of a voice.
    ///
    /// # Errors
    /// [`PromptError::Speaker`].
    pub fn speaker(&self, name: &str) -> Result<u32, PromptError> {
        let speakers = &self.config.speaker_id;
        let found = speakers.get(&name.to_lowercase()).copied();
        found.ok_or_else(|| PromptError::Speaker {
            name: name.into(),
            known: speakers.keys().cloned().collect(),
        })
    }

    fn check(&self, heard: &ThinkerTurn<'_>, user: &[usize]) -> Result<(), PromptError> {
        let width = self.config.thinker_hidden_size;
        let rows = |what, found: usize, rows: usize| {
            let expected = rows * width;
            if found == expected {
                return Ok(());
            }
            Err(PromptError::Rows {
                what,
                found,
                expected,
                rows,
                width,
            })
        };
        rows("input embeddings", heard.embeddings.len(), heard.ids.len())?;
        rows(
            "embeddings of tts_pad, tts_bos and tts_eos",
            heard.tts.len(),
            3,
        )?;
        let spoken = heard.generated.len() / width;
        rows("the answer's embeddings", heard.generated.len(), spoken)?;
        if spoken == 0 {
            return Err(PromptError::TooShort);
        }
        let media = user
            .iter()
            .any(|at| self.tokens.media.contains(&heard.ids[*at]));
        if media || !heard.hidden.is_empty() {
            rows("hidden states", heard.hidden.len(), heard.ids.len())?;
        }
        Ok(())
    }

    /// The thinker's rows of the tokens `which`.
    fn rows_of(&self, rows: &[f32], which: &[usize]) -> Vec<f32> {
        let width = self.config.thinker_hidden_size;
        let row = |at: &usize| rows[at * width..(at + 1) * width].iter().copied();
        which.iter().flat_map(row).collect()
    }
}

/// The user's segments, and the last one, which opens the answer.
fn segments(
    tokens: &PromptTokens,
    ids: &[u32],
) -> Result<(Vec<Range<usize>>, Range<usize>), PromptError> {
    let mut starts: Vec<usize> = (0..ids.len())
        .filter(|at| ids[*at] == tokens.im_start)
        .collect();
    starts.push(ids.len());
    let all: Vec<Range<usize>> = starts.windows(2).map(|pair| pair[0]..pair[1]).collect();
    let ending = |found: &[u32]| PromptError::Ending {
        found: found[found.len().saturating_sub(8)..].to_vec(),
        im_start: tokens.im_start,
        assistant: tokens.assistant,
    };
    let Some((answer, earlier)) = all.split_last() else {
        return Err(ending(ids));
    };
    let opening = &ids[answer.clone()];
    if opening.len() != OPENING_TOKENS || opening[1] != tokens.assistant {
        return Err(ending(opening));
    }
    let mut users = Vec::new();
    for segment in earlier {
        // Two `<|im_start|>` in a row: the second one is what stands for a role.
        let id = ids[segment.start + 1];
        if id == tokens.user {
            users.push(segment.clone());
        } else if id != tokens.system && id != tokens.assistant {
            return Err(PromptError::Role {
                id,
                at: segment.start,
                system: tokens.system,
                user: tokens.user,
                assistant: tokens.assistant,
            });
        }
    }
    Ok((users, answer.clone()))
}
