//! Checkpoints and stores: what they are, what is said of them, and what is refused.

mod checkpoint;
mod cli_model;
mod cli_store;
#[path = "../common/mod.rs"]
mod common;
mod extracting;
mod foreign;
mod formats;
mod founding;
mod gguf;
mod hostile;
mod layouts;
mod packed;
mod pulling;
mod quantised;
mod reads;
mod store;
