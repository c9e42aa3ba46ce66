//! Parameters put in their places: keys become bytes, values those of columns.

use chronos_model::{
    encode_key, text, DataError, DataType, Key, KeyError, SqlState, TableSchema, Value,
};

use super::literal::exact;
use super::parameters::is_text;
use super::{Assignment, DirectKind, DirectPlan, Operand, Replacement};

/// Bytes of a value that an error's detail shows.
const SHOWN_BYTES_MAX: usize = 64;

/// A [`DirectPlan`] with its parameters; what to return stands in the plan.
#[derive(Clone, PartialEq, Debug)]
pub enum BoundDirect {
    /// `SELECT`
    Get {
        /// The row to read; `None`: no row can match.
        key: Option<Key>,
    },
    /// `INSERT`
    Insert {
        /// Rows in order.
        rows: Vec<BoundRow>,
    },
    /// `INSERT .. ON CONFLICT (key) DO UPDATE`
    Upsert {
        /// Rows in order.
        rows: Vec<BoundRow>,
        /// For [`DirectPlan::replaced_row`].
        assignments: Vec<(usize, BoundReplacement)>,
    },
    /// `UPDATE`
    Update {
        /// The row to change; `None`: no row can match.
        key: Option<Key>,
        /// For [`DirectPlan::updated_row`].
        assignments: Vec<(usize, BoundAssignment)>,
    },
    /// `DELETE`
    Delete {
        /// The row to delete; `None`: no row can match.
        key: Option<Key>,
    },
}

/// A row to insert.
#[derive(Clone, PartialEq, Debug)]
pub struct BoundRow {
    /// Its key; `None`: the table's key is hidden.
    pub key: Option<Key>,
    /// A value of the column's type for each column; NULL only where it may be.
    pub values: Vec<Value>,
}

/// What a column becomes.
#[derive(Clone, PartialEq, Debug)]
pub enum BoundAssignment {
    /// A value of the column's type, or NULL.
    Set(Value),
    /// The old value of the column `source`, plus `delta`.
    Add {
        /// Column whose old value is taken.
        source: usize,
        /// What is added to it; `None`: NULL.
        delta: Option<i128>,
    },
}

/// What a column of a row becomes by DO UPDATE.
#[derive(Clone, PartialEq, Debug)]
pub enum BoundReplacement {
    /// What the row proposed for insertion has in a column.
    Excluded(usize),
    /// A value of the column's type, or NULL.
    Set(Value),
}

/// Why a planned statement failed before it touched any data.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectError {
    /// A value that its column cannot hold.
    #[error(transparent)]
    Data(#[from] DataError),
    /// NULL for a column that is NOT NULL.
    #[error(
        "null value in column \"{column}\" of relation \"{table}\" violates not-null constraint"
    )]
    NotNull {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The whole row, as PostgreSQL shows it.
        row: String,
    },
    /// Too few parameters.
    #[error("bind message supplies {given} parameters, but the statement requires {needed}")]
    MissingParameters {
        /// How many there are.
        given: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A negative `LIMIT`.
    #[error("LIMIT must not be negative")]
    NegativeLimit,
}

impl DirectError {
    /// The SQLSTATE a client is told.
    pub fn sqlstate(&self) -> SqlState {
        match self {
            DirectError::Data(e) => e.sqlstate(),
            DirectError::NotNull { .. } => SqlState::NOT_NULL_VIOLATION,
            DirectError::MissingParameters { .. } => SqlState::PROTOCOL_VIOLATION,
            DirectError::NegativeLimit => SqlState("2201W"),
        }
    }

    /// The detail line that goes with the message.
    pub fn detail(&self) -> Option<String> {
        match self {
            DirectError::NotNull { row, .. } => Some(format!("Failing row contains ({row}).")),
            _ => None,
        }
    }
}

impl DirectPlan {
    /// Puts parameters, of the types of [`DirectPlan::parameters`], in their
    /// places.
    ///
    /// Errors: too few parameters, values that do not fit their columns, NULL in
    /// a new row where it may not be, a negative `LIMIT`.
    pub fn bind(&self, parameters: &[Value]) -> Result<BoundDirect, DirectError> {
        if parameters.len() < self.parameters.len() {
            return Err(DirectError::MissingParameters {
                given: parameters.len(),
                needed: self.parameters.len(),
            });
        }
        Ok(match &self.kind {
            DirectKind::Get { key, limit, .. } => {
                let none_wanted = match limit {
                    Some(limit) => is_limit_zero(given(limit, parameters))?,
                    None => false,
                };
                let key = self.key(key, parameters)?;
                BoundDirect::Get {
                    key: key.filter(|_| !none_wanted),
                }
            }
            DirectKind::Insert { rows, .. } => BoundDirect::Insert {
                rows: rows
                    .iter()
                    .map(|row| self.row(row, parameters))
                    .collect::<Result<_, _>>()?,
            },
            DirectKind::Upsert {
                rows, assignments, ..
            } => BoundDirect::Upsert {
                rows: rows
                    .iter()
                    .map(|row| self.row(row, parameters))
                    .collect::<Result<_, _>>()?,
                assignments: assignments
                    .iter()
                    .map(|(column, r)| Ok((*column, self.replacement(*column, r, parameters)?)))
                    .collect::<Result<_, DirectError>>()?,
            },
            DirectKind::Update {
                key, assignments, ..
            } => BoundDirect::Update {
                key: self.key(key, parameters)?,
                assignments: assignments
                    .iter()
                    .map(|(column, a)| Ok((*column, self.assignment(*column, a, parameters)?)))
                    .collect::<Result<_, DirectError>>()?,
            },
            DirectKind::Delete { key, .. } => BoundDirect::Delete {
                key: self.key(key, parameters)?,
            },
        })
    }

    /// The row that an UPDATE makes of the row it found.
    ///
    /// Errors: a sum out of its type's range, NULL where it may not be.
    pub fn updated_row(
        &self,
        assignments: &[(usize, BoundAssignment)],
        old: &[Value],
    ) -> Result<Vec<Value>, DirectError> {
        let mut new = old.to_vec();
        // A row may have been written before columns were added.
        new.resize(self.table.columns.len(), Value::Null);
        for (column, assignment) in assignments {
            let value = match assignment {
                BoundAssignment::Set(value) => value.clone(),
                BoundAssignment::Add { source, delta } => {
                    let data_type = &self.table.columns[*column].data_type;
                    sum(old.get(*source), *delta, data_type)?
                }
            };
            new[*column] = value;
        }
        check_not_null(&self.table, &new)?;
        Ok(new)
    }

    /// The row that DO UPDATE makes of the row that is there and the one that was to be inserted.
    ///
    /// Errors: NULL where it may not be.
    pub fn replaced_row(
        &self,
        assignments: &[(usize, BoundReplacement)],
        old: &[Value],
        excluded: &[Value],
    ) -> Result<Vec<Value>, DirectError> {
        let mut new = old.to_vec();
        // A row may have been written before columns were added.
        new.resize(self.table.columns.len(), Value::Null);
        for (column, replacement) in assignments {
            new[*column] = match replacement {
                BoundReplacement::Excluded(source) => excluded[*source].clone(),
                BoundReplacement::Set(value) => value.clone(),
            };
        }
        check_not_null(&self.table, &new)?;
        Ok(new)
    }

    /// `None` if no row can match: NULL equals nothing, and 70000 no INT2.
    fn key(&self, key: &[Operand], parameters: &[Value]) -> Result<Option<Key>, DirectError> {
        let mut values = Vec::with_capacity(key.len());
        for (operand, &column) in key.iter().zip(&self.table.primary_key) {
            let value = given(operand, parameters).clone();
            let value = match (operand, &value) {
                (Operand::Value(_), _) => Some(value),
                (Operand::Parameter(_), Value::Null) => None,
                (Operand::Parameter(index), _) => {
                    let value = of_type(value, &self.parameters[*index])?;
                    exact(value, &self.table.columns[column].data_type)
                }
            };
            match value {
                Some(value) => values.push(value),
                None => return Ok(None),
            }
        }
        encode(&self.table, &values).map(Some)
    }

    fn row(&self, operands: &[Operand], parameters: &[Value]) -> Result<BoundRow, DirectError> {
        let values = operands
            .iter()
            .zip(&self.table.columns)
            .map(|(operand, column)| {
                let value = given(operand, parameters).clone();
                match operand {
                    Operand::Value(_) => Ok(value),
                    Operand::Parameter(_) => value.coerce(&column.data_type),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        check_not_null(&self.table, &values)?;
        let key = match self.table.primary_key.as_slice() {
            [] => None,
            columns if columns.iter().copied().eq(0..columns.len()) => {
                Some(encode(&self.table, &values[..columns.len()])?)
            }
            columns => {
                let key: Vec<Value> = columns.iter().map(|&c| values[c].clone()).collect();
                Some(encode(&self.table, &key)?)
            }
        };
        Ok(BoundRow { key, values })
    }

    fn replacement(
        &self,
        column: usize,
        replacement: &Replacement,
        parameters: &[Value],
    ) -> Result<BoundReplacement, DirectError> {
        Ok(match replacement {
            Replacement::Excluded(source) => BoundReplacement::Excluded(*source),
            Replacement::Set(operand) => {
                let value = given(operand, parameters).clone();
                BoundReplacement::Set(value.coerce(&self.table.columns[column].data_type)?)
            }
        })
    }

    fn assignment(
        &self,
        column: usize,
        assignment: &Assignment,
        parameters: &[Value],
    ) -> Result<BoundAssignment, DirectError> {
        Ok(match assignment {
            Assignment::Set(operand) => {
                let value = given(operand, parameters).clone();
                BoundAssignment::Set(value.coerce(&self.table.columns[column].data_type)?)
            }
            Assignment::Add {
                source,
                operand,
                negated,
            } => {
                let delta = integer(given(operand, parameters));
                let delta = if *negated { delta.map(|d| -d) } else { delta };
                BoundAssignment::Add {
                    source: *source,
                    delta,
                }
            }
        })
    }
}

fn given<'a>(operand: &'a Operand, parameters: &'a [Value]) -> &'a Value {
    match operand {
        Operand::Value(value) => value,
        // `bind` has checked how many there are.
        Operand::Parameter(index) => &parameters[*index],
    }
}

/// A parameter that came as text is read as its type.
fn of_type(value: Value, data_type: &DataType) -> Result<Value, DataError> {
    match value {
        Value::Text(_) if !is_text(data_type) => value.coerce(data_type),
        value => Ok(value),
    }
}

fn encode(table: &TableSchema, key: &[Value]) -> Result<Key, DirectError> {
    encode_key(table, key).map_err(|e| match e {
        KeyError::Data(e) => DirectError::Data(e),
        KeyError::Null { column } => DirectError::NotNull {
            table: table.name.clone(),
            column,
            row: shown(key),
        },
    })
}

fn is_limit_zero(limit: &Value) -> Result<bool, DirectError> {
    match integer(limit) {
        Some(..0) => Err(DirectError::NegativeLimit),
        limit => Ok(limit == Some(0)),
    }
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int2(v) => Some(i128::from(*v)),
        Value::Int4(v) => Some(i128::from(*v)),
        Value::Int8(v) => Some(i128::from(*v)),
        _ => None,
    }
}

fn sum(
    old: Option<&Value>,
    delta: Option<i128>,
    data_type: &DataType,
) -> Result<Value, DirectError> {
    let (Some(old), Some(delta)) = (old.and_then(integer), delta) else {
        return Ok(Value::Null);
    };
    let sum = old + delta;
    let value = match data_type {
        DataType::Int2 => i16::try_from(sum).ok().map(Value::Int2),
        DataType::Int4 => i32::try_from(sum).ok().map(Value::Int4),
        _ => i64::try_from(sum).ok().map(Value::Int8),
    };
    value.ok_or_else(|| {
        DirectError::Data(DataError::OutOfRange {
            type_name: data_type.to_string(),
            text: sum.to_string(),
        })
    })
}

fn check_not_null(table: &TableSchema, row: &[Value]) -> Result<(), DirectError> {
    for (index, (column, value)) in table.columns.iter().zip(row).enumerate() {
        if value.is_null() && (!column.nullable || table.primary_key.contains(&index)) {
            return Err(DirectError::NotNull {
                table: table.name.clone(),
                column: column.name.clone(),
                row: shown(row),
            });
        }
    }
    Ok(())
}

/// Values in PostgreSQL's way of showing a failing row.
fn shown(row: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in row.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        if value.is_null() {
            out.push_str("null");
            continue;
        }
        let text = text::format(value);
        if text.len() <= SHOWN_BYTES_MAX {
            out.push_str(&text);
            continue;
        }
        let cut = (0..=SHOWN_BYTES_MAX)
            .rev()
            .find(|n| text.is_char_boundary(*n));
        out.push_str(&text[..cut.unwrap_or(0)]);
        out.push_str("...");
    }
    out
}
