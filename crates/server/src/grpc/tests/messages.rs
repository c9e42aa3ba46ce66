//! Every message goes over the wire and comes back as it was; and the generated code is that of the
//! `.proto` file.

use std::fmt::{Debug, Write as _};
use std::num::NonZeroU64;

use bytes::Bytes;
use chronos_node::cluster::{
    AdminReply, AdminRequest, AppendReply, AppendRequest, Ballot, CheckpointOffer, GroupId,
    LogEntry, LogIndex, LogPosition, Member, NodeNumber, OfferReply, ProposeReply, ReadIndexReply,
    ReadIndexRequest, Term, TransferRequest, VoteReply, VoteRequest,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use sha2::{Digest as _, Sha256};

use crate::grpc::convert::{propose_reply, proposed, transfer_reply, transferred, Malformed};
use crate::grpc::{pb, DESCRIPTORS};

fn node() -> impl Strategy<Value = NodeNumber> {
    any::<u32>().prop_map(NodeNumber)
}

fn position() -> impl Strategy<Value = LogPosition> {
    any::<(u64, u64)>().prop_map(|(term, index)| LogPosition { term, index })
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (any::<u64>(), node(), any::<bool>()).prop_map(|(term, node, elected)| Ballot {
        term,
        node,
        elected,
    })
}

fn vote_request() -> impl Strategy<Value = VoteRequest> {
    (ballot(), option::of(position()), any::<bool>()).prop_map(|(ballot, last, transfer)| {
        VoteRequest {
            ballot,
            last,
            transfer,
        }
    })
}

fn vote_reply() -> impl Strategy<Value = VoteReply> {
    (ballot(), option::of(position()), any::<bool>()).prop_map(|(ballot, last, granted)| {
        VoteReply {
            ballot,
            granted,
            last,
        }
    })
}

fn entry() -> impl Strategy<Value = LogEntry> {
    (any::<(u32, u64, u64)>(), vec(any::<u8>(), 0..50)).prop_map(|((group, term, index), bytes)| {
        LogEntry {
            group: GroupId(group),
            term: Term(term),
            index: LogIndex(index),
            payload: bytes.into(),
        }
    })
}

fn append_request() -> impl Strategy<Value = AppendRequest> {
    let places = (option::of(position()), option::of(position()));
    let said = (ballot(), any::<u32>());
    (said, places, vec(entry(), 0..5)).prop_map(|(said, (previous, committed), entries)| {
        AppendRequest {
            ballot: said.0,
            previous,
            entries,
            committed,
            election_timeout_ms: said.1,
        }
    })
}

fn append_reply() -> impl Strategy<Value = AppendReply> {
    prop_oneof![
        option::of(position()).prop_map(AppendReply::Matched),
        position().prop_map(AppendReply::Conflict),
        ballot().prop_map(AppendReply::HigherBallot),
    ]
}

fn transfer_request() -> impl Strategy<Value = TransferRequest> {
    (ballot(), node(), option::of(position())).prop_map(|(from, to, last)| TransferRequest {
        from,
        to,
        last,
    })
}

fn member() -> impl Strategy<Value = Member> {
    (node(), ".{0,9}", ".{0,9}").prop_map(|(number, name, address)| Member {
        number,
        name,
        address,
    })
}

fn offer() -> impl Strategy<Value = CheckpointOffer> {
    let list = vec(any::<u8>(), 0..9);
    let asked = any::<u64>().prop_map(NonZeroU64::new);
    (ballot(), ".{0,9}", list, asked).prop_map(|(ballot, id, list, asked)| CheckpointOffer {
        ballot,
        id,
        list: list.into(),
        asked,
    })
}

fn offer_reply() -> impl Strategy<Value = OfferReply> {
    prop_oneof![
        any::<(u32, u64)>().prop_map(|(file, offset)| OfferReply::Wanted { file, offset }),
        Just(OfferReply::Complete),
        ballot().prop_map(OfferReply::HigherBallot),
    ]
}

fn a_propose_reply() -> impl Strategy<Value = ProposeReply> {
    prop_oneof![
        position().prop_map(ProposeReply::Appended),
        option::of(node()).prop_map(ProposeReply::NotLeader),
    ]
}

fn read_index_reply() -> impl Strategy<Value = ReadIndexReply> {
    prop_oneof![
        any::<u64>().prop_map(ReadIndexReply::At),
        option::of(node()).prop_map(ReadIndexReply::NotLeader),
    ]
}

fn admin_request() -> impl Strategy<Value = AdminRequest> {
    prop_oneof![
        (member(), any::<bool>()).prop_map(|(member, auto_promote)| AdminRequest::AddLearner {
            member,
            auto_promote
        }),
        (vec(node(), 0..5), any::<bool>())
            .prop_map(|(voters, remove)| AdminRequest::ChangeMembership { voters, remove }),
        node().prop_map(|node| AdminRequest::Remove { node }),
        option::of(node()).prop_map(|to| AdminRequest::TransferLeader { to }),
    ]
}

fn admin_reply() -> impl Strategy<Value = AdminReply> {
    prop_oneof![
        Just(AdminReply::Done),
        option::of(node()).prop_map(AdminReply::NotLeader),
        ".{0,9}".prop_map(AdminReply::Refused),
    ]
}

/// There and back, through bytes.
fn comes_back<T, M>(message: T)
where
    T: Clone + Debug + PartialEq + TryFrom<M, Error = Malformed>,
    M: Message + Default + From<T>,
{
    let bytes = M::from(message.clone()).encode_to_vec();
    let received = M::decode(Bytes::from(bytes)).expect("what was encoded");
    assert_eq!(T::try_from(received).as_ref(), Ok(&message));
}

proptest! {
    #[test]
    fn votes_come_back(request in vote_request(), reply in vote_reply()) {
        comes_back::<_, pb::VoteRequest>(request);
        comes_back::<_, pb::VoteReply>(reply);
    }

    #[test]
    fn entries_come_back(request in append_request(), reply in append_reply()) {
        comes_back::<_, pb::AppendRequest>(request);
        comes_back::<_, pb::AppendReply>(reply);
    }

    #[test]
    fn transfers_come_back(request in transfer_request(), reply in option::of(".{0,9}")) {
        comes_back::<_, pb::TransferRequest>(request);
        let reply = reply.map_or(Ok(()), Err);
        assert_eq!(transferred(transfer_reply(reply.clone())), reply);
    }

    #[test]
    fn checkpoints_come_back(offer in offer(), reply in offer_reply()) {
        comes_back::<_, pb::CheckpointOffer>(offer);
        comes_back::<_, pb::OfferReply>(reply);
    }

    #[test]
    fn the_leaders_answers_come_back(
        reply in a_propose_reply(),
        reader in (node(), option::of(ballot())),
        read in read_index_reply(),
    ) {
        let (node, ballot) = reader;
        let reader = ReadIndexRequest { node, ballot };
        let sent = propose_reply(7, Ok(reply.clone())).encode_to_vec();
        let received = pb::ProposeReply::decode(&*sent).unwrap();
        assert_eq!(received.number, 7);
        assert_eq!(proposed(received), Ok(reply));
        comes_back::<_, pb::ReadIndexReply>(read);
        let sent = pb::ReadIndexRequest::from(reader.clone()).encode_to_vec();
        let received = pb::ReadIndexRequest::decode(&*sent).unwrap();
        assert_eq!(ReadIndexRequest::from(received), reader);
    }

    #[test]
    fn admin_comes_back(request in admin_request(), reply in admin_reply()) {
        comes_back::<_, pb::AdminRequest>(request);
        comes_back::<_, pb::AdminReply>(reply);
    }
}

#[test]
fn what_lacks_something_is_refused() {
    fn lacks<T: Debug + TryFrom<M, Error = Malformed>, M: Default>(what: &'static str) {
        assert_eq!(T::try_from(M::default()).unwrap_err(), Malformed(what));
    }
    lacks::<VoteRequest, pb::VoteRequest>("ballot");
    lacks::<VoteReply, pb::VoteReply>("ballot");
    lacks::<AppendRequest, pb::AppendRequest>("ballot");
    lacks::<AppendReply, pb::AppendReply>("outcome");
    lacks::<TransferRequest, pb::TransferRequest>("ballot");
    lacks::<CheckpointOffer, pb::CheckpointOffer>("ballot");
    lacks::<OfferReply, pb::OfferReply>("outcome");
    assert!(proposed(pb::ProposeReply::default()).is_err());
    lacks::<ReadIndexReply, pb::ReadIndexReply>("outcome");
    lacks::<AdminRequest, pb::AdminRequest>("action");
    lacks::<AdminReply, pb::AdminReply>("outcome");
}

/// Payloads are not copied out of what was received.
#[test]
fn payloads_are_shared() {
    let request = super::append_request(1, 1000);
    let sent = pb::AppendRequest::from(request.clone());
    assert_eq!(
        sent.entries[0].payload.as_ptr(),
        request.entries[0].payload.as_ptr()
    );
    let bytes = Bytes::from(sent.encode_to_vec());
    let received = pb::AppendRequest::decode(bytes.clone()).unwrap();
    let received = AppendRequest::try_from(received).unwrap();
    assert!(bytes
        .as_ptr_range()
        .contains(&received.entries[0].payload.as_ptr()));
}

/// If this fails: `cargo run --manifest-path crates/server/proto/generate/Cargo.toml`.
#[test]
fn the_generated_code_is_that_of_the_proto_file() {
    let proto = include_bytes!("../../../proto/chronos/replication/v1/replication.proto");
    let digest = Sha256::digest(proto)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
    let generated_from = include_str!("../generated/replication.proto.sha256");
    assert_eq!(generated_from.trim_end(), digest);
    assert!(!DESCRIPTORS.is_empty());
}
