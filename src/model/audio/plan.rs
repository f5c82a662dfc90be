//! How the clips of a call are cut: into chunks for the convolutions, into windows for attention.

use std::ops::Range;

use crate::checkpoint::config::AudioConfig;
use crate::media::sound::Mel;

use super::memory::scratch_numbers;
use super::sizes::{token_count, window_tokens};

/// Part of a clip that is convolved alone.
#[derive(Debug)]
pub(super) struct AudioChunk {
    pub(super) clip: usize,
    /// First mel frame.
    pub(super) start: usize,
    pub(super) frames: usize,
}

/// One call's work.
#[derive(Debug)]
pub(super) struct AudioPlan {
    /// Of all clips, in order.
    pub(super) chunks: Vec<AudioChunk>,
    /// Frames that every chunk is padded to: the longest of the call, not of the configuration.
    pub(super) padded_frames: usize,
    /// Tokens that see each other; they follow one another and cover all.
    pub(super) windows: Vec<Range<usize>>,
    /// Tokens of each clip.
    clips: Vec<usize>,
}

impl AudioPlan {
    pub(super) fn of(config: &AudioConfig, clips: &[&Mel]) -> Self {
        let chunk = 2 * config.n_window;
        let mut chunks = Vec::new();
        for (clip, mel) in clips.iter().enumerate() {
            chunks.extend((0..mel.frames).step_by(chunk).map(|start| AudioChunk {
                clip,
                start,
                frames: chunk.min(mel.frames - start),
            }));
        }
        let padded_frames = chunks.iter().map(|chunk| chunk.frames).max().unwrap_or(0);
        let clips: Vec<usize> = clips
            .iter()
            .map(|mel| token_count(config, mel.frames))
            .collect();
        let window = window_tokens(config, padded_frames);
        let (mut windows, mut start) = (Vec::new(), 0);
        for tokens in &clips {
            let end = start + tokens;
            while start < end {
                let next = end.min(start + window);
                windows.push(start..next);
                start = next;
            }
        }
        Self {
            chunks,
            padded_frames,
            windows,
            clips,
        }
    }

    /// Tokens of all clips.
    pub(super) fn tokens(&self) -> usize {
        self.clips.iter().sum()
    }

    /// Numbers that the rows of any product are laid out in.
    pub(super) fn scratch(&self, config: &AudioConfig) -> usize {
        let window = self.windows.iter().map(Range::len).max().unwrap_or(0);
        scratch_numbers(config, self.padded_frames, window)
    }

    /// Rows of all clips `[tokens, width]`, a vector each.
    pub(super) fn by_clip(&self, rows: &[f32], width: usize) -> Vec<Vec<f32>> {
        let mut rest = rows;
        let clips = self.clips.iter().map(|tokens| {
            let (clip, after) = rest.split_at(tokens * width);
            rest = after;
            clip.to_vec()
        });
        clips.collect()
    }
}
