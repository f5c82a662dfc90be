//! A line that says how far reading or perceiving is, while it is: on a terminal alone.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::ProgressBar;

use super::Printer;
use crate::progress::{Work, WorkProgress, WorkState};

/// How often it is looked at. What is done sooner is not shown at all.
const EVERY: Duration = Duration::from_millis(250);

/// The line, until it is dropped.
pub struct WorkWatch(Option<Watching>);

struct Watching {
    shown: Arc<Mutex<Shown>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shown {
    bar: Option<ProgressBar>,
    ended: bool,
}

impl WorkWatch {
    /// Looks at `progress` from now on; nothing where there is no terminal.
    pub fn start(progress: &Arc<WorkProgress>, printer: &Printer) -> Self {
        let Some(line) = printer.line_maker() else {
            return Self(None);
        };
        let shown = Arc::new(Mutex::new(Shown::default()));
        let (progress, of_thread) = (Arc::clone(progress), Arc::clone(&shown));
        let look = move || {
            loop {
                std::thread::sleep(EVERY);
                let mut shown = lock(&of_thread);
                if shown.ended {
                    return;
                }
                match progress.state() {
                    Some(state) => {
                        let bar = shown.bar.get_or_insert_with(&line);
                        bar.set_message(words(&state));
                    }
                    None => clear(&mut shown),
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(look);
        // Where the system has no thread to give, nothing is shown.
        Self(thread.ok().map(|thread| Watching {
            shown,
            thread: Some(thread),
        }))
    }

    /// Takes the line away at once: something else is to be written.
    pub fn clear(&self) {
        if let Some(watching) = &self.0 {
            clear(&mut lock(&watching.shown));
        }
    }
}

fn lock(shown: &Mutex<Shown>) -> std::sync::MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clear(shown: &mut Shown) {
    if let Some(bar) = shown.bar.take() {
        bar.finish_and_clear();
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        {
            let mut shown = lock(&self.shown);
            shown.ended = true;
            clear(&mut shown);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `reading 384 of 4000 tokens, 8.9 a second, 6 min 45 s left`.
fn words(state: &WorkState) -> String {
    let (done, total) = (state.done as u64, state.total);
    let mut words = match state.work {
        Work::Reading => format!("reading {done} of {total} tokens"),
        Work::Perceiving => format!("perceiving, {done} of {total} pieces of the tower"),
    };
    if let Some(rate) = state.per_second {
        words += &format!(", {rate:.1} a second");
    }
    if let Some(left) = state.left {
        words += &format!(", {} left", duration(left));
    }
    words
}

/// In two units at most.
fn duration(left: Duration) -> String {
    let seconds = left.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_far_how_fast_and_how_long() {
        let state = WorkState {
            work: Work::Reading,
            done: 384.4,
            total: 4000,
            per_second: Some(8.94),
            left: Some(Duration::from_secs(405)),
        };
        assert_eq!(
            words(&state),
            "reading 384 of 4000 tokens, 8.9 a second, 6 min 45 s left"
        );
        let begun = WorkState {
            work: Work::Perceiving,
            done: 0.0,
            total: 29,
            per_second: None,
            left: None,
        };
        assert_eq!(words(&begun), "perceiving, 0 of 29 pieces of the tower");
        assert_eq!(duration(Duration::from_secs(7325)), "2 h 2 min");
        assert_eq!(duration(Duration::from_millis(1600)), "2 s");
    }
}
