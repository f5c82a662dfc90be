//! Packed folders that are wrong, each in one way.

use serde_json::{Value, json};

use half::f16;
use sage::store::open_model;

use super::recipe::{AWQ, GPTQ, Q, Recipe, SYMMETRIC, packed, words};
use super::written;
use crate::common::fixture;
use crate::common::layouts::{Layout, Stored, refuses, sage, text};

/// That every command that opens it refuses a packed folder that was changed, and says so.
fn refused(recipe: Recipe, change: impl Fn(&mut Layout), said: &[&str]) {
    let mut folder = packed(recipe).packed;
    change(&mut folder);
    refuses(written(&folder).path(), said);
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let part = |end: &str| format!("{Q}.{end}");
    for (recipe, end) in [
        (AWQ, "scales"),
        (AWQ, "qzeros"),
        (GPTQ, "scales"),
        (GPTQ, "qzeros"),
        (GPTQ, "qweight"),
    ] {
        let name = part(end);
        let remove = |folder: &mut Layout| _ = folder.tensors.remove(&name).unwrap();
        refused(
            recipe,
            remove,
            &[
                &format!("has no `{name}` beside it"),
                "download the folder again",
            ],
        );
    }
    let shuffled = Recipe {
        is_shuffled: true,
        ..GPTQ
    };
    let remove = |folder: &mut Layout| _ = folder.tensors.remove(&part("g_idx")).unwrap();
    refused(
        shuffled,
        remove,
        &[&format!("has no `{}` beside it", part("g_idx"))],
    );
    // q_proj is [128, 64]: two groups of 32.
    for (recipe, end, shape, due) in [
        (AWQ, "scales", vec![1, 128], "[2, 128]"),
        (AWQ, "qzeros", vec![2, 8], "[2, 16]"),
        (GPTQ, "qzeros", vec![4, 16], "[2, 16]"),
        (GPTQ, "g_idx", vec![32], "[64]"),
    ] {
        let name = part(end);
        let reshape = |folder: &mut Layout| {
            let tensor = folder.tensors.get_mut(&name).unwrap();
            let bytes = shape.iter().product::<usize>() * if end == "scales" { 2 } else { 4 };
            tensor.bytes.resize(bytes, 0);
            tensor.shape = shape.clone();
        };
        refused(
            recipe,
            reshape,
            &[&name, &format!("{shape:?}"), &format!("expected {due}")],
        );
    }
    let flat =
        |folder: &mut Layout| folder.tensors.get_mut(&part("qweight")).unwrap().shape = vec![1024];
    refused(AWQ, flat, &["[1024]; expected two dimensions"]);
    let empty = |folder: &mut Layout| {
        let tensor = folder.tensors.get_mut(&part("qweight")).unwrap();
        (tensor.shape, tensor.bytes) = (vec![0, 16], Vec::new());
    };
    refused(
        AWQ,
        empty,
        &["[0, 16]; expected two dimensions, neither of them 0"],
    );
    // Read as the other method, matrices have other shapes.
    let other =
        |folder: &mut Layout| folder.config["quantization_config"]["quant_method"] = json!("gptq");
    refused(AWQ, other, &["scales` has shape"]);
    let fewer = |folder: &mut Layout| {
        let (parts, _) = AWQ.pack(&Stored {
            dtype: "F32".to_owned(),
            shape: vec![64, 64],
            bytes: vec![1; 4 * 64 * 64],
        });
        for (end, tensor) in parts {
            folder.tensors.insert(part(end), tensor);
        }
    };
    refused(
        AWQ,
        fewer,
        &["q_proj.qweight (unpacked)` has shape [64, 64]; config.json calls for [128, 64]"],
    );
    let twice = |folder: &mut Layout| {
        let plain = Layout::of(&fixture("tiny-thinker"))
            .tensors
            .remove(&part("weight"));
        folder.tensors.insert(part("weight"), plain.unwrap());
    };
    refused(AWQ, twice, &["is the same tensor as"]);
    let typed = |folder: &mut Layout| {
        folder.tensors.get_mut(&part("qweight")).unwrap().dtype = "U32".to_owned()
    };
    refused(AWQ, typed, &[&part("qweight"), "\"U32\""]);
    let stray = |folder: &mut Layout| {
        _ = folder
            .tensors
            .insert(part("counts"), words(&[1, 2], vec![2]))
    };
    refused(AWQ, stray, &[&part("counts"), "\"I32\""]);
}

/// What only the numbers show is found when they are read, and by the name of the part.
#[test]
fn numbers_that_cannot_be_are_named() {
    let found = |recipe: Recipe, end: &str, at: usize, bytes: &[u8], said: &[&str]| {
        let mut folder = packed(recipe).packed;
        let tensor = folder.tensors.get_mut(&format!("{Q}.{end}")).unwrap();
        tensor.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        let (from, out) = (written(&folder), tempfile::tempdir().unwrap());
        let (code, _, stderr) = sage(&["extract", text(from.path()), "--out", text(out.path())]);
        assert_eq!(code, 2, "{stderr}");
        for said in said.iter().chain(&[&*format!("{Q}.")]) {
            assert!(stderr.contains(said), "{said}: {stderr}");
        }
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert!(open_model(out.path()).is_err());
    };
    let shuffled = Recipe {
        is_shuffled: true,
        ..GPTQ
    };
    for recipe in [GPTQ, shuffled] {
        found(
            recipe,
            "g_idx",
            12,
            &2i32.to_le_bytes(),
            &["input 3 is in group 2", "expected groups 0 to 1"],
        );
        found(
            recipe,
            "g_idx",
            0,
            &(-1i32).to_le_bytes(),
            &["input 0 is in group -1"],
        );
    }
    found(
        AWQ,
        "scales",
        2,
        &f16::INFINITY.to_le_bytes(),
        &["holds inf for group 0 and output 1"],
    );
    // Said to be symmetric, and not: nothing is lost without a word.
    found(
        SYMMETRIC,
        "qzeros",
        0,
        &[0x76],
        &["the zero 7 for group 0 and output 0", "--quant q8"],
    );
    found(
        SYMMETRIC,
        "g_idx",
        0,
        &1i32.to_le_bytes(),
        &["in groups 1 and 0", "--quant q8"],
    );
}

#[test]
fn what_config_says_otherwise_is_refused_by_key_and_value() {
    let says = |recipe: Recipe, key: &str, value: Value, said: &[&str]| {
        let change =
            |folder: &mut Layout| folder.config["quantization_config"][key] = value.clone();
        refused(recipe, change, said);
    };
    let download = "original in BF16";
    says(
        AWQ,
        "bits",
        json!(8),
        &["`quantization_config.bits` is 8", "supported: 4", download],
    );
    says(
        GPTQ,
        "bits",
        json!(3),
        &["`quantization_config.bits` is 3", "4 and 8", download],
    );
    says(
        GPTQ,
        "bits",
        json!("4"),
        &["`quantization_config.bits` is \"4\""],
    );
    says(
        AWQ,
        "bits",
        Value::Null,
        &["`quantization_config.bits` is missing"],
    );
    says(
        AWQ,
        "version",
        json!("gemv"),
        &[
            "`quantization_config.version` is \"gemv\"",
            "gemm",
            download,
        ],
    );
    says(
        GPTQ,
        "checkpoint_format",
        json!("marlin"),
        &["is \"marlin\"", "gptq_v2", download],
    );
    says(
        GPTQ,
        "group_size",
        json!(48),
        &[
            "group_size 48, which does not divide",
            "32 inputs",
            download,
        ],
    );
    says(
        AWQ,
        "group_size",
        json!(128),
        &["group_size 128, which does not divide"],
    );
    says(
        AWQ,
        "group_size",
        json!(0),
        &["`quantization_config.group_size` is 0", "-1 for all"],
    );
    says(
        AWQ,
        "group_size",
        json!(u64::MAX),
        &["`quantization_config.group_size` is 18446744073709551615"],
    );
    says(
        AWQ,
        "group_size",
        Value::Null,
        &["`quantization_config.group_size` is missing"],
    );
    says(
        GPTQ,
        "sym",
        json!(1),
        &["`quantization_config.sym` is 1; expected true or false"],
    );
    says(
        GPTQ,
        "dynamic",
        json!({ "+:.*gate.*": { "bits": 8 } }),
        &["`quantization_config.dynamic`"],
    );
    for method in ["compressed-tensors", "fp8", "hqq"] {
        says(
            AWQ,
            "quant_method",
            json!(method),
            &["as AWQ and GPTQ pack them", download],
        );
    }
    // Without a word in config.json nothing says how to read it.
    let silent = |folder: &mut Layout| {
        _ = folder
            .config
            .as_object_mut()
            .unwrap()
            .remove("quantization_config")
    };
    refused(
        AWQ,
        silent,
        &[
            "quantised by others as AWQ (or GPTQ)",
            "download the original",
        ],
    );
}
