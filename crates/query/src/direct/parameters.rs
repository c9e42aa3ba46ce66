//! Types of parameters, and which types meet which column as if they were its
//! own.

use chronos_model::DataType;

/// Most parameters a statement of the protocol can have.
const PARAMETERS_MAX: usize = 65_535;

/// What is known of a statement's parameters while it is planned.
pub(super) struct Parameters<'a> {
    declared: &'a [Option<DataType>],
    types: Vec<Option<DataType>>,
    max: usize,
}

impl<'a> Parameters<'a> {
    /// `sql_bytes` is the statement's length: its parameters cannot be more, or
    /// there are gaps.
    pub(super) fn new(declared: &'a [Option<DataType>], sql_bytes: usize) -> Parameters<'a> {
        Parameters {
            declared,
            types: Vec::new(),
            max: PARAMETERS_MAX.min(sql_bytes),
        }
    }

    /// The parameter `$number` is used where `inferred` is the natural type and
    /// others are as good if `fits` says so. Gives its position.
    pub(super) fn used(
        &mut self,
        number: usize,
        inferred: impl FnOnce() -> Option<DataType>,
        fits: impl FnOnce(&DataType) -> bool,
    ) -> Option<usize> {
        if number == 0 || number > self.max {
            return None;
        }
        let index = number - 1;
        if self.types.len() < number {
            self.types.resize(number, None);
        }
        let slot = &mut self.types[index];
        if slot.is_none() {
            *slot = match self.declared.get(index) {
                Some(Some(declared)) => Some(declared.clone()),
                _ => Some(inferred()?),
            };
        }
        slot.as_ref().is_some_and(fits).then_some(index)
    }

    /// The types, if each parameter from the first to the last is used.
    pub(super) fn finish(self) -> Option<Vec<DataType>> {
        if self.declared.len() > self.types.len() {
            return None;
        }
        self.types.into_iter().collect()
    }
}

pub(super) fn is_integer(t: &DataType) -> bool {
    matches!(t, DataType::Int2 | DataType::Int4 | DataType::Int8)
}

pub(super) fn is_float(t: &DataType) -> bool {
    matches!(t, DataType::Float4 | DataType::Float8)
}

pub(super) fn is_text(t: &DataType) -> bool {
    matches!(t, DataType::Text | DataType::Varchar(_))
}

fn is_numeric(t: &DataType) -> bool {
    matches!(t, DataType::Numeric(_))
}

/// The type of a parameter that is compared with a column, if nothing else is
/// said of it: the column's, without length or precision. `None` if that could
/// not hold what the column can.
pub(super) fn compared_with(column: &DataType) -> Option<DataType> {
    match column {
        DataType::Varchar(_) => Some(DataType::Text),
        DataType::Numeric(p) => {
            let (precision, scale) = DataType::numeric_shape(*p);
            let (bare_precision, bare_scale) = DataType::numeric_shape(None);
            let digits = |precision: u8, scale: i8| i32::from(precision) - i32::from(scale);
            let holds = scale <= bare_scale
                && digits(precision, scale) <= digits(bare_precision, bare_scale);
            holds.then_some(DataType::Numeric(None))
        }
        other => Some(other.clone()),
    }
}

/// Whether `column = value` of type `from` has at most one column value that
/// makes it true, which `bind` can tell.
pub(super) fn is_comparable(from: &DataType, column: &DataType) -> bool {
    if is_integer(column) || is_numeric(column) {
        return is_integer(from) || is_numeric(from);
    }
    if is_float(column) {
        return is_integer(from) || is_numeric(from) || is_float(from);
    }
    (is_text(from) && is_text(column)) || from == column
}

/// Whether a value of type `from` may be stored in a column by a cast that
/// PostgreSQL makes on assignment, and that `Value::coerce` makes likewise.
pub(super) fn is_assignable(from: &DataType, column: &DataType) -> bool {
    let is_number = |t: &DataType| is_integer(t) || is_numeric(t) || is_float(t);
    match (from, column) {
        (a, b) if a == b => true,
        (a, b) if is_number(a) && is_number(b) => true,
        (a, b) if is_text(a) && is_text(b) => true,
        (a, b) if is_integer(a) && is_text(b) => true,
        (DataType::Date, DataType::Timestamp) | (DataType::Timestamp, DataType::Date) => true,
        (DataType::Vector(_), DataType::Vector(_)) => true,
        _ => false,
    }
}
