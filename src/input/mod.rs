//! What people write for the program: text with its places, sizes, and problems that say where, what and what instead.

mod problem;
mod size;
mod text;

pub use problem::{Problem, known, nearest};
pub use size::{Size, SizeError, human_bytes, lacks_unit};
pub use text::{Place, ReadError, Source, read_text, short, shown};
