//! SAGE: a cognitive runtime for sparse models.
//!
//! A host embeds the loop with [`Sage::builder`], hands it observations, and drives it tick by tick, or lets it
//! [run](Sage::run):
//!
//! ```
//! use sage::session::{Action, Observation};
//! use sage::Sage;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut sage = Sage::builder()
//!     .model("models/tiny") // a checkpoint, or a store made by `sage extract`
//!     .limit("120slots") // or 6GiB: memory of the whole process
//!     .answer_tokens(8)
//!     .build()
//!     .await?;
//! let facts = "Laura lives in London. Helen lives in Milan. Tom lives in Oslo.";
//! let asked = sage.observe(Observation::question("visitor", format!("{facts} Where does Helen live?")))?;
//!
//! let mut answer = None;
//! while answer.is_none() {
//!     for action in sage.tick().await?.actions {
//!         match action {
//!             Action::Say { id, text, .. } if id == asked => answer = Some(text),
//!             other => println!("{other}"), // Wake → Focus (Request)
//!         }
//!     }
//! }
//! assert_eq!(answer.as_deref(), Some("Milan"));
//! sage.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`session`] says what there is beside that: sensors, effectors, feedback, goals, telemetry, bounds.

pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod core;
pub mod cpu;
#[cfg(feature = "cli")]
mod eval;
pub mod events;
pub mod formats;
pub mod goldens;
pub mod host_memory;
#[cfg(feature = "hub")]
pub mod hub;
pub mod input;
pub mod kernels;
pub mod ledger;
pub mod media;
pub mod model;
pub mod progress;
pub mod reads;
#[cfg(all(feature = "candle", feature = "cli"))]
mod reference;
pub mod replay;
#[cfg(feature = "cli")]
mod report;
#[cfg(feature = "cli")]
mod routes;
pub mod scenario;
pub mod sensors;
pub mod session;
mod settings;
mod spans;
pub mod store;
#[cfg(feature = "cli")]
mod synth;
pub mod text;
pub mod trace;

pub use session::Sage;
