//! Shadow runs: recorded tokens scored again with one expert denied.
//!
//! A denied expert is never chosen: the router chooses its trained k among the others, and its mass is shared by them as
//! it would be if the expert did not exist. The *loss increase* of the tokens that had used the expert says what it is
//! good for.
//!
//! Nothing of the running mind is touched: the host reads weights straight into slots of the shadow's own, attention has a
//! key-value cache of its own, and neither residency nor ATP hears of it. A segment is scored from an empty context.
//!
//! Work is cut into *strides* of one layer each: first the base pass, which keeps the residual stream at the entry of
//! every layer; then batches of a few experts of one layer, run together from that layer on, so that an expert that is
//! read serves all of them. Between strides everything may stop, and go on later.

mod bench;
mod layers;
mod segment;
pub(super) mod sizes;

pub use bench::Shadow;
pub use segment::{AblationSegment, AblationStep};
pub use sizes::{VARIANTS, segment_tokens};
