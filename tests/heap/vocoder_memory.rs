//! What the vocoder says it takes is what it takes: every allocation is counted.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sage::checkpoint::config::Code2WavConfig;
use sage::checkpoint::{Component, ModelConfig, expected_tensors};
use sage::formats::WeightFormat;
use sage::model::Code2Wav;
use sage::reads::{ReadCounter, ReadPurpose};
use sage::store::{ExpertLocation, StoreError, TensorMeta, WeightSource, open_model};

use crate::counting::Heap;

/// A vocoder of any size with made-up weights.
struct Made {
    config: ModelConfig,
    shapes: BTreeMap<String, Vec<usize>>,
    inner: Box<dyn WeightSource>,
}

impl Made {
    fn new(change: impl FnOnce(&mut Code2WavConfig)) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-omni");
        let inner = open_model(folder).expect("a model");
        let mut config = inner.config().clone();
        change(config.code2wav.as_mut().expect("a vocoder"));
        let shapes = expected_tensors(&config)
            .into_iter()
            .map(|tensor| (tensor.name, tensor.shape))
            .collect();
        Self {
            config,
            shapes,
            inner,
        }
    }

    fn vocoder(&self) -> &Code2WavConfig {
        self.config.code2wav.as_ref().expect("a vocoder")
    }
}

impl WeightSource for Made {
    fn folder(&self) -> &Path {
        self.inner.folder()
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn fingerprint(&self) -> Result<String, StoreError> {
        self.inner.fingerprint()
    }

    fn tensor(&self, name: &str) -> Result<TensorMeta, StoreError> {
        let shape = self.shapes.get(name).expect(name).clone();
        Ok(TensorMeta {
            dtype: WeightFormat::BF16,
            bytes: WeightFormat::BF16.tensor_bytes(&shape).expect("a size"),
            shape,
        })
    }

    fn reads(&self) -> &Arc<ReadCounter> {
        self.inner.reads()
    }

    fn read_tensor_for(
        &self,
        _: ReadPurpose,
        _: &str,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        // Small numbers of both signs: 1/64 and its negative, shuffled.
        let mut state = 1u32;
        for number in buffer.chunks_exact_mut(2) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            number.copy_from_slice(&[0x80, if state >> 31 == 0 { 0x3c } else { 0xbc }]);
        }
        Ok(())
    }

    fn expert(
        &self,
        at: Component,
        layer: usize,
        expert: usize,
    ) -> Result<ExpertLocation, StoreError> {
        self.inner.expert(at, layer, expert)
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.inner.file(name)
    }

    fn tensor_names(&self) -> Vec<&str> {
        self.shapes.keys().map(String::as_str).collect()
    }
}

/// Bytes at most while decoding `frames` frames, beyond what was there before.
fn most_bytes(heap: &Heap, vocoder: &Code2Wav, frames: usize) -> u64 {
    let groups = vocoder.config.num_quantizers;
    let codes: Vec<u32> = (0..groups * frames)
        .map(|at| (at * 7 % 64) as u32)
        .collect();
    // The pool's own memory is no one clip's.
    rayon::join(|| (), || ());
    let mut waveform = Vec::new();
    let peak = heap.peak_of(|| {
        let decoded = vocoder.decode_chunked(&codes, frames, frames, 0);
        waveform = decoded.expect("a waveform");
    });
    assert_eq!(waveform.len(), Code2Wav::samples(&vocoder.config, frames));
    peak as u64
}

#[test]
fn decoding_takes_no_more_than_it_says() {
    let heap = Heap::alone();
    let wide = Made::new(|config| {
        (config.hidden_size, config.intermediate_size) = (128, 384);
        config.decoder_dim = 192;
    });
    // Much transformer, little decoder.
    let narrow = Made::new(|config| {
        (config.hidden_size, config.intermediate_size) = (256, 4096);
        (config.upsample_rates, config.decoder_dim) = (vec![2], 16);
    });
    for (source, frames) in [(&wide, 3), (&wide, 40), (&narrow, 200)] {
        let vocoder = Code2Wav::load(source).expect("a vocoder");
        let said = Code2Wav::workspace_bytes(source.vocoder(), frames);
        let took = most_bytes(&heap, &vocoder, frames);
        assert!(
            took <= said,
            "{frames} frames took {took} bytes, said {said}"
        );
        // What is said counts more tasks than there are threads, and is else near: most where signals are long.
        let near = if frames > 3 { 2 } else { 4 };
        assert!(
            took * near > said,
            "{frames} frames took {took} bytes, said {said}"
        );
        println!("{frames} frames took {took} bytes, said {said}");
    }
}
