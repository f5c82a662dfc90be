//! How many tokens, and how many rows at once, the tower works on.

use crate::checkpoint::config::AudioConfig;

/// Rows and columns of a kernel.
pub(super) const KERNEL: usize = 3;

/// Bytes of patches, and of what becomes of them, that are multiplied at once: every kernel goes over them, so that they
/// should stay in a processor's second cache.
const AT_ONCE_BYTES: usize = 512 << 10;

/// What three convolutions of stride 2 leave of `steps`.
pub(super) fn halved_thrice(steps: usize) -> usize {
    (0..3).fold(steps, |steps, _| steps.div_ceil(2))
}

/// Tokens of a clip of `frames` mel frames: of each chunk of `2 * n_window` frames, and of what remains, what three halvings
/// leave, rounding up. 13 for a second.
pub fn token_count(config: &AudioConfig, frames: usize) -> usize {
    let chunk = 2 * config.n_window;
    frames / chunk * halved_thrice(chunk) + halved_thrice(frames % chunk)
}

/// Tokens of an attention window, in a call whose chunks are padded to `padded_frames`; at least one.
pub(super) fn window_tokens(config: &AudioConfig, padded_frames: usize) -> usize {
    (halved_thrice(padded_frames) * (config.n_window_infer / (2 * config.n_window))).max(1)
}

/// Patches of so many channels that are multiplied at once, into `out` channels.
pub(super) fn patches_at_once(channels: usize, out: usize) -> usize {
    (AT_ONCE_BYTES / ((channels * KERNEL * KERNEL + out) * size_of::<f32>())).max(1)
}
