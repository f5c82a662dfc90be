//! One decode step through the session: what a host waits for between two tokens of the model in `models/tiny`.
//!
//! `cargo bench --bench session` runs them all, `cargo bench --bench session -- --test` each of them once.
//! The model is small, so most of a step is what is around the arithmetic: asks of the mind, leases, events.

#![allow(clippy::unwrap_used)] // a benchmark stops at the first thing that is wrong

use std::cell::RefCell;

use divan::Bencher;
use sage::Sage;
use sage::session::{Event, EventKind, Request, Stop, Telemetry};
use tokio::runtime::Runtime;

const QUESTION: &str = "Laura lives in London. Helen lives in Milan. Where does Helen live?";

/// Of one answer; the context holds the question too.
const ANSWER_TOKENS: usize = 256;

fn main() {
    divan::main();
}

/// A loop that answers without end.
struct Talking {
    runtime: Runtime,
    sage: Sage,
    telemetry: Telemetry,
}

impl Talking {
    fn new(limit: Option<&str>) -> Self {
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny");
        let builder = Sage::builder().model(model).context_tokens(512);
        // Held to the trained experts, so that no state changes what a step costs.
        let builder = builder.answer_tokens(ANSWER_TOKENS).exact().threads(1);
        let builder = match limit {
            Some(limit) => builder.limit(limit),
            None => builder,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let sage = runtime.block_on(builder.build()).unwrap();
        let telemetry = sage.telemetry();
        Self {
            runtime,
            sage,
            telemetry,
        }
    }

    /// Ticks until a token is said: once, while an answer goes on.
    fn say_token(&mut self) {
        loop {
            self.runtime.block_on(self.sage.tick()).unwrap();
            let mut said = false;
            while let Some(event) = self.telemetry.try_next() {
                said |= is_token(&event);
            }
            if said {
                return;
            }
        }
    }

    /// Sees to it that an answer is under way.
    fn ask(&mut self) {
        if self.sage.is_idle() {
            let request = Request {
                stop: Stop::Never,
                ..Request::question("bench", QUESTION)
            };
            self.sage.observe(request.into()).unwrap();
            self.say_token();
        }
    }
}

fn is_token(event: &Event) -> bool {
    matches!(event.kind, EventKind::Token { .. })
}

/// All experts in memory, and not all of them.
#[divan::bench(args = ["none", "120slots"], max_time = 5)]
fn decode_step(bencher: Bencher<'_, '_>, limit: &str) {
    let talking = RefCell::new(Talking::new(Some(limit).filter(|limit| *limit != "none")));
    bencher
        .with_inputs(|| talking.borrow_mut().ask())
        .bench_local_values(|()| talking.borrow_mut().say_token());
    let Talking { runtime, sage, .. } = talking.into_inner();
    runtime.block_on(sage.shutdown()).unwrap();
}
