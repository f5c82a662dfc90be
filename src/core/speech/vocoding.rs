//! Frames to sound, chunk by chunk as they come.

use std::sync::Arc;

use super::error::SpeechError;
use crate::core::ports::Voice;
use crate::model::speech::{CHUNK_FRAMES, LEFT_CONTEXT_FRAMES, VocoderChunk};
use crate::spans;

/// Frames so far, and how many of them are sound.
pub(super) struct Vocoding {
    voice: Arc<dyn Voice>,
    /// `[frames, groups]`.
    codes: Vec<u32>,
    groups: usize,
    done: usize,
}

impl Vocoding {
    pub fn new(voice: Arc<dyn Voice>, groups: usize, most_frames: usize) -> Self {
        Self {
            voice,
            codes: Vec::with_capacity(groups * most_frames),
            groups,
            done: 0,
        }
    }

    /// Frames so far.
    pub fn frames(&self) -> usize {
        self.codes.len() / self.groups
    }

    /// `[groups, frames]`, as the vocoder takes them.
    pub fn codes(&self) -> Vec<u32> {
        self.turned(0)
    }

    /// Adds a frame's codes; the sound of the chunk that it completes.
    ///
    /// # Errors
    /// When a code is no sound.
    pub fn add(
        &mut self,
        codes: impl Iterator<Item = u32>,
    ) -> Result<Option<Vec<f32>>, SpeechError> {
        self.codes.extend(codes);
        if self.frames() - self.done < CHUNK_FRAMES {
            return Ok(None);
        }
        self.chunk()
    }

    /// The sound of the chunk that nothing follows; none where the last frame ended one.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn finish(&mut self) -> Result<Option<Vec<f32>>, SpeechError> {
        if self.frames() == self.done {
            return Ok(None);
        }
        self.chunk()
    }

    /// Everything that is not yet sound, with the frames before it that the reference decodes too and drops.
    fn chunk(&mut self) -> Result<Option<Vec<f32>>, SpeechError> {
        let (context, end) = (LEFT_CONTEXT_FRAMES.min(self.done), self.frames());
        let first = self.done - context;
        let chunk = VocoderChunk {
            context,
            frames: context..end - first,
        };
        let _span = spans::chunk(self.done, end - self.done).entered();
        let piece = self.turned(first);
        self.done = end;
        let frames = end - first;
        Ok(Some(self.voice.samples(&piece, frames, &chunk)?))
    }

    /// From frame `first` on, `[groups, frames]`.
    fn turned(&self, first: usize) -> Vec<u32> {
        let frames = &self.codes[first * self.groups..];
        let group = |group: usize| frames.iter().skip(group).step_by(self.groups).copied();
        (0..self.groups).flat_map(group).collect()
    }
}
