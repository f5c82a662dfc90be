//! The loop in ten lines: `cargo run --release --example embed`. docs/embedding.md shows it as it stands here.

use std::{error::Error, process::ExitCode};

use sage::Sage;
use sage::session::Observation;

#[tokio::main]
async fn main() -> ExitCode {
    match ask().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn ask() -> Result<(), Box<dyn Error>> {
    let builder = Sage::builder().model("models/tiny").limit("120slots");
    let mut sage = builder.answer_tokens(8).build().await?;
    let question = "Tom lives in Oslo. Helen lives in Milan. Where does Helen live?";
    sage.observe(Observation::question("me", question))?;
    while !sage.is_idle() {
        for action in sage.tick().await?.actions {
            println!("{action}");
        }
    }
    sage.shutdown().await?;
    Ok(())
}
