//! Top-k with ties by the lowest id, the byte cap, and the softmax.

use crate::protocol::ExpertSet;

/// What a row's choice may still miss. None in prefill, without a cap, and under the exact policy.
pub(super) struct Cap {
    pub(super) bytes_left: u64,
    pub(super) overrun_bytes: u64,
    /// Not resident, but already paid for by an earlier row of the same request.
    pub(super) paid: ExpertSet,
}

/// The `k` best of `scores`, best first; of equals the lowest id first. Scores must be numbers.
pub(super) fn top_into(scores: &[f32], k: usize, out: &mut Vec<u16>) {
    out.clear();
    let k = k.min(scores.len());
    if k == 0 {
        return;
    }
    if k * 4 > scores.len() {
        out.extend(0..scores.len() as u16);
        out.sort_unstable_by(|a, b| {
            let (x, y) = (scores[usize::from(*a)], scores[usize::from(*b)]);
            y.partial_cmp(&x)
                .unwrap_or(std::cmp::Ordering::Equal)
                .then(a.cmp(b))
        });
        out.truncate(k);
        return;
    }
    for (expert, score) in scores.iter().enumerate() {
        let worst = out
            .last()
            .map_or(f32::NEG_INFINITY, |last| scores[usize::from(*last)]);
        if out.len() == k && *score <= worst {
            continue;
        }
        let at = out.partition_point(|other| scores[usize::from(*other)] >= *score);
        if out.len() == k {
            out.pop();
        }
        out.insert(at, expert as u16);
    }
}

/// Whether the cap lets the expert in, and pays for it. A `protected_top` expert always is; what it lacks is overrun.
pub(super) fn fits(
    cap: &mut Cap,
    expert: u16,
    resident: &ExpertSet,
    bytes: u64,
    protected_top: bool,
) -> bool {
    if resident.contains(expert) || cap.paid.contains(expert) {
        return true;
    }
    if cap.bytes_left < bytes && !protected_top {
        return false;
    }
    cap.overrun_bytes += bytes.saturating_sub(cap.bytes_left);
    cap.bytes_left = cap.bytes_left.saturating_sub(bytes);
    cap.paid.insert(expert);
    true
}

/// Softmax over a row in f32, in index order; returns its entropy divided by ln E (0 for a single expert).
pub(super) fn softmax(z: &[f32], p: &mut Vec<f32>) -> f32 {
    let max = z.iter().fold(f32::MIN, |max, z| max.max(*z));
    p.clear();
    p.extend(z.iter().map(|z| libm::expf(z - max)));
    let sum = p.iter().fold(0.0f32, |sum, e| sum + e);
    let mut weighted = 0.0f32;
    for (p, z) in p.iter_mut().zip(z) {
        *p /= sum;
        if *p > 0.0 {
            weighted += *p * (z - max);
        }
    }
    if z.len() < 2 {
        return 0.0;
    }
    // −Σ p ln p = ln Σ e^(z − max) − Σ p (z − max)
    ((libm::logf(sum) - weighted) / libm::logf(z.len() as f32)).clamp(0.0, 1.0)
}
