//! The system's random numbers, for what takes them behind our back: the order of the crate's maps, and its jitter. On
//! Linux what is asked of the system comes from here, on threads that live through a story of a cluster.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// What this thread takes for random from now on follows from a seed; `None`: the system's own.
pub fn simulate(seed: Option<u64>) {
    STATE.set(seed);
}

/// The next numbers of this thread; false where they are the system's.
fn fill(bytes: &mut [u8]) -> bool {
    let Some(seed) = STATE.get() else { return false };
    let mut random = fastrand::Rng::with_seed(seed);
    random.fill(bytes);
    STATE.set(Some(random.u64(..)));
    true
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod system {
    use std::ffi::{c_long, c_uint, c_void};

    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }

    const GETRANDOM: c_long = if cfg!(target_arch = "x86_64") { 318 } else { 278 };

    /// In the place of the C library's: a symbol of the program comes before that of a library.
    ///
    /// # Safety
    /// As of the C library's: `buffer` has `length` bytes that may be written.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
        // SAFETY: the caller has promised so.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        if super::fill(bytes) {
            return length.cast_signed();
        }
        // SAFETY: the arguments of this call of the system.
        let written = unsafe { syscall(GETRANDOM, buffer, length, flags) };
        isize::try_from(written).unwrap_or(-1)
    }
}
