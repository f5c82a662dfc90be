//! What logs say.

/// Ticks of a second.
const TICKS_PER_SECOND: f64 = 10.0;

/// A gap is never longer, ticks.
pub(super) const MOST_GAP_TICKS: u64 = 64;

/// One thing that a log says.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Idle ticks since the entry before was done with.
    pub gap_ticks: u64,
    /// What.
    pub what: LogEntryKind,
}

/// See [`LogEntry`].
#[derive(Clone, Debug, PartialEq)]
pub enum LogEntryKind {
    /// Something was said to SAGE, and it answered.
    Exchange {
        /// Who spoke.
        source: String,
        /// What was said.
        said: String,
        /// What was answered then, by another model.
        answered: Option<String>,
        /// How good it was found, in [0, 1].
        reward: Option<f64>,
    },
    /// A plugin noted a salience.
    Noted {
        /// Which.
        plugin: String,
        /// In [0, 1].
        salience: f64,
    },
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    /// What kind of log it is.
    pub shape: &'static str,
    /// In order of time.
    pub entries: Vec<LogEntry>,
    /// Entries that say nothing.
    pub left_out: usize,
}

/// The gap between two times in seconds, in ticks.
pub(super) fn gap(before: Option<f64>, now: Option<f64>) -> u64 {
    let seconds = before.zip(now).map_or(0.0, |(before, now)| now - before);
    let ticks = (seconds * TICKS_PER_SECOND).round();
    // A clock that went back is no gap.
    (ticks.clamp(0.0, MOST_GAP_TICKS as f64)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_ten_ticks_a_second_and_64_at_most() {
        assert_eq!(gap(None, Some(5.0)), 0);
        assert_eq!(gap(Some(5.0), Some(5.31)), 3);
        assert_eq!(gap(Some(5.0), Some(5000.0)), 64);
        assert_eq!(gap(Some(5.0), Some(4.0)), 0);
        assert_eq!(gap(Some(5.0), None), 0);
    }
}
