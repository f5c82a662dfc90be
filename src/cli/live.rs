//! What a run looks like: one compact view on a terminal, plain lines in a pipe, JSON for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use sage_actors::protocol::{State, Tick};

use super::printable::{one_line, printable};
use super::{CliError, Printer, human_bytes};
use crate::events::{
    CacheEvent, DreamEvent, Event, EventKind, LimitEvent, Observed, ObservedMedium, SalienceEvent,
};
use crate::model::code2wav::SAMPLE_RATE_HZ;
use indicatif::ProgressBar;

/// A step is shown for so many ticks' time at most.
const MOST_TICKS_SHOWN: u32 = 16;

/// Shows events as they come.
pub struct View<'a> {
    printer: &'a Printer,
    /// The line that is drawn again at every tick; only on a terminal.
    status: Option<ProgressBar>,
    /// How long a tick is shown; the run itself knows nothing of it.
    pace: Duration,
    tick: Tick,
    state: State,
    cause: String,
    k: u16,
    salience: Option<SalienceEvent>,
    /// The step of the current tick, once it has worked.
    worked: Option<CacheEvent>,
    /// The last step that worked.
    last: Option<CacheEvent>,
    heard: String,
    answer: String,
    /// What was left of each reserve when it was last read.
    sensed: BTreeMap<String, f64>,
}

impl<'a> View<'a> {
    /// A view for this printer; on a terminal a tick is shown for `pace`.
    pub fn new(printer: &'a Printer, pace: Duration) -> Self {
        Self {
            printer,
            status: printer.live(),
            pace,
            tick: 0,
            state: State::Wake,
            cause: String::new(),
            k: 0,
            salience: None,
            worked: None,
            last: None,
            heard: String::new(),
            answer: String::new(),
            sensed: BTreeMap::new(),
        }
    }

    /// Shows one event.
    ///
    /// # Errors
    /// When stdout cannot be written.
    // Long: one arm for each kind of event that it shows.
    pub fn show(&mut self, event: &Event) -> Result<(), CliError> {
        if self.printer.is_json() {
            return self.printer.json(event);
        }
        if event.tick != self.tick {
            self.flush()?;
            self.show_for(event.tick - self.tick);
            self.tick = event.tick;
        }
        match &event.kind {
            EventKind::Mode(mode) => self.printer.note(format_args!("mode: {}", mode.text)),
            EventKind::Observation(observed) if self.is_old(observed) => {}
            EventKind::Observation(observed) => self.line(&observation(observed))?,
            EventKind::State { from, to, cause } => {
                self.state = *to;
                self.cause = name(cause);
                let felt = self.felt();
                self.line(&format!(
                    "{} → {} ({}) {felt}",
                    name(from),
                    name(to),
                    self.cause
                ))?;
            }
            EventKind::Salience(salience) => self.salience = Some(*salience),
            EventKind::Directive { k, .. } => self.k = *k,
            EventKind::Tower { .. } | EventKind::Perceived(_) => {
                if let Some(text) = perceived(&event.kind) {
                    self.line(&text)?;
                }
            }
            EventKind::Cache(cache) => (self.worked, self.last) = (Some(*cache), Some(*cache)),
            EventKind::Denied { mass, experts, .. } => {
                self.heard.push_str(&format!(
                    " [denied {experts} choices, router mass {mass:.2}]"
                ));
            }
            EventKind::Read {
                source,
                tokens,
                mean_loss,
                ..
            } => {
                // Nothing predicts the tokens of a sound.
                let loss = mean_loss.map_or(String::new(), |loss| format!(", loss {loss:.2}"));
                self.heard
                    .push_str(&format!(" read {tokens} of {source}{loss}"));
            }
            EventKind::Progress {
                read_tokens,
                prompt_tokens,
                ..
            } => self
                .heard
                .push_str(&format!(" read {read_tokens} of {prompt_tokens} tokens")),
            EventKind::Perceiving {
                pieces_done,
                pieces,
                ..
            } => {
                self.now(&format!(
                    "perceiving, {pieces_done} of {pieces} pieces of the tower"
                ));
                return Ok(());
            }
            EventKind::Token { text, .. } => {
                self.answer.push_str(text);
                self.heard.push_str(&format!(" says {text:?}"));
            }
            EventKind::Answer { text, ended, .. } => {
                self.answer.clear();
                self.flush()?;
                self.line(&format!("answer: {text:?} (ended by {})", name(ended)))?;
            }
            EventKind::Spoken(spoken) => {
                let seconds = spoken.samples as f64 / f64::from(SAMPLE_RATE_HZ);
                self.flush()?;
                self.line(&format!(
                    "spoken: {seconds:.2} s of the answer to {} (ended by {})",
                    spoken.request,
                    name(&spoken.ended)
                ))?;
            }
            EventKind::Expectation { text, met, .. } => {
                let verdict = if *met { "met" } else { "NOT MET" };
                self.line(&format!("expectation {verdict}: {text}"))?;
            }
            EventKind::Limit(limit) => self.line(&limit_line(limit))?,
            EventKind::Forgotten { turns, left, .. } => self.line(&forgotten(*turns, *left))?,
            EventKind::Condensed { segments, left, .. } => {
                self.line(&condensed(*segments, *left))?;
            }
            EventKind::Recalled { segments, .. } => self.line(&recalled(*segments))?,
            EventKind::Dream(dream) => self.line(&dreamt(dream))?,
            EventKind::Refused { .. } | EventKind::Shed { .. } | EventKind::Missed { .. } => {
                if let Some(text) = lost(&event.kind) {
                    self.line(&text)?;
                }
            }
            EventKind::Summary(_) => self.flush()?,
            // The frames of sound are counted when it is whole, and a run has too many experts for a line.
            _ => {}
        }
        self.draw();
        Ok(())
    }

    /// A reserve that is as it was has no line of its own; every reading is in the JSON.
    fn is_old(&mut self, observed: &Observed) -> bool {
        match observed.level {
            Some(level) => self.sensed.insert(observed.source.clone(), level) == Some(level),
            None => false,
        }
    }

    /// Takes the live view away.
    pub fn finish(&mut self) {
        if let Some(status) = &self.status {
            status.finish_and_clear();
        }
    }

    fn show_for(&self, ticks: Tick) {
        if self.status.is_some() {
            // A chunk spans many ticks, but there is only one thing to see.
            let shown = u32::try_from(ticks)
                .unwrap_or(u32::MAX)
                .min(MOST_TICKS_SHOWN);
            std::thread::sleep(self.pace * shown);
        }
    }

    /// The line of a tick that worked; ticks that idle have none.
    fn flush(&mut self) -> Result<(), CliError> {
        let heard = std::mem::take(&mut self.heard);
        let Some(cache) = self.worked.take() else {
            return Ok(());
        };
        if self.status.is_some() {
            // The live view has shown it already.
            return Ok(());
        }
        let text = format!("{}{heard}", self.step(&cache));
        self.printer.line(one_line(&text))
    }

    fn line(&self, text: &str) -> Result<(), CliError> {
        let text = format!("{:>5} {text}", self.tick);
        let text = one_line(&text);
        match &self.status {
            Some(status) => status.suspend(|| self.printer.line(text)),
            None => self.printer.line(text),
        }
    }

    fn draw(&self) {
        let Some(status) = &self.status else { return };
        let Some(cache) = &self.last else { return };
        let cause = if self.cause.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.cause)
        };
        let answer = if self.answer.is_empty() {
            String::new()
        } else {
            format!("\n      {}", self.answer)
        };
        let heard = if self.worked.is_none() {
            " (idle)"
        } else {
            &self.heard
        };
        let message = format!("{}{cause}{heard}{answer}", self.step(cache));
        status.set_message(printable(&message).into_owned());
        status.tick();
    }

    /// What takes long, in the live view alone: nobody wants a line in a pipe for each.
    fn now(&self, text: &str) {
        let Some(status) = &self.status else { return };
        let step = self
            .last
            .as_ref()
            .map_or(String::new(), |cache| self.step(cache));
        status.set_message(printable(&format!("{step} {text}")).into_owned());
        status.tick();
    }

    /// Energy, the five numbers of salience, and the drive.
    fn felt(&self) -> String {
        self.salience.map_or(String::new(), |s| {
            format!(
                "atp {:>3.0} S{:.2} N{:.2} A{:.2} R{:.2} C{:.2} drive {:.2}",
                s.atp, s.surprise, s.novelty, s.arousal, s.reward, s.conflict, s.drive
            )
        })
    }

    fn step(&self, cache: &CacheEvent) -> String {
        let salience = self.felt();
        format!(
            "{:>5} {:<9} {salience} k {:>2} experts {} in {}/{} hits {}/{} read {}",
            self.tick,
            name(&self.state),
            self.k,
            cache.resident_experts,
            human_bytes(cache.resident_bytes),
            human_bytes(cache.capacity_bytes),
            cache.hits,
            cache.hits + cache.misses,
            human_bytes(cache.bytes_read),
        )
    }
}

fn observation(observed: &Observed) -> String {
    let source = if observed.source.is_empty() {
        String::new()
    } else {
        format!(" {}", observed.source)
    };
    let urgency = if observed.urgency > 0.0 {
        format!(", urgency {}", observed.urgency)
    } else {
        String::new()
    };
    match (&observed.text, observed.value) {
        (Some(text), _) => {
            let mut short: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some((at, _)) = short.char_indices().nth(100) {
                short.truncate(at);
                short.push('…');
            }
            format!(
                "{}{source}{}: {short:?} ({} tokens{urgency})",
                observed.kind,
                media(observed),
                observed.tokens
            )
        }
        (None, Some(value)) => {
            let left = observed.level.map_or(String::new(), |level| {
                format!(" ({:.0} % of the reserve)", level * 100.0)
            });
            // Enough digits for any sensor, and no more than it means.
            let value = (value * 1000.0).round() / 1000.0;
            format!("{}{source}: {value}{left}{urgency}", observed.kind)
        }
        (None, None) => format!("{}{source}{}{urgency}", observed.kind, media(observed)),
    }
}

/// What a tower may keep, and what it read, in words.
fn perceived(kind: &EventKind) -> Option<String> {
    match kind {
        EventKind::Tower {
            modality,
            weight_bytes: 0,
            ..
        } => Some(format!("{} tower sleeps", name(modality))),
        EventKind::Tower {
            modality,
            weight_bytes,
            drive,
        } => Some(format!(
            "{} tower may keep {} (drive {drive:.2})",
            name(modality),
            human_bytes(*weight_bytes)
        )),
        EventKind::Perceived(one) => Some(format!(
            "perceived {} of {} ({} tokens): {} of the tower's {} pieces were in memory, {} read",
            name(&one.modality),
            one.source,
            one.tokens,
            one.pieces_kept,
            one.pieces_kept + one.pieces_read,
            human_bytes(one.bytes_read)
        )),
        _ => None,
    }
}

/// Sounds and pictures of an observation, in words.
fn media(observed: &Observed) -> String {
    let one = |medium: &ObservedMedium| match medium.kind {
        "sound" => format!(" [sound, {:.0} dB]", medium.level),
        kind => format!(" [{kind}, brightness {:.2}]", medium.level),
    };
    observed.perceived.iter().map(one).collect()
}

/// Another limit, in words.
pub fn limit_line(limit: &LimitEvent) -> String {
    let size = |bytes: Option<u64>| bytes.map_or("none".to_owned(), human_bytes);
    let source = match limit.source.as_str() {
        "" => String::new(),
        source => format!(" {source}"),
    };
    let changed = format!(
        "limit{source}: {} → {}",
        size(limit.limit_bytes_before),
        size(limit.limit_bytes)
    );
    let pools = match (limit.limit_bytes_before, limit.limit_bytes) {
        (Some(_), Some(_)) => format!(
            ", pool {} → {}",
            human_bytes(limit.pool_bytes_before),
            human_bytes(limit.pool_bytes)
        ),
        (None, Some(_)) => format!(", pool {}", human_bytes(limit.pool_bytes)),
        (_, None) => ", room for every expert".to_owned(),
    };
    match limit.lacking_bytes {
        0 => format!("{changed}{pools}"),
        lacking => format!(
            "{changed}{pools}: {} below the floor of {}, it cannot hold; all that can be given back is given back",
            human_bytes(lacking),
            human_bytes(limit.floor_bytes)
        ),
    }
}

/// An observation that was not taken, or events that were not heard, in words; none for other events.
pub fn lost(kind: &EventKind) -> Option<String> {
    let of = |source: &str| match source {
        "" => String::new(),
        source => format!(" {source}"),
    };
    Some(match kind {
        EventKind::Refused {
            kind,
            source,
            reason,
            ..
        } => format!("{kind}{} refused: {reason}", of(source)),
        EventKind::Shed {
            kind,
            source,
            reason,
            ..
        } => format!("{kind}{} shed ({})", of(source), name(reason)),
        EventKind::Missed { events } => format!("{events} events are missing here"),
        _ => return None,
    })
}

/// What the conversation lost, in words.
pub fn forgotten(turns: usize, left: usize) -> String {
    let plural = |n: usize| if n == 1 { "turn" } else { "turns" };
    format!(
        "the context is full: the oldest {turns} {} of the conversation forgotten, {left} {} left",
        plural(turns),
        plural(left)
    )
}

/// What left the context of the conversation, in words.
pub fn condensed(segments: usize, left: usize) -> String {
    format!(
        "the context is full: {} of the conversation put into memory, {left} left",
        segment_count(segments)
    )
}

/// What came back into it, in words.
pub fn recalled(segments: usize) -> String {
    format!("{} remembered for this question", segment_count(segments))
}

fn segment_count(count: usize) -> String {
    match count {
        1 => "1 segment".to_owned(),
        _ => format!("{count} segments"),
    }
}

fn dreamt(dream: &DreamEvent) -> String {
    let mut text = format!(
        "{} experts scored, {} episodes consolidated ({} left)",
        dream.scored, dream.episodes, dream.left
    );
    if dream.unscored > 0 {
        text.push_str(&format!(", {} of them unscored", dream.unscored));
    }
    if dream.pruned > 0 {
        text.push_str(&format!(", {} merged", dream.pruned));
    }
    for (domain, state, experts) in &dream.hot {
        text.push_str(&format!(", {experts} hot in {} of {domain:?}", name(state)));
    }
    let read = human_bytes(dream.bytes_read);
    text.push_str(&format!(", read {read} in shadow"));
    match dream.saved_bytes {
        0 => {}
        saved @ 1.. => {
            let saved = human_bytes(saved.unsigned_abs());
            text.push_str(&format!("; habits saved {saved}"));
        }
        cost => {
            let cost = human_bytes(cost.unsigned_abs());
            text.push_str(&format!("; habits cost {cost}"));
        }
    }
    text
}

/// The name that JSON uses.
pub fn name(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
