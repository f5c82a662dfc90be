//! What the loop remembers of its own doings, for those who ask why.

use std::collections::{BTreeMap, VecDeque};

use sage_actors::protocol::{Energy, SalienceReport, Tick, TokenOrigin, Transition};

use crate::core::{Arrivals, Forward, Orientation};

/// Segments, and changes of state, that are remembered.
const MOST: usize = 8;

/// A change of state with what was measured when it came.
#[derive(Clone, Debug)]
pub struct Moved {
    /// When.
    pub tick: Tick,
    /// From where to where, and why.
    pub change: Transition,
    /// The reserves.
    pub energy: Energy,
    /// What moves states.
    pub drive: f32,
    /// Salience, threat, urgency.
    pub report: SalienceReport,
    /// Requests that waited for an answer.
    pub open_requests: u32,
    /// Ticks that the state before had lasted.
    pub dwelt_ticks: u64,
}

/// A segment that was assessed.
#[derive(Clone, Debug)]
pub struct AssessedSegment {
    /// When.
    pub tick: Tick,
    /// Read or generated.
    pub origin: TokenOrigin,
    /// Of the observation that it was read or generated for.
    pub source: String,
    /// Tokens whose prediction was measured.
    pub tokens: usize,
    /// The five numbers.
    pub report: SalienceReport,
    /// The drive that they came to.
    pub drive: f32,
}

/// Who worked on a request.
#[derive(Clone, Debug, Default)]
pub struct RequestWork {
    id: Option<u64>,
    /// Tokens read and generated.
    pub tokens: usize,
    /// Mixing weight of (layer, expert), summed over tokens.
    pub used: BTreeMap<(u16, u16), f64>,
    /// Router mass that (layer, expert) was denied.
    pub denied: BTreeMap<(u16, u16), f64>,
    /// Leased experts that were resident.
    pub hits: u64,
    /// Leased experts that were not.
    pub misses: u64,
    /// Logical bytes of the misses.
    pub miss_bytes: u64,
}

/// What a tick was told, as far as it is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct TickSummary {
    segment: Option<(TokenOrigin, usize)>,
    open_requests: u32,
}

impl TickSummary {
    pub(super) fn of(arrivals: &Arrivals) -> Self {
        let segment = arrivals.segment.as_ref();
        Self {
            segment: segment.map(|segment| (segment.origin, segment.tokens.len())),
            open_requests: arrivals.open_requests,
        }
    }
}

/// The memory.
#[derive(Clone, Debug, Default)]
pub struct Recall {
    /// The last changes of state, newest last.
    pub moves: VecDeque<Moved>,
    /// The last segments, newest last.
    pub segments: VecDeque<AssessedSegment>,
    /// The last request that was worked on.
    pub work: RequestWork,
    /// When the state in force was entered.
    pub entered_tick: Tick,
}

fn remember<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == MOST {
        list.pop_front();
    }
    list.push_back(item);
}

impl Recall {
    pub(super) fn oriented(
        &mut self,
        orientation: &Orientation,
        sensed: TickSummary,
        source: String,
    ) {
        let (tick, directives) = (orientation.tick, &orientation.directives);
        if let Some(change) = directives.transition {
            let moved = Moved {
                tick,
                change,
                energy: directives.energy,
                drive: directives.drive,
                report: orientation.report,
                open_requests: sensed.open_requests,
                dwelt_ticks: tick - self.entered_tick,
            };
            remember(&mut self.moves, moved);
            self.entered_tick = tick;
        }
        if let Some((origin, tokens)) = sensed.segment {
            let assessed = AssessedSegment {
                tick,
                origin,
                source,
                tokens,
                report: orientation.report,
                drive: directives.drive,
            };
            remember(&mut self.segments, assessed);
        }
    }

    /// A step of request `id`.
    pub(super) fn work(&mut self, id: u64, forward: &Forward, tokens: usize) {
        if self.work.id != Some(id) {
            self.work = RequestWork {
                id: Some(id),
                ..RequestWork::default()
            };
        }
        let work = &mut self.work;
        work.tokens += tokens;
        (work.hits, work.misses) = (
            work.hits + forward.traffic.hits,
            work.misses + forward.traffic.misses,
        );
        work.miss_bytes += forward.traffic.miss_bytes;
        for (sums, parts) in [
            (&mut work.used, &forward.work.gates),
            (&mut work.denied, &forward.denials.experts),
        ] {
            for part in parts {
                *sums.entry((part.layer, part.expert)).or_default() += f64::from(part.gate);
            }
        }
    }
}
