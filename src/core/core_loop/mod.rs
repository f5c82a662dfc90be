//! The loop: sense, salience, state, budget, think, learn — one tick at a time.
//!
//! A tick reads one chunk, decodes one token, makes one frame of speech, or idles. Observations wait in an inbox until the next
//! tick takes them all; requests are served by urgency of kind (an alarm before a question before a text), then in order of
//! arrival.
//!
//! [`CoreLoop`] is made of parts that own their fields (`conductor.rs` names them); the files beside it hold what it does:
//! `tick.rs` one tick, `receive.rs` and `prompts.rs` what arrives, `step.rs` one step of a request, `answering.rs` its end,
//! `speak.rs` its speech, `dream.rs` idle ticks.

mod account;
mod answer;
mod answering;
mod conductor;
mod context;
mod conversation;
mod conversing;
mod dream;
mod heed;
mod heeding;
mod job;
mod limits;
mod meter;
mod observation;
mod perceive;
mod percept;
mod periods;
mod prompts;
mod queue;
pub mod recall;
mod receive;
mod record;
mod remembering;
mod sleeping;
mod speak;
mod step;
mod telling;
mod tick;
mod usage;
mod wire;

pub use answer::{Answer, Completed, SpokenAnswer};
pub use conductor::{AnswerPolicy, CoreLoop};
pub use heed::{HEARD_WITHIN_TOKENS, Heed};
pub use meter::RequestCost;
pub use observation::Observation;
pub use queue::{Abandoned, Refusal, Waiting};
pub(crate) use tick::SETTLE_TICKS;
