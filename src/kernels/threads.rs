//! The threads that arithmetic is spread over.

use std::error::Error;
use std::io;

/// Starts the threads of the process, `count` of them or as many as there are cores, unless they were started before or
/// this thread belongs to others. Left to the first product, they would end the process where the system has no thread.
///
/// # Errors
/// When the system has no thread to give.
pub fn start(count: Option<usize>) -> io::Result<()> {
    if rayon::current_thread_index().is_some() {
        return Ok(());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count.unwrap_or(0));
    match pool.build_global() {
        // Without a source it says that they were started before.
        Err(error) if error.source().is_some() => Err(io::Error::other(error.to_string())),
        _ => Ok(()),
    }
}
