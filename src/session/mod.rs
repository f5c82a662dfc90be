//! The loop as a library: observations in, actions and telemetry out.
//!
//! [`Sage::builder`] names a model and whatever else is wanted of it; [`Builder::build`] opens it on a thread of its own.
//! From then on the host drives it [tick by tick](Sage::tick), or lets it [run](Sage::run) and speaks to it by a
//! [`Handle`] from any task. What it does comes as [`Action`]s: with each tick, to every [`Effector`], and as a
//! [stream](Handle::actions); what happens inside comes as [`Event`]s, the same that
//! `sage run --json` writes, as another [stream](Handle::telemetry).
//!
//! **Time is logical.** A tick is a chunk read, a token said, or time passing; the mind has no clock. Driven tick by tick,
//! the same observations at the same ticks give the same answers, states and events, on any machine. Running free, the
//! wall clock decides at which tick an observation is taken, and nothing else: given those ticks the rest is the same.
//!
//! **Bounds.** What waits is bounded ([`Builder::inbox`], [`Builder::inbox_bytes`]), and so is what a slow reader of a
//! stream may leave lying. When more is observed than can be taken, the least is shed before the loop sees it: by declared
//! urgency, then kind (feedback, goals and alarms go last), then by how salient its source's texts were of late.
//! [`Handle::counts`] accounts for every observation.
//!
//! **Errors of the outside do not end the loop.** An observation that is empty, or does not fit the context, is refused
//! with an event, and its request with [`Action::Unanswered`]. Only a model that cannot be read or a failed actor ends it.

mod asks;
mod builder;
mod chunks;
mod counts;
mod driver;
mod error;
pub mod exact;
mod handle;
mod hearing;
mod inbox;
mod kv_choice;
pub mod least;
mod loop_options;
mod messages;
pub mod mode;
mod open;
pub mod opening;
mod ports;
mod recording;
mod request_events;
mod run;
mod running;
mod shared;
mod stream;

pub use asks::Reply;
pub use builder::Builder;
pub use counts::{ObservationCounts, ShedCount};
pub use driver::{SessionOutcome, Ticked};
pub use error::{AskError, BuildError, ObserveError, SageError};
pub use handle::{Handle, Sage};
pub use messages::Conversation;
pub use open::{CONTEXT_TOKENS, Learning, OpenError, RecordingPlan, SessionPlan, context_tokens};
pub use ports::{Action, Effector, Sensor, SensorValue};
pub use recording::RecordingError;
pub use request_events::RequestEvents;
pub use run::Session;
pub use stream::{Actions, SessionStream, StreamItem, Telemetry};

pub use sage_actors::config::MindConfig;
pub use sage_actors::protocol::{Cause, SensorReading, State, Tick};

pub use crate::core::core_loop::Observation;
pub use crate::core::request::{
    ContextKind, Request, RequestContent, RequestKind, Stop, VoiceChoice,
};
pub use crate::core::sampling::Sampling;
pub use crate::core::speech::SpeechEnded;
pub use crate::events::Ended;
pub use crate::events::{Event, EventKind, ShedReason};
pub use crate::input::Limit;
pub use crate::media::medium::{Medium, MediumError, MediumKind};
pub use crate::reads::ReadBytes;
pub use crate::settings::Sources;
