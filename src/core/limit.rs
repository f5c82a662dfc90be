//! Which memory limit a model runs under: as it was asked for, or chosen from what the machine has; and another one while it
//! runs.
//!
//! [`resolve`] is the one place that decides. What it chose stands in a recording's header as the bytes that came of it, so
//! that a replay never looks at the machine.
//!
//! While the model runs, the floor stays as it was measured at the start; the pool changes, and with it the capacity that the
//! next directive gives the cache: experts beyond it leave before the next step, and their memory goes back to the system.

pub use super::limit_choice::LimitChoice;
use super::memory::{BelowFloor, MemoryPlan, mib_argument};
use crate::input::{Limit, human_bytes, two_sizes};
use crate::sensors::{Machine, MemoryBound};

/// What is available differs from one moment to the next, and everything that is decided depends on the limit: so a chosen one
/// is a multiple of this.
const STEP_BYTES: u64 = 256 << 20;

/// Where that much is not left beyond the floor, a multiple of this.
const SMALL_STEP_BYTES: u64 = 8 << 20;

/// What is left to the system of what bounds the process: for page tables, the page cache that reads go through, and whatever
/// else begins to run. An eighth, from 64 MiB to 2 GiB.
pub fn reserve_bytes(total_bytes: u64) -> u64 {
    (total_bytes / 8).clamp(64 << 20, 2 << 30)
}

/// How the limit that a model is opened with is meant.
#[derive(Clone, Debug, Default)]
pub enum LimitPolicy {
    /// As it is, without a look at the machine: a replay, an instrument that compares limits.
    #[default]
    AsGiven,
    /// It was asked for: one above what the machine has is refused.
    Checked(Machine),
    /// Nobody asked for one, and what is given is not used: it is chosen from what the machine has.
    Chosen(Machine),
}

impl LimitPolicy {
    /// Checks or chooses, as [`resolve`] does.
    pub fn resolve(
        &self,
        limit: Limit,
        plan: &MemoryPlan,
    ) -> Result<(Limit, LimitOrigin), LimitError> {
        match self {
            Self::AsGiven => Ok((limit, LimitOrigin::Asked)),
            Self::Checked(machine) => resolve(Some(limit), machine, plan),
            Self::Chosen(machine) => resolve(None, machine, plan),
        }
    }

    /// The machine that limits are held against.
    pub fn machine(&self) -> Option<&Machine> {
        match self {
            Self::AsGiven => None,
            Self::Checked(machine) | Self::Chosen(machine) => Some(machine),
        }
    }
}

/// Where the limit in force comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum LimitOrigin {
    /// It was asked for as the model was opened; that may have been none.
    Asked,
    /// Nobody asked, and everything fits: there is none.
    Fits,
    /// Nobody asked, and it was chosen.
    Chosen(LimitChoice),
    /// Nobody asked, and the system does not say how much memory there is: there is none.
    Unknown,
    /// It was set while the model ran.
    Changed,
    /// It was set while the model ran, though it is below the floor or above the machine.
    Imposed,
}

impl LimitChoice {
    /// The bound that leaves the least, its reserve taken off; none where nothing bounds the process.
    fn of(machine: &Machine) -> Option<Self> {
        let choices = machine.bounds.iter().map(|bound| Self {
            bound: bound.clone(),
            reserve_bytes: reserve_bytes(bound.total_bytes),
        });
        choices.min_by_key(Self::room_bytes)
    }

    /// What is left.
    fn room_bytes(&self) -> u64 {
        self.bound
            .available_bytes
            .saturating_sub(self.reserve_bytes)
    }

    /// That in whole steps; none where it is below the floor.
    fn limit_bytes(&self, plan: &MemoryPlan) -> Option<u64> {
        let (room, floor) = (self.room_bytes(), plan.floor.total());
        let rounded = [STEP_BYTES, SMALL_STEP_BYTES].map(|step| room / step * step);
        rounded.into_iter().find(|limit| *limit >= floor)
    }
}

impl LimitOrigin {
    /// Why the limit in force is what it is, to stand behind it and a comma.
    pub fn reason(&self) -> String {
        match self {
            Self::Asked => "as it was asked for".to_owned(),
            Self::Fits => {
                "because everything of the model fits into the memory that is available".to_owned()
            }
            Self::Chosen(choice) => format!("chosen because {choice}"),
            Self::Unknown => "because the system does not say how much memory there is".to_owned(),
            Self::Changed => "as it was set while running".to_owned(),
            Self::Imposed => "as it was imposed while running".to_owned(),
        }
    }

    /// What to say of it as a run begins, with the option that repeats it; nothing where the limit was asked for.
    pub fn line(&self, plan: &MemoryPlan) -> Option<String> {
        let reason = self.reason();
        match (self, plan.limit_bytes) {
            (Self::Chosen(_), Some(limit)) => Some(format!(
                "memory: limit {}, {reason}; --limit {} repeats it, --limit none switches it off",
                human_bytes(limit),
                mib_argument(limit)
            )),
            (Self::Fits, _) => Some(format!(
                "memory: no limit, {reason}: it takes {} at most; --limit none repeats it, --limit SIZE sets one",
                human_bytes(plan.everything_bytes())
            )),
            (Self::Unknown, _) => {
                Some(format!("memory: no limit, {reason}; --limit SIZE sets one"))
            }
            _ => None,
        }
    }
}

/// A limit above everything that the machine has.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.refusal())]
pub struct AboveMachine {
    /// Limit that was asked for.
    pub limit_bytes: u64,
    /// What allows less.
    pub bound: MemoryBound,
    /// What would be chosen; none where that is below the floor.
    pub would_do_bytes: Option<u64>,
    /// What must be in memory.
    pub floor_bytes: u64,
}

impl AboveMachine {
    fn refusal(&self) -> String {
        let [limit, total] = two_sizes(self.limit_bytes, self.bound.total_bytes, human_bytes);
        format!(
            "a limit of {limit} is more than this process can have: {} {total}\n  hint: {}",
            self.bound.what,
            self.hint()
        )
    }

    fn hint(&self) -> String {
        match self.would_do_bytes {
            Some(bytes) => format!(
                "--limit {} would do, and is about what is chosen without one",
                mib_argument(bytes)
            ),
            None => format!(
                "less does not do either, the floor being {}: a shorter context takes less; `none` as the limit lets it try",
                human_bytes(self.floor_bytes)
            ),
        }
    }
}

/// Why a limit cannot be.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// It is below what must be in memory.
    #[error(transparent)]
    BelowFloor(#[from] BelowFloor),
    /// It is above what there is.
    #[error(transparent)]
    AboveMachine(#[from] AboveMachine),
}

/// The limit that a model runs under on `machine`, and where it comes from; `plan` is its memory without a limit. One that was
/// asked for is taken as it is, unless it is above everything that the machine has. Where none was asked for there is none if
/// everything fits; else it is what the tightest bound leaves, less a reserve, in whole steps of 256 MiB (of 8 MiB, where
/// that would be below the floor).
///
/// # Errors
/// [`AboveMachine`] for a limit that was asked for; [`BelowFloor`] for one that would have to be chosen.
pub fn resolve(
    asked: Option<Limit>,
    machine: &Machine,
    plan: &MemoryPlan,
) -> Result<(Limit, LimitOrigin), LimitError> {
    if let Some(limit) = asked {
        check(limit, machine, plan)?;
        return Ok((limit, LimitOrigin::Asked));
    }
    let Some(choice) = LimitChoice::of(machine) else {
        return Ok((Limit::None, LimitOrigin::Unknown));
    };
    if plan.everything_bytes() <= choice.room_bytes() {
        return Ok((Limit::None, LimitOrigin::Fits));
    }
    match choice.limit_bytes(plan) {
        Some(limit) => Ok((Limit::Bytes(limit), LimitOrigin::Chosen(choice))),
        None => Err(BelowFloor {
            limit_bytes: choice.room_bytes(),
            floor_bytes: plan.floor.total(),
            context_tokens: plan.context_tokens,
            kv_precision: None,
            breakdown: plan.floor.breakdown(),
            chosen: Some(choice),
        }
        .into()),
    }
}

/// Refuses a limit above everything that the machine has.
pub(super) fn check(
    limit: Limit,
    machine: &Machine,
    plan: &MemoryPlan,
) -> Result<(), AboveMachine> {
    let (Some(limit_bytes), Some(bound)) = (plan.under(limit).limit_bytes, machine.most()) else {
        return Ok(());
    };
    if limit_bytes <= bound.total_bytes {
        return Ok(());
    }
    Err(AboveMachine {
        limit_bytes,
        bound: bound.clone(),
        would_do_bytes: LimitChoice::of(machine).and_then(|choice| choice.limit_bytes(plan)),
        floor_bytes: plan.floor.total(),
    })
}

/// How memory was divided, and how it is divided now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitChange {
    /// Until this step.
    pub before: MemoryPlan,
    /// From the next step on.
    pub after: MemoryPlan,
}

impl LimitChange {
    /// Whether what must be in memory fits.
    pub fn holds(&self) -> bool {
        self.after.shortfall_bytes() == 0
    }
}

#[cfg(test)]
#[path = "limit_tests.rs"]
mod tests;
