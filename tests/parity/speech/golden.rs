//! Goldens of the small model that speaks, and comparing with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sage::goldens::cases;
use sage::store::{WeightSource, open_model};

/// Tolerance of single modules, and of logits and waveforms behind many of them; relative to the largest number
/// where that exceeds 1.
pub const MODULE: f64 = 1e-5;
pub const LONG: f64 = 5e-5;

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-omni")
}

pub fn source() -> Box<dyn WeightSource> {
    open_model(folder()).expect("a model")
}

/// One golden file; what was compared, and how far off it was at most.
pub struct Golden {
    case: String,
    file: sage::goldens::Golden,
    json: serde_json::Value,
    errors: BTreeMap<String, f64>,
}

impl Golden {
    pub fn open(case: &str) -> Self {
        let folder = folder().join("goldens");
        let all = cases(&folder).expect("goldens");
        let found = all.iter().find(|found| found.name == case);
        let json = std::fs::read(folder.join(format!("{case}.json"))).expect("a description");
        Self {
            case: case.into(),
            file: found.expect("the case").open().expect("a golden"),
            json: serde_json::from_slice(&json).expect("JSON"),
            errors: BTreeMap::new(),
        }
    }

    pub fn text(&self, pointer: &str) -> String {
        let value = self.json.pointer(pointer).and_then(|value| value.as_str());
        value.expect(pointer).to_owned()
    }

    pub fn number(&self, pointer: &str) -> Option<usize> {
        Some(self.json.pointer(pointer)?.as_u64()? as usize)
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.file.floats(name).expect(name).expect(name).0
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.file.floats(name).expect(name).expect(name).1
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        let (_, ids) = self.file.integers(name).expect(name).expect(name);
        ids.into_iter().map(|id| id as u32).collect()
    }

    /// Holds `found` to the golden tensor `name`.
    pub fn compare(&mut self, name: &str, found: &[f32], tolerance: f64) {
        let golden = self.floats(name);
        self.compare_with(name, found, &golden, tolerance);
    }

    /// Holds `found` to `golden`, a part of tensor `name`.
    pub fn compare_with(&mut self, name: &str, found: &[f32], golden: &[f32], tolerance: f64) {
        let error = largest_error(found, golden);
        assert!(
            error <= tolerance,
            "{}: {name} is off by {error:e}, allowed {tolerance:e}",
            self.case
        );
        let worst = self.errors.entry(name.into()).or_default();
        *worst = worst.max(error);
    }

    /// Holds whole numbers to the golden tensor `name`.
    pub fn compare_ids(&mut self, name: &str, found: &[u32]) {
        assert_eq!(found, self.ids(name), "{}: {name}", self.case);
        self.errors.insert(name.into(), 0.0);
    }

    /// How many tensors were compared.
    pub fn compared(&self) -> usize {
        self.errors.len()
    }
}

/// Largest absolute difference, relative to the largest golden number where that exceeds 1; infinite where a number is
/// none.
pub fn largest_error(found: &[f32], golden: &[f32]) -> f64 {
    assert_eq!(found.len(), golden.len(), "of different sizes");
    assert!(!golden.is_empty(), "nothing to compare with");
    let largest = golden
        .iter()
        .fold(1.0f64, |most, x| most.max(f64::from(x.abs())));
    let error = |(found, golden): (&f32, &f32)| {
        let error = (f64::from(*found) - f64::from(*golden)).abs() / largest;
        if error.is_finite() {
            error
        } else {
            f64::INFINITY
        }
    };
    found.iter().zip(golden).map(error).fold(0.0, f64::max)
}

impl Drop for Golden {
    fn drop(&mut self) {
        for (name, error) in &self.errors {
            println!("{}: {name}: {error:.1e}", self.case);
        }
    }
}

pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Runs `work` with so many threads.
pub fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("threads").install(work)
}
