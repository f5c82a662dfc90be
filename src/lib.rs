//! SAGE: a cognitive runtime for sparse models.

pub mod checkpoint;
pub mod cli;
pub mod engine;
pub mod eval;
pub mod events;
pub mod input;
pub mod kernels;
pub mod ledger;
pub mod model;
pub mod replay;
pub mod report;
pub mod scenario;
pub mod sensors;
pub mod settings;
pub mod store;
pub mod trace;
