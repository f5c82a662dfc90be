//! Memory of experts over time, and how the whole process shares its limit.

use serde::Serialize;

use super::lanes::{below, stair};
use super::scale::{Mark, Scale, Upright, tenth, unit};
use crate::report::RunReport;

const TOP: f64 = 14.0;
const HEIGHT: f64 = 170.0;

#[derive(Serialize)]
pub struct MemoryChart {
    pub height: f64,
    pub top: f64,
    pub base: f64,
    pub unit: &'static str,
    pub marks: Vec<Mark>,
    pub resident: String,
    pub resident_line: String,
    pub capacity: String,
    /// Where the pool ends; absent in a run without experts' memory, and where the limit changed.
    pub pool: Option<f64>,
    pub resident_most: u64,
    pub capacity_most: u64,
    pub limit: Option<Shares>,
}

/// The limit's parts, in percent of what is drawn.
#[derive(Serialize)]
pub struct Shares {
    pub floor: f64,
    pub pool: f64,
    pub peak: f64,
    pub limit: f64,
}

impl MemoryChart {
    pub fn new(report: &RunReport, scale: &Scale) -> Self {
        let series = &report.series;
        let most = |values: &[u64]| values.iter().copied().max().unwrap_or(0);
        let (resident_most, capacity_most) =
            (most(&series.resident_bytes), most(&series.capacity_bytes));
        let pool = report
            .mode
            .as_ref()
            .map(|mode| mode.pool_bytes)
            .filter(|pool| *pool > 0 && !limit_changed(report));
        // A pool that is far beyond what is ever used would flatten everything else.
        let used = resident_most.max(capacity_most);
        let pool = pool.filter(|pool| *pool <= used.saturating_mul(3) || used == 0);
        let highest = used.max(pool.unwrap_or(0));
        let (unit_bytes, unit) = unit(highest);
        let upright = Upright::new(highest as f64 / unit_bytes, 5.0, TOP, HEIGHT);
        let y = |bytes: f64| upright.y(bytes / unit_bytes);
        let outline = |values: &[u64]| {
            let values = &values[..scale.bins(values.len())];
            stair(values.iter().map(|bytes| *bytes as f64), scale, y)
        };
        let resident_line = outline(&series.resident_bytes);
        Self {
            height: TOP + HEIGHT + 28.0,
            top: TOP,
            base: TOP + HEIGHT,
            unit,
            marks: upright.marks(super::scale::plain),
            resident: below(&resident_line, TOP + HEIGHT),
            resident_line,
            capacity: outline(&series.capacity_bytes),
            pool: pool.map(|pool| y(pool as f64)),
            resident_most,
            capacity_most,
            limit: shares(report),
        }
    }
}

/// Then no single pool or limit holds for the whole run.
fn limit_changed(report: &RunReport) -> bool {
    report.measured.limits.len() > 1
}

fn shares(report: &RunReport) -> Option<Shares> {
    let mode = report.mode.as_ref().filter(|_| !limit_changed(report))?;
    let limit = mode.limit_bytes?;
    let peak = report.measured.peak_rss_bytes;
    let whole = limit.max(peak).max(1) as f64 / 100.0;
    Some(Shares {
        floor: tenth(mode.floor_bytes as f64 / whole),
        pool: tenth(limit.saturating_sub(mode.floor_bytes) as f64 / whole),
        peak: tenth(peak as f64 / whole),
        limit: tenth(limit as f64 / whole),
    })
}
