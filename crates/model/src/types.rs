//! The SQL types, their names, PostgreSQL object ids and Arrow forms.
//!
//! A [`DataType`] says what a column may hold. Several SQL types share an Arrow
//! type (`text`, `json` and `uuid` are all strings in memory), so an Arrow field
//! carries the SQL name in its metadata under [`FIELD_TYPE_KEY`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType as Arrow, Field, IntervalUnit, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::DataError;

/// Arrow field metadata key under which the SQL type's name is kept.
pub const FIELD_TYPE_KEY: &str = "chronos.type";

/// Precision and scale of a bare `NUMERIC`: 28 digits before the point, 10 after.
const BARE_NUMERIC: (u8, i8) = (38, 10);

/// A SQL type.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DataType {
    /// `BOOL`
    Bool,
    /// `INT2`, `SMALLINT`: 16 bits.
    Int2,
    /// `INT4`: 32 bits.
    Int4,
    /// `INT8`, `INT`, `INTEGER`, `BIGINT`: 64 bits.
    Int8,
    /// `FLOAT4`, `REAL`
    Float4,
    /// `FLOAT8`, `FLOAT`, `DOUBLE [PRECISION]`
    Float8,
    /// `NUMERIC [(precision, scale)]`, `DECIMAL`: at most 38 digits. Bare: 28
    /// digits before the point and 10 after it.
    Numeric(Option<(u8, i8)>),
    /// `TEXT`, `STRING`
    Text,
    /// `VARCHAR [(n)]`, `CHAR(n)`: at most n characters.
    Varchar(Option<u32>),
    /// `BYTEA`
    Bytea,
    /// `UUID`
    Uuid,
    /// `DATE`: days since 1970-01-01.
    Date,
    /// `TIME`: microseconds since midnight.
    Time,
    /// `TIMESTAMP`: microseconds since 1970-01-01, of no zone.
    Timestamp,
    /// `TIMESTAMPTZ`: microseconds since the Unix epoch.
    TimestampTz,
    /// `INTERVAL`: months, days and nanoseconds.
    Interval,
    /// `JSON`: the text as given.
    Json,
    /// `JSONB`: normalised (sorted unique keys, no insignificant blanks).
    Jsonb,
    /// `t[]`
    Array(Box<DataType>),
    /// `VECTOR(n)`: n FLOAT4 values.
    Vector(u32),
}

impl DataType {
    /// Precision and scale with which a `NUMERIC` is kept.
    pub fn numeric_shape(parameters: Option<(u8, i8)>) -> (u8, i8) {
        parameters.unwrap_or(BARE_NUMERIC)
    }

    /// The Arrow type in which values of this type travel.
    pub fn to_arrow(&self) -> Arrow {
        match self {
            DataType::Bool => Arrow::Boolean,
            DataType::Int2 => Arrow::Int16,
            DataType::Int4 => Arrow::Int32,
            DataType::Int8 => Arrow::Int64,
            DataType::Float4 => Arrow::Float32,
            DataType::Float8 => Arrow::Float64,
            DataType::Numeric(p) => {
                let (precision, scale) = DataType::numeric_shape(*p);
                Arrow::Decimal128(precision, scale)
            }
            DataType::Text
            | DataType::Varchar(_)
            | DataType::Uuid
            | DataType::Json
            | DataType::Jsonb => Arrow::Utf8View,
            DataType::Bytea => Arrow::BinaryView,
            DataType::Date => Arrow::Date32,
            DataType::Time => Arrow::Time64(TimeUnit::Microsecond),
            DataType::Timestamp => Arrow::Timestamp(TimeUnit::Microsecond, None),
            DataType::TimestampTz => Arrow::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Interval => Arrow::Interval(IntervalUnit::MonthDayNano),
            DataType::Array(item) => Arrow::List(Arc::new(item.to_result_field("item", true))),
            DataType::Vector(n) => Arrow::FixedSizeList(
                Arc::new(Field::new("item", Arrow::Float32, false)),
                *n as i32,
            ),
        }
    }

    /// An Arrow field of this type that remembers the SQL type.
    pub fn to_field(&self, name: &str, nullable: bool) -> Field {
        let metadata = HashMap::from([(FIELD_TYPE_KEY.to_owned(), self.to_string())]);
        Field::new(name, self.to_arrow(), nullable).with_metadata(metadata)
    }

    /// An Arrow field of this type that remembers the SQL type only where the Arrow type
    /// alone would be taken for another: results of expressions, which are compared and
    /// joined with the engine's own.
    pub fn to_result_field(&self, name: &str, nullable: bool) -> Field {
        let arrow = self.to_arrow();
        if DataType::of_arrow(&arrow) == *self {
            Field::new(name, arrow, nullable)
        } else {
            self.to_field(name, nullable)
        }
    }

    /// The SQL type of an Arrow field: the remembered one if it still fits the
    /// Arrow type, else the natural one.
    pub fn of_field(field: &Field) -> DataType {
        if let Some(name) = field.metadata().get(FIELD_TYPE_KEY) {
            if let Ok(data_type) = DataType::parse(name) {
                if same_family(&data_type.to_arrow(), field.data_type()) {
                    return data_type;
                }
            }
        }
        DataType::of_arrow(field.data_type())
    }

    /// The natural SQL type of an Arrow type. What has no counterpart is text.
    pub fn of_arrow(arrow: &Arrow) -> DataType {
        match arrow {
            Arrow::Boolean => DataType::Bool,
            Arrow::Int8 | Arrow::UInt8 | Arrow::Int16 => DataType::Int2,
            Arrow::UInt16 | Arrow::Int32 => DataType::Int4,
            Arrow::UInt32 | Arrow::Int64 | Arrow::UInt64 => DataType::Int8,
            Arrow::Float16 | Arrow::Float32 => DataType::Float4,
            Arrow::Float64 => DataType::Float8,
            Arrow::Decimal128(p, s) => DataType::Numeric(Some((*p, *s))),
            Arrow::Decimal32(p, s) | Arrow::Decimal64(p, s) => DataType::Numeric(Some((*p, *s))),
            Arrow::Decimal256(p, s) => DataType::Numeric(Some(((*p).min(38), *s))),
            Arrow::Binary | Arrow::LargeBinary | Arrow::BinaryView | Arrow::FixedSizeBinary(_) => {
                DataType::Bytea
            }
            Arrow::Date32 | Arrow::Date64 => DataType::Date,
            Arrow::Time32(_) | Arrow::Time64(_) => DataType::Time,
            Arrow::Timestamp(_, None) => DataType::Timestamp,
            Arrow::Timestamp(_, Some(_)) => DataType::TimestampTz,
            Arrow::Interval(_) | Arrow::Duration(_) => DataType::Interval,
            Arrow::List(f) | Arrow::LargeList(f) | Arrow::ListView(f) => {
                DataType::Array(Box::new(DataType::of_field(f)))
            }
            Arrow::FixedSizeList(f, n) if f.data_type() == &Arrow::Float32 => {
                DataType::Vector(*n as u32)
            }
            Arrow::FixedSizeList(f, _) => DataType::Array(Box::new(DataType::of_field(f))),
            Arrow::Dictionary(_, value) => DataType::of_arrow(value),
            _ => DataType::Text,
        }
    }

    /// The SQL type of a name as written in DDL or by [`fmt::Display`], e.g.
    /// `int`, `numeric(10,2)`, `double precision`, `text[]`, `vector(3)`.
    pub fn parse(name: &str) -> Result<DataType, DataError> {
        let name = name.trim().to_ascii_lowercase();
        if let Some(item) = name.strip_suffix("[]") {
            return match DataType::parse(item)? {
                DataType::Vector(_) => Err(DataError::InvalidType {
                    reason: "an array of vectors is not supported".into(),
                }),
                DataType::Array(inner) => Ok(DataType::Array(inner)),
                item => Ok(DataType::Array(Box::new(item))),
            };
        }
        let (base, parameters) = split_parameters(&name)?;
        let base = base.split_whitespace().collect::<Vec<_>>().join(" ");
        from_base(&base, &parameters)
    }

    /// PostgreSQL's object id of the type; `VECTOR`, which has no fixed one in
    /// PostgreSQL, has [`VECTOR_OID`](Self::VECTOR_OID).
    pub fn oid(&self) -> u32 {
        match self {
            DataType::Bool => 16,
            DataType::Bytea => 17,
            DataType::Int8 => 20,
            DataType::Int2 => 21,
            DataType::Int4 => 23,
            DataType::Text => 25,
            DataType::Json => 114,
            DataType::Float4 => 700,
            DataType::Float8 => 701,
            DataType::Varchar(_) => 1043,
            DataType::Date => 1082,
            DataType::Time => 1083,
            DataType::Timestamp => 1114,
            DataType::TimestampTz => 1184,
            DataType::Interval => 1186,
            DataType::Numeric(_) => 1700,
            DataType::Uuid => 2950,
            DataType::Jsonb => 3802,
            DataType::Vector(_) => Self::VECTOR_OID,
            DataType::Array(item) => match **item {
                DataType::Bool => 1000,
                DataType::Bytea => 1001,
                DataType::Int2 => 1005,
                DataType::Int4 => 1007,
                DataType::Text => 1009,
                DataType::Varchar(_) => 1015,
                DataType::Int8 => 1016,
                DataType::Float4 => 1021,
                DataType::Float8 => 1022,
                DataType::Timestamp => 1115,
                DataType::Date => 1182,
                DataType::Time => 1183,
                DataType::TimestampTz => 1185,
                DataType::Interval => 1187,
                DataType::Numeric(_) => 1231,
                DataType::Json => 199,
                DataType::Uuid => 2951,
                DataType::Jsonb => 3807,
                DataType::Array(_) | DataType::Vector(_) => 1009,
            },
        }
    }

    /// The object id under which `VECTOR` is shown.
    pub const VECTOR_OID: u32 = 16_385;

    /// The type of a PostgreSQL object id; `None` for 0 ("unspecified") and for
    /// types that do not exist here.
    pub fn of_oid(oid: u32) -> Option<DataType> {
        let scalar = |oid: u32| {
            Some(match oid {
                16 => DataType::Bool,
                17 => DataType::Bytea,
                20 => DataType::Int8,
                21 => DataType::Int2,
                23 | 26 => DataType::Int4,
                25 | 19 | 18 => DataType::Text,
                114 => DataType::Json,
                700 => DataType::Float4,
                701 => DataType::Float8,
                1042 | 1043 => DataType::Varchar(None),
                1082 => DataType::Date,
                1083 => DataType::Time,
                1114 => DataType::Timestamp,
                1184 => DataType::TimestampTz,
                1186 => DataType::Interval,
                1700 => DataType::Numeric(None),
                2950 => DataType::Uuid,
                3802 => DataType::Jsonb,
                Self::VECTOR_OID => DataType::Vector(0),
                _ => return None,
            })
        };
        let item = match oid {
            199 => 114,
            1000 => 16,
            1001 => 17,
            1005 => 21,
            1007 => 23,
            1009 => 25,
            1015 => 1043,
            1016 => 20,
            1021 => 700,
            1022 => 701,
            1115 => 1114,
            1182 => 1082,
            1183 => 1083,
            1185 => 1184,
            1187 => 1186,
            1231 => 1700,
            2951 => 2950,
            3807 => 3802,
            _ => return scalar(oid),
        };
        scalar(item).map(|t| DataType::Array(Box::new(t)))
    }

    /// `TEXT` and `VARCHAR`.
    pub fn is_text(&self) -> bool {
        matches!(self, DataType::Text | DataType::Varchar(_))
    }

    /// Integers of any width.
    pub fn is_integer(&self) -> bool {
        matches!(self, DataType::Int2 | DataType::Int4 | DataType::Int8)
    }

    /// `FLOAT4` and `FLOAT8`.
    pub fn is_float(&self) -> bool {
        matches!(self, DataType::Float4 | DataType::Float8)
    }

    /// Integers, floats and `NUMERIC`.
    pub fn is_number(&self) -> bool {
        self.is_integer() || self.is_float() || matches!(self, DataType::Numeric(_))
    }

    /// Whether values of this type may be part of a primary key.
    pub fn is_key_type(&self) -> bool {
        !matches!(
            self,
            DataType::Interval
                | DataType::Json
                | DataType::Jsonb
                | DataType::Array(_)
                | DataType::Vector(_)
        )
    }
}

/// Whether a remembered SQL type may describe a column of an Arrow type that an
/// operator may have widened (`Utf8` for `Utf8View` and the like).
fn same_family(remembered: &Arrow, actual: &Arrow) -> bool {
    let is_text = |t: &Arrow| matches!(t, Arrow::Utf8 | Arrow::LargeUtf8 | Arrow::Utf8View);
    match (remembered, actual) {
        (a, b) if is_text(a) && is_text(b) => true,
        (Arrow::FixedSizeList(_, n), Arrow::FixedSizeList(_, m)) => n == m,
        (Arrow::List(a), Arrow::List(b)) => same_family(a.data_type(), b.data_type()),
        (a, b) => a == b,
    }
}

fn split_parameters(name: &str) -> Result<(String, Vec<u32>), DataError> {
    let Some(open) = name.find('(') else {
        return Ok((name.to_owned(), Vec::new()));
    };
    let invalid = || DataError::InvalidType {
        reason: format!("invalid type modifier in \"{name}\""),
    };
    let close = name.find(')').filter(|c| *c > open).ok_or_else(invalid)?;
    let parameters = name[open + 1..close]
        .split(',')
        .map(|p| p.trim().parse::<u32>().map_err(|_| invalid()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((
        format!("{}{}", &name[..open], &name[close + 1..]),
        parameters,
    ))
}

fn from_base(base: &str, parameters: &[u32]) -> Result<DataType, DataError> {
    let plain =
        match base {
            "bool" | "boolean" => DataType::Bool,
            "int2" | "smallint" => DataType::Int2,
            "int4" => DataType::Int4,
            "int8" | "int" | "integer" | "bigint" => DataType::Int8,
            "float4" | "real" => DataType::Float4,
            "float" => match parameters {
                [1..=24] => DataType::Float4,
                _ => DataType::Float8,
            },
            "float8" | "double" | "double precision" => DataType::Float8,
            "numeric" | "decimal" | "dec" => return numeric(parameters),
            "text" | "string" => DataType::Text,
            "varchar" | "character varying" => DataType::Varchar(parameters.first().copied()),
            "char" | "character" | "bpchar" => {
                DataType::Varchar(Some(parameters.first().copied().unwrap_or(1)))
            }
            "bytea" | "blob" | "bytes" => DataType::Bytea,
            "uuid" => DataType::Uuid,
            "date" => DataType::Date,
            "time" | "time without time zone" => DataType::Time,
            "timestamp" | "timestamp without time zone" => DataType::Timestamp,
            "timestamptz" | "timestamp with time zone" => DataType::TimestampTz,
            "interval" => DataType::Interval,
            "json" => DataType::Json,
            "jsonb" => DataType::Jsonb,
            "vector" => match parameters {
                [n @ 1..=16_000] => DataType::Vector(*n),
                _ => return Err(DataError::InvalidType {
                    reason:
                        "a vector needs a number of dimensions from 1 to 16000, as in VECTOR(384)"
                            .into(),
                }),
            },
            _ => {
                return Err(DataError::UnknownType {
                    type_name: base.to_owned(),
                })
            }
        };
    Ok(plain)
}

fn numeric(parameters: &[u32]) -> Result<DataType, DataError> {
    let (precision, scale) = match *parameters {
        [] => return Ok(DataType::Numeric(None)),
        [precision] => (precision, 0),
        [precision, scale] => (precision, scale),
        _ => (0, 0),
    };
    if !(1..=38).contains(&precision) || scale > precision {
        return Err(DataError::InvalidType {
            reason: format!(
                "NUMERIC precision must be between 1 and 38 and its scale between 0 and the precision, not ({precision}, {scale})"
            ),
        });
    }
    Ok(DataType::Numeric(Some((precision as u8, scale as i8))))
}

/// The name PostgreSQL's `format_type` gives.
impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Bool => f.write_str("boolean"),
            DataType::Int2 => f.write_str("smallint"),
            DataType::Int4 => f.write_str("int4"),
            DataType::Int8 => f.write_str("bigint"),
            DataType::Float4 => f.write_str("real"),
            DataType::Float8 => f.write_str("double precision"),
            DataType::Numeric(None) => f.write_str("numeric"),
            DataType::Numeric(Some((p, s))) => write!(f, "numeric({p},{s})"),
            DataType::Text => f.write_str("text"),
            DataType::Varchar(None) => f.write_str("character varying"),
            DataType::Varchar(Some(n)) => write!(f, "character varying({n})"),
            DataType::Bytea => f.write_str("bytea"),
            DataType::Uuid => f.write_str("uuid"),
            DataType::Date => f.write_str("date"),
            DataType::Time => f.write_str("time without time zone"),
            DataType::Timestamp => f.write_str("timestamp without time zone"),
            DataType::TimestampTz => f.write_str("timestamp with time zone"),
            DataType::Interval => f.write_str("interval"),
            DataType::Json => f.write_str("json"),
            DataType::Jsonb => f.write_str("jsonb"),
            DataType::Array(item) => write!(f, "{item}[]"),
            DataType::Vector(n) => write!(f, "vector({n})"),
        }
    }
}

impl From<DataType> for String {
    fn from(data_type: DataType) -> String {
        data_type.to_string()
    }
}

impl TryFrom<String> for DataType {
    type Error = DataError;

    fn try_from(name: String) -> Result<DataType, DataError> {
        DataType::parse(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            "boolean",
            "smallint",
            "int4",
            "bigint",
            "real",
            "double precision",
            "numeric",
            "numeric(10,2)",
            "text",
            "character varying(20)",
            "bytea",
            "uuid",
            "date",
            "time without time zone",
            "timestamp without time zone",
            "timestamp with time zone",
            "interval",
            "json",
            "jsonb",
            "text[]",
            "vector(3)",
            "timestamp with time zone[]",
        ] {
            assert_eq!(DataType::parse(name).unwrap().to_string(), name);
        }
        assert_eq!(DataType::parse("INT").unwrap(), DataType::Int8);
        assert_eq!(
            DataType::parse("Decimal(5)").unwrap(),
            DataType::Numeric(Some((5, 0)))
        );
        assert!(DataType::parse("numeric(50,2)").is_err());
        assert!(DataType::parse("money").is_err());
        assert!(DataType::parse("vector").is_err());
    }

    #[test]
    fn fields_remember_the_sql_type() {
        let field = DataType::Uuid.to_field("id", false);
        assert_eq!(DataType::of_field(&field), DataType::Uuid);
        let widened = field.with_data_type(Arrow::Utf8);
        assert_eq!(DataType::of_field(&widened), DataType::Uuid);
        let changed = widened.with_data_type(Arrow::Int64);
        assert_eq!(DataType::of_field(&changed), DataType::Int8);
    }

    #[test]
    fn object_ids_round_trip() {
        for t in [
            "boolean", "text", "numeric", "uuid", "bigint[]", "jsonb", "interval",
        ] {
            let t = DataType::parse(t).unwrap();
            assert_eq!(DataType::of_oid(t.oid()), Some(t));
        }
        assert_eq!(DataType::of_oid(0), None);
    }
}
