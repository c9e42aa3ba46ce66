//! Operators on JSON: which there are, and their kernels.
//!
//! A kernel takes slices of a text where that is enough. A right operand is parsed again
//! only where it differs from that of the row before: a constant is parsed once a batch.

use std::sync::Arc;

use arrow_array::builder::{BinaryViewBuilder, StringViewBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, ListArray, StringViewArray};
use arrow_schema::{DataType as Arrow, FieldRef};
use chronos_model::DataType;
use datafusion::error::Result as DfResult;
use datafusion::functions_nested::expr_fn::make_array;
use datafusion::logical_expr::planner::RawFieldAccessExpr;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, GetFieldAccess, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::engine::casts;
use crate::functions::columnar;
use crate::json::{self, Node};
use crate::QueryError;

/// What the right side of an operator on JSON is when it has no type of its own; `None`:
/// the operator is none on JSON.
pub(super) fn right_type(op: Operator, left: &DataType) -> Option<DataType> {
    use Operator as O;
    let texts = || DataType::Array(Box::new(DataType::Text));
    match (op, left) {
        (O::Arrow | O::LongArrow, DataType::Json | DataType::Jsonb) => Some(DataType::Text),
        (O::HashArrow | O::HashLongArrow, DataType::Json | DataType::Jsonb) => Some(texts()),
        (O::Question | O::Minus, DataType::Jsonb) => Some(DataType::Text),
        (O::QuestionAnd | O::QuestionPipe | O::HashMinus, DataType::Jsonb) => Some(texts()),
        (O::AtArrow | O::ArrowAt | O::StringConcat, DataType::Jsonb) => Some(DataType::Jsonb),
        _ => None,
    }
}

/// Whether an operator is one on JSON and on nothing else.
pub(super) fn is_json_only(op: Operator) -> bool {
    matches!(
        op,
        Operator::Arrow
            | Operator::LongArrow
            | Operator::HashArrow
            | Operator::HashLongArrow
            | Operator::HashMinus
            | Operator::Question
            | Operator::QuestionAnd
            | Operator::QuestionPipe
    )
}

/// A parameter as a value of a type.
pub(super) fn parameter_as(parameter: &Expr, data_type: &DataType) -> Expr {
    let field = Arc::new(data_type.to_result_field("", true));
    Expr::Cast(Cast::new_from_field(Box::new(parameter.clone()), field))
}

/// `left op right`; `None`: there is no such operator on JSON.
pub(super) fn apply(
    op: Operator,
    left: Expr,
    l: &DataType,
    right: Expr,
    r: &DataType,
) -> Option<Expr> {
    use DataType as T;
    let is_texts = |t: &T| matches!(t, T::Array(item) if item.is_text());
    let is_json = matches!(l, T::Json | T::Jsonb);
    let is_jsonb = *l == T::Jsonb;
    let kernel = match op {
        Operator::Arrow if is_json && r.is_text() => Kernel::Get,
        Operator::Arrow if is_json && r.is_integer() => Kernel::GetPosition(Scalars::of(l)),
        Operator::LongArrow if is_json && r.is_text() => Kernel::GetText,
        Operator::LongArrow if is_json && r.is_integer() => Kernel::GetPositionText(Scalars::of(l)),
        Operator::HashArrow if is_json && is_texts(r) => Kernel::Path,
        Operator::HashLongArrow if is_json && is_texts(r) => Kernel::PathText,
        Operator::Question if is_jsonb && r.is_text() => Kernel::HasKey,
        Operator::QuestionPipe if is_jsonb && is_texts(r) => Kernel::HasAny,
        Operator::QuestionAnd if is_jsonb && is_texts(r) => Kernel::HasAll,
        Operator::AtArrow if is_jsonb && *r == T::Jsonb => Kernel::Contains,
        Operator::ArrowAt if is_jsonb && *r == T::Jsonb => {
            return Some(Kernel::Contains.call(vec![right, left]))
        }
        Operator::StringConcat if is_jsonb && *r == T::Jsonb => Kernel::Concat,
        Operator::Minus if is_jsonb && r.is_text() => Kernel::DeleteKey,
        Operator::Minus if is_jsonb && r.is_integer() => Kernel::DeletePosition,
        Operator::Minus if is_jsonb && is_texts(r) => Kernel::DeleteKeys,
        Operator::HashMinus if is_jsonb && is_texts(r) => Kernel::DeletePath,
        _ => return None,
    };
    Some(kernel.call(vec![left, right]))
}

/// `j['key']`, `j[0]`: as `j #> ARRAY['key']`. `None`: a slice.
pub(super) fn subscript(raw: &RawFieldAccessExpr) -> Option<Expr> {
    let key = match &raw.field_access {
        GetFieldAccess::NamedStructField { name } => Expr::Literal(name.clone(), None),
        GetFieldAccess::ListIndex { key } => key.as_ref().clone(),
        GetFieldAccess::ListRange { .. } => return None,
    };
    let path = make_array(vec![casts::call(key, DataType::Text)]);
    Some(Kernel::Path.call(vec![raw.expr.clone(), path]))
}

/// What values of `jsonb` compare by.
pub(in crate::engine) fn jsonb_key(value: Expr) -> Expr {
    Kernel::Key.call(vec![value])
}

/// What a position is looked for in, when it is neither array nor object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scalars {
    HaveNoItems,
    /// A `jsonb` that is a scalar is stored as an array of it, which its subscripts show.
    AreItems,
}

impl Scalars {
    fn of(data_type: &DataType) -> Scalars {
        match data_type {
            DataType::Jsonb => Scalars::AreItems,
            _ => Scalars::HaveNoItems,
        }
    }

    fn get(self, json: &str, position: i64) -> Option<&str> {
        if self == Scalars::AreItems && json::kind(json).is_scalar() {
            return matches!(position, 0 | -1).then_some(json);
        }
        json::get_position(json, position)
    }
}

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kernel {
    Get,
    GetText,
    GetPosition(Scalars),
    GetPositionText(Scalars),
    Path,
    PathText,
    HasKey,
    HasAny,
    HasAll,
    Contains,
    Concat,
    DeleteKey,
    DeleteKeys,
    DeletePosition,
    DeletePath,
    Key,
}

impl Kernel {
    fn name(self) -> &'static str {
        match self {
            Kernel::Get => "json_get",
            Kernel::GetText => "json_get_text",
            Kernel::GetPosition(_) => "json_get_position",
            Kernel::GetPositionText(_) => "json_get_position_text",
            Kernel::Path => "json_path",
            Kernel::PathText => "json_path_text",
            Kernel::HasKey => "jsonb_has_key",
            Kernel::HasAny => "jsonb_has_any",
            Kernel::HasAll => "jsonb_has_all",
            Kernel::Contains => "jsonb_contains",
            Kernel::Concat => "jsonb_concat",
            Kernel::DeleteKey => "jsonb_delete_key",
            Kernel::DeleteKeys => "jsonb_delete_keys",
            Kernel::DeletePosition => "jsonb_delete_position",
            Kernel::DeletePath => "jsonb_delete_path",
            Kernel::Key => "jsonb_key",
        }
    }

    fn call(self, args: Vec<Expr>) -> Expr {
        let signature = Signature::any(args.len(), Volatility::Immutable);
        let kernel = self;
        ScalarUDF::new_from_impl(Computed { kernel, signature }).call(args)
    }

    fn returns(self, left: DataType) -> DataType {
        match self {
            Kernel::Get | Kernel::GetPosition(_) | Kernel::Path => left,
            Kernel::GetText | Kernel::GetPositionText(_) | Kernel::PathText => DataType::Text,
            Kernel::HasKey | Kernel::HasAny | Kernel::HasAll | Kernel::Contains => DataType::Bool,
            Kernel::Key => DataType::Bytea,
            _ => DataType::Jsonb,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Computed {
    kernel: Kernel,
    signature: Signature,
}

impl ScalarUDFImpl for Computed {
    fn name(&self) -> &str {
        self.kernel.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[Arrow]) -> DfResult<Arrow> {
        Ok(self.kernel.returns(DataType::Json).to_arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let returns = self.kernel.returns(DataType::of_field(&args.arg_fields[0]));
        Ok(Arc::new(returns.to_result_field(self.kernel.name(), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        columnar(args, |columns, _, rows| {
            evaluate(self.kernel, columns, rows)
        })
    }
}

fn in_layout(column: &ArrayRef, wanted: &Arrow) -> Result<ArrayRef, QueryError> {
    if column.data_type() == wanted {
        return Ok(Arc::clone(column));
    }
    arrow_cast::cast(column, wanted)
        .map_err(|e| QueryError::from(datafusion::error::DataFusionError::from(e)))
}

fn evaluate(kernel: Kernel, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef, QueryError> {
    let left = in_layout(&columns[0], &Arrow::Utf8View)?;
    let left = left.as_string_view();
    match kernel {
        Kernel::Key => keys(left),
        Kernel::GetPosition(_) | Kernel::GetPositionText(_) | Kernel::DeletePosition => {
            let right = in_layout(&columns[1], &Arrow::Int64)?;
            let right = right.as_primitive::<Int64Type>();
            let of = |row: usize| right.is_valid(row).then(|| right.value(row));
            match kernel {
                Kernel::DeletePosition => texts(left, rows, of, |json, position, out| {
                    let node = json::delete_position(Node::parse(json)?, position)?;
                    out.append_value(node.to_text());
                    Ok(())
                }),
                Kernel::GetPositionText(scalars) => texts(left, rows, of, |json, position, out| {
                    append_scalar(scalars.get(json, position), out)
                }),
                Kernel::GetPosition(scalars) => texts(left, rows, of, |json, position, out| {
                    out.append_option(scalars.get(json, position));
                    Ok(())
                }),
                _ => Err(QueryError::unsupported("an operator on JSON")),
            }
        }
        Kernel::Path
        | Kernel::PathText
        | Kernel::HasAny
        | Kernel::HasAll
        | Kernel::DeleteKeys
        | Kernel::DeletePath => {
            let right = in_layout(
                &columns[1],
                &DataType::Array(Box::new(DataType::Text)).to_arrow(),
            )?;
            by_texts(kernel, left, right.as_list::<i32>(), rows)
        }
        _ => {
            let right = in_layout(&columns[1], &Arrow::Utf8View)?;
            by_text(kernel, left, right.as_string_view(), rows)
        }
    }
}

/// Row by row, NULL where one side is.
fn texts<R>(
    left: &StringViewArray,
    rows: usize,
    right: impl Fn(usize) -> Option<R>,
    mut f: impl FnMut(&str, R, &mut StringViewBuilder) -> Result<(), QueryError>,
) -> Result<ArrayRef, QueryError> {
    let mut out = StringViewBuilder::with_capacity(rows);
    for row in 0..rows {
        match right(row).filter(|_| left.is_valid(row)) {
            Some(right) => f(left.value(row), right, &mut out)?,
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// Row by row, NULL where one side is.
fn conditions<'a, R>(
    left: &'a StringViewArray,
    rows: usize,
    right: impl Fn(usize) -> Option<R>,
    mut f: impl FnMut(&'a str, R) -> Result<bool, QueryError>,
) -> Result<ArrayRef, QueryError> {
    let held: BooleanArray = (0..rows)
        .map(|row| {
            let right = right(row).filter(|_| left.is_valid(row));
            right.map(|right| f(left.value(row), right)).transpose()
        })
        .collect::<Result<_, _>>()?;
    Ok(Arc::new(held))
}

fn append_scalar(found: Option<&str>, out: &mut StringViewBuilder) -> Result<(), QueryError> {
    match found.map(json::scalar_text).transpose()?.flatten() {
        Some(text) => out.append_value(text),
        None => out.append_null(),
    }
    Ok(())
}

/// Operators whose right side is a text or a `jsonb`.
fn by_text(
    kernel: Kernel,
    left: &StringViewArray,
    right: &StringViewArray,
    rows: usize,
) -> Result<ArrayRef, QueryError> {
    let of = |row: usize| right.is_valid(row).then(|| right.value(row));
    match kernel {
        Kernel::Get => texts(left, rows, of, |json, key, out| {
            out.append_option(json::get(json, key)?);
            Ok(())
        }),
        Kernel::GetText => texts(left, rows, of, |json, key, out| {
            append_scalar(json::get(json, key)?, out)
        }),
        Kernel::DeleteKey => texts(left, rows, of, |json, key, out| {
            let node = json::delete_key(Node::parse(json)?, key)?;
            out.append_value(node.to_text());
            Ok(())
        }),
        Kernel::Concat => texts(left, rows, of, |json, other, out| {
            let node = json::concat(Node::parse(json)?, Node::parse(other)?)?;
            out.append_value(node.to_text());
            Ok(())
        }),
        Kernel::HasKey => conditions(left, rows, of, json::has_key),
        _ => {
            let (mut whole, mut part) = (Parsed::default(), Parsed::default());
            conditions(left, rows, of, |json, other| {
                Ok(whole.of(json)?.contains(part.of(other)?))
            })
        }
    }
}

/// The value that was parsed last.
#[derive(Default)]
struct Parsed<'a>(Option<(&'a str, Node<'a>)>);

impl<'a> Parsed<'a> {
    fn of(&mut self, json: &'a str) -> Result<&Node<'a>, QueryError> {
        let kept = self.0.take().filter(|(text, _)| *text == json);
        let kept = match kept {
            Some(kept) => kept,
            None => (json, Node::parse(json)?),
        };
        Ok(&self.0.insert(kept).1)
    }
}

/// Operators whose right side is an array of texts.
fn by_texts(
    kernel: Kernel,
    left: &StringViewArray,
    right: &ListArray,
    rows: usize,
) -> Result<ArrayRef, QueryError> {
    let items = right.values().as_string_view();
    let of = |row: usize| {
        right.is_valid(row).then(|| {
            let (from, to) = (right.value_offsets()[row], right.value_offsets()[row + 1]);
            (from as usize..to as usize)
                .map(|at| items.is_valid(at).then(|| items.value(at)))
                .collect::<Vec<_>>()
        })
    };
    match kernel {
        Kernel::Path => texts(left, rows, of, |json, path, out| {
            out.append_option(json::get_path(json, &path)?);
            Ok(())
        }),
        Kernel::PathText => texts(left, rows, of, |json, path, out| {
            append_scalar(json::get_path(json, &path)?, out)
        }),
        Kernel::DeletePath => texts(left, rows, of, |json, path, out| {
            out.append_value(json::delete_path(Node::parse(json)?, &path)?.to_text());
            Ok(())
        }),
        Kernel::DeleteKeys => texts(left, rows, of, |json, keys, out| {
            let node = keys
                .into_iter()
                .flatten()
                .try_fold(Node::parse(json)?, json::delete_key)?;
            out.append_value(node.to_text());
            Ok(())
        }),
        Kernel::HasAny => conditions(left, rows, of, |json, keys| {
            keys.into_iter()
                .flatten()
                .try_fold(false, |found, key| Ok(found || json::has_key(json, key)?))
        }),
        _ => conditions(left, rows, of, |json, keys| {
            keys.into_iter()
                .flatten()
                .try_fold(true, |found, key| Ok(found && json::has_key(json, key)?))
        }),
    }
}

fn keys(values: &StringViewArray) -> Result<ArrayRef, QueryError> {
    let mut out = BinaryViewBuilder::with_capacity(values.len());
    for value in values {
        match value {
            Some(json) => out.append_value(json::key(json)?),
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}
