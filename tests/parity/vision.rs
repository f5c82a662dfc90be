//! The vision tower equals the reference at every block, however little of it is in memory.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use sage::checkpoint::{Checkpoint, Component};
use sage::goldens::{self, Golden};
use sage::model::pieces::PieceCounts;
use sage::model::vision::{Encoded, VisionError, VisionInput, VisionTower, workspace_bytes};
use sage::store::{ExtractSelection, Extraction, WeightSource, open_model};

/// The system's allocator, with an account of what each thread holds and held at most.
struct Accounting;

thread_local! {
    static HELD: Cell<[i64; 2]> = const { Cell::new([0; 2]) };
}

fn account(bytes: i64) {
    let _ = HELD.try_with(|held| {
        let [now, most] = held.get();
        held.set([now + bytes, most.max(now + bytes)]);
    });
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Accounting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        account(layout.size() as i64);
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        account(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Accounting = Accounting;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Cases with pictures, and the kinds that each has.
const CASES: [(&str, &[&str]); 6] = [
    ("image", &["image"]),
    ("image-audio-text", &["image"]),
    ("video", &["video"]),
    ("image-video", &["image", "video"]),
    ("audio-in-video", &["video"]),
    ("audio-in-video-wide", &["video"]),
];

/// Of the largest golden number, or of 1.
const TOLERANCE: f32 = 1e-5;

fn golden(name: &str) -> Golden {
    let cases = goldens::cases(&fixture("tiny-omni/goldens")).expect("goldens");
    let case = cases.iter().find(|case| case.name == name).expect(name);
    case.open().expect("a golden")
}

fn model() -> Box<dyn WeightSource> {
    open_model(fixture("tiny-omni")).expect("a model")
}

fn tower(source: &dyn WeightSource) -> VisionTower {
    let tower = VisionTower::new(source).expect("a tower");
    tower.expect("the model has one")
}

/// Patches of the images or videos of a golden.
struct Seen {
    values: Vec<f32>,
    grids: Vec<[usize; 3]>,
}

impl Seen {
    fn of(golden: &Golden, kind: &str) -> Self {
        let pixels = if kind == "image" {
            "in.pixel_values"
        } else {
            "in.pixel_values_videos"
        };
        let (_, values) = golden.floats(pixels).expect("numbers").expect("pixels");
        let grids = golden.integers(&format!("in.{kind}_grid_thw"));
        let (_, grids) = grids.expect("integers").expect("grids");
        let grid = |grid: &[i64]| [grid[0] as usize, grid[1] as usize, grid[2] as usize];
        Self {
            values,
            grids: grids.chunks_exact(3).map(grid).collect(),
        }
    }

    fn patches(&self) -> VisionInput<'_> {
        VisionInput {
            values: &self.values,
            grids: &self.grids,
        }
    }
}

type Heard = BTreeMap<String, Vec<f32>>;

fn encode(tower: &mut VisionTower, source: &dyn WeightSource, seen: &Seen) -> (Encoded, Heard) {
    let mut heard = Heard::new();
    let mut probe = |name: &str, values: &[f32]| {
        let before = heard.insert(name.to_owned(), values.to_vec());
        assert!(before.is_none(), "{name} was heard twice");
    };
    let encoded = tower.encode(source, &seen.patches(), &mut probe);
    (encoded.expect("an encoding"), heard)
}

/// Largest difference over the largest golden number, or over 1.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected
        .iter()
        .fold(1.0, |largest: f32, e| largest.max(e.abs()));
    let differences = found.iter().zip(expected).map(|(f, e)| (f - e).abs());
    differences.fold(0.0, f32::max) / largest
}

/// Names of the tensors of one kind of a case: how many blocks and levels there are is the golden's to say.
fn tensors(golden: &Golden, kind: &str) -> Vec<(String, Vec<f32>)> {
    let mut found = Vec::new();
    let fixed = ["patch_embed", "layer_in.0", "merged"].map(str::to_owned);
    let counted = |stem: &'static str| (0..8).map(move |n| format!("{stem}.{n}"));
    for name in fixed
        .into_iter()
        .chain(counted("layer_out"))
        .chain(counted("deepstack"))
    {
        let values = golden.floats(&format!("vision_{kind}.{name}"));
        found.extend(values.expect("numbers").map(|(_, values)| (name, values)));
    }
    found
}

#[test]
fn every_block_equals_the_reference() {
    let source = model();
    let mut tower = tower(&*source);
    let mut worst = BTreeMap::<String, f32>::new();
    for (case, kinds) in CASES {
        let golden = golden(case);
        for kind in kinds {
            let (encoded, heard) = encode(&mut tower, &*source, &Seen::of(&golden, kind));
            let tensors = tensors(&golden, kind);
            assert_eq!(tensors.len(), 9, "{case}: 3, and 4 blocks and 2 levels");
            assert_eq!(
                tensors.len(),
                heard.len(),
                "{case}: all that is heard is compared"
            );
            for (name, expected) in &tensors {
                let difference = difference(&heard[name], expected);
                assert!(
                    difference <= TOLERANCE,
                    "{case} {kind} {name}: {difference}"
                );
                let worst = worst.entry(name.clone()).or_default();
                *worst = worst.max(difference);
            }
            assert_eq!(encoded.merged, heard["merged"]);
            assert_eq!(
                encoded.deepstack,
                [&*heard["deepstack.0"], &heard["deepstack.1"]]
            );
        }
    }
    println!("largest differences: {worst:?}");
}

/// A comparison that cannot fail compares nothing.
#[test]
fn a_picture_turned_on_its_side_differs() {
    let (source, golden) = (model(), golden("image"));
    let mut seen = Seen::of(&golden, "image");
    let [t, h, w] = seen.grids[0];
    assert_ne!(h, w);
    seen.grids[0] = [t, w, h];
    let (_, heard) = encode(&mut tower(&*source), &*source, &seen);
    for (name, expected) in tensors(&golden, "image") {
        let same = difference(&heard[&name], &expected) <= TOLERANCE;
        assert_eq!(same, name == "patch_embed", "{name}");
    }
}

#[test]
fn memory_changes_what_is_read_and_never_a_number() {
    let (source, golden) = (model(), golden("image-video"));
    let seen = Seen::of(&golden, "video");
    let reference = encode(&mut tower(&*source), &*source, &seen);
    let mut tower = tower(&*source);
    let sizes = tower.pieces().sizes().to_vec();
    let total: u64 = sizes.iter().sum();
    let pieces = 1 + 4 + 2 + 1;
    let mut run = |kept: usize| {
        tower.pieces_mut().keep(kept);
        let resident = tower.pieces().resident_bytes();
        let before = tower.pieces().counts();
        let (encoded, heard) = encode(&mut tower, &*source, &seen);
        assert_eq!(
            (&encoded, &heard),
            (&reference.0, &reference.1),
            "{kept} kept"
        );
        let counts = tower.pieces().counts().since(before);
        assert_eq!(counts.hits + counts.misses, pieces);
        assert_eq!(counts.bytes_read, total - resident);
        let of_kept = sizes[..kept].iter().sum::<u64>();
        assert_eq!(tower.pieces().resident_bytes(), of_kept);
        counts
    };
    let all = PieceCounts {
        hits: 0,
        misses: pieces,
        bytes_read: total,
    };
    assert_eq!(run(0), all);
    assert_eq!(run(0), all);
    assert_eq!(run(4), all);
    let half = run(4);
    assert!(half.hits > 0 && half.misses > 0, "{half:?}");
    assert_eq!(run(8).hits, half.hits);
    assert_eq!(
        run(8),
        PieceCounts {
            hits: pieces,
            misses: 0,
            bytes_read: 0
        }
    );
    assert_eq!(run(0), all);
}

#[test]
fn threads_change_no_bit() {
    let (source, golden) = (model(), golden("image-video"));
    let seen = Seen::of(&golden, "image");
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let encode = || encode(&mut tower(&*source), &*source, &seen);
        let (_, heard) = pool.expect("threads").install(encode);
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        heard
            .into_iter()
            .map(|(name, values)| (name, bits(values)))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(2));
}

#[test]
fn patches_that_do_not_fit_are_refused() {
    let source = model();
    let mut tower = tower(&*source);
    let mut refused = |values: &[f32], grid: [usize; 3]| {
        let patches = VisionInput {
            values,
            grids: &[grid],
        };
        let result = tower.encode(&*source, &patches, &mut |_: &str, _: &[f32]| ());
        result.expect_err("it does not fit")
    };
    assert!(matches!(
        refused(&[0.0; 1536], [1, 2, 2]),
        VisionError::Values { expected: 6144, .. }
    ));
    for grid in [
        [1, 3, 2],
        [0, 2, 2],
        [1, 0, 2],
        [usize::MAX, 2, 2],
        [1, 1 << 40, 1 << 40],
    ] {
        assert!(
            matches!(refused(&[], grid), VisionError::Grid { index: 0, .. }),
            "{grid:?}"
        );
    }
    let nothing = VisionInput {
        values: &[],
        grids: &[],
    };
    let encoded = tower
        .encode(&*source, &nothing, &mut |_: &str, _: &[f32]| ())
        .expect("nothing");
    assert!(encoded.merged.is_empty() && encoded.deepstack == vec![Vec::<f32>::new(); 2]);
}

#[test]
fn a_model_without_the_tower_sees_nothing() {
    let checkpoint = Checkpoint::open(fixture("tiny-omni")).expect("a checkpoint");
    let folder = tempfile::tempdir().expect("a folder");
    let mut selection = ExtractSelection::all();
    selection.components = [Component::Thinker].into();
    let extraction = Extraction::prepare(&checkpoint, folder.path(), &selection, false);
    extraction.expect("a plan").run(&|_| ()).expect("a store");
    let store = open_model(folder.path()).expect("a store");
    assert!(VisionTower::new(&*store).expect("no damage").is_none());
}

/// What encoding takes beside patches and weights stays below what was said before, and that is not said at random.
#[test]
fn the_workspace_is_as_large_as_stated() {
    let source = model();
    for grids in [
        vec![[1, 2, 2]],
        vec![[1, 24, 32]],
        vec![[3, 16, 16], [1, 40, 8]],
    ] {
        let patches: usize = grids.iter().map(|[t, h, w]| t * h * w).sum();
        let seen = Seen {
            values: (0..patches * 1536)
                .map(|n| (n % 251) as f32 / 125.0 - 1.0)
                .collect(),
            grids,
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        // On the pool's only thread, so that all is on one account.
        let (used, stated) = pool.expect("a thread").install(|| {
            let mut tower = tower(&*source);
            tower.pieces_mut().keep(usize::MAX);
            let mut run = || {
                let [now, _] = HELD.get();
                HELD.set([now, now]);
                let encoded = tower.encode(&*source, &seen.patches(), &mut |_: &str, _: &[f32]| ());
                let [_, most] = HELD.get();
                encoded.expect("an encoding");
                (most - now) as u64
            };
            run();
            (run(), workspace_bytes(tower.config(), patches))
        });
        println!("{patches} patches: {used} of {stated} bytes");
        assert!(
            used <= stated,
            "{patches} patches: {used} of {stated} bytes"
        );
        assert!(
            patches < 100 || used * 2 > stated,
            "{patches} patches: {used} of {stated} bytes"
        );
    }
}
