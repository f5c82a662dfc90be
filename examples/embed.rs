//! The loop in ten lines: `cargo run --release --example embed`.

use sage::{Sage, embed::Observation};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let builder = Sage::builder().model("models/tiny").limit("120slots");
    let mut sage = builder.answer_tokens(8).build().await?;
    let facts = "Laura lives in London. Helen lives in Milan. Tom lives in Oslo.";
    sage.observe(Observation::question(
        "me",
        format!("{facts} Where does Helen live?"),
    ))?;
    while !sage.is_idle() {
        for action in sage.tick().await?.actions {
            println!("{action}");
        }
    }
    sage.shutdown().await?;
    Ok(())
}
