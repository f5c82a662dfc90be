//! SAGE: a cognitive runtime for sparse models.

pub mod checkpoint;
pub mod cli;
pub mod store;
