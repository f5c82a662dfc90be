//! One piece of page-aligned memory.

use std::ptr::NonNull;
use std::sync::OnceLock;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Direct reads and record offsets are multiples of this.
pub const PAGE_BYTES: usize = 4096;

/// Bytes of a huge page. Larger ones, as some systems have, are not used: one that is partly used counts in full.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Whether the system gives huge pages to who asks; not where it has none of that size, or they are switched off. Asked once.
pub fn has_huge_pages() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let read = |name: &str| {
            std::fs::read_to_string(format!("/sys/kernel/mm/transparent_hugepage/{name}")).ok()
        };
        let enabled = read("enabled").is_some_and(|words| !words.contains("[never]"));
        let bytes = read("hpage_pmd_size").and_then(|text| text.trim().parse().ok());
        enabled && bytes == Some(HUGE_PAGE_BYTES)
    })
}

/// Rounds up to a whole number of pages.
pub fn round_up_to_page(bytes: usize) -> usize {
    bytes.div_ceil(PAGE_BYTES) * PAGE_BYTES
}

/// Has memory back when it is dropped.
pub(super) trait Owner: std::fmt::Debug + Send + Sync {}

/// Anonymous private memory, page-aligned, of its own mapping or a place of a shelf; its pages go back to the system when
/// it is dropped.
///
/// Weights live here and not on the heap, so that what is given back really leaves the process.
#[derive(Debug)]
pub struct Mapped {
    start: NonNull<u8>,
    mapped_bytes: usize,
    len: usize,
    /// Who has the memory back when this is dropped; none of a mapping of its own.
    owner: Option<Box<dyn Owner>>,
}

// SAFETY: the mapping is owned, and shared references only read it.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Memory that `owner` has back in the end.
    ///
    /// # Safety
    /// `mapped_bytes` from `start` on are mapped, whole pages, at least `len`, and nobody else's until `owner` is dropped.
    pub(super) unsafe fn of(
        owner: Box<dyn Owner>,
        start: NonNull<u8>,
        mapped_bytes: usize,
        len: usize,
    ) -> Self {
        Self {
            start,
            mapped_bytes,
            len,
            owner: Some(owner),
        }
    }

    /// Maps at least `len` bytes (and at least one page), zeroed.
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
            owner: None,
        })
    }

    /// As [`Self::new`], for what is written at once and as a whole: what fills a huge page lies in one, where the system has
    /// them, and what remains in ordinary ones, so that it takes no more memory.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn in_huge_pages(len: usize) -> std::io::Result<Self> {
        let huge = HUGE_PAGE_BYTES;
        if len < huge || !has_huge_pages() {
            return Self::new(len);
        }
        let mut whole = Self::new(round_up_to_page(len) + huge)?;
        let address = whole.start.as_ptr() as usize;
        let lead = address.next_multiple_of(huge) - address;
        let mapped_bytes = round_up_to_page(len);
        let tail = whole.mapped_bytes - lead - mapped_bytes;
        // SAFETY: both ends of a mapping that nobody else knows; what remains begins at a huge page. Where the system refuses
        // huge pages, it gives ordinary ones; a part that stays mapped is a loss of addresses and no more.
        unsafe {
            let start = whole.start.add(lead);
            if lead > 0 {
                let _ = munmap(whole.start.as_ptr().cast(), lead);
            }
            if tail > 0 {
                let _ = munmap(start.add(mapped_bytes).as_ptr().cast(), tail);
            }
            let _ = madvise(start.as_ptr().cast(), mapped_bytes, Advice::LinuxHugepage);
            whole.start = start;
        }
        (whole.mapped_bytes, whole.len) = (mapped_bytes, len);
        Ok(whole)
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
        // SAFETY: mapped for `mapped_bytes >= len`, initialised by the system.
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
        if self.owner.is_some() {
            return;
        }
        // SAFETY: exactly the range that was mapped, and nobody borrows it any more. A failure cannot be
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
