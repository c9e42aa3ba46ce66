//! The allocator, made to fit a small memory limit.
//!
//! Left to itself it asks the system for pages of 2 MiB and keeps what was freed for a second,
//! which is faster and, on a board with 64 MiB to spend, half of the memory. Both can only be
//! told to it and to the kernel by calls that Rust cannot check, so they stand here alone.

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// A node with more to spend than this keeps the allocator's defaults.
const SMALL_LIMIT_BYTES: u64 = 1 << 30;
/// `mi_option_purge_delay` of mimalloc's `mi_option_e`, which the bindings leave out.
const PURGE_DELAY: mi_option_t = 15;

/// To be called before there are threads and much is allocated.
pub(super) fn fit(memory_limit: u64) {
    if memory_limit > SMALL_LIMIT_BYTES {
        return;
    }
    give_back_at_once();
    no_huge_pages();
}

#[allow(
    unsafe_code,
    reason = "the bindings declare every function of the C library as unsafe"
)]
fn give_back_at_once() {
    // SAFETY: sets an integer of the allocator's own. While other threads allocate it is a data
    // race in C's words; there are none yet.
    unsafe { mi_option_set(PURGE_DELAY, 0) }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "a system call without a safe binding here")]
fn no_huge_pages() {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: PR_SET_THP_DISABLE takes integers only and changes a flag of this process. Where
    // the kernel does not know it, it says so and nothing happens.
    let _ = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) };
}

#[cfg(not(target_os = "linux"))]
fn no_huge_pages() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use libmimalloc_sys::mi_option_get;

    #[test]
    #[allow(unsafe_code, reason = "reads what was set")]
    fn a_small_limit_changes_the_option_that_it_means() {
        // SAFETY: reads an integer of the allocator's own.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "the number means another option by now");
        fit(2 << 30);
        assert_eq!(delay(), 1000);
        fit(64 << 20);
        assert_eq!(delay(), 0);
    }
}
