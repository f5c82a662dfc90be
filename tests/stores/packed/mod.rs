//! Folders that AWQ and GPTQ packed: every matrix comes out as the numbers that were packed, and what is no such folder is
//! refused by what is wrong with it. The packing here is written from the published layouts, and shares nothing with what
//! reads it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hostile;
mod recipe;

use std::path::Path;

use sage::checkpoint::Checkpoint;
use sage::formats::{WeightFormat, convert};
use sage::store::{Store, WeightSource, open_model};
use serde_json::{Value, json};

use crate::common::layouts::{Layout, inspect, sage, text};
use crate::extracting::{extracted, extracted_saying};
use recipe::{ALL, AWQ, GPTQ, LEFT, Recipe, SYMMETRIC, numbers, packed};

fn written(layout: &Layout) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    layout.write(folder.path());
    folder
}

/// The format of a tensor, and its numbers, widened.
fn widened(source: &dyn WeightSource, name: &str) -> (WeightFormat, Vec<f32>) {
    let info = source.tensor(name).unwrap();
    let mut bytes = vec![0; info.bytes as usize];
    source.read_tensor(name, &mut bytes).unwrap();
    let mut wide = vec![0; info.shape.iter().product::<usize>() * 4];
    convert(info.dtype, &bytes, WeightFormat::F32, &mut wide).unwrap();
    (info.dtype, numbers(&wide))
}

fn answer(model: &Path) -> String {
    let prompt = "5 9 3 200 17 40 41 42 43 7";
    let args = [
        "generate",
        text(model),
        "--prompt-tokens",
        prompt,
        "--max-tokens",
        "8",
        "--ignore-stop",
        "--exact",
    ];
    let (code, stdout, stderr) = sage(&args);
    assert_eq!(code, 0, "{stderr}");
    stdout
}

const EXACT: [&str; 2] = ["f32", "f32:trunk"];

#[test]
fn every_matrix_is_unpacked_to_the_numbers_that_were_packed() {
    for (what, recipe) in ALL {
        let folder = packed(recipe);
        let from = written(&folder.packed);
        let out = extracted(from.path(), &EXACT);
        let (store, checkpoint) = (
            Store::open(out.path()).unwrap(),
            Checkpoint::open(from.path()).unwrap(),
        );
        for (name, tensor) in &folder.plain.tensors {
            let due = (WeightFormat::F32, numbers(&tensor.bytes));
            assert!(widened(&store, name) == due, "{what}: {name} of the store");
            assert!(
                widened(&checkpoint, name) == due,
                "{what}: {name} of the checkpoint"
            );
        }
        let (code, _, stderr) = sage(&["extract", "--verify", text(out.path())]);
        assert_eq!(code, 0, "{stderr}");
    }
}

#[test]
fn a_store_of_them_answers_as_one_of_the_same_numbers_does() {
    for recipe in [
        AWQ,
        Recipe {
            is_shuffled: true,
            ..GPTQ
        },
    ] {
        let folder = packed(recipe);
        let from = tempfile::tempdir().unwrap();
        folder.packed.write_sharded(from.path(), 3);
        let plain = written(&folder.plain);
        let due = answer(plain.path());
        assert_eq!(due.split_whitespace().count(), 8, "{due}");
        assert_eq!(answer(extracted(from.path(), &EXACT).path()), due);
        // Quantised on the way, too.
        let eight = extracted(plain.path(), &["q8_0", "q8_0:trunk"]);
        assert_eq!(
            answer(extracted(from.path(), &["q8_0", "q8_0:trunk"]).path()),
            answer(eight.path())
        );
        let four = |from: &Path| extracted(from, &["q4"]);
        assert_eq!(
            answer(four(from.path()).path()),
            answer(four(plain.path()).path())
        );
    }
}

#[test]
fn without_a_format_what_was_packed_is_kept() {
    for (recipe, due, said) in [
        (AWQ, WeightFormat::Q8_0, "q8_0"),
        (
            Recipe {
                is_shuffled: true,
                ..SYMMETRIC
            },
            WeightFormat::Q8_0,
            "q8_0",
        ),
        (
            Recipe {
                is_brain: true,
                ..SYMMETRIC
            },
            WeightFormat::Q8_0,
            "q8_0",
        ),
        (
            SYMMETRIC,
            WeightFormat::Q4_0,
            "q4_0, which holds the same numbers",
        ),
        (
            Recipe {
                has_zeros: false,
                is_symmetric: true,
                ..AWQ
            },
            WeightFormat::Q4_0,
            "q4_0",
        ),
    ] {
        let folder = packed(recipe);
        let (out, stderr) = extracted_saying(written(&folder.packed).path(), &[]);
        assert!(stderr.contains(said), "{stderr}");
        let store = open_model(out.path()).unwrap();
        for (name, meant) in &folder.meant {
            let (format, found) = widened(&*store, name);
            assert_eq!(format, due, "{name}");
            let greatest = meant.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let off = found.iter().zip(meant).map(|(a, b)| (a - b).abs());
            let most = if due == WeightFormat::Q4_0 {
                0.0
            } else {
                greatest / 200.0
            };
            assert!(off.fold(0.0, f32::max) <= most, "{name}");
        }
        // What was not packed is what it was.
        for left in LEFT {
            let of_left = folder
                .plain
                .tensors
                .iter()
                .filter(|(name, _)| name.starts_with(left));
            for (name, tensor) in of_left {
                let due = (WeightFormat::F32, numbers(&tensor.bytes));
                assert!(widened(&*store, name) == due, "{name}");
            }
        }
        assert_eq!(answer(out.path()).split_whitespace().count(), 8);
    }
}

#[test]
fn a_folder_is_inspected_and_says_what_to_type() {
    let folder = written(&packed(AWQ).packed);
    let (code, report) = inspect(folder.path());
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["runnable"], json!(false));
    assert_eq!(report["complete"], json!(true));
    let components = report["components"].as_array().unwrap();
    let mut thinker = components.iter().filter(|part| part["name"] == "thinker");
    let kinds = thinker.next().unwrap()["kinds"].as_array().unwrap();
    let format = |name: &str| {
        let of: Vec<&Value> = kinds
            .iter()
            .filter(|kind| kind["name"].as_str().unwrap().ends_with(name))
            .collect();
        of.iter()
            .map(|kind| kind["format"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(format("experts.*.gate_proj.weight"), ["AWQ4"]);
    assert_eq!(format("experts.*.down_proj.weight"), ["F32", "AWQ4"]);
    assert_eq!(format("mlp.gate.weight"), ["F32"]);
    // 32 x 64 numbers of half a byte, and for every 32 a scale of two bytes and a zero of half a one.
    let expert = 3 * 32 * 64 / 2 + 3 * 32 * 64 / 32 * 5 / 2;
    let least = 3 * 16 * expert;
    assert!(report["total_bytes"].as_u64().unwrap() > least);
    let (code, stdout, _) = sage(&["inspect", text(folder.path())]);
    assert!(code == 0 && stdout.contains("awq4"), "{stdout}");
    let command = format!("`sage extract {} --out STORE`", text(folder.path()));
    for args in [
        &["generate", text(folder.path()), "--prompt-tokens", "5"][..],
        &["bench", text(folder.path())],
    ] {
        let (code, _, stderr) = sage(args);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(&command), "{stderr}");
    }
}
