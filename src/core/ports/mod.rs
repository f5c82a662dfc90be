//! What the core asks of whatever computes: the ports below the loop.
//!
//! A [`Decoder`] holds a module's always-resident weights and its key-value caches; an [`ExpertHost`] holds routed experts,
//! which are places that work on rows; [`Towers`] hear and see; a [`Voice`] speaks. Each may be this machine's processor, a
//! device with memory of its own, or another machine. The core sees hidden states as opaque [`HiddenRows`], which stay where
//! they were made until somebody reads them.
//!
//! Invariant: nothing behind a port decides. Which experts work, what stays in memory and in which order outputs are summed
//! is said from above, so that every implementation of one arithmetic gives the same bits.

mod decoder;
mod host;
mod names;
mod senses;
mod voice;

pub use decoder::{
    Decoder, DecoderError, DecoderInput, HiddenRows, InputRows, KvMemory, LOGIT_ROWS, PlainRows,
    RoutedRows, Sequence, WeightedOutput,
};
pub use host::{
    EXPERT_ROWS, ExpertHost, ExpertOutput, ExpertReadError, ExpertTask, HostError, HostFuture,
    HostUsage, LostHost, ShadowExperts,
};
pub use names::{component_name, component_of, module_name};
pub(crate) use senses::{BLIND, DEAF, NO_EARS, NO_EYES};
pub use senses::{EncodedImages, TowerError, TowerUse, Towers};
pub use voice::{FrameMaker, SpeechDemand, Voice};
