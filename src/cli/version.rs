//! What this program is.

use std::sync::LazyLock;

use crate::kernels::{InstructionSet, SPEC};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Of the checkout that it was built from; `unknown` where there was none.
const COMMIT: &str = env!("SAGE_COMMIT");
const TARGET: &str = env!("SAGE_TARGET");

static SHORT: LazyLock<String> =
    LazyLock::new(|| format!("{VERSION} ({COMMIT}, {TARGET}, {})", widest().name()));

static LONG: LazyLock<String> = LazyLock::new(|| {
    let sets: Vec<&str> = InstructionSet::available()
        .into_iter()
        .map(InstructionSet::name)
        .collect();
    format!(
        "{VERSION}\ncommit: {COMMIT}\ntarget: {TARGET}\ninstruction set: {} (of {}; all give the same bits)\narithmetic: {SPEC}",
        widest().name(),
        sets.join(", "),
    )
});

/// One line.
pub(super) fn short() -> &'static str {
    &SHORT
}

/// A line for each.
pub(super) fn long() -> &'static str {
    &LONG
}

/// The one that the kernels use unless another is preferred. Asking [`InstructionSet::best`] would settle it before an option
/// could say otherwise.
fn widest() -> InstructionSet {
    let mut available = InstructionSet::available().into_iter();
    available.next_back().unwrap_or(InstructionSet::Portable)
}
