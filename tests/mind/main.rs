//! What the mind decides, and what it is worth: scenarios, dreams, shadow runs, trust, evaluation.

mod cli_trust;
#[path = "../common/mod.rs"]
mod common;
mod dream;
mod eval;
mod fork;
mod import;
mod ledger;
mod memory;
mod price;
mod salience;
mod scenario;
mod scenario_check;
mod scenarios;
mod shadow;
mod starved;
