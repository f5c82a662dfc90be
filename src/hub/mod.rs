//! Checkpoints from a hub that speaks the HTTP API of Hugging Face, straight into a store.
//!
//! A revision is resolved to a commit, and every file is of that commit. Shards are fetched one after the other into files
//! that have their true headers from the beginning and holes where nothing was fetched yet; what can be extracted is
//! extracted as soon as its shards are there, and a shard that nothing needs any more becomes a hole again. So a checkpoint
//! is never on disk as a whole, a kill costs nothing that was fetched, and extraction knows nothing of all this.

mod arriving;
mod certificates;
mod client;
mod download;
mod error;
mod event;
mod listing;
mod name;
mod plan;
mod progress;
mod provenance;
mod pull;
mod small;
mod staging;

pub use client::{Hub, RetryPolicy};
pub use error::HubError;
pub use event::{PullEvent, PullListener};
pub use listing::{HubFile, Listing};
pub use name::ModelName;
pub use plan::PullPlan;
pub use provenance::{PROVENANCE, Provenance, PulledShard};
pub use pull::{Pull, PullOptions};
pub use staging::disk_bytes;
