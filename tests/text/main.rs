//! Text to tokens and back, and chat templates, as transformers has them.

#[path = "../common/mod.rs"]
mod common;
mod templates;
mod tokens;
