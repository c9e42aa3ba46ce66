//! The options of a table, from `WITH (..)` and `ALTER TABLE .. SET (..)`.

use chronos_model::{
    text, ColumnSchema, DataType, FloatCodec, OptionChange, SqlState, TableOptions, TableSchema,
    Value,
};
use datafusion::sql::sqlparser::ast;

use crate::sql::fold;
use crate::QueryError;

/// An option of PostgreSQL's that dumps and tools write; taken, without effect.
const FILLFACTOR: &str = "fillfactor";

const HOUR: i64 = 3_600_000_000;

/// Widths that are chosen for windows of time when none is given.
const BUCKETS: [i64; 7] = [
    60_000_000,
    10 * 60_000_000,
    HOUR,
    6 * HOUR,
    text::DAY_MICROS,
    7 * text::DAY_MICROS,
    30 * text::DAY_MICROS,
];

/// Windows that a time to live is divided into, at least.
const BUCKETS_PER_TTL: i64 = 7;

/// The options of a new table with these columns. What is not given and follows from the
/// key is fixed here: which column says when, and in what windows rows are stored.
pub(crate) fn of_new_table(
    options: &ast::CreateTableOptions,
    columns: &[ColumnSchema],
    primary_key: &[usize],
) -> Result<TableOptions, QueryError> {
    let mut parsed = TableOptions::default();
    for (name, value) in written(options)? {
        match name.as_str() {
            FILLFACTOR => check_fillfactor(&value)?,
            "time_column" => {
                parsed.time_column = Some(time_column(&value, columns, primary_key)?);
            }
            "bucket" => parsed.bucket_micros = Some(duration_micros(&value)?),
            _ => parsed = parsed.changed(&[change(&name, Some(&value))?], i64::MIN),
        }
    }
    let is_time = |column: &&usize| is_timestamp(&columns[**column].data_type);
    let mut times = primary_key.iter().filter(is_time);
    if parsed.time_column.is_none() {
        if let (Some(only), None) = (times.next(), times.next()) {
            parsed.time_column = Some(*only);
        }
    }
    match (parsed.time_column, parsed.bucket_micros) {
        (None, Some(_)) => {
            let message = "bucket needs a timestamp in the primary key";
            return Err(QueryError::new(SqlState::INVALID_TABLE_DEFINITION, message)
                .with_hint("Name it with time_column if there is more than one."));
        }
        (Some(column), None) => {
            let leads = primary_key.first() == Some(&column);
            parsed.bucket_micros = match parsed.ttl_micros {
                Some(ttl) => Some(bucket_of_ttl(ttl)),
                None => leads.then_some(text::DAY_MICROS),
            };
        }
        _ => {}
    }
    Ok(parsed)
}

/// The changes that ALTER TABLE .. SET or RESET asks for.
pub fn changes(
    options: &[(String, Option<String>)],
    table: &TableSchema,
) -> Result<Vec<OptionChange>, QueryError> {
    let mut changes = Vec::with_capacity(options.len());
    for (name, value) in options {
        match name.as_str() {
            FILLFACTOR => value.as_deref().map_or(Ok(()), check_fillfactor)?,
            "time_column" | "bucket" => {
                let message = format!("{name} of table \"{}\" cannot be changed", table.name);
                return Err(QueryError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                    .with_hint("It is fixed when the table is created."));
            }
            _ => changes.push(change(name, value.as_deref())?),
        }
    }
    Ok(changes)
}

/// Pages are written once, and full: there is no room to be left in them.
fn check_fillfactor(value: &str) -> Result<(), QueryError> {
    let range = 10..=100;
    match value.trim().parse::<u32>() {
        Ok(percent) if range.contains(&percent) => Ok(()),
        Ok(percent) => {
            let message = format!("value {percent} out of bounds for option \"{FILLFACTOR}\"");
            Err(QueryError::new(SqlState::INVALID_PARAMETER, message)
                .with_detail("Valid values are between \"10\" and \"100\"."))
        }
        Err(_) => Err(invalid(FILLFACTOR, value)),
    }
}

/// The options as `WITH` would give them, names and values.
pub fn shown(table: &TableSchema) -> Vec<(&'static str, String)> {
    let options = &table.options;
    let mut shown = Vec::new();
    let mut add = |name, value: Option<String>| shown.extend(value.map(|v| (name, v)));
    add("ttl", options.ttl_micros.map(duration_text));
    add("history_ttl", options.history_ttl_micros.map(duration_text));
    add("history_keep", options.history_keep.map(|n| n.to_string()));
    let column = options.time_column.and_then(|c| table.columns.get(c));
    add("time_column", column.map(|c| c.name.clone()));
    add("bucket", options.bucket_micros.map(duration_text));
    let codec = options.float_codec.map(|codec| match codec {
        FloatCodec::Auto => "auto",
        FloatCodec::Chimp => "chimp",
    });
    add("float_codec", codec.map(str::to_owned));
    shown
}

fn change(name: &str, value: Option<&str>) -> Result<OptionChange, QueryError> {
    Ok(match name {
        "ttl" => OptionChange::Ttl(value.map(duration_micros).transpose()?),
        "history_ttl" => OptionChange::HistoryTtl(value.map(duration_micros).transpose()?),
        "history_keep" => {
            let keep = |v: &str| {
                v.trim().parse().map_err(|_| {
                    invalid(name, v).with_hint("Write how many old versions of a row to keep.")
                })
            };
            OptionChange::HistoryKeep(value.map(keep).transpose()?)
        }
        "float_codec" => OptionChange::FloatCodec(match value {
            None => None,
            Some(v) if v.eq_ignore_ascii_case("auto") => Some(FloatCodec::Auto),
            Some(v) if v.eq_ignore_ascii_case("chimp") => Some(FloatCodec::Chimp),
            Some(v) => return Err(invalid(name, v).with_hint("Known are auto and chimp.")),
        }),
        other => {
            let message = format!("unrecognized parameter \"{other}\"");
            return Err(QueryError::new(SqlState::INVALID_PARAMETER, message).with_hint(
                "Known parameters: ttl, history_ttl, history_keep, time_column, bucket, float_codec.",
            ));
        }
    })
}

fn invalid(name: &str, value: &str) -> QueryError {
    let message = format!("invalid value for parameter \"{name}\": \"{value}\"");
    QueryError::new(SqlState::INVALID_PARAMETER, message)
}

fn written(options: &ast::CreateTableOptions) -> Result<Vec<(String, String)>, QueryError> {
    let list = match options {
        ast::CreateTableOptions::None => return Ok(Vec::new()),
        ast::CreateTableOptions::With(list) => list,
        other => {
            let what = format!("the table options {other}");
            return Err(QueryError::unsupported(what));
        }
    };
    let option = |option: &ast::SqlOption| {
        let ast::SqlOption::KeyValue { key, value } = option else {
            return Err(change(&option.to_string(), None).err().unwrap_or_else(|| {
                QueryError::new(
                    SqlState::INVALID_PARAMETER,
                    format!("parameter \"{option}\" needs a value"),
                )
            }));
        };
        let value = match value {
            ast::Expr::Value(v) => match &v.value {
                ast::Value::SingleQuotedString(s) => s.clone(),
                other => other.to_string(),
            },
            ast::Expr::Identifier(ident) => ident.value.clone(),
            other => other.to_string(),
        };
        Ok((fold(key), value))
    };
    list.iter().map(option).collect()
}

fn is_timestamp(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp | DataType::TimestampTz)
}

fn time_column(
    name: &str,
    columns: &[ColumnSchema],
    primary_key: &[usize],
) -> Result<usize, QueryError> {
    let found = columns.iter().position(|c| c.name == name).or_else(|| {
        columns
            .iter()
            .position(|c| c.name.eq_ignore_ascii_case(name))
    });
    let Some(column) = found else {
        let message = format!("column \"{name}\" named as time_column does not exist");
        return Err(QueryError::new(SqlState::UNDEFINED_COLUMN, message));
    };
    if !is_timestamp(&columns[column].data_type) {
        let message = format!(
            "time_column \"{name}\" is of type {}, and must be TIMESTAMP or TIMESTAMPTZ",
            columns[column].data_type
        );
        return Err(QueryError::new(SqlState::DATATYPE_MISMATCH, message));
    }
    if !primary_key.contains(&column) {
        let message = format!("time_column \"{name}\" must be part of the primary key");
        return Err(QueryError::new(SqlState::INVALID_TABLE_DEFINITION, message)
            .with_hint("Without a time_column rows expire by when they were written."));
    }
    Ok(column)
}

fn bucket_of_ttl(ttl_micros: i64) -> i64 {
    let fits = |width: &&i64| **width <= ttl_micros / BUCKETS_PER_TTL;
    *BUCKETS.iter().rfind(fits).unwrap_or(&BUCKETS[0])
}

/// `7d`, `12h`, `30m`, `45s`, `500ms`, `2w`, `1y` or a SQL interval, in microseconds.
///
/// Errors: 22023 for anything else, and for what is not above zero.
pub fn duration_micros(written: &str) -> Result<i64, QueryError> {
    let written = written.trim();
    let digits = written
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(written.len());
    let (number, unit) = written.split_at(digits);
    let unit_micros = match unit.trim() {
        "ms" => Some(1_000),
        "s" | "sec" => Some(1_000_000),
        "m" | "min" => Some(60_000_000),
        "h" => Some(HOUR),
        "d" => Some(text::DAY_MICROS),
        "w" => Some(7 * text::DAY_MICROS),
        "y" => Some(365 * text::DAY_MICROS),
        _ => None,
    };
    let micros = match (number.parse::<i64>(), unit_micros) {
        (Ok(number), Some(unit)) => number.checked_mul(unit),
        _ => match text::parse(&DataType::Interval, written) {
            Ok(Value::Interval(i)) => (i64::from(i.months) * 30 + i64::from(i.days))
                .checked_mul(text::DAY_MICROS)
                .and_then(|days| days.checked_add(i.nanos / 1_000)),
            _ => None,
        },
    };
    micros.filter(|m| *m > 0).ok_or_else(|| {
        QueryError::new(
            SqlState::INVALID_PARAMETER,
            format!("invalid duration \"{written}\""),
        )
        .with_hint("Write a number and a unit, as in 7d, 12h, 30m, 45s or 500ms.")
    })
}

/// As [`duration_micros`] reads it, in the largest unit that divides it.
fn duration_text(micros: i64) -> String {
    let units = [
        (text::DAY_MICROS, "d"),
        (HOUR, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
    ];
    match units.iter().find(|(unit, _)| micros % unit == 0) {
        Some((unit, name)) => format!("{}{name}", micros / unit),
        None => format!("{micros} microseconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{parse, Command};

    fn options(sql: &str) -> Result<TableOptions, QueryError> {
        let Command::CreateTable(create) = parse(sql)? else {
            panic!("{sql}");
        };
        crate::ddl::table_schema(&create).map(|schema| schema.options)
    }

    #[test]
    fn a_fill_factor_is_checked_and_has_no_effect() {
        let with = |percent: &str| {
            options(&format!(
                "create table t (a int) with (fillfactor={percent})"
            ))
        };
        assert_eq!(with("100").unwrap(), TableOptions::default());
        assert!(with("9").is_err() && with("101").is_err() && with("much").is_err());
    }

    #[test]
    fn time_and_windows_follow_from_the_key() {
        let day = text::DAY_MICROS;
        let of = |sql: &str| {
            let options = options(sql).unwrap();
            (options.time_column, options.bucket_micros)
        };
        let table = "create table t (d text, ts timestamptz, v float, primary key (d, ts))";
        assert_eq!(of(table), (Some(1), None));
        assert_eq!(
            of(&format!("{table} with (ttl='30d')")),
            (Some(1), Some(day))
        );
        assert_eq!(
            of(&format!("{table} with (ttl='2h')")),
            (Some(1), Some(600_000_000))
        );
        assert_eq!(
            of(&format!("{table} with (bucket='1h')")),
            (Some(1), Some(HOUR))
        );
        assert_eq!(
            of("create table t (ts timestamp primary key)"),
            (Some(0), Some(day))
        );
        assert_eq!(
            of("create table t (ts timestamp) with (ttl='1d')"),
            (None, None)
        );
        let two = "create table t (a timestamp, b timestamp, primary key (a, b))";
        assert_eq!(of(two), (None, None));
        assert_eq!(
            of(&format!("{two} with (time_column='b', bucket='7d')")),
            (Some(1), Some(7 * day))
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (with, code) in [
            ("time_column='v'", "42804"),
            ("time_column='w'", "42703"),
            ("time_column='u'", "42P16"),
            ("history_keep='many'", "22023"),
            ("history_keep=-1", "22023"),
            ("history_ttl=0", "22023"),
            ("float_codec='zip'", "22023"),
        ] {
            let sql = format!(
                "create table t (d text, ts timestamptz, u timestamptz, v float, primary key (d, ts)) with ({with})"
            );
            assert_eq!(options(&sql).unwrap_err().code.0, code, "{with}");
        }
        let no_time = options("create table t (a int primary key) with (bucket='1d')");
        assert_eq!(no_time.unwrap_err().code.0, "42P16");
    }

    #[test]
    fn durations_read_as_they_are_shown() {
        for written in ["7d", "36h", "90m", "45s", "500ms", "7 microseconds"] {
            let micros = duration_micros(written).unwrap();
            assert_eq!(duration_text(micros), written);
        }
    }
}
