//! COPY's binary format.
//!
//! | bytes | what |
//! |---|---|
//! | 11 | `PGCOPY\n`, 0xFF, `\r\n`, 0 |
//! | i32 | flags; from bit 16 on they change the layout, and are refused |
//! | i32 | length of an extension, which follows and is skipped |
//! | .. | rows: i16 number of fields, each an i32 length (-1: NULL) and its bytes |
//! | i16 | -1 ends it |

use bytes::Buf;

use super::copy_error::Fault;

pub(super) const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// What stands at the front of the bytes.
pub(super) enum Piece {
    /// Not all of it is there yet.
    Partial,
    /// The end mark.
    End,
    /// So many bytes.
    Whole(usize),
}

/// The header, if the bytes begin with all of it.
pub(super) fn header(bytes: &[u8]) -> Result<Piece, Fault> {
    let signature = &bytes[..bytes.len().min(SIGNATURE.len())];
    if !SIGNATURE.starts_with(signature) {
        return Err(Fault::layout("COPY file signature not recognized"));
    }
    let Some(mut rest) = bytes.get(SIGNATURE.len()..).filter(|rest| rest.len() >= 8) else {
        return Ok(Piece::Partial);
    };
    let flags = rest.get_u32();
    if flags & (1 << 16) != 0 {
        return Err(Fault::layout("invalid COPY file header (WITH OIDS)"));
    }
    if flags >> 16 != 0 {
        return Err(Fault::layout(
            "unrecognized critical flags in COPY file header",
        ));
    }
    let extension = usize::try_from(rest.get_i32())
        .map_err(|_| Fault::layout("invalid COPY file header (wrong length)"))?;
    Ok(match rest.len() < extension {
        true => Piece::Partial,
        false => Piece::Whole(SIGNATURE.len() + 8 + extension),
    })
}

/// A row of `columns` fields, if the bytes begin with all of it.
pub(super) fn row(bytes: &[u8], columns: usize) -> Result<Piece, Fault> {
    let mut rest = bytes;
    let Ok(count) = rest.try_get_i16() else {
        return Ok(Piece::Partial);
    };
    if count == -1 {
        return Ok(Piece::End);
    }
    if usize::try_from(count) != Ok(columns) {
        return Err(Fault::layout(format!(
            "row field count is {count}, expected {columns}"
        )));
    }
    for _ in 0..columns {
        let Ok(length) = rest.try_get_i32() else {
            return Ok(Piece::Partial);
        };
        let length = match length {
            -1 => 0,
            length => usize::try_from(length).map_err(|_| Fault::layout("invalid field size"))?,
        };
        if rest.len() < length {
            return Ok(Piece::Partial);
        }
        rest.advance(length);
    }
    Ok(Piece::Whole(bytes.len() - rest.len()))
}
