//! Page-aligned memory straight from the system, and back to it.

mod mapped;
mod shelf;

pub use mapped::{
    HUGE_PAGE_BYTES, Mapped, MappedF32, PAGE_BYTES, has_huge_pages, round_up_to_page,
};
pub use shelf::Shelf;
