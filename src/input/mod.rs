//! What people write for the program: text with its places, sizes, limits, and problems that say where, what and what instead.

mod fault;
mod file;
mod kv;
mod limit;
mod place;
mod problem;
mod size;
mod text;

pub use fault::{Attributed, Fault};
pub use file::{
    FileError, MOST_MODEL_FILE_BYTES, check_replaceable, maybe_path_as_text, open_file,
    path_as_text, read_file, read_file_text,
};
pub use kv::KvPrecision;
pub use limit::Limit;
pub use place::Place;
pub use problem::{Problem, known, nearest};
pub use size::{Size, SizeError, counted, human_bytes, lacks_unit, two_sizes};
pub use text::{Source, TextFileError, read_text, short, shown, without_mark};
