//! The allocator, made to fit a small memory limit, and a node that has little to do.
//!
//! Left to itself it asks the system for pages of 2 MiB and keeps what was freed for a second,
//! which is faster and, on a board with 64 MiB to spend, half of the memory. A node with more to
//! spend gets such pages once it has grown: before, they are mostly empty. Both can only be
//! told to it and to the kernel by calls that Rust cannot check, so they stand here alone.

use std::time::Duration;

use chronos_env::resident_memory_bytes;
use libmimalloc_sys::{mi_option_set, mi_option_t};

/// A node with more to spend than this keeps the allocator's defaults, once it needs them.
const SMALL_LIMIT_BYTES: u64 = 1 << 30;
/// A node that takes so much more memory than at its start has a use for huge pages.
const GROWTH_BYTES: u64 = 64 << 20;
/// How often that is looked at.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// `mi_option_purge_delay` of mimalloc's `mi_option_e`, which the bindings leave out.
const PURGE_DELAY: mi_option_t = 15;

/// To be called before there are threads and much is allocated.
pub(super) fn fit(memory_limit: u64) {
    set_huge_pages(HugePages::Never);
    if memory_limit <= SMALL_LIMIT_BYTES {
        give_back_at_once();
    }
}

/// Ends once the node has grown, if it is to have huge pages then.
pub(super) async fn watch_growth(memory_limit: u64) {
    let Some(at_start) = resident_memory_bytes() else {
        return;
    };
    if memory_limit <= SMALL_LIMIT_BYTES {
        return;
    }
    while resident_memory_bytes().is_some_and(|now| now < at_start + GROWTH_BYTES) {
        tokio::time::sleep(LOOKS_EVERY).await;
    }
    set_huge_pages(HugePages::WhereAsked);
}

/// Whether the kernel gives this process pages of 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HugePages {
    Never,
    WhereAsked,
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
fn set_huge_pages(pages: HugePages) {
    let is_disabled = libc::c_ulong::from(pages == HugePages::Never);
    let unused: libc::c_ulong = 0;
    // SAFETY: PR_SET_THP_DISABLE takes integers only and changes a flag of this process. Where
    // the kernel does not know it, it says so and nothing happens.
    let _ = unsafe {
        libc::prctl(
            libc::PR_SET_THP_DISABLE,
            is_disabled,
            unused,
            unused,
            unused,
        )
    };
}

#[cfg(not(target_os = "linux"))]
fn set_huge_pages(_: HugePages) {}

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
