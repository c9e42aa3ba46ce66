//! The payload of a log entry.
//!
//! ```text
//!   write set   [format: 3] [recorded stamp: u64] [node: u32] [request: u64] [user: u8 length, bytes] [write set]
//!   blank       [0x80]
//!   membership  [0x81] [JSON]
//! ```
//!
//! Format 2 has no request, format 1 no user either. (node, request) names a proposal: the node
//! that made it finds by it who waits for the outcome.

use std::sync::Arc;

use bytes::Bytes;
use chronos_model::{Author, Decoder, NodeId, Stamp, WriteSet};

use crate::cluster::Membership;
use crate::Error;

const FIRST_FORMAT: u8 = 1;
const USER_FORMAT: u8 = 2;
const FORMAT: u8 = 3;
const BLANK: u8 = 0x80;
const MEMBERSHIP: u8 = 0x81;

const RECORDED: std::ops::Range<usize> = 1..9;
const NODE: std::ops::Range<usize> = 9..13;
const REQUEST: std::ops::Range<usize> = 13..21;
/// Before the user's name.
const HEADER_BYTES: usize = 22;

/// What an entry is.
pub(crate) enum Kind {
    WriteSet,
    /// A new leader's first entry.
    Blank,
    Membership(Membership),
}

/// Who proposed an entry and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The proposer's stamp; what is recorded may be later.
    pub(crate) recorded: Stamp,
    pub(crate) author: Author,
    /// The proposer's number for it; 0 in entries of older formats.
    pub(crate) request: u64,
    bytes: usize,
}

pub(crate) fn blank() -> Bytes {
    Bytes::from_static(&[BLANK])
}

pub(crate) fn membership(membership: &Membership) -> Bytes {
    let mut bytes = vec![MEMBERSHIP];
    // Numbers and strings always have a JSON form.
    let _ = serde_json::to_writer(&mut bytes, membership);
    bytes.into()
}

/// What an entry is, without a look at its write set.
pub(crate) fn kind(payload: &Bytes) -> Result<Kind, Error> {
    match payload.first() {
        Some(&(FIRST_FORMAT | USER_FORMAT | FORMAT)) => Ok(Kind::WriteSet),
        Some(&BLANK) => Ok(Kind::Blank),
        Some(&MEMBERSHIP) => serde_json::from_slice(&payload[1..])
            .map(Kind::Membership)
            .map_err(|_| damaged(payload, "a membership that is none")),
        _ => Err(damaged(payload, "an unknown format version")),
    }
}

fn damaged(payload: &[u8], what: &'static str) -> Error {
    Decoder::new("log entry", payload).damaged(what).into()
}

/// Encodes a write set; the stamp is filled in later.
pub(crate) fn encode(set: &WriteSet, author: &Author, request: u64) -> Result<Vec<u8>, Error> {
    let name = author.user.as_deref().unwrap_or_default().as_bytes();
    let mut payload = set.encode_behind(HEADER_BYTES + name.len())?;
    payload[0] = FORMAT;
    payload[NODE].copy_from_slice(&author.node.0.to_le_bytes());
    payload[REQUEST].copy_from_slice(&request.to_le_bytes());
    payload[HEADER_BYTES - 1] = name.len() as u8;
    payload[HEADER_BYTES..HEADER_BYTES + name.len()].copy_from_slice(name);
    Ok(payload)
}

/// Gives an encoded write set its stamp.
pub(crate) fn stamp(payload: &mut [u8], recorded: Stamp) {
    payload[RECORDED].copy_from_slice(&recorded.0.to_le_bytes());
}

/// Gives an encoded write set another request number: it is proposed anew.
pub(crate) fn renumber(payload: &mut [u8], request: u64) {
    payload[REQUEST].copy_from_slice(&request.to_le_bytes());
}

/// Who proposed a write set.
pub(crate) fn header(payload: &Bytes) -> Result<Header, Error> {
    let mut d = Decoder::new("log entry", payload);
    let format = d.u8()?;
    let recorded = Stamp(d.u64()?);
    let mut author = Author::from(NodeId(d.u32()?));
    let mut bytes = NODE.end;
    let mut request = 0;
    if format == FORMAT {
        request = d.u64()?;
        bytes = REQUEST.end;
    }
    if format != FIRST_FORMAT {
        let start = bytes + 1;
        bytes = start + usize::from(d.u8()?);
        let name = payload.get(start..bytes);
        let name = name.and_then(|name| std::str::from_utf8(name).ok());
        let name = name.ok_or_else(|| d.damaged("a user's name that is none"))?;
        author.user = Some(name).filter(|name| !name.is_empty()).map(Arc::from);
    }
    Ok(Header {
        recorded,
        author,
        request,
        bytes,
    })
}

/// The write set itself.
pub(crate) fn write_set(payload: &Bytes, header: &Header) -> Result<WriteSet, Error> {
    Ok(WriteSet::decode(&payload.slice(header.bytes..))?)
}

/// Decodes all of a payload, whatever it is.
pub(crate) fn check(payload: &Bytes) -> Result<(), Error> {
    if let Kind::WriteSet = kind(payload)? {
        write_set(payload, &header(payload)?)?;
    }
    Ok(())
}

/// As much of a user's name as an entry has room for.
pub(crate) fn shortened(user: &str) -> &str {
    &user[..user.floor_char_boundary(usize::from(u8::MAX))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_set_and_its_header_come_back() {
        let set = WriteSet {
            begin: Stamp(7),
            changes: Vec::new(),
        };
        let author = Author {
            node: NodeId(3),
            user: Some("anna".into()),
        };
        let mut payload = encode(&set, &author, 99).unwrap();
        stamp(&mut payload, Stamp(123));
        renumber(&mut payload, 100);
        let payload = Bytes::from(payload);
        assert!(matches!(kind(&payload), Ok(Kind::WriteSet)));
        let header = header(&payload).unwrap();
        assert_eq!((header.recorded, header.request), (Stamp(123), 100));
        assert_eq!(header.author, author);
        assert_eq!(write_set(&payload, &header).unwrap().begin, Stamp(7));
    }

    #[test]
    fn older_formats_are_read() {
        let set = WriteSet {
            begin: Stamp(7),
            changes: Vec::new(),
        };
        for (format, header_bytes) in [(1, 13), (2, 14)] {
            let mut payload = set.encode_behind(header_bytes).unwrap();
            payload[0] = format;
            payload[9] = 4;
            let payload = Bytes::from(payload);
            let header = header(&payload).unwrap();
            assert_eq!((header.author.node, header.request), (NodeId(4), 0));
            assert_eq!(write_set(&payload, &header).unwrap().begin, Stamp(7));
        }
    }

    #[test]
    fn damage_is_an_error() {
        for bytes in [&[][..], &[9], &[MEMBERSHIP, b'{'], &[4, 0]] {
            assert!(kind(&Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
        assert!(header(&Bytes::from_static(&[3, 0, 0])).is_err());
    }
}
