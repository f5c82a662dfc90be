//! What the audio tower says of the memory that it works in is true.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::Path;

use sage::media::sound::{MEL_BINS, Mel};
use sage::model::audio::{AudioTower, workspace_bytes};
use sage::store::open_model;

use crate::counting::Heap;

fn clip(frames: usize) -> Mel {
    Mel {
        bins: MEL_BINS,
        frames,
        values: vec![0.1; MEL_BINS * frames],
    }
}

#[test]
fn encoding_stays_within_what_it_says() {
    let heap = Heap::alone();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-omni");
    let source = open_model(folder).unwrap();
    let mut tower = AudioTower::new(source.as_ref()).unwrap().unwrap();
    let bound = |frames| workspace_bytes(tower.config(), frames) as usize;
    let cases = [
        (vec![clip(40)], bound(40)),
        (vec![clip(1_000)], bound(1_000)),
        (vec![clip(30_000)], bound(30_000)),
        (
            vec![clip(3_000), clip(40), clip(327)],
            bound(3_000) + bound(40) + bound(327),
        ),
    ];
    // The weights stay, and the threads are there, before anything is counted.
    tower.pieces_mut().keep(usize::MAX);
    tower
        .encode(source.as_ref(), &[&clip(200)], &mut |_: &str, _: &[f32]| ())
        .unwrap();
    for (clips, bound_bytes) in cases {
        let clips: Vec<&Mel> = clips.iter().collect();
        let mut out = None;
        let peak = heap.peak_of(|| {
            out = Some(tower.encode(source.as_ref(), &clips, &mut |_: &str, _: &[f32]| ()))
        });
        let out = out.unwrap();
        assert!(!out.unwrap()[0].is_empty());
        println!("{peak} of {bound_bytes} bytes");
        assert!(peak <= bound_bytes, "{peak} of {bound_bytes} bytes");
        // A bound that is never neared would waste what it reserves.
        assert!(bound_bytes < 3 * peak, "{peak} of {bound_bytes} bytes");
    }
}
