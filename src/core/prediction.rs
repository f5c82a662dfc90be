//! How well logits predicted a token, and how sure they are.

/// Negative log-likelihood of `target` and entropy of the prediction, nats, from logits; sums in f64.
///
/// `target` beyond the vocabulary gives infinity.
pub fn nll_and_entropy(logits: &[f32], target: Option<u32>) -> (f32, f32) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0f64, 0.0f64);
    for logit in logits {
        let shifted = f64::from(*logit - max);
        let e = f64::from(libm::expf(shifted as f32));
        sum += e;
        weighted += e * shifted;
    }
    let log_sum = libm::log(sum);
    let entropy = (log_sum - weighted / sum).max(0.0);
    let nll = match target {
        Some(target) => logits
            .get(target as usize)
            .map_or(f64::INFINITY, |l| log_sum - f64::from(*l - max)),
        None => 0.0,
    };
    (nll as f32, entropy as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_of_equal_logits_is_ln_n() {
        let (nll, entropy) = nll_and_entropy(&[2.0; 8], Some(3));
        assert!((entropy - 8f32.ln()).abs() < 1e-6 && (nll - entropy).abs() < 1e-6);
    }
}
