//! Which experts worked: one map a domain, layers down, experts across.

use serde::Serialize;

use super::scale::{LEFT, Mark, RIGHT, nice_step, tenth};
use crate::events::{DomainUse, ExpertsEvent};

/// Upper bounds of the levels, in multiples of the average expert's share; the last level is open.
const BOUNDS: [f64; 4] = [0.5, 1.0, 2.0, 4.0];

/// What a map's levels mean, in the order of [`level`].
const LEVELS: [&str; 6] = [
    "never",
    "up to half the average",
    "up to the average",
    "up to twice",
    "up to four times",
    "more",
];

/// Busiest experts that are named for each layer.
const BUSIEST: usize = 5;

const TOP: f64 = 6.0;

#[derive(Serialize)]
pub struct Experts {
    pub levels: [&'static str; 6],
    pub height: f64,
    /// A cell's width and height with the gap behind it.
    pub cell: (f64, f64),
    pub columns: Vec<Mark>,
    pub rows: Vec<Mark>,
    pub maps: Vec<Map>,
    /// How much of the work of two domains the same experts did, `[maps][maps]`, in percent.
    pub shared: Vec<Vec<u32>>,
}

/// One domain's map.
#[derive(Serialize)]
pub struct Map {
    pub kind: &'static str,
    pub source: String,
    pub tokens: u64,
    /// One path a level above "never".
    pub paths: Vec<String>,
    pub layers: Vec<Busy>,
    /// Experts of all layers that worked at all.
    pub worked: usize,
    pub all: usize,
}

/// A layer's busiest experts.
#[derive(Serialize)]
pub struct Busy {
    pub layer: u16,
    /// Number, and the percentage of the domain's tokens that it worked on.
    pub experts: Vec<(usize, u32)>,
    /// The fewest experts that did half of the layer's work.
    pub half: usize,
}

/// 0 for never, then by multiples of the average.
fn level(count: u32, average: f64) -> usize {
    if count == 0 {
        return 0;
    }
    let times = f64::from(count) / average;
    1 + BOUNDS.iter().filter(|bound| times > **bound).count()
}

impl Experts {
    pub fn new(experts: &ExpertsEvent) -> Self {
        let width = (RIGHT - LEFT) / experts.experts.max(1) as f64;
        let height = width.clamp(8.0, 17.0);
        let column = nice_step(experts.experts as f64, 8.0).max(1.0) as usize;
        let row = nice_step(experts.layers.len() as f64, 12.0).max(1.0) as usize;
        let columns = (0..experts.experts).step_by(column).map(|expert| Mark {
            at: tenth(LEFT + width * (expert as f64 + 0.5)),
            label: expert.to_string(),
        });
        let layers = experts.layers.iter().enumerate().step_by(row);
        let rows = layers.map(|(at, layer)| Mark {
            at: tenth(TOP + height * (at as f64 + 0.5)),
            label: format!("layer {layer}"),
        });
        let maps = experts.domains.iter();
        Self {
            levels: LEVELS,
            height: tenth(TOP + height * experts.layers.len() as f64 + 22.0),
            cell: (width, height),
            columns: columns.collect(),
            rows: rows.collect(),
            maps: maps
                .map(|domain| map(domain, &experts.layers, (width, height)))
                .collect(),
            shared: shared(&experts.domains),
        }
    }
}

fn map(domain: &DomainUse, layers: &[u16], (width, height): (f64, f64)) -> Map {
    let mut paths = vec![String::new(); LEVELS.len() - 1];
    let gap = if width >= 6.0 { 1.0 } else { 0.0 };
    let (across, down) = (tenth(width - gap), tenth(height - gap));
    for (row, counts) in domain.worked.iter().enumerate() {
        let sum: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let average = sum as f64 / counts.len().max(1) as f64;
        for (expert, count) in counts.iter().enumerate() {
            let Some(path) = level(*count, average).checked_sub(1) else {
                continue;
            };
            let x = tenth(LEFT + width * expert as f64);
            let y = tenth(TOP + height * row as f64);
            paths[path].push_str(&format!("M{x} {y}h{across}v{down}h-{across}z"));
        }
    }
    let worked = domain.worked.iter().flatten();
    Map {
        kind: domain.kind,
        source: domain.source.clone(),
        tokens: domain.tokens,
        paths,
        layers: domain
            .worked
            .iter()
            .zip(layers)
            .map(|(counts, layer)| busy(*layer, counts, domain.tokens))
            .collect(),
        worked: worked.clone().filter(|count| **count > 0).count(),
        all: worked.count(),
    }
}

fn busy(layer: u16, counts: &[u32], tokens: u64) -> Busy {
    let mut order: Vec<usize> = (0..counts.len()).filter(|e| counts[*e] > 0).collect();
    order.sort_by_key(|expert| (std::cmp::Reverse(counts[*expert]), *expert));
    let sum: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    let mut done = 0;
    let half = order.iter().take_while(|expert| {
        let more = done * 2 < sum;
        done += u64::from(counts[**expert]);
        more
    });
    let half = half.count();
    let percent = |count: u32| (f64::from(count) / tokens.max(1) as f64 * 100.0).round() as u32;
    Busy {
        layer,
        experts: order
            .iter()
            .take(BUSIEST)
            .map(|expert| (*expert, percent(counts[*expert])))
            .collect(),
        half,
    }
}

/// The overlap of two domains' work: of each layer the sum of the smaller shares, then the mean over layers.
fn shared(domains: &[DomainUse]) -> Vec<Vec<u32>> {
    let overlap = |a: &DomainUse, b: &DomainUse| {
        let layers = a.worked.iter().zip(&b.worked).map(|(a, b)| {
            let sum = |counts: &[u32]| counts.iter().map(|c| f64::from(*c)).sum::<f64>().max(1.0);
            let (all_a, all_b) = (sum(a), sum(b));
            let both = a.iter().zip(b);
            both.map(|(a, b)| (f64::from(*a) / all_a).min(f64::from(*b) / all_b))
                .sum::<f64>()
        });
        (layers.sum::<f64>() / a.worked.len().max(1) as f64 * 100.0).round() as u32
    };
    domains
        .iter()
        .map(|a| domains.iter().map(|b| overlap(a, b)).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(source: &str, worked: Vec<Vec<u32>>) -> DomainUse {
        DomainUse {
            kind: "text",
            source: source.to_owned(),
            tokens: 10,
            worked,
        }
    }

    #[test]
    fn the_busiest_are_named_and_what_is_shared_is_counted() {
        let event = ExpertsEvent {
            layers: vec![4],
            experts: 4,
            domains: vec![
                domain("a", vec![vec![10, 6, 4, 0]]),
                domain("b", vec![vec![0, 0, 10, 10]]),
            ],
        };
        let experts = Experts::new(&event);
        let busy = &experts.maps[0].layers[0];
        assert_eq!(busy.experts, [(0, 100), (1, 60), (2, 40)]);
        assert_eq!((busy.layer, busy.half), (4, 1));
        assert_eq!((experts.maps[0].worked, experts.maps[0].all), (3, 4));
        assert_eq!(experts.shared, [[100, 20], [20, 100]]);
    }

    #[test]
    fn levels_are_multiples_of_the_average() {
        let cases = [(0, 0), (5, 1), (10, 2), (20, 3), (40, 4), (41, 5)];
        for (count, expected) in cases {
            assert_eq!(level(count, 10.0), expected, "{count} of an average of 10");
        }
    }
}
