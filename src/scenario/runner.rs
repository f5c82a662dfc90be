//! Plays a scenario into the core loop and judges what came of it.

use crate::input::{Attributed, Fault};
use std::collections::BTreeMap;

use sage_actors::protocol::{SensorReading, State, Tick};

use super::script::{Expectation, Scenario, Scripted, ScriptedKind, Speak, state_named};
use crate::core::EngineError;
use crate::core::core_loop::{Answer, CoreLoop, Heed, Observation};
use crate::core::request::VoiceChoice;
use crate::events::{Event, EventKind, ExpectedAnswer, LimitPeriod, Summary};
use crate::sensors::Live;

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It does not come to an end.
    #[error(
        "the scenario did not come to an end within {ticks} ticks: something is still open; its script asks for {asked}"
    )]
    Endless {
        /// Ticks that were run.
        ticks: u64,
        /// Ticks that the script asks for.
        asked: u64,
    },
}

/// Beyond its own length a run may take this many ticks to answer what is open.
const OVERTIME_TICKS: u64 = 100_000;

/// Runs a scenario to its end, spoken answers in `voice` unless they name another; `sink` hears of every event, the summary last. The readings of `live`, the machine's
/// own sensors, are observations like those of the script.
///
/// # Errors
/// When the engine fails, or the run does not end.
pub async fn run(
    scenario: &Scenario,
    voice: &VoiceChoice,
    core: &mut CoreLoop,
    mut live: Option<&mut Live>,
    sink: &mut dyn FnMut(Event),
) -> Result<Summary, RunError> {
    let mut next = 0;
    let mut expected: BTreeMap<u64, &str> = BTreeMap::new();
    let mut answered: Vec<(Answer, &str)> = Vec::new();
    let mut entered = vec![core.state()];
    core.heed(Box::new(Alarms::of(scenario)));
    loop {
        let tick = core.engine().tick();
        while let Some(entry) = scenario.observe.get(next).filter(|entry| entry.at <= tick) {
            if let Some(observation) = observation(scenario, entry, voice) {
                let id = core.submit(observation);
                if let Some(answer) = &entry.expect {
                    expected.insert(id, answer);
                }
            }
            next += 1;
        }
        if next == scenario.observe.len() && tick >= scenario.ticks && core.is_idle() {
            break;
        }
        if tick > scenario.ticks + OVERTIME_TICKS {
            return Err(RunError::Endless {
                ticks: tick,
                asked: scenario.ticks,
            });
        }
        if let Some(live) = live.as_deref_mut() {
            for reading in live.due(tick) {
                core.submit(Observation::Sensor(reading));
            }
        }
        for answer in core.tick(sink).await?.answers {
            if let Some(expected) = expected.remove(&answer.id) {
                answered.push((answer, expected));
            }
        }
        // What a script says is meant: a run without it would be another one.
        if let Some(refusal) = core.take_refused().into_iter().next() {
            return Err(refusal.error.into());
        }
        if entered.last() != Some(&core.state()) {
            entered.push(core.state());
        }
    }
    let summary = core.summary().await?;
    let tick = core.engine().tick();
    sink(Event {
        tick,
        kind: EventKind::Experts(core.experts()),
    });
    Ok(judge(scenario, summary, tick, &answered, &entered, sink))
}

/// When the script has something urgent.
struct Alarms(Vec<Tick>);

impl Alarms {
    fn of(scenario: &Scenario) -> Self {
        let urgent = |entry: &&Scripted| {
            let alarms = entry.kind == ScriptedKind::Alarm;
            let reading = || entry.kind == ScriptedKind::Sensor;
            let observed = || observation(scenario, entry, &VoiceChoice::default());
            alarms || reading() && observed().is_some_and(|observed| observed.is_urgent())
        };
        let entries = scenario.observe.iter().filter(urgent);
        Self(entries.map(|entry| entry.at).collect())
    }
}

impl Heed for Alarms {
    fn due(&self, tick: Tick) -> Option<Tick> {
        self.0.iter().copied().filter(|at| *at > tick).min()
    }

    fn waits(&self) -> bool {
        false
    }
}

fn observation(scenario: &Scenario, entry: &Scripted, voice: &VoiceChoice) -> Option<Observation> {
    let text = entry.text.clone().unwrap_or_default();
    let source = entry.source.clone();
    let said = |observation: Observation| {
        let voice = entry.speak.as_ref().map(|speak| match speak {
            Speak::Default => voice.clone(),
            Speak::As(name) => VoiceChoice {
                speaker: Some(name.clone()),
                ..voice.clone()
            },
        });
        let urgent = observation.urgent(entry.urgency);
        match voice {
            Some(voice) => urgent.spoken_by(voice),
            None => urgent,
        }
    };
    if !entry.media.is_empty() {
        let sensed = Observation::sensed(source, entry.media.clone()).asking(text);
        return Some(said(match entry.kind {
            ScriptedKind::Alarm => sensed.alarming(),
            _ => sensed,
        }));
    }
    Some(match entry.kind {
        ScriptedKind::Text if entry.conversation => said(Observation::told(source, text)),
        ScriptedKind::Text => said(Observation::text(source, text)),
        ScriptedKind::Question if entry.conversation => said(Observation::turn(source, text)),
        ScriptedKind::Question => said(Observation::question(source, text)),
        ScriptedKind::Alarm => said(Observation::alarm(source, text)),
        // Without a file the check has refused them.
        ScriptedKind::Sound | ScriptedKind::Picture => return None,
        ScriptedKind::Feedback => Observation::Feedback(entry.value? as f32),
        ScriptedKind::Limit => Observation::Limit {
            source,
            limit: entry.limit?,
        },
        ScriptedKind::Sensor => {
            let name = entry.sensor.clone()?;
            let declared = scenario.sensors.get(&name)?;
            let value = entry.value?;
            Observation::Sensor(SensorReading {
                value,
                range: declared.range,
                resolution: declared.resolution,
                level: declared.level(value),
                name,
            })
        }
    })
}

fn judge(
    scenario: &Scenario,
    mut summary: Summary,
    tick: Tick,
    answered: &[(Answer, &str)],
    entered: &[State],
    sink: &mut dyn FnMut(Event),
) -> Summary {
    let mut verdicts: Vec<(String, bool, Option<ExpectedAnswer>)> = answered
        .iter()
        .map(|(answer, expected)| {
            let asked = answer.question.lines().last().unwrap_or_default();
            let text = format!(
                "“{asked}” is answered “{expected}” (the answer was “{}”)",
                answer.text
            );
            let about = ExpectedAnswer {
                id: answer.id,
                expected: (*expected).to_owned(),
            };
            (text, answer.text == *expected, Some(about))
        })
        .collect();
    verdicts.extend(scenario.expect.iter().map(|expectation| {
        let (text, met) = verdict(expectation, &summary, entered);
        (text, met, None)
    }));
    for (text, met, answer) in verdicts {
        *(if met {
            &mut summary.expectations_met
        } else {
            &mut summary.expectations_failed
        }) += 1;
        sink(Event {
            tick,
            kind: EventKind::Expectation { text, met, answer },
        });
    }
    sink(Event {
        tick,
        kind: EventKind::Summary(summary.clone()),
    });
    summary
}

/// Whether memory stayed within each limit that covers what must be there; one that does not cannot hold, and is said to.
fn within(limits: &[LimitPeriod], wanted: bool) -> (String, bool) {
    let (covering, below): (Vec<&LimitPeriod>, Vec<_>) =
        limits.iter().partition(|period| period.covers_floor);
    let within = covering.iter().all(|period| period.is_within());
    let (is, each) = (
        if wanted { "within" } else { "beyond" },
        if limits.len() > 1 {
            "each of the limits"
        } else {
            "the limit"
        },
    );
    let but = match below.len() {
        0 => String::new(),
        1 => " (a limit below what must be in memory could not hold, and is left out)".to_owned(),
        n => format!(" ({n} limits below what must be in memory could not hold, and are left out)"),
    };
    (format!("peak memory is {is} {each}{but}"), within)
}

fn verdict(expectation: &Expectation, summary: &Summary, entered: &[State]) -> (String, bool) {
    let stands_for =
        |name: &str, state: State| state_named(name).is_some_and(|states| states.contains(&state));
    let went = entered
        .iter()
        .map(|state| format!("{state:?}").to_lowercase())
        .collect::<Vec<_>>()
        .join(", ");
    match expectation {
        Expectation::States(names) => {
            let mut left = names.iter().peekable();
            for state in entered {
                left.next_if(|name| stands_for(name, *state));
            }
            (
                format!("states {} in this order (it went {went})", names.join(", ")),
                left.peek().is_none(),
            )
        }
        Expectation::Never(names) => {
            let met = !entered
                .iter()
                .any(|state| names.iter().any(|name| stands_for(name, *state)));
            (format!("never {} (it went {went})", names.join(", ")), met)
        }
        Expectation::WithinLimit(wanted) => {
            let (text, within) = within(&summary.limits, *wanted);
            (text, within == *wanted)
        }
        Expectation::MeanLossBelow(bound) => {
            let found = summary.mean_loss;
            let text = format!(
                "mean loss of the text read is below {bound} nats a token (it was {})",
                found.map_or("not measured".to_owned(), |loss| format!("{loss:.2}"))
            );
            (text, found.is_some_and(|loss| loss < *bound))
        }
    }
}

impl Attributed for RunError {
    fn fault(&self) -> Fault {
        match self {
            Self::Engine(error) => error.fault(),
            Self::Endless { .. } => Fault::Run,
        }
    }
}
