//! In test builds alone (the feature `count-allocations`): the allocator, which counts what is alive. A test of memory
//! judges by what this package has and not by what the system happens to keep resident. What is shipped has none of it.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

use mimalloc::MiMalloc;
use napi_derive::napi;

/// The allocator of [`crate::ALLOCATOR`], and the bytes that were asked of it and not given back.
pub struct Counted;

static ALIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to mimalloc as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that mimalloc asks for; so below.
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

/// The block; if it was had, so many bytes more are alive, and so many less.
fn counted(block: *mut u8, more: usize, less: usize) -> *mut u8 {
    if !block.is_null() {
        ALIVE.fetch_add(more.wrapping_sub(less), Ordering::Relaxed);
    }
    block
}

/// For the tests: the bytes that Rust has at this moment, on all threads.
#[napi(js_name = "allocated_bytes", catch_unwind)]
#[allow(clippy::cast_precision_loss, reason = "nobody has 2^53 bytes")]
#[cfg_attr(test, allow(dead_code, reason = "what tests the crate itself has no exports"))]
#[must_use]
pub fn allocated_bytes() -> f64 {
    ALIVE.load(Ordering::Relaxed) as f64
}
