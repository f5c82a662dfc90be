//! Page-aligned memory straight from the system, and back to it.

use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Direct reads and record offsets are multiples of this.
pub const PAGE_BYTES: usize = 4096;

/// Rounds up to a whole number of pages.
pub fn round_up_to_page(bytes: usize) -> usize {
    bytes.div_ceil(PAGE_BYTES) * PAGE_BYTES
}

/// An anonymous private mapping, zeroed, page-aligned; its pages go back to the system when it is dropped.
///
/// Weights live here and not on the heap, so that what is given back really leaves the process.
#[derive(Debug)]
pub struct Mapped {
    start: NonNull<u8>,
    mapped_bytes: usize,
    len: usize,
}

// SAFETY: the mapping is owned, and shared references only read it.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps at least `len` bytes (and at least one page).
    ///
    /// # Errors
    /// The system's, when it has no memory to map.
    pub fn new(len: usize) -> std::io::Result<Self> {
        let mapped_bytes = round_up_to_page(len.max(1));
        // SAFETY: an anonymous mapping at an address of the system's choice touches nothing that exists.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                mapped_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let start = NonNull::new(start.cast::<u8>())
            .ok_or_else(|| std::io::Error::other("mapped at address zero"))?;
        Ok(Self {
            start,
            mapped_bytes,
            len,
        })
    }

    /// Bytes asked for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes mapped: whole pages.
    pub fn mapped_bytes(&self) -> usize {
        self.mapped_bytes
    }

    /// The bytes asked for.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for `mapped_bytes >= len`, initialised by the system to zero.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// All mapped pages: direct reads fill whole pages.
    pub fn pages_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and exclusively borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.mapped_bytes) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped, and nobody borrows it any more. A failure cannot be
        // handled here and only leaks the range.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.mapped_bytes) };
    }
}

/// A zeroed array of f32 in memory of its own.
#[derive(Debug)]
pub struct MappedF32(Mapped);

impl MappedF32 {
    /// `len` zeros; pages are taken from the system as they are written.
    ///
    /// # Errors
    /// The system's.
    pub fn new(len: usize) -> std::io::Result<Self> {
        Mapped::new(len * size_of::<f32>()).map(Self)
    }
}

impl std::ops::Deref for MappedF32 {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        let len = self.0.len / size_of::<f32>();
        // SAFETY: aligned to a page, within the mapping, initialised, and every 32 bits are a float.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr().cast(), len) }
    }
}

impl std::ops::DerefMut for MappedF32 {
    fn deref_mut(&mut self) -> &mut [f32] {
        let len = self.0.len / size_of::<f32>();
        // SAFETY: as above, and exclusively borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.as_ptr().cast(), len) }
    }
}
