//! Says the same thing at most once a minute.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const BETWEEN: Duration = Duration::from_secs(60);
/// Things that are remembered; further ones are not said until some are older than a minute.
const THINGS_MAX: usize = 256;

/// When things were last said.
#[derive(Debug, Default)]
pub(super) struct Rarely(Mutex<HashMap<String, Instant>>);

impl Rarely {
    /// Whether the thing is to be said now; then it is taken as said.
    pub(super) fn is_due(&self, thing: &str) -> bool {
        self.is_due_at(thing, Instant::now())
    }

    fn is_due_at(&self, thing: &str, now: Instant) -> bool {
        let mut said = self.0.lock();
        if said.get(thing).is_some_and(|at| now - *at < BETWEEN) {
            return false;
        }
        if said.len() >= THINGS_MAX {
            said.retain(|_, at| now - *at < BETWEEN);
        }
        if said.len() >= THINGS_MAX {
            return false;
        }
        said.insert(thing.into(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_minute_each() {
        let rarely = Rarely::default();
        let start = Instant::now();
        assert!(rarely.is_due_at("a", start));
        assert!(rarely.is_due_at("b", start));
        assert!(!rarely.is_due_at("a", start));
        let later = start + BETWEEN;
        assert!(rarely.is_due_at("a", later));
        for i in 0..2 * THINGS_MAX {
            rarely.is_due_at(&i.to_string(), later);
        }
        assert_eq!(rarely.0.lock().len(), THINGS_MAX);
        assert!(rarely.is_due_at("c", later + BETWEEN));
        assert_eq!(rarely.0.lock().len(), 1);
    }
}
