#[path = "../common/mod.rs"]
mod common;
mod checkpoint;
mod cli_model;
mod cli_store;
mod foreign;
mod founding;
mod hostile;
mod layouts;
mod reads;
mod store;
