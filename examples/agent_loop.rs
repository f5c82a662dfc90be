//! A host with a sensor, an effector and feedback of its own, around a loop that runs by itself:
//! `cargo run --release --example agent_loop`.
//!
//! A heater warms up. Its sensor leaves the healthy range, which is a threat; the alarm asks the model which of three
//! parts it is; the effector switches that part off; the feedback says whether it was the right one. Everything is
//! recorded, and at the end the recording is repeated: every decision and every word must come again.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sage::Sage;
use sage::session::{Action, Effector, Observation, Sensor, SensorValue};

/// The world: degrees of the heater, seen by the sensor and changed by the effector.
#[derive(Clone)]
struct Heater(Arc<AtomicU32>);

impl Sensor for Heater {
    fn name(&self) -> &str {
        "heater"
    }

    fn every_ticks(&self) -> u32 {
        4
    }

    fn read(&mut self, _tick: u64) -> Option<SensorValue> {
        let degrees = self.0.load(Ordering::Relaxed);
        Some(SensorValue {
            range: Some((30.0, 80.0)),
            ..SensorValue::new(f64::from(degrees))
        })
    }
}

/// Switches off the part that an alarm's answer names. What comes of it is observed at once: the feedback.
struct Switch(Heater);

impl Effector for Switch {
    fn act(&mut self, action: &Action) -> Vec<Observation> {
        println!("{action}");
        let Action::Say { source, text, .. } = action else {
            return Vec::new();
        };
        if source != "watch" {
            return Vec::new();
        }
        let right = text.trim() == "heater";
        if right {
            self.0.0.store(60, Ordering::Relaxed);
        }
        vec![Observation::Feedback(if right { 1.0 } else { -1.0 })]
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match watch().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn watch() -> Result<(), Box<dyn std::error::Error>> {
    let heater = Heater(Arc::new(AtomicU32::new(60)));
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("agent.trace");
    let sage = Sage::builder()
        .model("models/tiny")
        .limit("120slots")
        .answer_tokens(8)
        .idle_pace(Duration::from_millis(10))
        .sensor(heater.clone())
        .effector(Switch(heater.clone()))
        .record(&trace)
        .build()
        .await?;
    let mut actions = sage.actions();
    let handle = sage.run();

    // A text that nobody waits for; then the heater warms up, and the watch raises the alarm.
    handle.observe(Observation::text(
        "book",
        "And the word of the LORD was precious in those days; there was no open vision.",
    ))?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    heater.0.store(99, Ordering::Relaxed);
    let alarm = handle.observe(Observation::alarm(
        "watch",
        "motor 77 (60-80) heater 99 (30-80) battery 73 (60-80) fan 55 (50-70) Which sensor is out of range?",
    ))?;
    while let Some(action) = actions.next().await {
        if matches!(action, Action::Say { id, .. } | Action::Unanswered { id, .. } if id == alarm) {
            break;
        }
    }
    // Time passes until the mind has calmed down; an idle loop takes a tick each ten milliseconds.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let outcome = handle.shutdown().await?;
    let counts = outcome.counts;
    println!(
        "{} ticks; {} observations, {} shed, {} refused; heater at {} degrees",
        outcome.ticks,
        counts.submitted,
        counts.shed_total(),
        counts.refused,
        heater.0.load(Ordering::Relaxed),
    );
    // The world is not asked again: what the sensor read and what the effector gave back is in the recording.
    let again = sage::replay::verify(&trace, "models/tiny".as_ref()).await?;
    println!(
        "replayed {} ticks: {}",
        again.ticks,
        if again.equal { "equal" } else { "not equal" }
    );
    Ok(())
}
