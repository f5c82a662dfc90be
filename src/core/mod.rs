//! The engine: runs the model one step at a time, asking the mind at every turn.
//!
//! Invariant: the engine makes no decision. What state, how many experts, which ones, and what stays in memory is
//! asked of the actors; the engine measures what happened and tells them. Invariant: it computes nothing itself: products,
//! weights and caches are behind its [`ports`], and it knows no processor, no device and no number format.

pub(crate) mod asked;
pub mod closeup;
pub mod core_loop;
pub(crate) mod drive;
mod engine;
pub(crate) mod episodes;
mod error;
pub(crate) mod experts;
pub mod forward;
mod layers;
mod learn;
pub(crate) mod limit;
mod limit_choice;
mod limiting;
pub(crate) mod memory;
pub(crate) mod orient;
mod parts;
pub mod perception;
mod pieces;
pub mod ports;
pub(crate) mod prediction;
mod probe;
pub(crate) mod prompting;
pub mod reading;
mod remember;
pub mod request;
pub mod sampling;
pub mod scene;
pub(crate) mod segment;
pub mod shadow;
pub mod speech;
mod step_result;
#[cfg(feature = "cli")]
pub(crate) mod stepwise;

pub use crate::input::Limit;
pub use engine::{Engine, EngineParts};
pub use error::EngineError;
pub use limit::{AboveMachine, LimitChange, LimitError, LimitOrigin, LimitPolicy, resolve};
pub use memory::{BelowFloor, MemoryPlan};
pub use orient::{Arrivals, Orientation};
pub use parts::{Body, ExpertMap, LimitInForce, WorkSizes};
pub use probe::Probe;
pub use step_result::{Denials, ExpertTraffic, ExpertWork, Forward, HeardRows, RouterEntropy};

/// More threads of arithmetic than this are a slip of the pen.
pub const MOST_THREADS: usize = 1024;
