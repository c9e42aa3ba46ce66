//! Functions that PostgreSQL has and DataFusion has not.

use datafusion::execution::SessionState;

use crate::QueryError;

/// Makes the functions known to a session state.
pub(crate) fn register(_state: &mut SessionState) -> Result<(), QueryError> {
    Ok(())
}
