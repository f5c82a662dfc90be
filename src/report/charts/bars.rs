//! What steps asked for, in bars that are wide enough to be seen.

use serde::Serialize;

use super::scale::{Mark, RIGHT, Scale, Upright, plain, tenth, unit};
use crate::input::human_bytes;
use crate::report::data::Series;

/// Bars in a drawing at most.
const MOST_BARS: usize = 110;

const TOP: f64 = 12.0;

/// A drawing of bars.
#[derive(Serialize)]
pub struct Bars {
    pub height: f64,
    pub top: f64,
    pub base: f64,
    pub unit: &'static str,
    pub marks: Vec<Mark>,
    pub bars: Vec<Bar>,
    /// Ticks of a bar.
    pub bar_ticks: u64,
    /// Whether there is nothing to draw.
    pub is_empty: bool,
}

/// A bar, of one part or of two.
#[derive(Serialize)]
pub struct Bar {
    pub x: f64,
    pub width: f64,
    /// Top of the lower part.
    pub low: f64,
    /// Top of the whole bar.
    pub high: f64,
    pub title: String,
}

/// One bar's values.
struct Value {
    low: f64,
    whole: f64,
    title: String,
}

/// Leased experts: hits below, misses above.
pub fn leases(series: &Series, scale: &Scale) -> Bars {
    let value = |from: usize, to: usize| {
        let hits: u64 = series.hits[from..to].iter().sum();
        let all = hits + series.misses[from..to].iter().sum::<u64>();
        Value {
            low: hits as f64,
            whole: all as f64,
            title: format!("{hits} of {all} experts were in memory"),
        }
    };
    draw(series.hits.len(), scale, 110.0, "experts", value)
}

/// Bytes of experts that were read.
pub fn bytes(series: &Series, scale: &Scale) -> Bars {
    let len = series.bytes_read.len();
    let sums = series.bytes_read.chunks(group(scale.bins(len)));
    let (unit_bytes, unit) = unit(sums.map(|bin| bin.iter().sum()).max().unwrap_or(0));
    let value = |from: usize, to: usize| {
        let bytes: u64 = series.bytes_read[from..to].iter().sum();
        Value {
            low: bytes as f64 / unit_bytes,
            whole: bytes as f64 / unit_bytes,
            title: format!("{} read", human_bytes(bytes)),
        }
    };
    draw(len, scale, 90.0, unit, value)
}

/// Router mass of experts that the budget did not admit.
pub fn denied(series: &Series, scale: &Scale) -> Bars {
    let value = |from: usize, to: usize| {
        let mass: f64 = series.denied_mass[from..to].iter().sum();
        let experts: u64 = series.denied_experts[from..to].iter().sum();
        Value {
            low: mass,
            whole: mass,
            title: format!("{experts} choices denied, router mass {mass:.3}"),
        }
    };
    draw(series.denied_mass.len(), scale, 90.0, "mass", value)
}

/// Bins of a bar.
fn group(bins: usize) -> usize {
    bins.div_ceil(MOST_BARS).max(1)
}

fn draw(
    len: usize,
    scale: &Scale,
    height: f64,
    unit: &'static str,
    value: impl Fn(usize, usize) -> Value,
) -> Bars {
    let (bins, group) = (scale.bins(len), group(scale.bins(len)));
    // What stands at the last tick of all belongs to the last bar.
    let groups: Vec<(usize, usize)> = (0..bins)
        .step_by(group)
        .map(|from| {
            let to = from + group;
            (from, if to >= bins { len } else { to })
        })
        .collect();
    let values: Vec<Value> = groups.iter().map(|(from, to)| value(*from, *to)).collect();
    let most = values.iter().map(|value| value.whole).fold(0.0, f64::max);
    let upright = Upright::new(most, 3.0, TOP, height);
    let bars = groups.iter().zip(values).filter(|(_, v)| v.whole > 0.0);
    let bars = bars.map(|((from, to), value)| {
        let x = scale.bin(*from);
        let right = if *to == len { RIGHT } else { scale.bin(*to) };
        let gap = if right - x > 4.0 { 1.0 } else { 0.0 };
        let (begin, end) = (*from as f64 * scale.bin_ticks, *to as f64 * scale.bin_ticks);
        let when = if end - begin > 1.0 {
            format!("ticks {begin:.0} to {:.0}", end - 1.0)
        } else {
            format!("tick {begin:.0}")
        };
        Bar {
            x,
            width: tenth((right - x - gap).max(0.8)),
            low: upright.y(value.low),
            high: upright.y(value.whole),
            title: format!("{when}: {}", value.title),
        }
    });
    Bars {
        height: TOP + height + 28.0,
        top: TOP,
        base: TOP + height,
        unit,
        marks: upright.marks(plain),
        bars: bars.collect(),
        bar_ticks: group as u64 * scale.bin_ticks as u64,
        is_empty: most <= 0.0,
    }
}
