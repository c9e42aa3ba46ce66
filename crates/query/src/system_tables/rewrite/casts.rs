//! Casts to object identifiers and to types that are others here.

use datafusion::sql::sqlparser::ast::{self, Expr, ObjectName};

use super::expressions::{call, null, take};
use super::{schema_and_name, unqualify};

/// What a cast to one of PostgreSQL's catalog types becomes.
pub(super) enum Target {
    /// Another type.
    Type(ast::DataType),
    /// An object identifier: the stem of our functions' names.
    Object(&'static str),
}

pub(super) fn target(data_type: &ast::DataType) -> Option<Target> {
    let text = || Some(Target::Type(ast::DataType::Text));
    match data_type {
        ast::DataType::Regclass => Some(Target::Object("regclass")),
        ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(item, size)) => {
            match target(item)? {
                Target::Type(item) => Some(Target::Type(ast::DataType::Array(
                    ast::ArrayElemTypeDef::SquareBracket(Box::new(item), *size),
                ))),
                Target::Object(_) => None,
            }
        }
        ast::DataType::Custom(name, _) => {
            let (schema, name) = schema_and_name(name)?;
            match name.as_str() {
                "oid" | "xid" | "cid" | "cardinal_number" => {
                    Some(Target::Type(ast::DataType::Int4(None)))
                }
                "name" | "cstring" | "unknown" | "sql_identifier" | "character_data"
                | "yes_or_no" | "pg_node_tree" | "aclitem" => text(),
                "char" if schema.is_some() || data_type.to_string().contains('"') => text(),
                "regclass" => Some(Target::Object("regclass")),
                "regtype" => Some(Target::Object("regtype")),
                "regnamespace" => Some(Target::Object("regnamespace")),
                "regrole" => Some(Target::Object("regrole")),
                "regproc" | "regprocedure" => Some(Target::Object("regproc")),
                "regoper" | "regoperator" => Some(Target::Object("regoper")),
                "regconfig" | "regdictionary" | "regcollation" => {
                    Some(Target::Type(ast::DataType::Int4(None)))
                }
                "int2vector" | "oidvector" => {
                    let item = if name == "int2vector" {
                        ast::DataType::Int2(None)
                    } else {
                        ast::DataType::Int4(None)
                    };
                    Some(Target::Type(ast::DataType::Array(
                        ast::ArrayElemTypeDef::SquareBracket(Box::new(item), None),
                    )))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// A cast to an object identifier or a type that is another here.
pub(super) fn cast(expr: &mut Expr) {
    let Expr::Cast {
        expr: inner,
        data_type,
        ..
    } = expr
    else {
        return;
    };
    if let ast::DataType::Custom(name, _) = data_type {
        unqualify(name);
    }
    match target(data_type) {
        Some(Target::Object(stem)) => *expr = call(&format!("__{stem}_oid"), vec![take(inner)]),
        Some(Target::Type(other)) => *data_type = other,
        None => {}
    }
    let Expr::Cast {
        expr: inner,
        data_type,
        ..
    } = expr
    else {
        return;
    };
    if matches!(
        data_type,
        ast::DataType::Text | ast::DataType::Varchar(_) | ast::DataType::CharacterVarying(_)
    ) || is_text(data_type)
    {
        show_again(inner);
    }
}

pub(super) fn is_text(data_type: &ast::DataType) -> bool {
    matches!(data_type, ast::DataType::Custom(name, _) if schema_and_name(name).is_some_and(|(_, n)| n == "text" || n == "varchar"))
}

/// An object id that was rewritten and is to be shown after all.
pub(super) fn show_again(expr: &mut Expr) {
    let Expr::Function(function) = expr else {
        return;
    };
    let name = function.name.to_string();
    let stem = match name.strip_prefix("__").and_then(|n| n.strip_suffix("_oid")) {
        Some(stem) => Some(stem),
        None => object_of(&name),
    };
    if let Some(stem) = stem {
        function.name = ObjectName::from(vec![ast::Ident::new(format!("__{stem}_name"))]);
    }
}

/// A cast to an object identifier at the top of a SELECT list shows the name.
pub(super) fn show_object(expr: &mut Expr) {
    match expr {
        Expr::Cast {
            expr: inner,
            data_type,
            ..
        } => {
            if let Some(Target::Object(stem)) = target(data_type) {
                *expr = call(&format!("__{stem}_name"), vec![take(inner)]);
            }
        }
        Expr::Function(function) => {
            let name = schema_and_name(&function.name)
                .map(|(_, name)| name)
                .unwrap_or_default();
            let Some(stem) = object_of(&name) else {
                return;
            };
            let inner = std::mem::replace(expr, null());
            *expr = call(&format!("__{stem}_name"), vec![inner]);
        }
        _ => {}
    }
}

/// The stem of what `to_regclass` and its like give.
fn object_of(function: &str) -> Option<&'static str> {
    Some(match function {
        "to_regclass" => "regclass",
        "to_regtype" => "regtype",
        "to_regnamespace" => "regnamespace",
        "to_regrole" => "regrole",
        "to_regproc" => "regproc",
        _ => return None,
    })
}
