//! What is believed of every expert: records by (layer, expert), learned from what came of tokens.
//!
//! Counts, visits and values decay together, lazily: an expert is brought up to date when it works, and one layer
//! of each module with every outcome, so that a view is never behind by more ticks than the module has layers.

pub mod actor;
pub mod counterfactual;
mod deciles;
mod evidence;
mod ledger;
mod range;
mod record;
pub mod state;
pub mod store;
#[cfg(test)]
mod tests;

pub use ledger::{ExpertTrust, Ledger, TrustError, half_life_ticks};
