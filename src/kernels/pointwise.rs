//! Norms, activations, softmax and rotation, in a fixed order and with the same bits everywhere.

use rayon::prelude::*;

/// `out = x / sqrt(mean(x^2) + eps) * weight`, statistics in f32.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let scale = rms_scale(x, eps);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

/// [`rms_norm`] of every row of `x` `[rows, weight.len()]`.
pub fn rms_norm_rows(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    let mut out = vec![0.0; x.len()];
    for_each_row(&mut out, width, |(at, out)| {
        rms_norm(&x[at * width..(at + 1) * width], weight, eps, out);
    });
    out
}

/// Fewer numbers than this are not worth a second thread.
const PARALLEL_FROM: usize = 1 << 15;

/// Does something with every row of `x` `[rows, width]`, and its number; over all threads where there is enough to do.
pub fn for_each_row(x: &mut [f32], width: usize, run: impl Fn((usize, &mut [f32])) + Send + Sync) {
    if x.len() < PARALLEL_FROM {
        x.chunks_exact_mut(width).enumerate().for_each(run);
    } else {
        x.par_chunks_exact_mut(width).enumerate().for_each(run);
    }
}

/// As [`rms_norm`], in place.
pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let scale = rms_scale(x, eps);
    for (x, weight) in x.iter_mut().zip(weight) {
        *x = *x * scale * weight;
    }
}

/// `1 / sqrt(mean(x^2) + eps)`, summed over the same fixed lanes as a dot product.
fn rms_scale(x: &[f32], eps: f32) -> f32 {
    let mut sum = [0.0];
    super::multiply_row(super::InstructionSet::best(), x, x, &mut sum);
    1.0 / libm::sqrtf(sum[0] / x.len() as f32 + eps)
}

/// `1 / (1 + e^-x)`.
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-x))
}

/// `x * sigmoid(x)`.
pub fn silu(x: f32) -> f32 {
    x / (1.0 + libm::expf(-x))
}

/// `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`, biased variance; sums in f64.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let n = x.len() as f64;
    let mean = x.iter().copied().map(f64::from).sum::<f64>() / n;
    let squares = x
        .iter()
        .map(|x| (f64::from(*x) - mean) * (f64::from(*x) - mean));
    let variance = squares.sum::<f64>() / n;
    let scale = (1.0 / libm::sqrt(variance + f64::from(eps))) as f32;
    let mean = mean as f32;
    for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
        *out = (*x - mean) * scale * weight + bias;
    }
}

/// `x / 2 * (1 + erf(x / sqrt 2))`.
pub fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// GELU with the hyperbolic tangent in place of erf (`gelu_pytorch_tanh`).
pub fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + libm::tanhf(SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)))
}

/// Rotates a head in place: dimension d pairs with d + D/2, `cos` and `sin` are `[D/2]`.
pub fn rotate_half(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = head.split_at_mut(cos.len());
    for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let (a, b) = (*low, *high);
        *low = a * cos - b * sin;
        *high = b * cos + a * sin;
    }
}

/// `y += scale * x`.
pub fn add_scaled(y: &mut [f32], x: &[f32], scale: f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_pairs_the_halves() {
        let mut head = [1.0, 2.0, 3.0, 4.0];
        rotate_half(&mut head, &[0.0, 1.0], &[1.0, 0.0]);
        assert_eq!(head, [-3.0, 2.0, 1.0, 4.0]);
    }

    #[test]
    fn layer_norm_takes_the_mean_away() {
        let mut out = [0.0; 2];
        layer_norm(&[1.0, 5.0], &[1.0, 3.0], &[0.5, 0.0], 0.0, &mut out);
        assert_eq!(out, [-0.5, 3.0]);
    }

    #[test]
    fn both_forms_of_gelu_meet_their_tables() {
        // Values to seven places of x · Φ(x), and of the approximation by tanh.
        for (x, exact, tanh) in [
            (-1.0, -0.158_655_25, -0.158_808_01),
            (0.5, 0.345_731_23, 0.345_714),
            (2.0, 1.954_499_7, 1.954_597_7),
        ] {
            assert!((gelu(x) - exact).abs() < 1e-6, "{x}");
            assert!((gelu_tanh(x) - tanh).abs() < 1e-6, "{x}");
        }
    }

    #[test]
    fn norm_divides_by_the_root_mean_square() {
        let mut out = [0.0; 2];
        rms_norm(&[3.0, 4.0], &[1.0, 2.0], 0.0, &mut out);
        let rms = 12.5f32.sqrt();
        assert!((out[0] - 3.0 / rms).abs() < 1e-6 && (out[1] - 8.0 / rms).abs() < 1e-6);
    }
}
