//! How people and programs reach the loop: conversation, library, recordings, reports, settings, sensors.

mod bench;
mod chat;
#[path = "../common/mod.rs"]
mod common;
mod embed;
mod embed_asks;
mod embed_record;
mod embed_running;
mod embed_speaking;
mod examples;
mod forced;
mod heard;
mod kv_precision;
mod messages;
mod planning;
mod replay;
mod report;
mod requests;
mod senses;
mod sensors;
mod session_settings;
mod settings;
mod spoken;
mod timeline;
mod trace;
