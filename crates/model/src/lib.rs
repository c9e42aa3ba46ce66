//! What every other layer of Chronos speaks of: SQL types and values, table
//! schemas, stamps, keys, row encodings and write sets.
//!
//! Nothing here reads a clock, a file or a socket, knows SQL grammar, or knows
//! how versions are stored. All encodings of this crate are on-disk formats
//! (`docs/format/model.md`) and therefore carry a version where they may change.

mod arrow;
mod catalog_type;
mod codec;
mod error;
mod foreign_key;
mod idempotency;
mod index;
mod key;
mod names;
mod options;
mod period;
mod reshape;
mod role;
mod row;
mod rules;
mod schema;
mod sequence;
mod shape;
mod stamp;
pub mod text;
mod transactions;
mod types;
mod value;
mod view;
mod write_set;

pub use arrow::{
    append_value, column_builder, columns_bytes, rows_to_batch, value_at, ColumnBuilder,
};
pub use catalog_type::CatalogType;
pub use codec::{Decoder, Encoder};
pub use error::{DataError, SqlState};
pub use foreign_key::{types_refer, Access, Deferral, ForeignKey, ReferentialAction, Target};
pub use idempotency::{
    Fingerprint, Once, Remembered, RememberedKeys, IDEMPOTENCY_KEY_BYTES_MAX, IDEMPOTENCY_TABLE,
};
pub use index::{
    CompareWith, Condition, EntryPrefix, EntryPrefixes, IndexColumn, IndexSchema, IndexState, Test,
    Uniqueness,
};
pub use key::{
    encode_key, encode_keys, key_integers, key_values, put_key_bytes, put_key_int, put_key_value,
    Key, KeyError, Keys,
};
pub use names::{
    name_beside, name_in, name_parts, own_name, plain_message, shown_name, PUBLIC_SCHEMA,
    SCHEMA_SEPARATOR,
};
pub use options::{FloatCodec, Floors, OptionChange, TableOptions};
pub use period::Period;
pub use reshape::Reshape;
pub use role::{Role, Secret, UserSchema, Users};
pub use row::{decode_column, decode_row, encode_row};
pub use rules::{CheckSchema, ColumnAttributes, Identity, PeriodBound, TableRules};
pub use schema::{
    Catalog, ColumnSchema, Comments, SystemColumn, TableId, TableSchema, HIDDEN_KEY_COLUMN,
};
pub use sequence::{Reserved, SequenceSchema};
pub use shape::{ColumnId, Shape, StoredColumn};
pub use stamp::{Hlc, NodeId, Stamp, MAX_CLOCK_SKEW_MICROS};
pub use transactions::{Author, Transaction, TransactionLog, TRANSACTIONS_TABLE};
pub use types::{DataType, FIELD_TYPE_KEY};
pub use value::{Decimal, Interval, Value};
pub use view::{ViewColumn, ViewSchema};
pub use write_set::{
    BatchChange, CatalogChange, CatalogEdit, Change, Expect, Kind, Migration, ReadSet, RowChange,
    RowChanges, WriteSet,
};
