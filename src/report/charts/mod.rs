//! Where things stand in the drawings: numbers and paths; the page's template draws them.

mod bars;
mod experts;
mod lanes;
mod memory;
mod scale;
mod states;

use serde::Serialize;

use super::RunReport;
use bars::Bars;
use experts::Experts;
use memory::MemoryChart;
use scale::{LEFT, Mark, RIGHT, Scale, WIDTH};
use states::States;

/// Every drawing of a report; those over time share one scale.
#[derive(Serialize)]
pub struct Charts {
    pub width: f64,
    pub left: f64,
    pub right: f64,
    pub axis: Vec<Mark>,
    pub states: States,
    pub memory: MemoryChart,
    /// Leased experts, hits below misses.
    pub leases: Bars,
    pub bytes: Bars,
    /// Denied router mass.
    pub denied: Bars,
    pub experts: Option<Experts>,
}

impl Charts {
    pub fn new(report: &RunReport) -> Self {
        let scale = Scale::new(report.ticks, report.resolution.bin_ticks);
        Self {
            width: WIDTH,
            left: LEFT,
            right: RIGHT,
            axis: scale.axis(),
            states: States::new(report, &scale),
            memory: MemoryChart::new(report, &scale),
            leases: bars::leases(&report.series, &scale),
            bytes: bars::bytes(&report.series, &scale),
            denied: bars::denied(&report.series, &scale),
            experts: report.experts.as_ref().map(Experts::new),
        }
    }
}
