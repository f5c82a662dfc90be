//! Models of random weights in memory, of any shape.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Tensor;
use sage::checkpoint::{Component, ModelConfig, expected_tensors};
use sage::formats::WeightFormat;
use sage::reads::{ReadCounter, ReadPurpose};
use sage::store::{ExpertLocation, StoreError, TensorMeta, WeightSource, open_model};

use super::{numbers, tensor};
use crate::common::fixture;

/// The configuration of the fixture that hears, sees and speaks.
pub fn config() -> ModelConfig {
    open_model(fixture("tiny-omni")).unwrap().config().clone()
}

/// The tensors of one component.
pub struct Made {
    config: ModelConfig,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    reads: Arc<ReadCounter>,
}

impl Made {
    /// Every tensor that `config` asks for of `component`.
    pub fn new(config: ModelConfig, component: Component) -> Self {
        let of_component = expected_tensors(&config).into_iter().enumerate();
        let of_component = of_component.filter(|(_, tensor)| tensor.component == component);
        let tensors = of_component.map(|(seed, tensor)| {
            let len = tensor.shape.iter().product();
            let fan_in: usize = tensor.shape.iter().skip(1).product();
            let mut values = numbers(seed as u64, len, (3.0 / fan_in as f32).sqrt().min(0.4));
            let is_norm = tensor.shape.len() == 1 && tensor.name.ends_with("weight");
            if is_norm {
                values.iter_mut().for_each(|value| *value += 1.0);
            }
            (tensor.name, (tensor.shape, values))
        });
        Self {
            tensors: tensors.collect(),
            config,
            reads: Arc::default(),
        }
    }

    /// A tensor as candle's.
    pub fn get(&self, name: &str) -> Tensor {
        let (shape, values) = &self.tensors[name];
        tensor(values, shape)
    }
}

impl WeightSource for Made {
    fn folder(&self) -> &Path {
        Path::new("made")
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn fingerprint(&self) -> Result<String, StoreError> {
        Ok("made".to_owned())
    }

    fn tensor(&self, name: &str) -> Result<TensorMeta, StoreError> {
        let (shape, values) = &self.tensors[name];
        Ok(TensorMeta {
            dtype: WeightFormat::F32,
            shape: shape.clone(),
            bytes: 4 * values.len() as u64,
        })
    }

    fn read_tensor_for(
        &self,
        _: ReadPurpose,
        name: &str,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let bytes = self.tensors[name].1.iter().flat_map(|x| x.to_le_bytes());
        buffer.copy_from_slice(&bytes.collect::<Vec<u8>>());
        Ok(())
    }

    fn reads(&self) -> &Arc<ReadCounter> {
        &self.reads
    }

    fn expert(&self, _: Component, _: usize, _: usize) -> Result<ExpertLocation, StoreError> {
        unreachable!("towers and vocoder have no experts")
    }

    fn file(&self, _: &str) -> Option<PathBuf> {
        None
    }

    fn tensor_names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }
}
