//! An imported log as a scenario's text.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Imported, What};

/// What the scenario is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name.
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

/// Logs one after the other as one scenario, in TOML. Returns it with the number of observations.
///
/// # Errors
/// When TOML cannot hold it.
pub fn write(logs: &[Imported], options: &Options) -> Result<(String, usize), toml::ser::Error> {
    let (mut tick, mut longest) = (0, 0);
    let mut sensors = BTreeMap::new();
    let mut observe = Vec::new();
    for entry in logs.iter().flat_map(|log| &log.entries) {
        tick += entry.gap_ticks;
        match &entry.what {
            What::Noted { plugin, salience } => {
                // The old loop wrote two decimals that meant something.
                sensors.insert(plugin.clone(), Sensor { resolution: 0.01 });
                observe.push(Observe {
                    at: tick,
                    kind: "sensor",
                    sensor: Some(plugin.clone()),
                    value: Some(*salience),
                    ..Observe::default()
                });
            }
            What::Exchange {
                source,
                said,
                answered,
                reward,
            } => {
                longest = longest.max(said.len() as u64);
                observe.push(Observe {
                    at: tick,
                    kind: "question",
                    source: Some(source.clone()),
                    text: Some(said.clone()),
                    ..Observe::default()
                });
                // No log says when feedback came: behind the answer. A token is about three bytes.
                tick += said.len() as u64 / 3 + options.answer_tokens + ATTEND_TICKS;
                if let Some(reward) = reward {
                    observe.push(Observe {
                        at: tick,
                        kind: "feedback",
                        value: Some(2.0 * reward - 1.0),
                        ..Observe::default()
                    });
                }
                if let Some(answered) = answered.as_ref().filter(|_| options.with_answers) {
                    observe.push(Observe {
                        at: tick,
                        kind: "text",
                        source: Some("log".to_owned()),
                        text: Some(answered.clone()),
                        ..Observe::default()
                    });
                    tick += answered.len() as u64 / 3;
                }
            }
        }
    }
    let left_out: usize = logs.iter().map(|log| log.left_out).sum();
    let shapes: Vec<&str> = logs.iter().map(|log| log.shape).collect();
    let count = observe.len();
    // A token is a byte at least, and the chat template adds some.
    let needed = longest + options.answer_tokens + 64;
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
        ticks: tick + AFTER_TICKS,
        context_tokens: needed.next_multiple_of(CONTEXT_TOKENS),
        answer_tokens: options.answer_tokens,
        sensors,
        observe,
    };
    Ok((toml::to_string(&scenario)?, count))
}
