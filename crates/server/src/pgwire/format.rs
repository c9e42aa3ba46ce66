//! Stand-in for the encoders that branch `text` brings as `format/`.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::{BufMut, BytesMut};
use chronos_model::{text, value_at, DataError, DataType, SqlState, TableSchema, Value};
use chronos_node::CopyOptions;

/// Text or binary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldFormat {
    /// Code 0.
    Text,
    /// Code 1.
    Binary,
}

/// Encodes rows.
pub struct RowEncoder {
    types: Vec<DataType>,
    formats: Vec<FieldFormat>,
}

impl RowEncoder {
    /// Of these columns.
    pub fn new(schema: &SchemaRef, formats: &[FieldFormat]) -> RowEncoder {
        let types = schema.fields().iter().map(|f| DataType::of_field(f));
        RowEncoder {
            types: types.collect(),
            formats: formats.to_vec(),
        }
    }

    /// All rows.
    pub fn encode_batch(
        &mut self,
        batch: &RecordBatch,
        out: &mut BytesMut,
    ) -> Result<usize, DataError> {
        for row in 0..batch.num_rows() {
            let values = self
                .types
                .iter()
                .zip(batch.columns())
                .map(|(t, c)| value_at(c, row, t))
                .collect::<Result<Vec<_>, _>>()?;
            encode_values(&values, &self.types, &self.formats, out)?;
        }
        Ok(batch.num_rows())
    }
}

/// One row.
pub fn encode_values(
    values: &[Value],
    _types: &[DataType],
    _formats: &[FieldFormat],
    out: &mut BytesMut,
) -> Result<(), DataError> {
    out.put_u8(b'D');
    let start = out.len();
    out.put_u32(0);
    out.put_u16(values.len() as u16);
    for value in values {
        if value.is_null() {
            out.put_i32(-1);
            continue;
        }
        let text = text::format(value);
        out.put_i32(text.len() as i32);
        out.put_slice(text.as_bytes());
    }
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// One parameter.
pub fn decode_parameter(
    bytes: Option<&[u8]>,
    _format: FieldFormat,
    data_type: &DataType,
) -> Result<Value, DataError> {
    match bytes {
        None => Ok(Value::Null),
        Some(bytes) => text::parse(data_type, &String::from_utf8_lossy(bytes)),
    }
}

/// Why COPY data could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CopyError {
    /// SQLSTATE.
    pub code: SqlState,
    /// What was wrong.
    pub message: String,
    /// Where.
    pub context: String,
}

/// Reads COPY data.
pub struct CopyDecoder {}

impl CopyDecoder {
    /// Of these columns.
    pub fn new(_options: &CopyOptions, _table: &TableSchema, _columns: &[usize]) -> CopyDecoder {
        CopyDecoder {}
    }
    /// A piece.
    pub fn push(&mut self, _data: &[u8]) -> Result<(), CopyError> {
        Ok(())
    }
    /// Rows so far.
    pub fn next_batch(&mut self) -> Option<RecordBatch> {
        None
    }
    /// The end.
    pub fn finish(&mut self) -> Result<(), CopyError> {
        Ok(())
    }
}

/// Writes COPY data.
pub struct CopyEncoder {}

impl CopyEncoder {
    /// Of these columns.
    pub fn new(_options: &CopyOptions, _schema: &SchemaRef) -> CopyEncoder {
        CopyEncoder {}
    }
    /// Rows.
    pub fn encode_batch(
        &mut self,
        batch: &RecordBatch,
        _out: &mut BytesMut,
    ) -> Result<usize, DataError> {
        Ok(batch.num_rows())
    }
    /// The end.
    pub fn finish(&mut self, _out: &mut BytesMut) -> Result<(), DataError> {
        Ok(())
    }
}
