//! The `chronos` program: sets the allocator and hands the arguments to the
//! command line. Everything else lives in [`cli`] and in the library.

use std::process::ExitCode;

mod cli;

/// mimalloc keeps many small allocations from many threads cheap and returns
/// memory to the system sooner than the platform allocator does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
