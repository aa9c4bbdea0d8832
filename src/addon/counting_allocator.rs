//! The allocator of test builds (the feature `count-allocations`): counts the bytes in use. So a test of memory judges
//! what this package uses, not what the system keeps resident. The shipped build does not contain it.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

use mimalloc::MiMalloc;
use napi_derive::napi;

/// Counts the bytes that were allocated and not freed.
pub struct CountingAllocator;

static ALIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to mimalloc unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that mimalloc asks for; the same below.
        counted(unsafe { MiMalloc.alloc(layout) }, layout.size(), 0)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        counted(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size(), 0)
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted(unsafe { MiMalloc.realloc(block, layout, size) }, size, layout.size())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { MiMalloc.dealloc(block, layout) };
        ALIVE.fetch_sub(layout.size(), Ordering::Relaxed);
    }
}

/// Passes `block` on. If it is not null, counts `more` bytes as allocated and `less` as freed.
fn counted(block: *mut u8, more: usize, less: usize) -> *mut u8 {
    if !block.is_null() {
        ALIVE.fetch_add(more.wrapping_sub(less), Ordering::Relaxed);
    }
    block
}

/// For tests: the bytes that Rust code has allocated at this moment, on all threads.
#[napi(js_name = "allocated_bytes", catch_unwind)]
#[allow(clippy::cast_precision_loss, reason = "nobody has 2^53 bytes")]
#[cfg_attr(test, allow(dead_code, reason = "what tests the crate itself has no exports"))]
#[must_use]
pub fn allocated_bytes() -> f64 {
    ALIVE.load(Ordering::Relaxed) as f64
}
