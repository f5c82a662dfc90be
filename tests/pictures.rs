//! Pictures: the vision tower equals the reference at every block, whatever its memory; preprocessing equals the reference's
//! pixels; and no broken file is taken for a picture.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::collections::BTreeMap;
use std::path::PathBuf;

use safetensors::SafeTensors;
use sage::engine::goldens::{self, Golden};
use sage::media::picture::{
    self, DecodeLimits, PatchOptions, Picture, PictureError, image_patches, smart_resize,
    video_patches,
};
use sage::model::pieces::PieceCounts;
use sage::model::vision::{Encoded, Patches, VisionError, VisionTower};
use sage::store::{WeightSource, open_model};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

// The tower.

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

    fn patches(&self) -> Patches<'_> {
        Patches {
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
    let total = tower.pieces().total_bytes();
    let pieces = 1 + 4 + 2 + 1;
    let mut run = |budget: u64| {
        tower.pieces_mut().set_budget(budget);
        let kept = tower.pieces().resident_bytes();
        assert!(kept <= budget);
        let (encoded, heard) = encode(&mut tower, &*source, &seen);
        assert_eq!(
            (&encoded, &heard),
            (&reference.0, &reference.1),
            "budget {budget}"
        );
        let counts = tower.pieces_mut().take_counts();
        assert_eq!(counts.hits + counts.misses, pieces);
        assert_eq!(counts.bytes_read, total - kept);
        assert!(tower.pieces().resident_bytes() <= budget);
        counts
    };
    let all = PieceCounts {
        hits: 0,
        misses: pieces,
        bytes_read: total,
    };
    assert_eq!(run(0), all);
    assert_eq!(run(0), all);
    assert_eq!(run(total / 2), all);
    let half = run(total / 2);
    assert!(half.hits > 0 && half.misses > 0, "{half:?}");
    assert_eq!(run(total).hits, half.hits);
    assert_eq!(
        run(total),
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
        let patches = Patches {
            values,
            grids: &[grid],
        };
        let result = tower.encode(&*source, &patches, &mut |_, _| ());
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
    let nothing = Patches {
        values: &[],
        grids: &[],
    };
    let encoded = tower
        .encode(&*source, &nothing, &mut |_, _| ())
        .expect("nothing");
    assert!(encoded.merged.is_empty() && encoded.deepstack == [vec![], vec![]]);
}

#[test]
fn a_model_without_the_tower_sees_nothing() {
    let checkpoint = sage::checkpoint::Checkpoint::open(fixture("tiny-omni")).expect("one");
    let folder = tempfile::tempdir().expect("a folder");
    let mut selection = sage::store::Selection::all();
    selection.components = vec![sage::checkpoint::Component::Thinker];
    let extraction =
        sage::store::Extraction::prepare(&checkpoint, folder.path(), &selection, false);
    extraction.expect("a plan").run(&|_| ()).expect("a store");
    let store = open_model(folder.path()).expect("a store");
    assert!(VisionTower::new(&*store).expect("no damage").is_none());
}

// Preprocessing.

struct Reference {
    bytes: Vec<u8>,
}

impl Reference {
    fn open() -> Self {
        let bytes = std::fs::read(fixture("preprocess/preprocess.safetensors")).expect("a file");
        Self { bytes }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let tensors = SafeTensors::deserialize(&self.bytes).expect("tensors");
        tensors.tensor(name).expect(name).data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.bytes(name);
        let (values, _) = bytes.as_chunks();
        values.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn grids(&self, name: &str) -> Vec<[usize; 3]> {
        let bytes = self.bytes(name);
        let (values, _) = bytes.as_chunks();
        let values: Vec<usize> = values
            .iter()
            .map(|b| i64::from_le_bytes(*b) as usize)
            .collect();
        values
            .chunks_exact(3)
            .map(|grid| [grid[0], grid[1], grid[2]])
            .collect()
    }
}

fn description() -> serde_json::Value {
    let text = std::fs::read(fixture("preprocess/preprocess.json")).expect("a file");
    serde_json::from_slice(&text).expect("JSON")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).expect(name)
}

fn decode(bytes: &[u8]) -> Result<Picture, PictureError> {
    Picture::decode(bytes, &DecodeLimits::default())
}

fn opened(name: &str) -> Picture {
    decode(&file(name)).expect(name)
}

/// Channels first, as the reference keeps them.
fn planar(picture: &Picture) -> Vec<u8> {
    let channel = |channel: usize| picture.rgb().iter().skip(channel).step_by(3).copied();
    (0..3).flat_map(channel).collect()
}

/// Largest difference in grey levels.
fn levels(found: &[u8], expected: &[u8]) -> u8 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(f, e)| f.abs_diff(*e));
    differences.max().unwrap_or(0)
}

fn sides(value: &serde_json::Value) -> [usize; 2] {
    let side = |at: usize| value[at].as_u64().expect("a side") as usize;
    [side(0), side(1)]
}

fn options(released: PatchOptions, file: &serde_json::Value) -> PatchOptions {
    let pixels = |key: &str| file[key].as_u64().expect(key) as usize;
    PatchOptions {
        min_pixels: pixels("min_pixels"),
        max_pixels: pixels("max_pixels"),
        ..released
    }
}

#[test]
fn sizes_are_the_references() {
    let table: serde_json::Value =
        serde_json::from_slice(&file("preprocess/smart_resize.json")).expect("JSON");
    let table = table.as_array().expect("a table");
    assert!(table.len() > 200);
    for entry in table {
        let number = |key: &str| entry[key].as_u64().expect(key) as usize;
        let found = smart_resize(
            number("h"),
            number("w"),
            number("factor"),
            number("min_pixels"),
            number("max_pixels"),
        );
        assert_eq!(found, Ok(sides(&entry["out"])), "{entry}");
    }
    let released = (
        PatchOptions::IMAGE.min_pixels,
        PatchOptions::IMAGE.max_pixels,
    );
    assert_eq!(released, (3136, 12_845_056));
}

/// `[frames, 3, height, width]` and patches of a fixture, against ours.
fn assert_pixels(name: &str, resized: &[u8], ours: &picture::Patches, exact: bool) {
    let reference = Reference::open();
    let values = if name == "video" {
        "pixel_values_videos"
    } else {
        "pixel_values"
    };
    let expected = reference.floats(&format!("{name}.{values}"));
    assert_eq!(
        ours.grids,
        reference.grids(&format!("{name}.grid_thw")),
        "{name}"
    );
    assert_eq!(ours.values.len(), expected.len(), "{name}");
    let off = levels(resized, &reference.bytes(&format!("{name}.resized_u8")));
    let differences = ours
        .values
        .iter()
        .zip(&expected)
        .map(|(o, e)| (o - e).abs());
    let largest = differences.fold(0.0, f32::max);
    println!("{name}: {off} levels, {largest} after normalising");
    if exact {
        assert_eq!((off, largest), (0, 0.0), "{name}");
    }
    assert!(
        off <= 1 && largest <= 2.0 / 255.0 + 1e-6,
        "{name}: {off} levels, {largest}"
    );
}

#[test]
fn images_become_the_references_patches() {
    let description = description();
    for name in [
        "exact",
        "grey",
        "resized",
        "rgba",
        "shrunk",
        "tiny-upscaled",
    ] {
        let about = &description["files"][format!("image-{name}.png")];
        let picture = opened(&format!("preprocess/image-{name}.png"));
        assert_eq!([picture.height(), picture.width()], sides(&about["source"]));
        let [height, width] = sides(&about["resized"]);
        let resized = picture::resize(&picture, width, height).expect("a size");
        let patches = image_patches(&picture, &options(PatchOptions::IMAGE, about));
        let exact = about["source"] == about["resized"];
        assert_eq!(exact, name == "exact");
        let patches = patches.expect("patches");
        assert_pixels(&format!("image.{name}"), &planar(&resized), &patches, exact);
    }
}

#[test]
fn frames_become_the_references_patches() {
    let about = &description()["files"]["video-frame-*.png"];
    let frame = |n: usize| opened(&format!("preprocess/video-frame-{n}.png"));
    let frames: Vec<Picture> = (0..5).map(frame).collect();
    let [height, width] = sides(&about["resized"]);
    let resize = |frame| planar(&picture::resize(frame, width, height).expect("a size"));
    let resized: Vec<u8> = frames.iter().flat_map(resize).collect();
    let options = options(PatchOptions::VIDEO, about);
    let patches = video_patches(&frames, &options).expect("patches");
    assert_pixels("video", &resized, &patches, false);

    assert_eq!(video_patches(&[], &options), Err(PictureError::NoFrames));
    let mixed = [frames[0].clone(), opened("preprocess/image-exact.png")];
    let error = video_patches(&mixed, &options).expect_err("two sizes");
    assert!(
        matches!(error, PictureError::Frame { index: 1, .. }),
        "{error}"
    );
}

#[test]
fn patches_of_several_pictures_follow_one_another() {
    let options = PatchOptions::IMAGE;
    let one = image_patches(&opened("preprocess/image-exact.png"), &options).expect("patches");
    let mut both = one.clone();
    both.append(one.clone());
    assert_eq!((both.len(), both.grids.len()), (2 * one.len(), 2));
    assert_eq!(both.values.len(), 2 * one.values.len());
}

// Files.

/// The colour that the JPEG fixtures were made with (64 x 48, quality 92).
fn gradient(x: usize, y: usize) -> [u8; 3] {
    [4 * x, 5 * y, 255 - 2 * x - 2 * y].map(|value| value as u8)
}

#[test]
fn photographs_are_decoded_and_set_upright() {
    for name in ["gradient", "gradient-progressive", "gradient-on-its-side"] {
        let picture = opened(&format!("pictures/{name}.jpg"));
        assert_eq!((picture.width(), picture.height()), (64, 48), "{name}");
        let expected = (0..48).flat_map(|y| (0..64).flat_map(move |x| gradient(x, y)));
        let off = levels(picture.rgb(), &expected.collect::<Vec<u8>>());
        println!("{name}: {off} levels");
        assert!(off <= 12, "{name}: {off} levels");
    }
    let grey = opened("pictures/gradient-grey.jpg");
    assert!(
        grey.rgb()
            .chunks_exact(3)
            .all(|p| p[0] == p[1] && p[1] == p[2])
    );
    let difference =
        picture::brightness(&grey) - picture::brightness(&opened("pictures/gradient.jpg"));
    assert!(difference.abs() < 0.01, "{difference}");
}

#[test]
fn palettes_with_transparency_are_decoded() {
    let picture = opened("pictures/palette.png");
    let (pixels, _) = picture.rgb().as_chunks();
    assert_eq!(
        pixels[..4],
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
    );
}

#[test]
fn what_is_no_picture_is_refused_and_named() {
    assert_eq!(decode(&[]), Err(PictureError::Empty));
    let error = decode(b"GIF89a and more").expect_err("no GIF");
    assert!(error.to_string().contains("47 49 46 38"), "{error}");
    let garbage = [&[0x89, b'P', b'N', b'G'][..], &[7; 500]].concat();
    assert!(matches!(
        decode(&garbage),
        Err(PictureError::Malformed { format: "PNG", .. })
    ));
    let garbage = [&[0xff, 0xd8, 0xff][..], &[7; 500]].concat();
    assert!(matches!(
        decode(&garbage),
        Err(PictureError::Malformed { format: "JPEG", .. })
    ));

    let png = file("preprocess/image-exact.png");
    let small = DecodeLimits {
        bytes: png.len() - 1,
        ..DecodeLimits::default()
    };
    assert!(matches!(
        Picture::decode(&png, &small),
        Err(PictureError::FileTooLarge { .. })
    ));
    assert!(matches!(
        Picture::decode(&png, &few_pixels(64 * 96 - 1)),
        Err(PictureError::TooLarge {
            width: 96,
            height: 64,
            ..
        })
    ));
    let jpeg = file("pictures/gradient.jpg");
    assert!(matches!(
        Picture::decode(&jpeg, &few_pixels(64 * 48 - 1)),
        Err(PictureError::TooLarge {
            width: 64,
            height: 48,
            ..
        })
    ));
    let strip = Picture::from_rgb(201, 1, vec![0; 603]).expect("a strip");
    let error = image_patches(&strip, &PatchOptions::IMAGE).expect_err("a strip");
    assert_eq!(
        error,
        PictureError::AspectRatio {
            width: 201,
            height: 1
        }
    );
}

fn few_pixels(pixels: u64) -> DecodeLimits {
    DecodeLimits {
        pixels,
        ..DecodeLimits::default()
    }
}

/// Cut anywhere, a file is refused; with any byte of it changed, it is refused or decoded, and nothing panics.
#[test]
fn damaged_files_never_get_through_or_bring_down_the_process() {
    for name in [
        "preprocess/video-frame-0.png",
        "pictures/gradient.jpg",
        "pictures/gradient-progressive.jpg",
        "pictures/gradient-on-its-side.jpg",
        "pictures/palette.png",
    ] {
        let whole = file(name);
        // The last twelve bytes of a PNG only say that it ends.
        let end = whole.len() - if name.ends_with("png") { 12 } else { 0 };
        for cut in (0..end).step_by(1 + whole.len() / 400) {
            assert!(decode(&whole[..cut]).is_err(), "{name} cut to {cut} bytes");
        }
        let mut damaged = whole.clone();
        for at in (0..whole.len()).step_by(1 + whole.len() / 1200) {
            for change in [0x01, 0x80, 0xff] {
                damaged[at] ^= change;
                let _ = decode(&damaged);
                damaged[at] = whole[at];
            }
        }
    }
}
