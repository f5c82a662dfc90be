//! What arrives from outside as files: decoded, measured, and cut into what the towers of the model take in.
//!
//! Invariants: plain data in, plain data out: nothing here knows of a model or its weights, and no file, however broken, can
//! do more than be refused. Equal bytes give equal bits on every processor: so no library is used here that picks its
//! arithmetic by the instruction set, and no sine or logarithm of the system, which does the same.

pub mod medium;
pub mod picture;
pub mod sound;
pub mod wav;
