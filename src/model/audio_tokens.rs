//! How many tokens a clip of sound becomes.

/// Mel frames of one convolution chunk of the audio tower (`2 * n_window`).
pub const CHUNK_FRAMES: usize = 100;

/// Tokens of one clip of `frames` mel frames: every chunk of [`CHUNK_FRAMES`], and the shorter one at the end, is halved
/// three times, rounding up, by the three convolutions of stride 2.
pub fn audio_tokens(frames: usize) -> usize {
    let halved = |frames: usize| (0..3).fold(frames, |frames, _| frames.div_ceil(2));
    frames / CHUNK_FRAMES * halved(CHUNK_FRAMES) + halved(frames % CHUNK_FRAMES)
}
