//! The running salience of each source: what its texts came to when they were read.

use std::collections::BTreeMap;

/// Sources that are remembered; the one that was silent longest makes room.
const MOST_SOURCES: usize = 64;

/// Weight of the newest.
const RATE: f32 = 0.25;

/// Of a source that was not read yet: it may matter.
const UNKNOWN: f32 = 0.5;

/// An exponential average for each source.
#[derive(Debug, Default)]
pub(super) struct Running {
    sources: BTreeMap<String, (f32, u64)>,
    clock: u64,
}

impl Running {
    /// A text of `source` was assessed.
    pub(super) fn learn(&mut self, source: &str, salience: f32) {
        self.clock += 1;
        if let Some((average, last)) = self.sources.get_mut(source) {
            *average += RATE * (salience - *average);
            *last = self.clock;
            return;
        }
        if self.sources.len() == MOST_SOURCES {
            let silent = self.sources.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(name) = silent.map(|(name, _)| name.clone()) {
                self.sources.remove(&name);
            }
        }
        self.sources
            .insert(source.to_owned(), (salience, self.clock));
    }

    /// What its texts come to.
    pub(super) fn of(&self, source: &str) -> f32 {
        self.sources.get(source).map_or(UNKNOWN, |known| known.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_run_and_the_silent_make_room() {
        let mut running = Running::default();
        running.learn("book", 0.8);
        running.learn("book", 0.4);
        assert!((running.of("book") - 0.7).abs() < 1e-6);
        assert_eq!(running.of("stranger"), UNKNOWN);
        for source in 0..MOST_SOURCES {
            running.learn(&source.to_string(), 0.1);
        }
        assert_eq!(running.sources.len(), MOST_SOURCES);
        assert_eq!(running.of("book"), UNKNOWN);
    }
}
