//! The rows of a batch as an Arrow IPC stream: a schema, one record batch, an end mark.
//!
//! Arrow's reader trusts what it is given: wrong bytes may make it panic, or allocate what a
//! length in them says. So the lengths are compared with what is there before it
//! begins, and a panic of it is an error here. The log's checksums stand before all this.

use std::io::Cursor;
use std::panic::{catch_unwind, AssertUnwindSafe};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::root_as_message;

/// Marks the beginning of a message.
const CONTINUATION: u32 = u32::MAX;

/// Decodes the batch; `None`: these bytes are no batch that was encoded.
pub(super) fn decode(stream: &[u8]) -> Option<RecordBatch> {
    if !lengths_fit(stream) {
        return None;
    }
    let read = || {
        let mut reader = StreamReader::try_new(Cursor::new(stream), None).ok()?;
        reader.next()?.ok()
    };
    catch_unwind(AssertUnwindSafe(read)).ok().flatten()
}

/// Whether every message of the stream, and its body, ends within it.
fn lengths_fit(mut stream: &[u8]) -> bool {
    loop {
        let Some((head, rest)) = stream.split_first_chunk::<8>() else {
            return stream.is_empty();
        };
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = word(4) as usize;
        if word(0) != CONTINUATION {
            return false;
        }
        if length == 0 {
            // The end mark.
            return true;
        }
        let Some((message, rest)) = rest.split_at_checked(length) else {
            return false;
        };
        let Ok(message) = root_as_message(message) else {
            return false;
        };
        let body = usize::try_from(message.bodyLength()).ok();
        match body.and_then(|body| rest.get(body..)) {
            Some(rest) => stream = rest,
            None => return false,
        }
    }
}
