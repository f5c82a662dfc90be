//! The mind of SAGE: actors that decide.
//!
//! **Invariants.** There is no tensor, no file, no clock and no random state in this crate. All logic lives in plain
//! structs ([`metabolic::Controller`], [`snarc::Assessor`], [`memory::Memory`], [`trust::Ledger`], [`cache::Cache`],
//! [`router::Router`]); the actors around them only pass messages on, and [`topology::Mind`] alone holds their
//! references. The same messages in the same order give the same answers, bit for bit, on every machine.

pub mod cache;
pub mod config;
mod math;
pub mod memory;
pub mod metabolic;
pub mod protocol;
pub mod router;
pub mod snarc;
pub mod topology;
pub mod trust;
pub mod witness;

pub use config::{
    ConfigError, EvictionPolicy, ExpertRun, MindConfig, ModuleShape, RoutingPolicy, StateBudget,
};
pub use topology::{ActorName, Mind, MindError};
