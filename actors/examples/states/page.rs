//! The generated parts of `docs/states.md`, from the table that decides and the controller that runs.

use std::collections::BTreeMap;
use std::fmt::Debug;

use sage_actors::config::{MindConfig, ModuleShape};
use sage_actors::metabolic::Controller;
use sage_actors::metabolic::table::{Leaves, ROWS};
use sage_actors::protocol::{Assess, Cause, Module, Salience, SalienceReport, Spent, State};

/// Ticks of a simulation.
const TICKS: usize = 1000;

/// Ticks that one letter of a strip stands for.
const TICKS_A_LETTER: usize = 10;

/// The page with every generated part as it is now.
///
/// # Errors
/// Names a part whose marks are not on the page.
pub fn filled(page: &str) -> Result<String, String> {
    let mut page = page.to_owned();
    let parts = [
        ("diagram", diagram()),
        ("table", table()),
        ("simulation", simulations()),
    ];
    for (name, text) in parts {
        let (open, close) = (
            format!("<!-- {name}: written by the command above -->\n"),
            format!("<!-- end of {name} -->"),
        );
        let missing = |mark: &str| format!("the mark {mark:?} is missing");
        let (before, rest) = page.split_once(&open).ok_or_else(|| missing(&open))?;
        let (_, after) = rest.split_once(&close).ok_or_else(|| missing(&close))?;
        page = format!("{before}{open}\n{text}\n{close}{after}");
    }
    Ok(page)
}

/// The states and every way between them, as Mermaid text.
fn diagram() -> String {
    let mut ways: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    let place = |state: State| State::ALL.iter().position(|other| *other == state);
    for row in &ROWS {
        let left = State::ALL.iter().filter(|state| row.from.includes(**state));
        for from in left {
            if let (Some(from), Some(to)) = (place(*from), place(row.to)) {
                ways.entry((from, to)).or_default().push(snake(row.cause));
            }
        }
    }
    let mut text = "```mermaid\nstateDiagram-v2\n    [*] --> Wake\n".to_owned();
    for ((from, to), causes) in ways {
        let (from, to) = (State::ALL[from], State::ALL[to]);
        text += &format!("    {from:?} --> {to:?}: {}\n", causes.join(", "));
    }
    text + "```\n"
}

/// The rows for people, in the order in which they are tried.
fn table() -> String {
    let transitions = MindConfig::default().transitions;
    let mut text = "| | from | when | to | cause |\n|---|---|---|---|---|\n".to_owned();
    for (index, row) in ROWS.iter().enumerate() {
        let from = match row.from {
            Leaves::Only(state) => format!("{state:?}"),
            Leaves::AllBut(state) => format!("any but {state:?}"),
        };
        let lasted = row.lasted.ticks(&transitions);
        let dwell = format!("{lasted} ticks in the state");
        let when = row
            .when
            .iter()
            .map(|condition| condition.words(&transitions));
        let when: Vec<String> = when.chain((lasted > 0).then_some(dwell)).collect();
        text += &format!(
            "| {} | {from} | {} | {:?} | `{}` |\n",
            index + 1,
            when.join("; "),
            row.to,
            snake(row.cause)
        );
    }
    text
}

/// What happens at every tick of a simulation.
#[derive(Clone, Copy, PartialEq)]
enum Input {
    Quiet,
    Request,
    Threat,
}

/// Twenty episodes wait, and every fifth tick of Dream consolidates one.
const EPISODES: u32 = 20;
const TICKS_AN_EPISODE: u32 = 5;

/// Of the bytes of a token's experts this share is not in memory; the state's cap cuts it.
const MISS_SHARE: f64 = 0.4;

struct Run {
    states: Vec<State>,
    atp: Vec<f64>,
    /// When, from, to, why.
    changes: Vec<(usize, State, State, Cause)>,
}

fn simulate(input: Input) -> Run {
    let shape = ModuleShape {
        module: Module::Thinker,
        layers: (0..48).collect(),
        experts: 128,
        k_trained: 8,
        norm_topk_prob: true,
        expert_bytes: 1 << 20,
        smaller: Vec::new(),
    };
    let token_bytes = shape.exact_token_bytes() as f64;
    let mut controller = Controller::new(&MindConfig {
        modules: vec![shape],
        ..MindConfig::default()
    });
    let mut run = Run {
        states: Vec::new(),
        atp: Vec::new(),
        changes: Vec::new(),
    };
    let (mut spent, mut episodes, mut dreamt) = (Spent::default(), EPISODES, 0);
    for tick in 0..TICKS {
        let directives = controller.step(&Assess {
            tick: tick as u64,
            ticks: u32::from(tick > 0),
            report: SalienceReport {
                salience: Salience {
                    reward: 0.5,
                    ..Salience::default()
                },
                threat: f32::from(u8::from(input == Input::Threat)),
                ..SalienceReport::default()
            },
            open_requests: u32::from(input != Input::Quiet),
            quiet: input == Input::Quiet,
            outside_input: input != Input::Quiet && tick == 0,
            spent: std::mem::take(&mut spent),
            pool_bytes: 4 << 30,
            unconsolidated_episodes: episodes,
            ..Assess::default()
        });
        let state = directives.state;
        if let Some(change) = directives.transition {
            run.changes
                .push((tick, change.from, change.to, change.cause));
        }
        run.states.push(state);
        run.atp.push(directives.energy.atp);
        if input != Input::Quiet && directives.may_step {
            let share = f64::from(directives.modules[0].k) / 8.0;
            let wanted = MISS_SHARE * share * token_bytes;
            let cap = directives.modules[0].miss_bytes_per_token;
            spent = Spent {
                compute_units: share,
                miss_bytes: cap.map_or(wanted, |cap| wanted.min(cap as f64)) as u64,
            };
        }
        dreamt += u32::from(state == State::Dream);
        episodes = EPISODES.saturating_sub(dreamt / TICKS_AN_EPISODE);
    }
    run
}

fn simulations() -> String {
    let inputs = [
        ("constant quiet", Input::Quiet),
        ("endless request", Input::Request),
        ("endless threat", Input::Threat),
    ];
    let runs = inputs.map(|(name, input)| (name, simulate(input)));
    let names = State::ALL.map(|state| format!("{state:?}"));
    let mut text = format!(
        "| ticks in | {} | changes | ATP least / mean / last |\n|---|{}---|---|\n",
        names.join(" | "),
        "---|".repeat(State::ALL.len())
    );
    for (name, run) in &runs {
        let spent = State::ALL.map(|state| {
            let ticks = run.states.iter().filter(|other| **other == state);
            ticks.count().to_string()
        });
        let least = run.atp.iter().copied().fold(100.0, f64::min);
        let mean = run.atp.iter().sum::<f64>() / run.atp.len() as f64;
        let last = run.atp.last().copied().unwrap_or_default();
        text += &format!(
            "| {name} | {} | {} | {least:.0} / {mean:.0} / {last:.0} |\n",
            spent.join(" | "),
            run.changes.len()
        );
    }
    for (name, run) in &runs {
        text += &format!(
            "\n{}{}:\n\n```text\nstate {}\nATP   {}\n```\n\n{}",
            name[..1].to_uppercase(),
            &name[1..],
            strip(run),
            sparkline(run),
            changes(run)
        );
    }
    text
}

/// The state at every tenth tick, by its letter.
fn strip(run: &Run) -> String {
    let letter = |state: &State| match state {
        State::Wake => 'W',
        State::Focus => 'F',
        State::Rest => 'r',
        State::Dream => 'd',
        State::Threat => 'T',
        State::Depletion => '!',
    };
    run.states
        .iter()
        .step_by(TICKS_A_LETTER)
        .map(letter)
        .collect()
}

/// The energy at the same ticks.
fn sparkline(run: &Run) -> String {
    let bars = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |atp: &f64| bars[((atp / 100.0 * 8.0) as usize).min(7)];
    run.atp.iter().step_by(TICKS_A_LETTER).map(bar).collect()
}

/// Every kind of change: how often, when first, and how long from one to the next of its kind.
fn changes(run: &Run) -> String {
    if run.changes.is_empty() {
        return "No change.\n".to_owned();
    }
    let mut kinds: Vec<(State, State, Cause, Vec<usize>)> = Vec::new();
    for (tick, from, to, cause) in &run.changes {
        match kinds
            .iter_mut()
            .find(|kind| (kind.0, kind.1, kind.2) == (*from, *to, *cause))
        {
            Some(kind) => kind.3.push(*tick),
            None => kinds.push((*from, *to, *cause, vec![*tick])),
        }
    }
    let mut text =
        "| change | cause | times | first at | ticks until the next of its kind |\n|---|---|---|---|---|\n"
            .to_owned();
    for (from, to, cause, ticks) in kinds {
        let between = ticks.windows(2).map(|pair| pair[1] - pair[0]);
        let between = match (between.clone().min(), between.max()) {
            (Some(least), Some(most)) if least < most => format!("{least} to {most}"),
            (Some(least), _) => least.to_string(),
            _ => "–".to_owned(),
        };
        text += &format!(
            "| {from:?} → {to:?} | `{}` | {} | {} | {between} |\n",
            snake(cause),
            ticks.len(),
            ticks[0]
        );
    }
    text
}

/// `ThreatOver` as `threat_over`, as events spell it.
fn snake(name: impl Debug) -> String {
    let mut text = String::new();
    for letter in format!("{name:?}").chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}
