//! What the audio tower says of the memory that it works in is true.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use sage::media::sound::{MEL_BINS, Mel};
use sage::model::audio::{AudioTower, workspace_bytes};
use sage::store::open_model;

/// Counts what the whole process has on its heap.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn clip(frames: usize) -> Mel {
    Mel {
        bins: MEL_BINS,
        frames,
        values: vec![0.1; MEL_BINS * frames],
    }
}

/// The only test of its process, so that nothing else is counted.
#[test]
fn encoding_stays_within_what_it_says() {
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
        .encode(source.as_ref(), &[&clip(200)], &mut |_, _| ())
        .unwrap();
    for (clips, bound_bytes) in cases {
        let clips: Vec<&Mel> = clips.iter().collect();
        let before = HELD.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let out = tower.encode(source.as_ref(), &clips, &mut |_, _| ());
        let peak = PEAK.load(Ordering::Relaxed) - before;
        assert!(!out.unwrap()[0].is_empty());
        println!("{peak} of {bound_bytes} bytes");
        assert!(peak <= bound_bytes, "{peak} of {bound_bytes} bytes");
        // A bound that is never neared would waste what it reserves.
        assert!(bound_bytes < 3 * peak, "{peak} of {bound_bytes} bytes");
    }
}
