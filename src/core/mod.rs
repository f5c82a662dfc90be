//! The engine: runs the model one step at a time, asking the mind at every turn.
//!
//! Invariant: the engine makes no decision. What state, how many experts, which ones, and what stays in memory is
//! asked of the actors; the engine measures what happened and tells them. Invariant: it computes nothing itself: products,
//! weights and caches are behind its [`ports`], and it knows no processor, no device and no number format.

pub mod asked;
pub mod closeup;
pub mod core_loop;
pub mod drive;
mod engine;
pub mod episodes;
mod error;
pub mod experts;
pub mod forward;
mod layers;
mod learn;
pub mod limit;
mod limit_choice;
mod limiting;
pub mod memory;
pub mod orient;
mod parts;
pub mod perception;
pub mod ports;
pub(crate) mod prediction;
mod probe;
pub mod prompting;
pub mod reading;
mod remember;
pub mod request;
pub mod sampling;
pub mod scene;
pub mod segment;
pub mod shadow;
pub mod speech;
mod step_result;
pub mod stepwise;

pub use crate::input::Limit;
pub use engine::{Engine, EngineParts};
pub use error::EngineError;
pub use limit::{LimitChange, LimitError, LimitOrigin, LimitPolicy, resolve};
pub use memory::MemoryPlan;
pub use orient::{Arrivals, Orientation};
pub use parts::{Body, ExpertMap, LimitInForce, WorkSizes};
pub use probe::Probe;
pub use step_result::{Denials, ExpertTraffic, ExpertWork, Forward, HeardRows, RouterEntropy};

/// More threads of arithmetic than this are a slip of the pen.
pub const MOST_THREADS: usize = 1024;
