//! The `sage` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    sage::cli::main()
}
