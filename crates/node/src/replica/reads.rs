//! What a reader waits for, and who may propose what the cluster does by itself.

use super::Replica;
use crate::{Error, ReadConsistency};

impl Replica {
    /// Waits until a read view that is taken here sees what it has to. Of a cluster of one it
    /// always does.
    ///
    /// Errors: this cannot be known (57P03).
    pub(crate) async fn ready_to_read(&self, consistency: ReadConsistency) -> Result<(), Error> {
        let _ = consistency;
        Ok(())
    }

    /// Whether this node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        true
    }
}
