//! Buffers of products, kept between calls.

use std::sync::{Mutex, PoisonError};

use crate::model::experts::ExpertScratch;

/// Buffers that are not in use. Nothing is locked while they are: a product may be waited for by another of the same threads.
#[derive(Debug, Default)]
pub(super) struct ScratchPool(Mutex<Vec<ExpertScratch>>);

impl ScratchPool {
    pub fn with<T>(&self, work: impl FnOnce(&mut ExpertScratch) -> T) -> T {
        let mut scratch = self.spare().pop().unwrap_or_default();
        let done = work(&mut scratch);
        self.spare().push(scratch);
        done
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<ExpertScratch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
