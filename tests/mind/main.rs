#[path = "../common/mod.rs"]
mod common;
mod cli_trust;
mod dream;
mod eval;
mod import;
mod ledger;
mod price;
mod salience;
mod scenario;
mod scenario_check;
mod scenarios;
mod shadow;
mod starved;
