//! Functions of JSON values.
//!
//! Each comes as `json_..` and `jsonb_..`, which take their own type only. What is made is
//! written as `json` and, for `jsonb`, brought to normal form.

use std::borrow::Cow;

use chronos_model::{text as literals, DataType, SqlState, Value};

use super::definition::{lenient, missing, strict, text, Arguments, Call, Definition, VARIADIC};
use crate::json::{self, Creates, Kind, Node, Side};
use crate::QueryError;

/// All of them.
pub(super) const FUNCTIONS: &[Definition] = &[
    strict("json_typeof", (1, 1), text_of_json, type_name),
    strict("jsonb_typeof", (1, 1), text_of_jsonb, type_name),
    strict("json_array_length", (1, 1), int_of_json, array_length),
    strict("jsonb_array_length", (1, 1), int_of_jsonb, array_length),
    strict("json_extract_path", (2, 17), json_of_json, path),
    strict("jsonb_extract_path", (2, 17), jsonb_of_jsonb, path),
    strict("json_extract_path_text", (2, 17), text_of_json, path_text),
    strict("jsonb_extract_path_text", (2, 17), text_of_jsonb, path_text),
    strict("json_strip_nulls", (1, 1), json_of_json, |call| {
        let mut out = String::new();
        strip(&source(call, 0)?, 0, &mut out)?;
        Ok(Value::Json(out))
    }),
    strict("jsonb_strip_nulls", (1, 1), jsonb_of_jsonb, |call| {
        let source = source(call, 0)?;
        Ok(Value::Jsonb(Node::parse(&source)?.stripped().to_text()))
    }),
    strict("jsonb_pretty", (1, 1), text_of_jsonb, |call| {
        let mut out = String::new();
        Node::parse(&source(call, 0)?)?.write_pretty(0, &mut out);
        Ok(Value::Text(out))
    }),
    strict("jsonb_set", (3, 4), jsonb_changed, |call| {
        let creates = match call.args.get(3) {
            Some(_) if !call.is_true(3) => Creates::Never,
            _ => Creates::Always,
        };
        changed(call, |node, path, value| {
            json::set_at(node, path, value, creates)
        })
    }),
    strict("jsonb_insert", (3, 4), jsonb_changed, |call| {
        let side = match call.is_true(3) {
            true => Side::After,
            false => Side::Before,
        };
        changed(call, |node, path, value| {
            json::insert_at(node, path, value, side)
        })
    }),
    strict("to_json", (1, 1), json_of_any, |call| {
        Ok(Value::Json(to_json(&call.args[0], &call.types[0])?))
    }),
    strict("to_jsonb", (1, 1), jsonb_of_any, |call| {
        as_jsonb(&to_json(&call.args[0], &call.types[0])?)
    }),
    lenient("json_build_array", (0, VARIADIC), json, |call| {
        Ok(Value::Json(build_array(call)?))
    }),
    lenient("jsonb_build_array", (0, VARIADIC), jsonb, |call| {
        as_jsonb(&build_array(call)?)
    }),
    lenient("json_build_object", (0, VARIADIC), json, |call| {
        Ok(Value::Json(build_object(call)?))
    }),
    lenient("jsonb_build_object", (0, VARIADIC), jsonb, |call| {
        as_jsonb(&build_object(call)?)
    }),
    lenient("__row_json", (2, VARIADIC), json, row_object),
    // Whole rows never come so far.
    strict("row_to_json", (1, 1), no_row, |call| {
        Err(missing("row_to_json", call.types))
    }),
    strict("array_to_json", (1, 1), json_of_any, |call| {
        Ok(Value::Json(to_json(&call.args[0], &call.types[0])?))
    }),
    // What the functions that give rows are made of.
    strict("__json_items", (1, 1), jsons_of_json, items),
    strict("__jsonb_items", (1, 1), jsonbs_of_jsonb, items),
    strict("__json_item_texts", (1, 1), texts_of_json, item_texts),
    strict("__jsonb_item_texts", (1, 1), texts_of_jsonb, item_texts),
    strict("__json_object_keys", (1, 1), texts_of_json, keys),
    strict("__jsonb_object_keys", (1, 1), texts_of_jsonb, keys),
    strict("__json_values", (1, 1), jsons_of_json, values),
    strict("__jsonb_values", (1, 1), jsonbs_of_jsonb, values),
    strict("__json_value_texts", (1, 1), texts_of_json, value_texts),
    strict("__jsonb_value_texts", (1, 1), texts_of_jsonb, value_texts),
    // What the aggregates are made of.
    lenient("__json_agg_item", (1, 1), json, |call| {
        Ok(Value::Json(to_json(&call.args[0], &call.types[0])?))
    }),
    lenient("__json_agg_member", (2, 2), text, |call| {
        if call.args[0].is_null() {
            return Err(json::wrong_kind("field name must not be null"));
        }
        let mut out = String::new();
        member(call, 0, " : ", &mut out)?;
        Ok(Value::Text(out))
    }),
    strict("__json_agg", (1, 1), json, |call| {
        Ok(Value::Json(format!("[{}]", joined(call))))
    }),
    // Rows stand on lines of their own.
    strict("__json_agg_rows", (1, 1), json, |call| {
        Ok(Value::Json(format!("[{}]", joined_by(call, ", \n "))))
    }),
    strict("__jsonb_agg", (1, 1), jsonb, |call| {
        as_jsonb(&format!("[{}]", joined(call)))
    }),
    strict("__json_object_agg", (1, 1), json, |call| {
        Ok(Value::Json(format!("{{ {} }}", joined(call))))
    }),
    strict("__jsonb_object_agg", (1, 1), jsonb, |call| {
        as_jsonb(&format!("{{{}}}", joined(call)))
    }),
];

/// The functions that give rows: their names, and of each column its name (none: the
/// function's own) and the function that gives its values as an array.
pub(crate) const ROW_FUNCTIONS: &[(&str, &[(&str, &str)])] = &[
    ("json_array_elements", &[("value", "__json_items")]),
    ("jsonb_array_elements", &[("value", "__jsonb_items")]),
    (
        "json_array_elements_text",
        &[("value", "__json_item_texts")],
    ),
    (
        "jsonb_array_elements_text",
        &[("value", "__jsonb_item_texts")],
    ),
    ("regexp_matches", &[("", "__regexp_matches")]),
    ("regexp_split_to_table", &[("", "regexp_split_to_array")]),
    ("string_to_table", &[("", "string_to_array")]),
    ("json_object_keys", &[("", "__json_object_keys")]),
    ("jsonb_object_keys", &[("", "__jsonb_object_keys")]),
    (
        "json_each",
        &[("key", "__json_object_keys"), ("value", "__json_values")],
    ),
    (
        "jsonb_each",
        &[("key", "__jsonb_object_keys"), ("value", "__jsonb_values")],
    ),
    (
        "json_each_text",
        &[
            ("key", "__json_object_keys"),
            ("value", "__json_value_texts"),
        ],
    ),
    (
        "jsonb_each_text",
        &[
            ("key", "__jsonb_object_keys"),
            ("value", "__jsonb_value_texts"),
        ],
    ),
];

/// The aggregates: their names, what makes an item of the arguments, what joins the items.
pub(crate) const AGGREGATES: &[(&str, &str, &str)] = &[
    ("json_agg", "__json_agg_item", "__json_agg"),
    ("__json_agg_rows", "__json_agg_item", "__json_agg_rows"),
    ("jsonb_agg", "__json_agg_item", "__jsonb_agg"),
    ("json_object_agg", "__json_agg_member", "__json_object_agg"),
    (
        "jsonb_object_agg",
        "__json_agg_member",
        "__jsonb_object_agg",
    ),
];

/// What a function takes as its first argument, when that is a constant without a type.
pub(crate) fn first_type(name: &str) -> Option<DataType> {
    let is_ours = FUNCTIONS.iter().any(|definition| definition.name == name);
    let takes_any = name.starts_with("to_")
        || name.contains("build")
        || name.contains("_agg")
        || matches!(name, "__row_json" | "array_to_json" | "row_to_json");
    if !is_ours || takes_any {
        return None;
    }
    Some(match name.contains("jsonb") {
        true => DataType::Jsonb,
        false => DataType::Json,
    })
}

/// The type, if the first argument is of `wanted`, or a constant that is read as one.
fn taking(
    arguments: &Arguments<'_>,
    wanted: &DataType,
    returns: DataType,
) -> Result<DataType, QueryError> {
    if arguments.types.first() == Some(wanted) || arguments.is_unknown(0) {
        return Ok(returns);
    }
    Err(missing("json function", arguments.types))
}

macro_rules! taking {
    ($($name:ident: $wanted:ident -> $returns:expr;)*) => {
        $(fn $name(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
            taking(arguments, &DataType::$wanted, $returns)
        })*
    };
}

taking! {
    text_of_json: Json -> DataType::Text;
    text_of_jsonb: Jsonb -> DataType::Text;
    int_of_json: Json -> DataType::Int4;
    int_of_jsonb: Jsonb -> DataType::Int4;
    json_of_json: Json -> DataType::Json;
    jsonb_of_jsonb: Jsonb -> DataType::Jsonb;
    texts_of_json: Json -> DataType::Array(Box::new(DataType::Text));
    texts_of_jsonb: Jsonb -> DataType::Array(Box::new(DataType::Text));
    jsons_of_json: Json -> DataType::Array(Box::new(DataType::Json));
    jsonbs_of_jsonb: Jsonb -> DataType::Array(Box::new(DataType::Jsonb));
}

fn json(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Json)
}

fn jsonb(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Jsonb)
}

fn json_of_any(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    typed(arguments).map(|()| DataType::Json)
}

fn jsonb_of_any(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    typed(arguments).map(|()| DataType::Jsonb)
}

fn typed(arguments: &Arguments<'_>) -> Result<(), QueryError> {
    match arguments.is_unknown(0) {
        true => Err(QueryError::new(
            SqlState::DATATYPE_MISMATCH,
            "could not determine polymorphic type because input has type unknown",
        )),
        false => Ok(()),
    }
}

/// `(jsonb, text[], jsonb, boolean)`
fn jsonb_changed(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    let is_path = matches!(&arguments.types[1], DataType::Array(item) if item.is_text());
    let fits = (is_path || arguments.is_unknown(1))
        && (arguments.types[2] == DataType::Jsonb || arguments.is_unknown(2))
        && arguments.types.get(3).is_none_or(|t| *t == DataType::Bool);
    match fits {
        true => taking(arguments, &DataType::Jsonb, DataType::Jsonb),
        false => Err(missing("json function", arguments.types)),
    }
}

/// An argument as JSON; a constant without a type is taken for `jsonb`, whose parts
/// are those of the `json`.
fn source<'a>(call: &'a Call<'_>, position: usize) -> Result<Cow<'a, str>, QueryError> {
    match &call.args[position] {
        Value::Json(json) | Value::Jsonb(json) => Ok(Cow::Borrowed(json)),
        Value::Text(written) => match literals::parse(&DataType::Jsonb, written)? {
            Value::Jsonb(json) => Ok(Cow::Owned(json)),
            _ => Err(missing("json function", call.types)),
        },
        _ => Err(missing("json function", call.types)),
    }
}

fn as_jsonb(json: &str) -> Result<Value, QueryError> {
    Ok(literals::parse(&DataType::Jsonb, json)?)
}

fn type_name(call: &Call<'_>) -> Result<Value, QueryError> {
    Ok(Value::Text(json::kind(&source(call, 0)?).name().to_owned()))
}

fn array_length(call: &Call<'_>) -> Result<Value, QueryError> {
    let source = source(call, 0)?;
    match json::kind(&source) {
        Kind::Array => Ok(Value::Int4(json::items(&source).count() as i32)),
        Kind::Object => Err(json::wrong_kind("cannot get array length of a non-array")),
        _ => Err(json::wrong_kind("cannot get array length of a scalar")),
    }
}

/// The arguments behind the first, as steps of a path.
fn steps(call: &Call<'_>) -> Result<Vec<String>, QueryError> {
    if call.types[1..].iter().any(|t| !t.is_text()) {
        return Err(missing("json function", call.types));
    }
    (1..call.args.len()).map(|at| call.text(at)).collect()
}

fn path(call: &Call<'_>) -> Result<Value, QueryError> {
    let (source, steps) = (source(call, 0)?, steps(call)?);
    let steps: Vec<Option<&str>> = steps.iter().map(|s| Some(s.as_str())).collect();
    let found = json::get_path(&source, &steps)?;
    Ok(found.map_or(Value::Null, |found| match call.types[0] {
        DataType::Json => Value::Json(found.to_owned()),
        _ => Value::Jsonb(found.to_owned()),
    }))
}

fn path_text(call: &Call<'_>) -> Result<Value, QueryError> {
    let (source, steps) = (source(call, 0)?, steps(call)?);
    let steps: Vec<Option<&str>> = steps.iter().map(|s| Some(s.as_str())).collect();
    let found = json::get_path(&source, &steps)?;
    text_of(found)
}

fn text_of(found: Option<&str>) -> Result<Value, QueryError> {
    let found = found.map(json::scalar_text).transpose()?.flatten();
    Ok(found.map_or(Value::Null, |text| Value::Text(text.into_owned())))
}

/// Arrays and objects within each other, as the model allows.
const DEPTH_MAX: usize = 500;

/// Writes a `json` without members that are null, and without blanks.
fn strip(json: &str, depth: usize, out: &mut String) -> Result<(), QueryError> {
    if depth > DEPTH_MAX {
        return Err(QueryError::unsupported(
            "JSON nested deeper than 500 levels",
        ));
    }
    match json::kind(json) {
        Kind::Object => {
            out.push('{');
            let kept = json::members(json).filter(|(_, value)| json::kind(value) != Kind::Null);
            for (at, (key, value)) in kept.enumerate() {
                if at > 0 {
                    out.push(',');
                }
                json::quoted(&json::unquoted(key)?, out);
                out.push(':');
                strip(value, depth + 1, out)?;
            }
            out.push('}');
        }
        Kind::Array => {
            out.push('[');
            for (at, item) in json::items(json).enumerate() {
                if at > 0 {
                    out.push(',');
                }
                strip(item, depth + 1, out)?;
            }
            out.push(']');
        }
        Kind::String => json::quoted(&json::unquoted(json.trim())?, out),
        _ => out.push_str(json.trim()),
    }
    Ok(())
}

/// `jsonb_set` and its like: the first argument with the third one at the second one's place.
fn changed(
    call: &Call<'_>,
    change: impl for<'a> FnOnce(Node<'a>, &[Option<&str>], Node<'a>) -> Result<Node<'a>, QueryError>,
) -> Result<Value, QueryError> {
    let texts = DataType::Array(Box::new(DataType::Text));
    let Value::Array(path) = call.args[1].clone().coerce(&texts)? else {
        return Err(missing("json function", call.types));
    };
    let path: Vec<Option<&str>> = path
        .iter()
        .map(|step| match step {
            Value::Text(step) => Some(step.as_str()),
            _ => None,
        })
        .collect();
    let (target, value) = (source(call, 0)?, source(call, 2)?);
    let made = change(Node::parse(&target)?, &path, Node::parse(&value)?)?;
    Ok(Value::Jsonb(made.to_text()))
}

/// A value as JSON; NULL is null.
fn to_json(value: &Value, data_type: &DataType) -> Result<String, QueryError> {
    let plain = |value: &Value| match value.clone().coerce(&DataType::Text)? {
        Value::Text(text) => Ok::<String, QueryError>(text),
        _ => Ok(String::new()),
    };
    let mut out = String::new();
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
        Value::Json(json) | Value::Jsonb(json) => out.push_str(json),
        Value::Array(items) => {
            let item_type = match data_type {
                DataType::Array(item) => item.as_ref(),
                _ => &DataType::Text,
            };
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&to_json(item, item_type)?);
            }
            out.push(']');
        }
        Value::Timestamp(_) | Value::TimestampTz(_) => {
            json::quoted(&instant(&plain(value)?, data_type), &mut out)
        }
        other => {
            let written = plain(other)?;
            let is_number =
                data_type.is_number() && written.ends_with(|c: char| c.is_ascii_digit());
            match is_number {
                true => out.push_str(&written),
                false => json::quoted(&written, &mut out),
            }
        }
    }
    Ok(out)
}

/// An instant as ISO 8601 has it: with a `T`, and minutes in the offset.
fn instant(written: &str, data_type: &DataType) -> String {
    let mut out = written.replacen(' ', "T", 1);
    let offset = out.rfind(['+', '-']).map_or(0, |at| out.len() - at);
    if *data_type == DataType::TimestampTz && offset == 3 {
        out.push_str(":00");
    }
    out
}

fn build_array(call: &Call<'_>) -> Result<String, QueryError> {
    let items = call.args.iter().zip(call.types);
    let items = items
        .map(|(value, data_type)| to_json(value, data_type))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(format!("[{}]", items.join(", ")))
}

fn build_object(call: &Call<'_>) -> Result<String, QueryError> {
    if !call.args.len().is_multiple_of(2) {
        return Err(
            json::wrong_kind("argument list must have even number of elements").with_hint(
                "The arguments of json_build_object() must consist of alternating keys and values.",
            ),
        );
    }
    let mut out = String::from("{");
    for at in (0..call.args.len()).step_by(2) {
        if call.args[at].is_null() {
            return Err(
                json::wrong_kind(format!("argument {} cannot be null", at + 1))
                    .with_hint("Object keys should be text."),
            );
        }
        if at > 0 {
            out.push_str(", ");
        }
        member(call, at, " : ", &mut out)?;
    }
    out.push('}');
    Ok(out)
}

fn no_row(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    Err(missing("row_to_json", arguments.types))
}

/// A row, as PostgreSQL writes it: without blanks.
fn row_object(call: &Call<'_>) -> Result<Value, QueryError> {
    let mut out = String::from("{");
    for at in (0..call.args.len() - 1).step_by(2) {
        if at > 0 {
            out.push(',');
        }
        member(call, at, ":", &mut out)?;
    }
    out.push('}');
    Ok(Value::Json(out))
}

/// Writes the arguments at `at` and behind it as a member of an object.
fn member(call: &Call<'_>, at: usize, colon: &str, out: &mut String) -> Result<(), QueryError> {
    if matches!(
        call.args[at],
        Value::Json(_) | Value::Jsonb(_) | Value::Array(_)
    ) {
        return Err(json::wrong_kind(
            "key value must be scalar, not array, composite, or json",
        ));
    }
    let key = match &call.args[at] {
        Value::Timestamp(_) | Value::TimestampTz(_) => instant(&call.text(at)?, &call.types[at]),
        Value::Bool(v) => v.to_string(),
        _ => call.text(at)?,
    };
    json::quoted(&key, out);
    out.push_str(colon);
    out.push_str(&to_json(&call.args[at + 1], &call.types[at + 1])?);
    Ok(())
}

fn joined(call: &Call<'_>) -> String {
    joined_by(call, ", ")
}

fn joined_by(call: &Call<'_>, comma: &str) -> String {
    let Value::Array(items) = &call.args[0] else {
        return String::new();
    };
    let texts = items.iter().map(|item| match item {
        Value::Text(json) | Value::Json(json) | Value::Jsonb(json) => json.as_str(),
        _ => "null",
    });
    texts.collect::<Vec<_>>().join(comma)
}

/// A part as a value of the type of the whole.
fn part(call: &Call<'_>, json: &str) -> Value {
    match call.types[0] {
        DataType::Json => Value::Json(json.to_owned()),
        _ => Value::Jsonb(json.to_owned()),
    }
}

fn check_array(json: &str) -> Result<(), QueryError> {
    match json::kind(json) {
        Kind::Array => Ok(()),
        Kind::Object => Err(json::wrong_kind("cannot extract elements from an object")),
        _ => Err(json::wrong_kind("cannot extract elements from a scalar")),
    }
}

fn items(call: &Call<'_>) -> Result<Value, QueryError> {
    let source = source(call, 0)?;
    check_array(&source)?;
    Ok(Value::Array(
        json::items(&source).map(|item| part(call, item)).collect(),
    ))
}

fn item_texts(call: &Call<'_>) -> Result<Value, QueryError> {
    let source = source(call, 0)?;
    check_array(&source)?;
    let texts = json::items(&source).map(|item| text_of(Some(item)));
    Ok(Value::Array(texts.collect::<Result<_, _>>()?))
}

fn check_object(json: &str) -> Result<(), QueryError> {
    match json::kind(json) {
        Kind::Object => Ok(()),
        Kind::Array => Err(json::wrong_kind("cannot deconstruct an array as an object")),
        _ => Err(json::wrong_kind("cannot deconstruct a scalar")),
    }
}

fn keys(call: &Call<'_>) -> Result<Value, QueryError> {
    let source = source(call, 0)?;
    check_object(&source)?;
    let keys =
        json::members(&source).map(|(key, _)| Ok(Value::Text(json::unquoted(key)?.into_owned())));
    Ok(Value::Array(keys.collect::<Result<_, QueryError>>()?))
}

fn values(call: &Call<'_>) -> Result<Value, QueryError> {
    let source = source(call, 0)?;
    check_object(&source)?;
    let values = json::members(&source).map(|(_, value)| part(call, value));
    Ok(Value::Array(values.collect()))
}

fn value_texts(call: &Call<'_>) -> Result<Value, QueryError> {
    let source = source(call, 0)?;
    check_object(&source)?;
    let texts = json::members(&source).map(|(_, value)| text_of(Some(value)));
    Ok(Value::Array(texts.collect::<Result<_, _>>()?))
}
