//! How long a chunk is where nobody says it.

#![allow(clippy::expect_used)] // a test stops at the first thing that is wrong

use std::path::Path;
use std::sync::Arc;

use sage::core::Limit;
use sage::session::opening::{EngineOptions, open, plan};
use sage::store::open_model;

/// The chunk that comes of a limit and a context, and the memory that is planned.
fn opened(limit: Limit, context_tokens: usize, asked: Option<usize>) -> (usize, u64, u64) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny");
    let options = EngineOptions {
        limit,
        context_tokens,
        chunk_tokens: asked,
        base_bytes: Some(8 << 20),
        ..EngineOptions::default()
    };
    let source = Arc::from(open_model(model).expect("a model"));
    let planned = plan(&*source as &dyn sage::store::WeightSource, &options).expect("a plan");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let engine = open(source, options, |_, _| ()).await.expect("an engine");
        assert_eq!(
            engine.plan, planned.memory,
            "what is said before is what is done"
        );
        let found = (
            engine.chunk_tokens(),
            engine.plan.floor.total(),
            engine.plan.pool_bytes,
        );
        engine.shutdown().await;
        found
    })
}

#[test]
fn a_chunk_is_as_long_as_the_context_can_use() {
    let chunk = |context| opened(Limit::None, context, None).0;
    assert_eq!(
        [64, 128, 200, 300, 500].map(chunk),
        [128, 128, 256, 512, 512]
    );
    assert_eq!(opened(Limit::None, 500, Some(7)).0, 7);
}

/// The floor is that of the shortest chunk; a longer one comes when its memory is an eighth of what the experts have.
#[test]
fn a_longer_chunk_leaves_the_experts_nearly_all_of_a_limit() {
    let least = opened(Limit::Slots(0), 500, None);
    assert_eq!(least, opened(Limit::Slots(0), 500, Some(128)));
    let floor = |asked| opened(Limit::Slots(0), 500, Some(asked)).1;
    for (longer, next) in [(256, 128), (512, 256)] {
        let enough = least.1 + 8 * (floor(longer) - least.1);
        let just = opened(Limit::Bytes(enough), 500, None);
        assert_eq!((just.0, just.1), (longer, floor(longer)));
        let little = opened(Limit::Bytes(enough - 16), 500, None);
        assert_eq!((little.0, little.1), (next, floor(next)));
        assert!(just.2 * 9 >= (enough - least.1) * 7, "an eighth at most");
    }
}
