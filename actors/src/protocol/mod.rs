//! Identifiers, units and every message that crosses between the mind and the body.
//!
//! Time is logical: one [`Tick`] is one token of the thinker (a prefill chunk of n tokens spans n ticks)
//! or one idle cycle. Nothing here carries a wall-clock time. Bytes are `u64`, shares and probabilities `f32`.

mod budgets;
mod cache;
mod consolidation;
mod ids;
mod learning;
mod memory;
mod routing;
mod salience;

pub use budgets::*;
pub use cache::*;
pub use consolidation::*;
pub use ids::*;
pub use learning::*;
pub use memory::*;
pub use routing::*;
pub use salience::*;
