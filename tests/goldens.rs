//! The engine equals the reference implementation on every text golden, through the actors, however little memory
//! there is for experts.

use std::path::Path;
use std::sync::Arc;

use sage::engine::goldens::{self, CaseReport, EXACT, Status};
use sage::engine::{EngineOptions, Limit, open};
use sage::store::open_model;
use sage_actors::config::{MindConfig, RoutingPolicy};

const CHECKPOINTS: [&str; 7] = [
    "tiny-thinker",
    "edge-no-norm-topk",
    "edge-dense-layers",
    "edge-all-experts",
    "edge-top1",
    "edge-tied",
    "edge-bf16",
];

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Runs every case of `goldens` on the model in `model`.
fn verify(model: &Path, goldens: &Path, limit: Limit, chunk_tokens: usize) -> Vec<CaseReport> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let source: Arc<dyn sage::store::WeightSource> = Arc::from(open_model(model).expect("a model"));
        let cases = goldens::cases(goldens).expect("goldens");
        let context_tokens = cases.iter().map(|case| case.context_tokens).max().unwrap_or(1);
        let mind = MindConfig { hold: Some(EXACT), routing: RoutingPolicy::Exact, ..MindConfig::default() };
        let options = EngineOptions { limit, context_tokens, chunk_tokens, mind };
        let mut engine = open(source, options, |_, _| ()).await.expect("an engine");
        let mut reports = Vec::new();
        for case in &cases {
            reports.push(goldens::run(&mut engine, case).await.expect("a report"));
        }
        engine.shutdown().await;
        reports
    })
}

fn assert_equal(name: &str, reports: &[CaseReport]) {
    for report in reports {
        match report.status {
            Status::Pass => assert!(report.tensors.len() >= 4, "{name}/{}: nothing was compared", report.name),
            Status::Orientation => {}
            Status::Fail | Status::Skipped => {
                panic!("{name}/{}: {:?} {:?}", report.name, report.first_difference, report.reason)
            }
        }
    }
    assert!(reports.iter().any(|report| report.status == Status::Pass), "{name}: no case passed");
}

#[test]
fn text_goldens_pass_from_the_checkpoint() {
    for name in CHECKPOINTS {
        let folder = fixture(name);
        assert_equal(name, &verify(&folder, &folder.join("goldens"), Limit::None, 128));
    }
}
