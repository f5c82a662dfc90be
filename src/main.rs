//! The `sage` command.
fn main() {}
