//! Writes the generated parts of `docs/states.md`: the transition table, its diagram, and three simulations.
//!
//! ```sh
//! cargo run --release -p sage-actors --example states
//! ```

mod page;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/states.md");
    match write(&path) {
        Ok(changed) => {
            let what = if changed { "written" } else { "is up to date" };
            println!("{}: {what}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn write(path: &Path) -> Result<bool, String> {
    let before = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let after = page::filled(&before)?;
    if after == before {
        return Ok(false);
    }
    std::fs::write(path, after).map_err(|error| error.to_string())?;
    Ok(true)
}
