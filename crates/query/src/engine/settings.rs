//! `current_setting` and `set_config`: a plan is shared by sessions, so what a session has SET comes to the
//! functions when the plan is run.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronos_model::{SqlState, TableId};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, LogicalPlan};
use parking_lot::Mutex;

use crate::functions::{self, Scope};
use crate::QueryError;

/// Says whether a setting may have a value, and how it is kept.
pub type CheckSetting = fn(&str, &str) -> Result<String, QueryError>;

/// What a function asks of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SequenceCall {
    /// A number that nobody else is given.
    Next(TableId),
    /// The number that the session was given last; `None`: none.
    Current(TableId),
    /// The same of the sequence that it asked last.
    Last,
    /// To go on from a number; whether that counts as given.
    Set(TableId, i64, bool),
}

/// Answers what functions ask of sequences.
pub type SequenceCalls = Arc<dyn Fn(SequenceCall) -> Result<Option<i64>, QueryError> + Send + Sync>;

/// A session's settings, as a statement reads and writes them.
pub struct SessionSettings {
    /// What differs from the defaults, as SHOW shows it.
    pub changed: Arc<BTreeMap<String, String>>,
    /// What `set_config` asks before it writes.
    pub check: CheckSetting,
    /// What `set_config` wrote: name, value, and whether for the transaction only; the session
    /// takes it before its next statement.
    pub written: Mutex<Vec<(String, String, bool)>>,
    /// Gives numbers of sequences, in a session.
    pub sequences: Option<SequenceCalls>,
}

impl Default for SessionSettings {
    /// Of no session: nothing can be set.
    fn default() -> SessionSettings {
        SessionSettings {
            changed: Arc::default(),
            check: |name, _| {
                let message = format!("parameter \"{name}\" cannot be changed now");
                Err(QueryError::new(SqlState("55P02"), message))
            },
            written: Mutex::default(),
            sequences: None,
        }
    }
}

impl std::fmt::Debug for SessionSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionSettings({:?})", self.changed)
    }
}

const NAMES: [&str; 2] = ["current_setting", "set_config"];

fn is_named(name: &str) -> bool {
    NAMES.contains(&name) || functions::SEQUENCE_FUNCTIONS.contains(&name)
}

fn is_call(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(f) if is_named(f.func.name()))
}

/// Whether a plan calls one of the functions.
pub(super) fn are_asked(plan: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|e| Ok(is_call(e)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// The plan with the session's settings in the place of the defaults.
pub(super) fn bind(plan: LogicalPlan, scope: &Arc<Scope>) -> DfResult<LogicalPlan> {
    let bound = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|e| match e {
                Expr::ScalarFunction(call) if is_named(call.func.name()) => {
                    match functions::find(call.func.name(), || Arc::clone(scope)) {
                        Some(bound) => Ok(Transformed::yes(bound.call(call.args))),
                        None => Ok(Transformed::no(Expr::ScalarFunction(call))),
                    }
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })?;
    Ok(bound.data)
}
