//! Pictures from files to patches: preprocessing equals the reference's pixels, and no broken file is taken for a picture.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::PathBuf;

use safetensors::SafeTensors;
use sage::media::picture::{
    self, DecodeLimits, PatchOptions, Picture, PictureError, image_patches, smart_resize,
    video_patches,
};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

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

/// `[frames, 3, height, width]` and patches of a fixture are ours, to the bit.
fn assert_pixels(name: &str, resized: &[u8], ours: &picture::ImagePatches) {
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
    assert_eq!(off, 0, "{name}: grey levels");
    assert_eq!(ours.values, expected, "{name}");
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
        let patches = patches.expect("patches");
        assert_pixels(&format!("image.{name}"), &planar(&resized), &patches);
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
    assert_pixels("video", &resized, &patches);

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

/// Pictures as programs write them are what Pillow sees when it sets them upright.
#[test]
fn pictures_that_people_have_are_seen_as_they_are() {
    let files = std::fs::read_dir(fixture("media-cases")).expect("a folder");
    let mut seen = 0;
    for entry in files {
        let name = entry
            .expect("a file")
            .file_name()
            .into_string()
            .expect("a name");
        let Some(name) = name.strip_suffix(".expected.png") else {
            continue;
        };
        let right = opened(&format!("media-cases/{name}.expected.png"));
        let found = match decode(&file(&format!("media-cases/{name}"))) {
            Err(error) if name.contains("noninterleaved") => {
                assert!(
                    error.to_string().contains("one scan per component"),
                    "{error}"
                );
                continue;
            }
            found => found.unwrap_or_else(|error| panic!("{name}: {error}")),
        };
        let size = |picture: &Picture| [picture.width(), picture.height()];
        assert_eq!(size(&found), size(&right), "{name}");
        let off = found
            .rgb()
            .iter()
            .zip(right.rgb())
            .map(|(a, b)| a.abs_diff(*b));
        let mean = off.clone().map(f64::from).sum::<f64>() / found.rgb().len() as f64;
        let most = off.max().expect("pixels");
        assert!(
            mean <= 1.0 && most <= 6,
            "{name}: off by {mean}, at most {most}"
        );
        seen += 1;
    }
    assert!(seen > 15, "{seen} pictures");
}

/// A baseline picture whose components come one after the other is not understood by the decoder: it is refused, however it is
/// sampled and however many scans it has. A progressive one is made of such scans, and is right.
#[test]
fn components_apart_are_refused_by_name() {
    for (name, components) in [
        ("gradient", 1_u8),
        ("gradient", 2),
        ("gradient-on-its-side", 1),
    ] {
        let mut jpeg = file(&format!("pictures/{name}.jpg"));
        let scan = jpeg
            .windows(2)
            .rposition(|pair| pair == [0xff, 0xda])
            .expect("a scan");
        assert_eq!(jpeg[scan + 4], 3);
        jpeg[scan + 4] = components;
        let error = decode(&jpeg).expect_err("a refusal").to_string();
        assert!(error.contains("one scan per component"), "{error}");
        assert!(error.contains("save it"), "{error}");
    }
}

/// What nobody needs is not inflated, whatever stands in it; a chunk of another format than PNG is not passed over.
#[test]
fn other_chunks_are_passed_over() {
    let profile = file("media-cases/png-iccp-30mb.png");
    decode(&profile).expect("a picture with a profile of 30 MB");
    let picture = file("pictures/palette.png");
    let with = |id: &[u8; 4], contents: &[u8]| {
        let length = (contents.len() as u32).to_be_bytes();
        // The sum of a chunk that nobody needs is not checked.
        let chunk = [&length, &id[..], contents, &[0; 4]].concat();
        [&picture[..33], &chunk, &picture[33..]].concat()
    };
    let plain = decode(&picture).expect("a picture");
    for id in [
        b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"eXIf", b"prVt", b"gAMA", b"acTL",
    ] {
        for contents in [&b""[..], b"x", b"\0\0", &[0; 100_000]] {
            assert_eq!(decode(&with(id, contents)).as_ref(), Ok(&plain), "{id:?}");
        }
    }
    let error = decode(&with(b"CgBI", b"\x50\0\x20\x06"))
        .expect_err("not a PNG")
        .to_string();
    assert!(error.contains("`CgBI` is of another format"), "{error}");
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
        "media-cases/jpeg-with-trailer.jpg",
        "media-cases/jpeg-cmyk.jpg",
        "media-cases/png-raw-profile-ztxt.png",
        "media-cases/png-exif-after-idat.png",
        "media-cases/png-16-bit-interlaced.png",
    ] {
        let whole = file(name);
        // The last four bytes of a PNG are a sum of nothing, and what stands behind the end of a JPEG says nothing.
        let end = match name {
            _ if name.ends_with("png") => whole.len() - 4,
            _ => {
                2 + whole
                    .windows(2)
                    .position(|pair| pair == [0xff, 0xd9])
                    .expect("an end")
            }
        };
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
