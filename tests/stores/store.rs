//! Extraction, its resumption, and what a store says about itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use crate::common::{FIXTURES, copied, extract, files, fixture};
use proptest::prelude::*;
use sage::checkpoint::{Checkpoint, Component, Role, expected_tensors};
use sage::store::{
    ExpertLocation, ExpertSelection, ExtractSelection, Extraction, ModelKind, Store, StoreError,
    WeightSource, open_model, recognise,
};

/// An expert's record as a reader would assemble it.
fn assemble(record: &ExpertLocation) -> Vec<u8> {
    let mut bytes = vec![0; record.len_bytes];
    for segment in &record.segments {
        let file = fs::File::open(&segment.path).unwrap();
        file.read_exact_at(
            &mut bytes[segment.at..segment.at + segment.len_bytes],
            segment.offset,
        )
        .unwrap();
    }
    bytes
}

fn read(source: &dyn WeightSource, name: &str) -> Vec<u8> {
    let mut bytes = vec![0; source.tensor(name).unwrap().bytes as usize];
    source.read_tensor(name, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_store_holds_the_checkpoints_bytes_under_its_names() {
    for name in FIXTURES {
        let folder = tempfile::tempdir().unwrap();
        extract(&fixture(name), folder.path(), &ExtractSelection::all());
        let checkpoint = open_model(fixture(name)).unwrap();
        let store = open_model(folder.path()).unwrap();
        assert_eq!(recognise(folder.path()).unwrap(), ModelKind::Store);
        assert_eq!(store.config(), checkpoint.config());
        assert_eq!(
            store.fingerprint().unwrap(),
            checkpoint.fingerprint().unwrap()
        );
        assert_eq!(store.tensor_names(), checkpoint.tensor_names());
        assert!(store.file("preprocessor_config.json").is_some());
        for tensor in expected_tensors(store.config()) {
            assert_eq!(
                store.tensor(&tensor.name).unwrap(),
                checkpoint.tensor(&tensor.name).unwrap()
            );
            assert_eq!(
                read(&*store, &tensor.name),
                read(&*checkpoint, &tensor.name),
                "{name} {}",
                tensor.name
            );
            if let Role::Expert { layer, expert, .. } = tensor.role {
                let from_store = store.expert(tensor.component, layer, expert).unwrap();
                let from_checkpoint = checkpoint.expert(tensor.component, layer, expert).unwrap();
                let bytes = assemble(&from_store);
                assert_eq!(bytes, assemble(&from_checkpoint));
                assert_eq!(
                    (
                        from_store.segments.len(),
                        from_store.segments[0].offset % 4096
                    ),
                    (1, 0)
                );
                assert_eq!(from_store.crc32, Some(crc32fast::hash(&bytes)));
                assert_eq!(from_checkpoint.segments.len(), 3);
            }
        }
        let report = Store::open(folder.path()).unwrap().verify(&|_| ()).unwrap();
        assert_eq!((report.damaged, report.unfinished), (vec![], false));
    }
}

#[test]
fn every_record_is_a_safetensors_file_of_the_checkpoints_tensors() {
    let folder = tempfile::tempdir().unwrap();
    extract(
        &fixture("tiny-omni"),
        folder.path(),
        &ExtractSelection::all(),
    );
    let checkpoint = Checkpoint::open(fixture("tiny-omni")).unwrap();
    let mut seen = BTreeSet::new();
    for (path, bytes) in files(folder.path()) {
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            for (name, view) in file.tensors() {
                assert_eq!(view.data(), checkpoint.bytes(&name).unwrap());
                assert!(seen.insert(name));
            }
        }
    }
    assert_eq!(seen.len(), checkpoint.tensors().len());
    let expert = folder
        .path()
        .join("experts/talker_expert_011_layer_02.safetensors");
    assert!(expert.is_file());
    assert!(
        folder
            .path()
            .join("routers/thinker_router_layer_04.safetensors")
            .is_file()
    );
}

#[test]
fn extraction_is_cumulative_and_its_order_leaves_no_trace() {
    let [whole, pieces] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let from = fixture("tiny-omni");
    extract(&from, whole.path(), &ExtractSelection::all());
    let one = ExtractSelection {
        components: [Component::Talker].into(),
        rest: false,
        routers: false,
        experts: ExpertSelection::Listed([(Component::Talker, 2, 7)].into()),
    };
    extract(&from, pieces.path(), &one);
    let partial = Store::open(pieces.path()).unwrap();
    assert!(partial.expert(Component::Talker, 2, 7).is_ok());
    let error = partial
        .expert(Component::Talker, 2, 8)
        .unwrap_err()
        .to_string();
    assert!(error.contains("talker layer 2 expert 8"), "{error}");
    assert!(!partial.manifest().is_complete(partial.config()));
    let routers = ExtractSelection {
        rest: false,
        experts: ExpertSelection::TopByRouterNorm(3),
        ..ExtractSelection::all()
    };
    extract(&from, pieces.path(), &routers);
    let experts = fs::read_dir(pieces.path().join("experts")).unwrap().count();
    assert!(
        (5 * 3 + 3 * 3..=5 * 3 + 3 * 3 + 1).contains(&experts),
        "{experts}"
    );
    extract(&from, pieces.path(), &ExtractSelection::all());
    assert!(files(pieces.path()) == files(whole.path()));
    // Once more: nothing to do, nothing changed.
    let checkpoint = Checkpoint::open(&from).unwrap();
    let again =
        Extraction::prepare(&checkpoint, pieces.path(), &ExtractSelection::all(), false).unwrap();
    assert_eq!(
        again.pending().unwrap(),
        Vec::<&sage::store::PlannedRecord>::new()
    );
    assert_eq!(again.run(&|_| ()).unwrap().written, 0);
    assert!(files(pieces.path()) == files(whole.path()));
}

#[test]
fn a_deleted_record_is_extracted_again() {
    let folder = tempfile::tempdir().unwrap();
    extract(
        &fixture("edge-bf16"),
        folder.path(),
        &ExtractSelection::all(),
    );
    let before = files(folder.path());
    fs::remove_file(
        folder
            .path()
            .join("experts/thinker_expert_003_layer_01.safetensors"),
    )
    .unwrap();
    let store = Store::open(folder.path()).unwrap();
    let damaged = store.verify(&|_| ()).unwrap().damaged;
    assert_eq!(damaged.len(), 1);
    assert!(damaged[0].file.contains("expert_003_layer_01"));
    extract(
        &fixture("edge-bf16"),
        folder.path(),
        &ExtractSelection::all(),
    );
    assert!(files(folder.path()) == before);
}

#[test]
fn another_model_is_refused_and_so_is_the_checkpoint_itself() {
    let folder = tempfile::tempdir().unwrap();
    extract(
        &fixture("edge-bf16"),
        folder.path(),
        &ExtractSelection::all(),
    );
    let other = Checkpoint::open(fixture("edge-top1")).unwrap();
    let error = Extraction::prepare(&other, folder.path(), &ExtractSelection::all(), false)
        .unwrap()
        .run(&|_| ());
    assert!(matches!(error, Err(StoreError::OtherModel { .. })));
    let own = Extraction::prepare(&other, other.folder(), &ExtractSelection::all(), false);
    assert!(
        own.err()
            .unwrap()
            .to_string()
            .contains("is the checkpoint itself")
    );
}

#[test]
fn missing_tensors_are_refused_by_name_or_recorded() {
    let folder = copied("edge-bf16");
    fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    let checkpoint = Checkpoint::open_incomplete(folder.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let refused = Extraction::prepare(&checkpoint, out.path(), &ExtractSelection::all(), false)
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("thinker.model.layers.0.mlp.experts.7.down_proj.weight"),
        "{refused}"
    );
    let report = Extraction::prepare(&checkpoint, out.path(), &ExtractSelection::all(), true)
        .unwrap()
        .run(&|_| ())
        .unwrap();
    assert!(
        !report.complete
            && report
                .missing
                .contains(&"thinker.lm_head.weight".to_owned())
    );
    let store = Store::open(out.path()).unwrap();
    assert!(store.expert(Component::Thinker, 0, 6).is_ok());
    let error = store
        .expert(Component::Thinker, 0, 7)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("thinker layer 0 expert 7 is missing"),
        "{error}"
    );
    let error = store
        .tensor("thinker.lm_head.weight")
        .unwrap_err()
        .to_string();
    assert!(error.contains("did not have it"), "{error}");
    assert!(store.verify(&|_| ()).unwrap().damaged.is_empty());
}

#[test]
fn misshapen_tensors_are_refused_by_name() {
    let folder = copied("edge-bf16");
    let config = folder.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace(
            "\"moe_intermediate_size\": 16",
            "\"moe_intermediate_size\": 8",
        ),
    )
    .unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let error = Extraction::prepare(&checkpoint, out.path(), &ExtractSelection::all(), true)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("experts.0.gate_proj.weight") && error.contains("[8, 32]"),
        "{error}"
    );
    let error = WeightSource::expert(&checkpoint, Component::Thinker, 0, 0)
        .unwrap_err()
        .to_string();
    assert!(error.contains("experts.0.gate_proj.weight"), "{error}");
}

#[test]
fn experts_beyond_the_model_are_refused_by_name() {
    let checkpoint = open_model(fixture("edge-dense-layers")).unwrap();
    for (component, layer, expert, named) in [
        (Component::Thinker, 99, 0, "layers 0 to 4"),
        (Component::Thinker, 0, 0, "dense"),
        (Component::Thinker, 1, 8, "experts 0 to 7"),
        (Component::Talker, 0, 0, "no experts"),
        (Component::Vision, 0, 0, "no experts"),
    ] {
        let error = checkpoint
            .expert(component, layer, expert)
            .unwrap_err()
            .to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn a_flipped_byte_anywhere_is_found() {
    let folder = tempfile::tempdir().unwrap();
    extract(
        &fixture("edge-tied"),
        folder.path(),
        &ExtractSelection::all(),
    );
    for (path, bytes) in files(folder.path()) {
        let last = bytes.len() - 1;
        let mut places = vec![
            0,
            7,
            8,
            100,
            last / 2,
            4000,
            4095,
            4096,
            5000,
            last - 3,
            last,
        ];
        places.extend((0..20).map(|step| step * last / 20));
        for at in places.into_iter().filter(|&at| at <= last) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            fs::write(folder.path().join(&path), &changed).unwrap();
            let found = match Store::open(folder.path()) {
                Err(_) => true,
                Ok(store) => store
                    .verify(&|_| ())
                    .unwrap()
                    .damaged
                    .iter()
                    .any(|d| path.ends_with(&d.file)),
            };
            assert!(found, "byte {at} of {}", path.display());
        }
        fs::write(folder.path().join(&path), &bytes).unwrap();
    }
    assert!(
        Store::open(folder.path())
            .unwrap()
            .verify(&|_| ())
            .unwrap()
            .damaged
            .is_empty()
    );
}

#[test]
fn a_damaged_tensor_is_refused_when_read() {
    let folder = tempfile::tempdir().unwrap();
    extract(
        &fixture("edge-tied"),
        folder.path(),
        &ExtractSelection::all(),
    );
    let path = folder.path().join("components/thinker.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut norm = vec![0; store.tensor("thinker.model.norm.weight").unwrap().bytes as usize];
    let error = store
        .read_tensor("thinker.model.norm.weight", &mut norm)
        .unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn folders_that_are_no_model_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [
        folder.path(),
        &folder.path().join("none"),
        &crate::common::released_config(),
    ] {
        assert!(matches!(
            open_model(path),
            Err(StoreError::NotAModel { .. })
        ));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A manifest that was edited and sealed again is refused or opened, and never makes the program panic.
    #[test]
    fn forged_manifests_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
    ) {
        static STORE: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
        let (folder, text) = STORE.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            extract(&fixture("edge-tied"), folder.path(), &ExtractSelection { rest: false, ..ExtractSelection::all() });
            let text = fs::read_to_string(folder.path().join("extraction_manifest.json")).unwrap();
            (folder, text)
        });
        let path = folder.path().join("extraction_manifest.json");
        let mut body = text.as_bytes()[..text.rfind("\"blake3\":\"").unwrap()].to_vec();
        // Bytes that occur in the file make likelier forgeries than arbitrary ones.
        for (at, from) in &edits {
            body[at.index(text.len() - 80)] = text.as_bytes()[from.index(text.len())];
        }
        let seal = blake3::hash(&body).to_hex();
        body.extend_from_slice(format!("\"blake3\":\"{seal}\"}}\n").as_bytes());
        fs::write(&path, body).unwrap();
        if let Ok(store) = Store::open(folder.path()) {
            store.verify(&|_| ()).unwrap();
            for expert in 0..8 {
                if let Ok(record) = store.expert(Component::Thinker, 0, expert) {
                    assert_eq!(record.len_bytes, record.segments[0].len_bytes);
                }
            }
        }
    }
}
