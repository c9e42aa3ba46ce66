//! Time in a session: what tables are read at that do not say so themselves, and statements
//! that were planned for rows without periods and meet some.
//!
//! A clause at a table wins over the statement's (`SETTING DEFAULT ..`), that over the
//! transaction's (`BEGIN .. AS OF SYSTEM TIME ..`), that over the session's
//! (`SET chronos.system_time`). Who reads another time than the present does not write.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::Array;
use chronos_model::{DataType, Period as ValidPeriod, SqlState, Stamp, TableSchema};
use chronos_query::direct::{DirectKind, ScanItem};
use chronos_query::dml::Portion;
use chronos_query::sql::{DefaultClause, Setting};
use chronos_query::temporal::{Extent, Period};
use chronos_query::{QueryPlan, TemporalDefaults};
use chronos_store::{ReadView, ValidFilter, VersionFilter};
use tokio_util::sync::CancellationToken;

use super::prepare::Plan;
use super::{Prepared, Session};
use crate::{Error, Outcome};

impl Session {
    /// What tables without a temporal clause are read at.
    pub(super) fn defaults(&self) -> TemporalDefaults {
        let mut defaults = self.settings.temporal_defaults();
        let as_of = self.transaction.as_ref().and_then(|t| t.as_of);
        if let Some(stamp) = as_of {
            defaults.system = Some(VersionFilter::AsOf(stamp));
        }
        defaults
    }

    /// The statement planned anew, if the rows it meets, or the session's time, ask for it.
    pub(super) fn planned_for_time(
        &mut self,
        prepared: &Prepared,
    ) -> Result<Option<Arc<Prepared>>, Error> {
        let reads_present = self.defaults().are_present();
        let by_period = match &prepared.plan {
            Plan::Direct(direct) => match &direct.kind {
                DirectKind::Get { projection, .. } => {
                    let names_times = projection.iter().any(|i| matches!(i, ScanItem::System(_)));
                    let is_direct =
                        reads_present && !(names_times && self.has_periods(&direct.table)?);
                    if is_direct {
                        return Ok(None);
                    }
                    false
                }
                DirectKind::Insert { .. } => return Ok(None),
                DirectKind::Upsert { .. }
                | DirectKind::Update { .. }
                | DirectKind::Delete { .. } => self.has_periods(&direct.table)?,
            },
            Plan::Modify(plan) if plan.modify.portion == Portion::UntilChanged => {
                self.has_periods(&plan.modify.table)?
            }
            _ => return Ok(None),
        };
        if !by_period
            && !matches!(prepared.plan, Plan::Direct(ref d) if matches!(d.kind, DirectKind::Get { .. }))
        {
            return Ok(None);
        }
        let types: Vec<Option<DataType>> = prepared.parameters.iter().cloned().map(Some).collect();
        let portion = match by_period {
            true => Portion::FromNow,
            false => Portion::UntilChanged,
        };
        self.plan_generally(&prepared.sql, &types, portion)
            .map(Some)
    }

    /// Whether the statement meets rows that are true for periods of their own.
    fn has_periods(&mut self, table: &TableSchema) -> Result<bool, Error> {
        Ok(self.view()?.has_periods(table))
    }

    fn view(&mut self) -> Result<ReadView, Error> {
        match &mut self.transaction {
            Some(transaction) => transaction.read_view(),
            None => Ok(self.node.inner.replica.store.read_view()),
        }
    }

    /// Refuses to write while another time than the present is read.
    pub(super) fn refuse_other_time(&self, what: &str) -> Result<(), Error> {
        if self.defaults().are_present() {
            return Ok(());
        }
        let message = format!("cannot execute {what} while another time than the present is read");
        Err(Error::new(SqlState::READ_ONLY_TRANSACTION, message)
            .with_hint("RESET chronos.system_time and chronos.valid_time, or end the transaction."))
    }

    /// Runs a query whose tables are read at what a prefix says.
    pub(super) async fn execute_setting(
        &mut self,
        plan: &QueryPlan,
        setting: &Setting,
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        let mut defaults = self.defaults();
        for clause in &setting.defaults {
            match clause.period {
                Period::System => defaults.system = Some(self.system_filter(clause).await?),
                Period::Valid => defaults.valid = Some(self.valid_filter(clause).await?),
            }
        }
        self.execute_query_at(plan, &[], defaults, token).await
    }

    async fn system_filter(&mut self, clause: &DefaultClause) -> Result<VersionFilter, Error> {
        let bounds = self.moments_of(&clause.bounds).await?;
        Ok(match (clause.extent, bounds.as_slice()) {
            (Extent::AsOf, [Some(at)]) => VersionFilter::AsOf(Stamp::last_of_micros(*at)),
            (Extent::FromTo, [Some(from), Some(to)]) if from <= to => VersionFilter::Between {
                from: first_of(*from),
                to: first_of(*to),
                inclusive_to: false,
            },
            (Extent::Between, [Some(from), Some(to)]) if from <= to => VersionFilter::Between {
                from: first_of(*from),
                to: Stamp::last_of_micros(*to),
                inclusive_to: true,
            },
            (Extent::All, []) => VersionFilter::All,
            _ => return Err(bad_bounds("SYSTEM_TIME")),
        })
    }

    async fn valid_filter(&mut self, clause: &DefaultClause) -> Result<ValidFilter, Error> {
        let bounds = self.moments_of(&clause.bounds).await?;
        let period = |from: &Option<i64>, to: &Option<i64>| {
            let from = from.unwrap_or(ValidPeriod::BEGINNING);
            let to = to.unwrap_or(ValidPeriod::UNTIL_CHANGED);
            (from <= to)
                .then_some((from, to))
                .ok_or_else(|| bad_bounds("VALID_TIME"))
        };
        Ok(match (clause.extent, bounds.as_slice()) {
            (Extent::AsOf, [Some(at)]) => ValidFilter::AsOf(*at),
            (Extent::FromTo | Extent::Between, [from, to]) => {
                let (from, to) = period(from, to)?;
                ValidFilter::Between {
                    from,
                    to,
                    inclusive_to: clause.extent == Extent::Between,
                }
            }
            (Extent::All, []) => ValidFilter::All,
            _ => return Err(bad_bounds("VALID_TIME")),
        })
    }

    async fn moments_of(&mut self, expressions: &[String]) -> Result<Vec<Option<i64>>, Error> {
        let mut moments = Vec::with_capacity(expressions.len());
        for expression in expressions {
            moments.push(self.moment_of(expression).await?);
        }
        Ok(moments)
    }

    /// The moment that an expression without columns names; `None`: NULL.
    pub(super) async fn moment_of(&mut self, expression: &str) -> Result<Option<i64>, Error> {
        let catalog = self.catalog();
        let query = format!("SELECT CAST(({expression}) AS TIMESTAMPTZ)");
        let plan = self.plan_text(&query, &catalog)?;
        self.authorize_query(&plan)?;
        let mut held = self.write_memory();
        let batches = self.collect(&plan, &[], &mut held).await?;
        let column = batches.first().map(|batch| batch.column(0));
        let micros = column.and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        Ok(micros
            .filter(|m| !m.is_empty() && m.is_valid(0))
            .map(|m| m.value(0)))
    }
}

fn first_of(micros: i64) -> Stamp {
    Stamp::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn bad_bounds(time: &str) -> Error {
    let message = format!("the bounds of DEFAULT {time} must be moments, the earlier one first");
    Error::new(SqlState::INVALID_PARAMETER, message)
}
