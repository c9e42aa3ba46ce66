//! What happened in a simulated cluster, in order: the last events to be read after a failure, and a digest of all
//! of them, by which two runs of a seed are compared.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Events that are kept to be shown.
const EVENTS_MAX: usize = 400;

/// The events of a run.
#[derive(Debug)]
pub(super) struct Trace {
    begun: Instant,
    state: Mutex<State>,
}

struct State {
    // Its keys are fixed, unlike those of a `RandomState`.
    digest: DefaultHasher,
    events: u64,
    last: VecDeque<String>,
    prints: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl Trace {
    /// Begins now. `Print::AsItHappens` shows every event on the standard error at once.
    pub(super) fn begin(print: Print) -> Trace {
        Trace {
            begun: Instant::now(),
            state: Mutex::new(State {
                digest: DefaultHasher::new(),
                events: 0,
                last: VecDeque::new(),
                prints: print == Print::AsItHappens,
            }),
        }
    }

    /// Microseconds since the beginning.
    pub(super) fn micros(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// Notes an event.
    pub(super) fn note(&self, event: fmt::Arguments<'_>) {
        let micros = self.micros();
        let line = format!(
            "{:>4}.{:06} {event}",
            micros / 1_000_000,
            micros % 1_000_000
        );
        let mut state = self.state.lock();
        if state.prints {
            eprintln!("{line}");
        }
        state.digest.write(line.as_bytes());
        state.events += 1;
        if state.last.len() == EVENTS_MAX {
            state.last.pop_front();
        }
        state.last.push_back(line);
    }

    /// A number that is another one if any event is.
    pub(super) fn digest(&self) -> u64 {
        self.state.lock().digest.finish()
    }

    /// How many events there were.
    pub(super) fn events(&self) -> u64 {
        self.state.lock().events
    }

    /// The last events, one a line.
    pub(super) fn last(&self) -> String {
        let state = self.state.lock();
        let mut text = String::new();
        for line in &state.last {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// When events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    /// The last of them, if the run fails.
    AfterFailure,
    /// All of them.
    AsItHappens,
}

/// `note!(trace, "..", ..)`: formats an event and notes it.
macro_rules! note {
    ($trace:expr, $($event:tt)*) => {
        $trace.note(format_args!($($event)*))
    };
}
pub(crate) use note;
