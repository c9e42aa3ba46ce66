//! Ctrl-C while something runs.
//!
//! At the prompt the terminal is raw and the editor sees Ctrl-C as a key. Everywhere
//! else it is SIGINT, and arrives here: the first stops the running statement, a second
//! one, or one while nothing runs, ends the program.

use std::sync::{Arc, Mutex, PoisonError};

use crate::cli::error::tell;
use crate::cli::wire::Canceller;

/// Exit code after Ctrl-C, as shells count it: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

#[derive(Debug, Default)]
enum Running {
    #[default]
    Nothing,
    Statement(Option<Box<Canceller>>),
    Stopping,
}

/// Knows what an interrupt is to stop. Clones share that knowledge.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupts {
    running: Arc<Mutex<Running>>,
}

impl Interrupts {
    /// Begins to listen for SIGINT, for the rest of the program's life.
    pub(crate) fn listen() -> Self {
        let interrupts = Self::default();
        let running = interrupts.running.clone();
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                let before = {
                    let mut now = running.lock().unwrap_or_else(PoisonError::into_inner);
                    std::mem::replace(&mut *now, Running::Stopping)
                };
                match before {
                    Running::Statement(Some(canceller)) => {
                        tell("Stopping the statement; Ctrl-C again ends the program.");
                        canceller.cancel().await;
                    }
                    _ => std::process::exit(INTERRUPTED),
                }
            }
        });
        interrupts
    }

    /// From now on an interrupt stops this statement.
    pub(crate) fn begin(&self, canceller: Option<Canceller>) {
        self.set(Running::Statement(canceller.map(Box::new)));
    }

    /// From now on an interrupt ends the program.
    pub(crate) fn end(&self) {
        self.set(Running::Nothing);
    }

    fn set(&self, state: Running) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}
