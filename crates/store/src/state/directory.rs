//! Whether a directory is still a store's own.
//!
//! A store may outlive its directory: views of a replica that was given another one read on
//! from the files that they have open. What is at the paths that it knows by then belongs
//! to another store.

use parking_lot::RwLock;

/// Lets names be changed in a store's directory, until it is given up.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    is_given_up: RwLock<bool>,
}

impl Directory {
    /// Changes names in it; `None`: it is another store's by now, and nothing was done.
    pub(crate) fn change<T>(&self, change: impl FnOnce() -> T) -> Option<T> {
        let is_given_up = self.is_given_up.read();
        (!*is_given_up).then(change)
    }

    /// Waits for changes under way; there are none after.
    pub(crate) fn give_up(&self) {
        *self.is_given_up.write() = true;
    }
}
