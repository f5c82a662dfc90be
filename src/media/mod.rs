//! What arrives from outside as files: decoded, measured, and cut into what the towers of the model take in.
//!
//! Invariant: plain data in, plain data out. Nothing here knows of a model or its weights, and no file, however broken, can
//! do more than be refused.

pub mod picture;
