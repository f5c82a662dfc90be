//! What a model needs of memory, what a token costs in each state, and what a limit would give.
//!
//! It is the plan of a run, asked before there is one: the same function divides the memory, in a process that holds what a run holds
//! before it loads a weight.

use sage_actors::cache::state_cliffs;
use sage_actors::config::{MindConfig, ModuleShape};
use sage_actors::protocol::{Module, State};
use serde::Serialize;

use super::super::memory::MemoryArgs;
use super::super::{CliError, Printer, Table, human_bytes};
use crate::checkpoint::Component;
use crate::core::MemoryPlan;
use crate::core::memory::Floor;
use crate::cpu::slots::ExpertSlots;
use crate::input::{KvPrecision, counted};
use crate::session::least::least_plan;
use crate::session::opening::{PlannedMemory, thinker_shape};
use crate::store::WeightSource;
use crate::text::Text;

/// What is known of memory.
#[derive(Debug, Default, Serialize)]
pub(super) struct MemoryReport {
    /// Tokens of context that it is planned for.
    context_tokens: usize,
    /// How keys and values are kept.
    kv_precision: KvPrecision,
    /// The least limit.
    floor_bytes: u64,
    /// What it is made of.
    floor_parts: Floor,
    /// With every expert and every tower in memory: 100 %.
    everything_bytes: u64,
    /// The limit that is asked about; none: no question.
    limit_bytes: Option<u64>,
    /// What it lacks of the floor; above 0 nothing runs.
    lacking_bytes: u64,
    /// What it leaves for experts.
    pool_bytes: Option<u64>,
    /// Of every state.
    states: Vec<StateCost>,
}

/// The thinker's experts in one state. What is resident depends on a limit: none without one.
#[derive(Debug, Serialize)]
struct StateCost {
    state: State,
    /// Experts a token and layer.
    k: u16,
    /// Experts a token, over all layers.
    token_experts: u64,
    /// Their bytes: what a token reads where none of them is resident.
    expert_bytes_per_token: u64,
    /// Experts that the state's share of the pool holds.
    experts_resident: Option<u64>,
    /// The same as a share of all experts of the model.
    resident_share: Option<f64>,
    /// Experts that are resident for each that a token uses, at most 1; below 1 a token's own experts do not all fit.
    token_share: Option<f64>,
    /// What a token reads where every expert is as likely to be used as any other.
    read_bytes_per_token: Option<u64>,
    /// What one decoded token may miss at most; none: no cap.
    cap_bytes_per_token: Option<u64>,
}

/// What the model needs, or why that cannot be said.
///
/// # Errors
/// When the settings or the context are no request.
pub(super) fn report(
    args: &MemoryArgs,
    source: &dyn WeightSource,
) -> Result<Result<MemoryReport, String>, CliError> {
    let question = args.question(source, None)?;
    let mind = question.options.mind.clone();
    // A run has its tokenizer in memory when it plans. A model without one runs too, on token ids.
    let text = Text::load(source).ok();
    let planned = least_plan(source, &question.options);
    drop(text);
    let planned = match planned {
        Ok(planned) => planned,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let asked = question.limit.map(|limit| planned.memory.under(limit));
    Ok(Ok(MemoryReport::new(source, mind, &planned, asked)))
}

impl MemoryReport {
    fn new(
        source: &dyn WeightSource,
        mind: MindConfig,
        planned: &PlannedMemory,
        asked: Option<MemoryPlan>,
    ) -> Self {
        let unlimited = &planned.memory;
        let floor_bytes = unlimited.floor.total();
        let experts_bytes = unlimited.all_experts_bytes + unlimited.towers_bytes;
        Self {
            context_tokens: unlimited.context_tokens,
            kv_precision: planned.kv,
            floor_bytes,
            floor_parts: unlimited.floor,
            everything_bytes: floor_bytes + experts_bytes,
            limit_bytes: asked.and_then(|plan| plan.limit_bytes),
            lacking_bytes: asked.map_or(0, |plan| plan.shortfall_bytes()),
            pool_bytes: asked.map(|plan| plan.pool_bytes),
            states: states(source, mind, unlimited, asked.as_ref()),
        }
    }

    /// Whether the limit that is asked about would do, if one is.
    pub(super) fn is_enough(&self) -> bool {
        self.lacking_bytes == 0
    }

    /// For people.
    pub(super) fn show(&self, printer: &Printer) -> Result<(), CliError> {
        printer.line(format_args!(
            "\nleast limit {} for a context of {}, keys and values in {}; everything in memory takes {}",
            human_bytes(self.floor_bytes),
            counted(self.context_tokens as u64, "token"),
            self.kv_precision,
            human_bytes(self.everything_bytes)
        ))?;
        printer.line(format_args!("  {}", self.floor_parts.breakdown()))?;
        match (self.limit_bytes, self.lacking_bytes) {
            (Some(limit), 0) => printer.line(format_args!(
                "a limit of {} leaves a pool of {} for experts",
                human_bytes(limit),
                human_bytes(self.pool_bytes.unwrap_or_default())
            ))?,
            (Some(limit), lacking) => printer.line(format_args!(
                "a limit of {} is {} below that: nothing would run",
                human_bytes(limit),
                human_bytes(lacking)
            ))?,
            (None, _) => {}
        }
        printer.table(&self.table())?;
        if self.limit_bytes.is_none() {
            printer.line("--limit SIZE says what a limit would give")?;
        }
        Ok(())
    }

    fn table(&self) -> Table {
        let mut titles = vec!["state", "experts/token/layer", "bytes/token, none resident"];
        let limited = self.limit_bytes.is_some();
        if limited {
            titles.extend([
                "experts resident",
                "of all",
                "of a token's",
                "bytes/token, used alike",
            ]);
        }
        titles.push("cap/token");
        let mut table = Table::with_titles(titles.into_iter().map(str::to_owned).collect());
        for state in &self.states {
            let mut cells = vec![
                format!("{:?}", state.state).to_lowercase(),
                state.k.to_string(),
                human_bytes(state.expert_bytes_per_token),
            ];
            if limited {
                let percent = |share: Option<f64>| {
                    share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0))
                };
                let or_dash = |shown: Option<String>| shown.unwrap_or_else(|| "-".to_owned());
                cells.extend([
                    or_dash(state.experts_resident.map(|experts| experts.to_string())),
                    percent(state.resident_share),
                    percent(state.token_share),
                    or_dash(state.read_bytes_per_token.map(human_bytes)),
                ]);
            }
            let cap = state.cap_bytes_per_token;
            cells.push(cap.map_or("none".to_owned(), human_bytes));
            table.push(cells);
        }
        table
    }
}

/// Every state as the mind would have it under the plan that is asked about; below the floor, and without a question, only what
/// does not depend on a pool.
fn states(
    source: &dyn WeightSource,
    mut mind: MindConfig,
    unlimited: &MemoryPlan,
    asked: Option<&MemoryPlan>,
) -> Vec<StateCost> {
    let config = &source.config().thinker.text;
    let slots = ExpertSlots::of(source, Component::Thinker);
    let shape = ModuleShape {
        smaller: slots.smaller,
        ..thinker_shape(config, slots.largest_bytes)
    };
    let all = shape.layers.len() as u64 * u64::from(shape.experts);
    if all == 0 {
        return Vec::new();
    }
    let window = (unlimited.floor.window_bytes / unlimited.slot_bytes.max(1)) as u16;
    let exact_bytes = shape.exact_token_bytes() as f64;
    let given = asked.filter(|plan| plan.shortfall_bytes() == 0);
    mind.modules = vec![shape.clone()];
    mind.window_experts = window;
    mind.pool_bytes = given.unwrap_or(unlimited).pool_bytes;
    let budgets = mind.clone();
    let cliffs = state_cliffs(&mind).into_iter();
    let thinkers = cliffs.filter(|found| found.module == Module::Thinker);
    let cost = |found: sage_actors::cache::StateCliff| {
        let budget = budgets.hold.unwrap_or(budgets.budgets[found.state]);
        let token_experts = found.cliff.token_experts;
        let expert_bytes_per_token = shape.token_bytes(found.k);
        let resident = given.map(|_| found.cliff.capacity_experts.min(all));
        let share = resident.map(|resident| resident as f64 / all as f64);
        let cap = budget.miss_bytes_per_token * exact_bytes;
        let missed = |share: f64| (expert_bytes_per_token as f64 * (1.0 - share)) as u64;
        StateCost {
            state: found.state,
            k: found.k,
            token_experts,
            expert_bytes_per_token,
            experts_resident: resident,
            resident_share: share,
            token_share: resident.map(|held| (held as f64 / token_experts.max(1) as f64).min(1.0)),
            read_bytes_per_token: share.map(missed),
            cap_bytes_per_token: (cap > 0.0).then_some(cap as u64),
        }
    };
    thinkers.map(cost).collect()
}
