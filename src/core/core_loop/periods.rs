//! Which limits were in force, and what memory was taken under each.
//!
//! The system counts one peak for the whole life of a process. As long as one limit is in force that is its peak; when
//! the limit falls, the older peak says nothing of the new one, so that the resident set is read before and after each
//! step from then on. The counter could be set back (/proc/self/clear_refs), but whoever measures the process from
//! outside reads it too.

use sage_actors::protocol::Tick;

use crate::core::MemoryPlan;
use crate::core::memory::resident_set;
use crate::events::LimitPeriod;

#[derive(Debug)]
struct Period {
    seen: LimitPeriod,
    /// The system's peak when it began.
    peak_before: u64,
}

impl Period {
    fn new(plan: &MemoryPlan, tick: Tick, peak_before: u64) -> Self {
        Self {
            seen: LimitPeriod {
                from_tick: tick,
                limit_bytes: plan.limit_bytes,
                covers_floor: plan.shortfall_bytes() == 0,
                peak_rss_bytes: 0,
            },
            peak_before,
        }
    }
}

/// The times under one limit each, in order.
#[derive(Debug)]
pub(super) struct Periods {
    periods: Vec<Period>,
}

impl Periods {
    /// The first of them.
    pub(super) fn new(plan: &MemoryPlan) -> Self {
        Self {
            periods: vec![Period::new(plan, 0, 0)],
        }
    }

    /// The mind has oriented itself under `plan`, and the cache has obeyed: what an earlier limit allowed is given back.
    pub(super) fn obeyed(&mut self, plan: &MemoryPlan, tick: Tick) {
        let last = self.periods.last();
        if last.is_none_or(|period| period.seen.limit_bytes != plan.limit_bytes) {
            self.close();
            self.periods.push(Period::new(plan, tick, resident_set().1));
        }
        self.sample();
    }

    /// The first period needs no samples: its peak is the system's.
    fn close(&mut self) {
        if let [only] = self.periods.as_mut_slice() {
            only.seen.peak_rss_bytes = resident_set().1;
        }
    }

    /// Reads the resident set where the system's peak does not say it all.
    pub(super) fn sample(&mut self) {
        let [_, .., period] = self.periods.as_mut_slice() else {
            return;
        };
        let (now, peak) = resident_set();
        let seen = if peak > period.peak_before { peak } else { now };
        period.seen.peak_rss_bytes = period.seen.peak_rss_bytes.max(seen);
    }

    /// All of them, the last one up to now.
    pub(super) fn all(&self) -> Vec<LimitPeriod> {
        let mut periods: Vec<LimitPeriod> = self.periods.iter().map(|p| p.seen).collect();
        if let [only] = periods.as_mut_slice() {
            only.peak_rss_bytes = resident_set().1;
        }
        periods
    }

    /// The widest limit; none where there was a time without.
    pub(super) fn widest(&self) -> Option<u64> {
        let limits = self.periods.iter().map(|period| period.seen.limit_bytes);
        limits.collect::<Option<Vec<u64>>>()?.into_iter().max()
    }
}
