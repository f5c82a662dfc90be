//! A limit that changes while the model runs.

#![allow(clippy::expect_used)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sage::engine::goldens::EXACT;
use sage::engine::{Arrivals, EngineOptions, Limit, open};
use sage::store::open_model;
use sage_actors::config::MindConfig;
use sage_actors::protocol::Phase;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny")
}

/// Whatever the limit does meanwhile, an exact run computes the same numbers.
#[test]
fn exact_numbers_do_not_depend_on_a_limit_that_changes() {
    let limits = [
        Limit::Slots(40),
        Limit::Slots(0),
        Limit::None,
        Limit::Slots(3),
        Limit::Slots(200),
    ];
    let run = |changing: bool| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let options = EngineOptions {
                limit: Limit::None,
                context_tokens: 64,
                chunk_tokens: 8,
                mind: MindConfig {
                    hold: Some(EXACT),
                    ..MindConfig::default()
                },
                ..EngineOptions::default()
            };
            let source = Arc::from(open_model(model()).expect("a model"));
            let mut engine = open(source, options, |_, _| ()).await.expect("an engine");
            let mut kv = engine.new_sequence().expect("a sequence");
            let (mut numbers, mut mapped) = (Vec::new(), Vec::new());
            for step in 0..10u32 {
                if changing {
                    let limit = limits[step as usize % limits.len()];
                    let change = engine.set_limit(limit).expect("at least the floor");
                    assert!(change.holds() && change.after == engine.plan);
                    let before = engine.plan;
                    let refused = engine
                        .set_limit(Limit::Bytes(1 << 20))
                        .expect_err("too little");
                    assert!(refused.floor_bytes > 1 << 20 && engine.plan == before);
                    if step == 7 {
                        // A fact below the floor is no reason to compute anything else.
                        assert!(!engine.impose_limit(Limit::Bytes(1 << 20)).holds());
                    }
                }
                let orientation = engine.orient(Arrivals::default()).await.expect("oriented");
                let tokens = [17 + step, 40 + 3 * step];
                let forward = engine
                    .forward(&mut kv, &tokens, Phase::Prefill, &orientation, None)
                    .await
                    .expect("a step");
                numbers.extend(forward.normed.iter().map(|number| number.to_bits()));
                mapped.push(engine.arena.mapped_bytes());
            }
            engine.shutdown().await;
            (numbers, mapped)
        })
    };
    let ((still, all), (moving, mapped)) = (run(false), run(true));
    assert_eq!(still, moving);
    // Slots(0) leaves one window; without a limit everything stays.
    assert!(
        mapped[1] < all[1] && mapped[1] < mapped[0],
        "{mapped:?} and {all:?}"
    );
}
