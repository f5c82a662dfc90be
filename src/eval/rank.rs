//! Rank correlation.

/// Spearman's: the correlation of the ranks of pairs, each of which counts `times` times; equal values share their mean
/// rank. None where one side is constant or fewer than three pairs count.
pub fn spearman(pairs: &[(f64, f64)], times: &[f64]) -> Option<f64> {
    if times.iter().filter(|times| **times > 0.0).count() < 3 {
        return None;
    }
    let x = ranks(pairs.iter().map(|pair| pair.0).collect(), times);
    let y = ranks(pairs.iter().map(|pair| pair.1).collect(), times);
    let total: f64 = times.iter().sum();
    let mean = |ranks: &[f64]| ranks.iter().zip(times).map(|(r, t)| r * t).sum::<f64>() / total;
    let (mx, my) = (mean(&x), mean(&y));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for ((x, y), times) in x.iter().zip(&y).zip(times) {
        xy += times * (x - mx) * (y - my);
        xx += times * (x - mx) * (x - mx);
        yy += times * (y - my) * (y - my);
    }
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

/// The rank of every value among all, each counted `times` times.
fn ranks(values: Vec<f64>, times: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0.0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let count: f64 = equal.iter().map(|at| times[*at]).sum();
        let rank = below + (count + 1.0) / 2.0;
        equal.iter().for_each(|at| ranks[*at] = rank);
        below += count;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_correlations() {
        let pairs = |y: [f64; 5]| -> Vec<(f64, f64)> {
            [1.0, 2.0, 3.0, 4.0, 5.0].into_iter().zip(y).collect()
        };
        let once = [1.0; 5];
        let rho = |y| spearman(&pairs(y), &once).unwrap();
        assert!((rho([1.0, 4.0, 9.0, 16.0, 25.0]) - 1.0).abs() < 1e-12);
        assert!((rho([5.0, 4.0, 3.0, 2.0, 1.0]) + 1.0).abs() < 1e-12);
        // 1 − 6·Σd² / (n(n² − 1)) with d = 0, 1, 1, 1, 1.
        assert!((rho([1.0, 3.0, 2.0, 5.0, 4.0]) - 0.8).abs() < 1e-12);
        assert_eq!(spearman(&pairs([2.0; 5]), &once), None);
        assert_eq!(spearman(&pairs([1.0; 5])[..2], &once[..2]), None);
    }

    #[test]
    fn counting_a_pair_twice_is_having_it_twice() {
        let pairs = [(1.0, 2.0), (2.0, 1.0), (3.0, 3.0), (4.0, 0.5)];
        let twice: Vec<(f64, f64)> = [&pairs[..], &pairs[1..2]].concat();
        let counted = spearman(&pairs, &[1.0, 2.0, 1.0, 1.0]).unwrap();
        assert!((counted - spearman(&twice, &[1.0; 5]).unwrap()).abs() < 1e-12);
    }
}
