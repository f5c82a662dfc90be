//! One question and its answer: `cargo run --release --example embed`. docs/embedding.md shows it as it stands here.

use std::{error::Error, process::ExitCode};

use sage::Sage;
use sage::session::Request;

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
    let sage = builder.answer_tokens(8).build().await?.run();
    let question = "Tom lives in Oslo. Helen lives in Milan. Where does Helen live?";
    let reply = sage.ask(Request::question("me", question)).await?;
    println!("{}", reply.text);
    sage.shutdown().await?;
    Ok(())
}
