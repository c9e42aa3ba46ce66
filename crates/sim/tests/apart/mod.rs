//! Runs of one seed, each in a process of its own, in which the standard library and tokio get the same random
//! numbers every time: tokio wakes tasks that wait for one thing in a random order, and its stable interface takes no
//! seed.

use std::process::{Command, Stdio};
use std::time::Duration;

/// Names the one seed to be run.
pub(crate) const SEED: &str = "CHRONOS_SIM_SEED";
/// Set for processes that are started here: what they print is read, and shown only if they fail.
const CHILD: &str = "CHRONOS_SIM_CHILD";
/// A run takes some seconds. One that takes so long does not end.
const RUN_LASTS_MAX: Duration = Duration::from_secs(600);

/// Takes the place of the C library's function of this name, for callers in this program.
#[allow(
    unsafe_code,
    reason = "it is called by the standard library, with C's types"
)]
mod getrandom {
    use std::sync::atomic::{AtomicU64, Ordering};

    static STATE: AtomicU64 = AtomicU64::new(0);

    #[no_mangle]
    extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
        // Weyl's sequence: good enough to tell hash maps apart.
        let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        for at in 0..length {
            // SAFETY: whoever calls promises that `length` bytes can be written there.
            unsafe { buffer.add(at).write(state.to_le_bytes()[at % 8]) };
        }
        length as isize
    }
}

/// The number in a variable, if it is set.
pub(crate) fn number_of(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is {value}, which is no number")))
}

/// Whether this is a process that runs one seed for another. It is ended if it does not end.
pub(crate) fn is_child() -> bool {
    let is_child = std::env::var_os(CHILD).is_some();
    if is_child {
        std::thread::spawn(|| {
            std::thread::sleep(RUN_LASTS_MAX);
            eprintln!("this run does not end");
            std::process::abort();
        });
    }
    is_child
}

/// What a process has said.
pub(crate) struct Said {
    /// On its standard output.
    pub(crate) out: String,
    /// On its standard error.
    pub(crate) err: String,
    /// Whether it ended well.
    pub(crate) ended_well: bool,
}

impl Said {
    /// The rest of the first line that begins so.
    pub(crate) fn after(&self, mark: &str) -> Option<&str> {
        self.out.lines().find_map(|line| line.strip_prefix(mark))
    }
}

/// Has a test of this program run a seed in another process.
pub(crate) fn run_apart(test: &str, seed: u64) -> Said {
    let program = std::env::current_exe().expect("a program knows where it is");
    let output = Command::new(program)
        .args(["--exact", test, "--nocapture"])
        .env(SEED, seed.to_string())
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .expect("a program can be started again");
    Said {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        ended_well: output.status.success(),
    }
}
