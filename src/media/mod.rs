//! What files of sound and pictures hold, as the numbers that the towers take.
//!
//! Invariant: equal bytes give equal bits on every processor. So no library is used here that picks its arithmetic by
//! the instruction set, and no sine or logarithm of the system, which does the same.

pub mod sound;
