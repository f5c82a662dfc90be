#[path = "../common/mod.rs"]
mod common;
mod chat;
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
mod trace;
