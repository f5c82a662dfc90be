//! Nothing of a store in the page cache.

use std::path::Path;

use rustix::fs::{Advice, fadvise};

/// Has the system forget what it keeps of a store's experts. It may keep pages that another process has mapped; where files cannot
/// be opened, whoever reads them says so.
pub(super) fn forget_cached(store: &Path) {
    let Ok(entries) = std::fs::read_dir(store.join("experts")) else {
        return;
    };
    for entry in entries.flatten() {
        if let Ok(file) = std::fs::File::open(entry.path()) {
            // What is not forgotten makes the cold prompt faster, and is counted in `kernel_read_bytes`.
            let _ = fadvise(&file, 0, None, Advice::DontNeed);
        }
    }
}
