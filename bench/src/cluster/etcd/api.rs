//! The part of etcd's API v3 that is used, written by hand: messages with the field numbers of `rpc.proto` and
//! `kv.proto` (etcd 3.4), and only the fields that are sent or looked at. Unknown fields are skipped.

use prost::{Message, Oneof};

/// Paths of the calls.
pub(super) const PUT: &str = "/etcdserverpb.KV/Put";
/// Reads.
pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
/// Several operations at once.
pub(super) const TXN: &str = "/etcdserverpb.KV/Txn";
/// About a member.
pub(super) const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// In front of every answer.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseHeader {
    /// Who answered.
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
}

/// A pair.
#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    /// Its key.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    /// Its value.
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
}

/// Stores a pair.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PutRequest {
    /// Its key.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    /// Its value.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// Stored.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PutResponse {
    /// Who answered.
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
}

/// Reads one key, or those in `[key, range_end)`; linearizable, since `serializable` (tag 7) is not sent.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    /// Where the range ends; empty for one key.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) range_end: Vec<u8>,
    /// Whether only their number is wanted.
    #[prost(bool, tag = "9")]
    pub(super) count_only: bool,
}

/// What there is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    /// The pairs.
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
    /// How many there are.
    #[prost(int64, tag = "4")]
    pub(super) count: i64,
}

/// Operations that take effect together.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnRequest {
    /// What is done, there being no condition.
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
}

/// One of them.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestOp {
    /// Which.
    #[prost(oneof = "Request", tags = "2")]
    pub(super) request: Option<Request>,
}

/// The kinds of operations that are used.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Request {
    /// Stores a pair.
    #[prost(message, tag = "2")]
    Put(PutRequest),
}

/// Whether it took effect.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnResponse {
    /// Whether `success` was done.
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
}

/// Asks a member about itself.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusRequest {}

/// A member's answer.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusResponse {
    /// Who answered.
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    /// Its version.
    #[prost(string, tag = "2")]
    pub(super) version: String,
    /// Whom it takes for the leader; 0 for nobody.
    #[prost(uint64, tag = "4")]
    pub(super) leader: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_bytes_of_the_protocol() {
        let put = PutRequest {
            key: vec![7],
            value: vec![8, 9],
        };
        assert_eq!(put.encode_to_vec(), [0x0a, 1, 7, 0x12, 2, 8, 9]);
        let request = Some(Request::Put(put));
        let txn = TxnRequest {
            success: vec![RequestOp { request }],
        };
        let bytes = txn.encode_to_vec();
        assert_eq!(bytes[..4], [0x12, 9, 0x12, 7]);
        // A header with cluster 1 and member 2, a field that is not known here, and the leader 3.
        let status =
            StatusResponse::decode(&[0x0a, 4, 8, 1, 16, 2, 0x18, 99, 0x20, 3][..]).unwrap();
        assert_eq!((status.header.unwrap().member_id, status.leader), (2, 3));
    }
}
