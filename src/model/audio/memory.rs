//! What encoding takes beside the weights.

use crate::checkpoint::config::AudioConfig;
use crate::kernels::panel_bytes;

use super::sizes::{halved_thrice, patches_at_once, token_count, window_tokens};

/// Rows of scores that may be in the making at once, one a thread.
const THREADS: usize = 256;

/// At most so many bytes of activations are in memory while one clip of `longest_frames` mel frames is encoded, what is
/// returned included. Of several clips in one call it is at most the sum. Weights and spectra are counted elsewhere.
pub fn workspace_bytes(config: &AudioConfig, longest_frames: usize) -> u64 {
    let tokens = token_count(config, longest_frames);
    let chunk = longest_frames.min(2 * config.n_window);
    let window = window_tokens(config, chunk).min(tokens);
    let (width, inner) = (config.d_model, config.encoder_ffn_dim);
    // Norm (or what it adds), q, k, v, what attention mixes; scores.
    let attention = 5 * window * width + THREADS * window;
    // Norm, the inner rows, what is added.
    let feed_forward = window * (2 * width + inner);
    // The same of the head, and its output twice: of all clips for the probe, and of each.
    let head = window * (2 * width + config.output_dim) + 2 * tokens * config.output_dim;
    let most = stem(config, chunk)
        .max(attention)
        .max(feed_forward)
        .max(head);
    // The rows themselves, the positions and the plan are small beside these, but not beside nothing.
    let rows = tokens * width + halved_thrice(2 * config.n_window) * width + 16 * tokens;
    let numbers = rows + most + scratch_numbers(config, chunk, window);
    (numbers * size_of::<f32>()) as u64
}

/// Numbers that the rows of any product are laid out in, chunks having `chunk` frames and windows `window` tokens.
pub(super) fn scratch_numbers(config: &AudioConfig, chunk: usize, window: usize) -> usize {
    let channels = config.downsample_hidden_size;
    let positions = config.num_mel_bins.div_ceil(2) * chunk.div_ceil(2);
    // The last convolution's columns go through a projection.
    let bins = config.num_mel_bins.div_ceil(2).div_ceil(2).div_ceil(2);
    let patches = panel_bytes(positions, 9 * channels);
    let columns = panel_bytes(halved_thrice(chunk), channels * bins);
    let encoder = panel_bytes(window, config.d_model.max(config.encoder_ffn_dim));
    patches.max(columns).max(encoder) / size_of::<f32>()
}

/// Numbers that a chunk takes on its way through the convolutions.
fn stem(config: &AudioConfig, chunk: usize) -> usize {
    let channels = config.downsample_hidden_size;
    let (mut height, mut width, mut depth) = (config.num_mel_bins, chunk, 1);
    let mut most = 0;
    for _ in 0..3 {
        let before = height * width * depth;
        (height, width) = (height.div_ceil(2), width.div_ceil(2));
        let patches = patches_at_once(depth, channels).min(height * width) * depth * 9;
        most = most.max(before + height * width * channels + patches);
        depth = channels;
    }
    // The last planes, and the same once more by column.
    most.max(2 * height * width * channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The released model's: a minute of speech takes tens of megabytes, not gigabytes.
    #[test]
    fn a_minute_is_encoded_in_little_memory() {
        let config = AudioConfig {
            d_model: 1280,
            encoder_layers: 32,
            encoder_attention_heads: 20,
            encoder_ffn_dim: 5120,
            num_mel_bins: 128,
            downsample_hidden_size: 480,
            n_window: 50,
            n_window_infer: 800,
            output_dim: 2048,
        };
        let second = workspace_bytes(&config, 100);
        let minute = workspace_bytes(&config, 6_000);
        assert!((8 << 20..12 << 20).contains(&second), "{second}");
        assert!((16 << 20..32 << 20).contains(&minute), "{minute}");
    }
}
