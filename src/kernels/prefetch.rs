//! Asking memory for what is read soon.

/// Bytes that come from memory together.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// Has memory bring the cache line at `from`, which need not be there. Nothing where the processor is not asked like this.
#[inline(always)]
pub(super) fn prefetch<T>(from: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: part of every x86-64 processor, and no access.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// [`prefetch`] of every line of some bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn prefetch_bytes(from: *const u8, bytes: usize) {
    for line in 0..bytes.div_ceil(CACHE_LINE) {
        prefetch(from.wrapping_add(line * CACHE_LINE));
    }
}
