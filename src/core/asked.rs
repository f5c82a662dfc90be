//! What deciding costs: telemetry of the asks, of which no decision hears.

use std::future::Future;
use std::time::{Duration, Instant};

/// Asks of actors since the engine was opened, and the time until they were answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct ActorLatency {
    pub asks: u64,
    /// From asking to the answer: the message, the actor's work, and what the cache has the reading threads told.
    pub time: Duration,
}

impl ActorLatency {
    /// Awaits an answer that takes `asks` asks.
    pub(super) async fn time<T>(&mut self, asks: u64, answer: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let answer = answer.await;
        self.time += started.elapsed();
        self.asks += asks;
        answer
    }
}
