//! How far long work is, for whoever looks at it from another thread: a prompt that is read, towers that perceive. Rates are of
//! clocks, so no decision and no event has them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A prompt or a text is read; counted in tokens.
    Reading,
    /// A sound or a picture goes through its tower; counted in pieces of the tower.
    Perceiving,
}

/// Who hears of a tower that encodes: of its intermediate results, by name, or of how far it is, or of both. A closure hears of
/// results.
pub trait TowerListener {
    /// An intermediate result.
    fn tensor(&mut self, _name: &str, _values: &[f32]) {}

    /// The tower's piece `at` begins, the first is 0, of `pieces`.
    fn piece(&mut self, _at: usize, _pieces: usize) {}
}

impl<F: FnMut(&str, &[f32])> TowerListener for F {
    fn tensor(&mut self, name: &str, values: &[f32]) {
        self(name, values);
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkState {
    /// What is done.
    pub work: Work,
    /// Units that are done; of tokens on their way through the layers a part.
    pub done: f64,
    /// Units in all.
    pub total: u64,
    /// Units a second since it began; none before anything is done.
    pub per_second: Option<f64>,
    /// What is left at that rate.
    pub left: Option<Duration>,
}

/// What is under way.
#[derive(Clone, Copy, Debug)]
struct Underway {
    work: Work,
    total: u64,
    begun: Instant,
    /// Units that were done when it began.
    before: f64,
    /// Units that are done, but for the part.
    done: f64,
    /// Units of the step that runs.
    part: f64,
    /// How much of the step is done.
    share: f64,
}

/// Progress of one engine.
#[derive(Debug, Default)]
pub struct WorkProgress(Mutex<Option<Underway>>);

impl WorkProgress {
    fn underway(&self) -> MutexGuard<'_, Option<Underway>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step of `part` units runs, behind `done` of `total`. The clock goes on where it is the same work.
    pub fn step(&self, work: Work, done: u64, part: u64, total: u64) {
        let mut underway = self.underway();
        let same =
            underway.filter(|on| on.work == work && on.total == total && on.done <= done as f64);
        let (begun, before) =
            same.map_or((Instant::now(), done as f64), |on| (on.begun, on.before));
        *underway = Some(Underway {
            work,
            total,
            begun,
            before,
            done: done as f64,
            part: part as f64,
            share: 0.0,
        });
    }

    /// So much of the step is done.
    pub fn share(&self, done: usize, of: usize) {
        if let Some(underway) = &mut *self.underway() {
            underway.share = done as f64 / of.max(1) as f64;
        }
    }

    /// Nothing takes long any more.
    pub fn end(&self) {
        *self.underway() = None;
    }

    /// How far it is; none where nothing is under way.
    pub fn state(&self) -> Option<WorkState> {
        let underway = (*self.underway())?;
        let done = (underway.done + underway.part * underway.share).min(underway.total as f64);
        let seconds = underway.begun.elapsed().as_secs_f64();
        let so_far = done - underway.before;
        let per_second = (so_far > 0.0 && seconds > 0.0).then(|| so_far / seconds);
        let left = per_second.map(|rate| (underway.total as f64 - done) / rate);
        Some(WorkState {
            work: underway.work,
            done,
            total: underway.total,
            per_second,
            left: left.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_counts_as_far_as_its_layers_are() {
        let progress = WorkProgress::default();
        assert_eq!(progress.state(), None);
        progress.step(Work::Reading, 0, 100, 400);
        progress.share(12, 48);
        let state = progress.state().unwrap();
        assert_eq!((state.done, state.total), (25.0, 400));
        assert!(state.per_second.is_some_and(|rate| rate > 0.0) && state.left.is_some());
        progress.step(Work::Reading, 100, 100, 400);
        let state = progress.state().unwrap();
        assert_eq!(state.done, 100.0);
        assert!(state.per_second.is_some(), "the clock went on");
        // Another prompt.
        progress.step(Work::Reading, 0, 10, 20);
        assert_eq!(progress.state().unwrap().per_second, None);
        progress.end();
        assert_eq!(progress.state(), None);
    }
}
