//! Functions that PostgreSQL has and DataFusion has not.
//!
//! Those that ask about the session or the catalog ([`session`], [`catalog`]) are
//! made when a statement is planned, around what the statement sees ([`Scope`]);
//! [`find`] is asked before DataFusion's own functions, so `version()` is ours.
//! They are evaluated value by value: they meet the few rows of system tables.

mod arrays;
mod catalog;
mod columnar;
mod definition;
mod extremes;
mod fields;
mod floats;
mod json;
mod lenient;
mod number_templates;
mod numbers;
mod phrases;
mod privileges;
mod quantiles;
mod sequences;
mod series;
mod session;
mod strings;
mod sum;
mod templates;
mod text;
mod times;
mod tools;

use std::sync::{Arc, LazyLock};

use chronos_model::Catalog;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{Expr, ScalarUDF, Volatility};

use crate::engine::{SessionFacts, SessionSettings};
use crate::system_tables::Objects;
use crate::QueryError;
pub(crate) use columnar::columnar;
use definition::{Definition, Function};
pub(crate) use json::{
    first_type as first_json_type, AGGREGATES as JSON_AGGREGATES, ROW_FUNCTIONS,
};
pub(crate) use lenient::lenient;
pub(crate) use sequences::NAMES as SEQUENCE_FUNCTIONS;
pub(crate) use series::of_instants as series_of_instants;
pub(crate) use sum::part_type as sum_part_type;

/// What a function may ask about: the catalog and the session of the statement.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) facts: SessionFacts,
    /// The session's settings; none while a statement is planned.
    pub(crate) settings: Arc<SessionSettings>,
}

impl Scope {
    pub(crate) fn objects(&self) -> Objects<'_> {
        Objects {
            catalog: &self.catalog,
            facts: &self.facts,
        }
    }
}

/// Makes the functions that ask about nothing known to a session state.
pub(crate) fn register(state: &mut SessionState) -> Result<(), QueryError> {
    if let Ok(uuid) = state.udf("uuid") {
        state.register_udf(Arc::new(
            uuid.as_ref().clone().with_aliases(["gen_random_uuid"]),
        ))?;
    }
    if let Ok(now) = state.udf("now") {
        let aliases = [
            "clock_timestamp",
            "statement_timestamp",
            "transaction_timestamp",
        ];
        state.register_udf(Arc::new(now.as_ref().clone().with_aliases(aliases)))?;
    }
    state.register_udaf(sum::checked_sum())?;
    for extreme in extremes::extremes() {
        state.register_udaf(extreme)?;
    }
    Ok(())
}

/// The function of that folded name, if it is one of ours.
pub(crate) fn find(name: &str, scope: impl FnOnce() -> Arc<Scope>) -> Option<Arc<ScalarUDF>> {
    if let Some(function) = floats::find(name) {
        return Some(function);
    }
    if let Some(function) = fields::find(name) {
        return Some(function);
    }
    let definition = [
        session::FUNCTIONS,
        catalog::FUNCTIONS,
        privileges::FUNCTIONS,
        tools::FUNCTIONS,
        sequences::FUNCTIONS,
        text::FUNCTIONS,
        numbers::FUNCTIONS,
        times::FUNCTIONS,
        arrays::FUNCTIONS,
        strings::FUNCTIONS,
        json::FUNCTIONS,
        phrases::FUNCTIONS,
        quantiles::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
    .find(|definition| definition.name == name)?;
    Some(Arc::new(ScalarUDF::new_from_impl(Function::new(
        definition,
        scope(),
    ))))
}

/// Whether a function gives the same for the same arguments at all times.
pub(crate) fn is_pure(function: &ScalarUDF) -> bool {
    let is_it = |definition: &&Definition| definition.name == function.name();
    let mut asking = session::FUNCTIONS
        .iter()
        .chain(catalog::FUNCTIONS)
        .chain(privileges::FUNCTIONS)
        .chain(tools::FUNCTIONS);
    if asking.any(|d| is_it(&d)) {
        return false;
    }
    let own = [
        text::FUNCTIONS,
        numbers::FUNCTIONS,
        times::FUNCTIONS,
        arrays::FUNCTIONS,
        strings::FUNCTIONS,
        json::FUNCTIONS,
        phrases::FUNCTIONS,
        quantiles::FUNCTIONS,
    ];
    own.into_iter().flatten().any(|d| is_it(&d))
        || function.signature().volatility == Volatility::Immutable
}

/// A call of one of our functions that asks about nothing.
pub(crate) fn pure(name: &str, args: Vec<Expr>) -> Option<Expr> {
    static NOTHING: LazyLock<Arc<Scope>> = LazyLock::new(|| {
        Arc::new(Scope {
            catalog: Arc::new(Catalog::default()),
            facts: SessionFacts::default(),
            settings: Arc::default(),
        })
    });
    Some(find(name, || Arc::clone(&NOTHING))?.call(args))
}

#[cfg(test)]
mod tests;
