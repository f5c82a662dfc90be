//! SAGE: a cognitive runtime for sparse models.

pub mod checkpoint;
pub mod store;
