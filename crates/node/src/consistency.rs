//! How current what a session reads has to be.

/// What a read on a node of a cluster sees, at least.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadConsistency {
    /// Everything that was committed anywhere before the read began.
    #[default]
    Linearizable,
    /// What is applied on this node, once that has caught up with the log since its start: a
    /// state that was, and never an older one than the session has seen.
    Snapshot,
    /// Whatever is here.
    Stale,
}

impl ReadConsistency {
    /// By the name that users know it by.
    pub fn of_name(name: &str) -> Option<ReadConsistency> {
        match name {
            "linearizable" => Some(ReadConsistency::Linearizable),
            "snapshot" => Some(ReadConsistency::Snapshot),
            "stale" => Some(ReadConsistency::Stale),
            _ => None,
        }
    }
}
