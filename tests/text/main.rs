#[path = "../common/mod.rs"]
mod common;
mod templates;
mod tokens;
