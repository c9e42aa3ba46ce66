//! Functions about the catalog's objects, and the conversions of PostgreSQL's
//! object identifier types. The latter have names that no user writes
//! (`__regclass_oid`): [`crate::system_tables::rewrite`] puts them where a
//! statement casts.

use chronos_model::{DataType, SqlState, Value};

use super::definition::{
    bigint, boolean, lenient, oid, strict, text, undefined, Arguments, Call, Definition,
};
use crate::system_tables::{
    format_type, function_name, function_oid, namespace_name, namespace_oid, quote_ident,
    relation_full_name, relation_name, relation_oid, role_name, role_oid, table_oid, type_oid,
};
use crate::QueryError;

/// All of them.
pub(super) const FUNCTIONS: &[Definition] = &[
    strict("pg_table_is_visible", (1, 1), boolean, table_is_visible),
    strict("pg_type_is_visible", (1, 1), boolean, always),
    strict("pg_function_is_visible", (1, 1), boolean, always),
    strict("pg_operator_is_visible", (1, 1), boolean, always),
    strict("pg_opclass_is_visible", (1, 1), boolean, always),
    strict("pg_opfamily_is_visible", (1, 1), boolean, always),
    strict("pg_collation_is_visible", (1, 1), boolean, always),
    strict("pg_conversion_is_visible", (1, 1), boolean, always),
    strict("pg_statistics_obj_is_visible", (1, 1), boolean, always),
    strict("pg_ts_config_is_visible", (1, 1), boolean, always),
    strict("pg_ts_dict_is_visible", (1, 1), boolean, always),
    strict("pg_ts_parser_is_visible", (1, 1), boolean, always),
    strict("pg_ts_template_is_visible", (1, 1), boolean, always),
    strict("pg_relation_is_publishable", (1, 1), boolean, always),
    strict("pg_relation_is_updatable", (2, 2), oid, |_| {
        Ok(Value::Int4(28))
    }),
    strict("pg_get_userbyid", (1, 1), text, |call| {
        let oid = call.int(0)?;
        let name = role_name(&call.scope.objects(), oid);
        Ok(Value::Text(
            name.unwrap_or_else(|| format!("unknown (OID={oid})")),
        ))
    }),
    lenient("format_type", (2, 2), text, formatted_type),
    strict("pg_get_expr", (2, 3), text, |call| {
        Ok(Value::Text(crate::schemas::shown_sql(&call.text(0)?)))
    }),
    strict("pg_get_indexdef", (1, 3), text, |call| {
        Ok(optional(
            call.scope
                .objects()
                .index_definition(call.int(0)?, call.int(1)?),
        ))
    }),
    strict("pg_get_constraintdef", (1, 2), text, |call| {
        Ok(optional(
            call.scope.objects().constraint_definition(call.int(0)?),
        ))
    }),
    strict("pg_get_viewdef", (1, 2), text, view_definition),
    strict("pg_get_ruledef", (1, 2), text, nothing),
    strict("pg_get_triggerdef", (1, 2), text, nothing),
    strict("pg_get_functiondef", (1, 1), text, nothing),
    strict("pg_get_function_result", (1, 1), text, nothing),
    strict("pg_get_function_arguments", (1, 1), text, nothing),
    strict("pg_get_function_identity_arguments", (1, 1), text, nothing),
    strict("pg_get_function_sqlbody", (1, 1), text, nothing),
    // No table is a partition: it has none.
    strict("pg_partition_ancestors", (1, 1), oid, nothing),
    strict("pg_get_partkeydef", (1, 1), text, nothing),
    strict("pg_get_partition_constraintdef", (1, 1), text, nothing),
    strict("pg_get_serial_sequence", (2, 2), text, serial_sequence),
    strict("pg_get_statisticsobjdef", (1, 1), text, nothing),
    strict("pg_get_statisticsobjdef_columns", (1, 1), text, nothing),
    strict("pg_tablespace_location", (1, 1), text, |_| {
        Ok(Value::Text(String::new()))
    }),
    strict("pg_filenode_relation", (2, 2), oid, nothing),
    strict("obj_description", (1, 2), text, |call| {
        let is_relation = call.args.len() < 2 || call.text(1)? == "pg_class";
        let found = call.scope.objects().comment(call.int(0)?, 0);
        Ok(optional(found.filter(|_| is_relation)))
    }),
    strict("shobj_description", (2, 2), text, nothing),
    strict("col_description", (2, 2), text, |call| {
        let number = call.int(1)?;
        let found = call.scope.objects().comment(call.int(0)?, number);
        Ok(optional(found.filter(|_| number > 0)))
    }),
    strict("pg_relation_size", (1, 2), bigint, nothing),
    strict("pg_table_size", (1, 1), bigint, nothing),
    strict("pg_indexes_size", (1, 1), bigint, nothing),
    strict("pg_total_relation_size", (1, 1), bigint, nothing),
    strict("pg_stat_get_numscans", (1, 1), bigint, |_| {
        Ok(Value::Int8(0))
    }),
    lenient("pg_typeof", (1, 1), text, |call| {
        Ok(optional(call.types.first().map(plain_type_name)))
    }),
    strict("to_regclass", (1, 1), oid, |call| {
        Ok(relation_oid(&call.scope.objects(), &call.text(0)?)?.map_or(Value::Null, Value::Int8))
    }),
    strict("to_regtype", (1, 1), oid, |call| {
        Ok(type_oid(&call.text(0)?).map_or(Value::Null, Value::Int8))
    }),
    strict("to_regnamespace", (1, 1), oid, |call| {
        Ok(namespace_oid(&call.scope.objects(), &call.text(0)?).map_or(Value::Null, Value::Int8))
    }),
    strict("to_regrole", (1, 1), oid, |call| {
        Ok(role_oid(&call.scope.objects(), &call.text(0)?).map_or(Value::Null, Value::Int8))
    }),
    strict("to_regproc", (1, 1), oid, |call| {
        Ok(procedure(call)?.map_or(Value::Null, Value::Int8))
    }),
    strict("__regclass_oid", (1, 1), oid, regclass),
    strict("__regclass_name", (1, 1), text, |call| {
        let oid = as_oid(regclass(call)?);
        Ok(shown(relation_name(&call.scope.objects(), oid), oid))
    }),
    strict("__regtype_oid", (1, 1), oid, regtype),
    strict("__regtype_name", (1, 1), text, |call| {
        let oid = as_oid(regtype(call)?);
        let name = format_type(oid, None);
        Ok(shown((name != "???").then_some(name), oid))
    }),
    strict("__regnamespace_oid", (1, 1), oid, regnamespace),
    strict("__regnamespace_name", (1, 1), text, |call| {
        let oid = as_oid(regnamespace(call)?);
        Ok(shown(
            namespace_name(&call.scope.objects(), oid).map(quote_ident),
            oid,
        ))
    }),
    strict("__regrole_oid", (1, 1), oid, regrole),
    strict("__regrole_name", (1, 1), text, |call| {
        let oid = as_oid(regrole(call)?);
        Ok(shown(
            role_name(&call.scope.objects(), oid).map(|name| quote_ident(&name)),
            oid,
        ))
    }),
    strict("__regproc_oid", (1, 1), oid, regproc),
    strict("__regproc_name", (1, 1), text, |call| {
        let oid = as_oid(regproc(call)?);
        Ok(shown(function_name(oid).map(str::to_owned), oid))
    }),
    strict("array_lower", (2, 2), bigint, |call| Ok(bound(call, |_| 1))),
    strict("array_upper", (2, 2), bigint, |call| {
        Ok(bound(call, |length| length))
    }),
    strict("__subscripts", (2, 2), subscripts_type, subscripts),
];

/// A view's query.
fn view_definition(call: &Call<'_>) -> Result<Value, QueryError> {
    let objects = call.scope.objects();
    let oid = match call.args.first() {
        Some(Value::Text(name)) => relation_oid(&objects, name)?.unwrap_or(0),
        _ => call.int(0)?,
    };
    let mut views = call.scope.catalog.views.values();
    let found = views.find(|v| table_oid(v.id) == oid);
    Ok(optional(found.map(|view| format!(" {};", view.query))))
}

/// The sequence that a column's numbers come from.
fn serial_sequence(call: &Call<'_>) -> Result<Value, QueryError> {
    let name = call.text(0)?;
    let objects = call.scope.objects();
    let oid = relation_oid(&objects, &name)?.ok_or_else(|| QueryError::unknown_table(&name))?;
    let table = objects
        .table(oid)
        .ok_or_else(|| QueryError::unknown_table(&name))?;
    let column = call.text(1)?;
    let position = table
        .column_index(&column)
        .ok_or_else(|| QueryError::unknown_column(&column, &table.name))?;
    let owner = Some((table.id, table.column_id(position)));
    let mut owned = call.scope.catalog.sequences.values();
    let found = owned.find(|s| s.owner == owner);
    Ok(optional(found.map(|s| {
        let (schema, name) = chronos_model::name_parts(&s.name);
        format!("{}.{}", quote_ident(schema), quote_ident(name))
    })))
}

fn subscripts_type(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Array(Box::new(DataType::Int4)))
}

fn always(_: &Call<'_>) -> Result<Value, QueryError> {
    Ok(Value::Bool(true))
}

/// For objects that do not exist here and sizes that are not kept by table.
fn nothing(_: &Call<'_>) -> Result<Value, QueryError> {
    Ok(Value::Null)
}

fn optional(value: Option<String>) -> Value {
    value.map_or(Value::Null, Value::Text)
}

/// The name of an object, or the number of one that does not exist.
fn shown(name: Option<String>, oid: i64) -> Value {
    Value::Text(name.unwrap_or_else(|| {
        if oid == 0 {
            "-".into()
        } else {
            oid.to_string()
        }
    }))
}

fn as_oid(value: Value) -> i64 {
    match value {
        Value::Int8(oid) => oid,
        Value::Int4(oid) => i64::from(oid),
        _ => 0,
    }
}

/// Relations of the search path and of `pg_catalog` are found without their schema.
fn table_is_visible(call: &Call<'_>) -> Result<Value, QueryError> {
    // Shown with its schema if it is not found without.
    let objects = call.scope.objects();
    let oid = call.int(0)?;
    Ok(match relation_name(&objects, oid) {
        None => Value::Null,
        Some(name) => match relation_full_name(&objects, oid) {
            Some(full) => Value::Bool(objects.is_visible(&full)),
            None => Value::Bool(!name.starts_with("information_schema.")),
        },
    })
}

fn formatted_type(call: &Call<'_>) -> Result<Value, QueryError> {
    if call.args[0].is_null() {
        return Ok(Value::Null);
    }
    let modifier = if call.args[1].is_null() {
        None
    } else {
        Some(call.int(1)?)
    };
    Ok(Value::Text(format_type(call.int(0)?, modifier)))
}

/// A number as it is; a text by `lookup`.
fn object(
    call: &Call<'_>,
    lookup: impl FnOnce(&str) -> Result<i64, QueryError>,
) -> Result<Value, QueryError> {
    match &call.args[0] {
        Value::Text(written) => match written.trim().parse() {
            Ok(oid) => Ok(Value::Int8(oid)),
            Err(_) if written.trim() == "-" => Ok(Value::Int8(0)),
            Err(_) => lookup(written).map(Value::Int8),
        },
        _ => Ok(Value::Int8(call.int(0)?)),
    }
}

fn regclass(call: &Call<'_>) -> Result<Value, QueryError> {
    object(call, |name| {
        relation_oid(&call.scope.objects(), name)?.ok_or_else(|| QueryError::unknown_table(name))
    })
}

fn regtype(call: &Call<'_>) -> Result<Value, QueryError> {
    object(call, |name| {
        type_oid(name).ok_or_else(|| undefined("type", name))
    })
}

fn regnamespace(call: &Call<'_>) -> Result<Value, QueryError> {
    object(call, |name| {
        let code = SqlState("3F000");
        namespace_oid(&call.scope.objects(), name)
            .ok_or_else(|| QueryError::new(code, format!("schema \"{name}\" does not exist")))
    })
}

fn regrole(call: &Call<'_>) -> Result<Value, QueryError> {
    object(call, |name| {
        role_oid(&call.scope.objects(), name).ok_or_else(|| undefined("role", name))
    })
}

fn regproc(call: &Call<'_>) -> Result<Value, QueryError> {
    object(call, |name| {
        let missing = || {
            QueryError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("function \"{name}\" does not exist"),
            )
        };
        procedure(call)?.ok_or_else(missing)
    })
}

fn procedure(call: &Call<'_>) -> Result<Option<i64>, QueryError> {
    let written = call.text(0)?;
    let name = written
        .trim()
        .trim_start_matches("pg_catalog.")
        .split('(')
        .next()
        .unwrap_or_default();
    Ok(Some(function_oid(name)).filter(|oid| *oid != 0))
}

/// A bound of an array's first dimension; arrays here have no other.
fn bound(call: &Call<'_>, of_length: fn(i64) -> i64) -> Value {
    match (&call.args[0], call.int(1)) {
        (Value::Array(items), Ok(1)) if !items.is_empty() => {
            Value::Int8(of_length(items.len() as i64))
        }
        _ => Value::Null,
    }
}

/// `generate_subscripts(array, dimension)` as an array, to be unnested.
fn subscripts(call: &Call<'_>) -> Result<Value, QueryError> {
    let Value::Array(items) = &call.args[0] else {
        return Ok(Value::Null);
    };
    if call.int(1)? != 1 {
        return Ok(Value::Array(vec![]));
    }
    Ok(Value::Array(
        (1..=items.len() as i64).map(Value::Int8).collect(),
    ))
}

/// A type's name without its parameters.
fn plain_type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Numeric(_) => "numeric".to_owned(),
        DataType::Varchar(_) => "character varying".to_owned(),
        DataType::Vector(_) => "vector".to_owned(),
        DataType::Array(item) => format!("{}[]", plain_type_name(item)),
        other => other.to_string(),
    }
}
