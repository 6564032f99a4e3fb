//! How the allocator of a program treats freed memory.
//!
//! glibc gives a big block back to the system when it is freed, and takes it anew, page by page, for the next tensor.
//! In a training step that costs more than much of the arithmetic: 359,000 page faults a step with 8.5 M parameters,
//! and 51 where freed memory stays with the process.
#![allow(unsafe_code)]

/// Keeps freed memory with the process, for the next tensor. A program calls it first of all; a library never does,
/// since it decides for the whole process. It does nothing where the allocator is not glibc's.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::keep_freed_memory();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::ffi::c_int;

    /// Freed memory at the top of the heap beyond which it is given back (malloc.h).
    const M_TRIM_THRESHOLD: c_int = -1;
    /// Size from which a block is mapped by itself (malloc.h).
    const M_MMAP_THRESHOLD: c_int = -3;
    /// The largest size for a block that older versions of glibc take.
    const OLD_LIMIT: c_int = 32 << 20;

    unsafe extern "C" {
        fn mallopt(option: c_int, value: c_int) -> c_int;
    }

    pub(super) fn keep_freed_memory() {
        set(M_TRIM_THRESHOLD, c_int::MAX);
        if !set(M_MMAP_THRESHOLD, c_int::MAX) {
            set(M_MMAP_THRESHOLD, OLD_LIMIT);
        }
    }

    /// Whether the value was taken.
    fn set(option: c_int, value: c_int) -> bool {
        // SAFETY: mallopt takes two numbers, keeps no reference to memory, and takes the allocator's own lock; any value
        // is allowed, and one that is refused changes nothing.
        unsafe { mallopt(option, value) == 1 }
    }
}
