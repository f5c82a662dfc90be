//! How people and programs reach the loop: conversation, library, recordings, reports, settings, sensors.

mod chat;
#[path = "../common/mod.rs"]
mod common;
mod embed;
mod embed_record;
mod embed_running;
mod examples;
mod heard;
mod replay;
mod report;
mod senses;
mod sensors;
mod settings;
mod timeline;
mod trace;
