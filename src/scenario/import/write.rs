//! An imported log as a scenario's text.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Imported, LogEntryKind};

/// What the scenario is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    pub name: String,
    /// Memory limit, as a scenario says it.
    pub limit: Option<String>,
    /// Tokens of an answer at most.
    pub answer_tokens: u64,
    /// What was answered then is read as well.
    pub with_answers: bool,
}

#[derive(Serialize)]
struct Scenario {
    name: String,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<String>,
    ticks: u64,
    context_tokens: u64,
    answer_tokens: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sensors: BTreeMap<String, Sensor>,
    observe: Vec<Observe>,
}

#[derive(Serialize)]
struct Sensor {
    resolution: f64,
}

#[derive(Default, Serialize)]
struct Observe {
    at: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
}

/// Ticks for which a question may wait until the mind attends to it.
const ATTEND_TICKS: u64 = 16;
/// After the last observation.
const AFTER_TICKS: u64 = 64;
/// The default context, and the steps in which a longer one grows, tokens.
const CONTEXT_TOKENS: u64 = 512;

/// What logs told, one after the other.
#[derive(Default)]
struct Told {
    /// Until everything is said and answered.
    ticks: u64,
    /// Of the longest thing that was said.
    longest_bytes: u64,
    sensors: BTreeMap<String, Sensor>,
    observe: Vec<Observe>,
}

fn told(logs: &[Imported], options: &Options) -> Told {
    let mut told = Told::default();
    for entry in logs.iter().flat_map(|log| &log.entries) {
        told.ticks += entry.gap_ticks;
        match &entry.what {
            LogEntryKind::Noted { plugin, salience } => {
                // The old loop wrote two decimals that meant something.
                told.sensors
                    .insert(plugin.clone(), Sensor { resolution: 0.01 });
                told.observe.push(Observe {
                    at: told.ticks,
                    kind: "sensor",
                    sensor: Some(plugin.clone()),
                    value: Some(*salience),
                    ..Observe::default()
                });
            }
            LogEntryKind::Exchange {
                source,
                said,
                answered,
                reward,
            } => {
                told.longest_bytes = told.longest_bytes.max(said.len() as u64);
                told.observe.push(Observe {
                    at: told.ticks,
                    kind: "question",
                    source: Some(source.clone()),
                    text: Some(said.clone()),
                    ..Observe::default()
                });
                // No log says when feedback came: behind the answer. A token is about three bytes.
                told.ticks += said.len() as u64 / 3 + options.answer_tokens + ATTEND_TICKS;
                if let Some(reward) = reward {
                    told.observe.push(Observe {
                        at: told.ticks,
                        kind: "feedback",
                        value: Some(2.0 * reward - 1.0),
                        ..Observe::default()
                    });
                }
                if let Some(answered) = answered.as_ref().filter(|_| options.with_answers) {
                    told.observe.push(Observe {
                        at: told.ticks,
                        kind: "text",
                        source: Some("log".to_owned()),
                        text: Some(answered.clone()),
                        ..Observe::default()
                    });
                    told.ticks += answered.len() as u64 / 3;
                }
            }
        }
    }
    told
}

/// Logs one after the other as one scenario, in TOML. Returns it with the number of observations.
///
/// # Errors
/// When TOML cannot hold it.
pub fn write(logs: &[Imported], options: &Options) -> Result<(String, usize), toml::ser::Error> {
    let told = told(logs, options);
    let left_out: usize = logs.iter().map(|log| log.left_out).sum();
    let shapes: Vec<&str> = logs.iter().map(|log| log.shape).collect();
    let count = told.observe.len();
    // A token is a byte at least, and the chat template adds some.
    let needed = told.longest_bytes + options.answer_tokens + 64;
    let scenario = Scenario {
        name: options.name.clone(),
        description: format!(
            "Imported ({}): what was said then, in its order and pace (a tick is 100 ms, a gap 64 ticks at most). \
             {left_out} entries that say nothing were left out. What was answered then came from another model{}.",
            shapes.join(", "),
            if options.with_answers {
                " and is read as a text"
            } else {
                "; it is not expected"
            }
        ),
        limit: options.limit.clone(),
        ticks: told.ticks + AFTER_TICKS,
        context_tokens: needed.next_multiple_of(CONTEXT_TOKENS),
        answer_tokens: options.answer_tokens,
        sensors: told.sensors,
        observe: told.observe,
    };
    Ok((toml::to_string(&scenario)?, count))
}
