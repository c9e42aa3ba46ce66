//! Where clients reach the members: each one tells when it is asked to introduce itself.
//!
//! Nothing of the consensus depends on it, so it is not in the log, and what is not known is left
//! out. Whoever serves clients has the others asked from time to time.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;

use super::Replica;
use crate::cluster::{ClientAddresses, Member};

/// How long what a member said is taken for true.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How long a member may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Addresses(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    own: ClientAddresses,
    others: BTreeMap<u64, Told>,
}

/// What a member said last.
#[derive(Debug)]
struct Told {
    addresses: ClientAddresses,
    /// By which it was asked: at another address it may be another machine.
    asked_at: String,
    at_nanos: u64,
}

impl Addresses {
    pub(super) fn own(&self) -> ClientAddresses {
        self.0.lock().own.clone()
    }

    pub(super) fn of(&self, id: u64) -> ClientAddresses {
        let known = self.0.lock();
        let told = known.others.get(&id);
        told.map(|told| told.addresses.clone()).unwrap_or_default()
    }

    /// Of these members, those that are to be asked now. What others said is forgotten: they are no
    /// members any more, or somewhere else.
    fn to_ask(&self, mut members: Vec<Member>, now_nanos: u64) -> Vec<Member> {
        let others = &mut self.0.lock().others;
        others.retain(|id, told| {
            let is_it = |m: &Member| u64::from(m.number.0) == *id && m.address == told.asked_at;
            members.iter().any(is_it)
        });
        let again = ASK_AGAIN.as_nanos() as u64;
        members.retain(|member| {
            let told = others.get(&u64::from(member.number.0));
            told.is_none_or(|told| now_nanos.saturating_sub(told.at_nanos) >= again)
        });
        members
    }

    fn note(&self, member: &Member, addresses: ClientAddresses, at_nanos: u64) {
        let told = Told {
            addresses,
            asked_at: member.address.clone(),
            at_nanos,
        };
        let id = u64::from(member.number.0);
        self.0.lock().others.insert(id, told);
    }
}

impl Replica {
    /// Where clients reach this node, to be told to others.
    pub(crate) fn announce(&self, addresses: ClientAddresses) {
        self.addresses.0.lock().own = addresses;
    }

    /// Where clients reach this node.
    pub(crate) fn own_addresses(&self) -> ClientAddresses {
        self.addresses.own()
    }

    /// Asks the members of which that is not known, or was told a while ago, where clients reach
    /// them. Who does not answer soon is asked the next time.
    pub(crate) async fn ask_addresses(&self) {
        let members: Vec<Member> = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let nodes = metrics.membership_config.membership().nodes();
            let others = nodes.filter(|(id, _)| **id != self.own_id());
            others.map(|(_, node)| node.member.clone()).collect()
        };
        let now_nanos = self.env.clock.monotonic_nanos();
        let asked = self.addresses.to_ask(members, now_nanos);
        let asking = asked.iter().map(|member| async move {
            let peer = self.peers.peer(member);
            let answer = tokio::time::timeout(ANSWER_WITHIN, peer.introduce()).await;
            if let Ok(Ok(introduction)) = answer {
                self.addresses
                    .note(member, introduction.addresses, now_nanos);
            }
        });
        futures::future::join_all(asking).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_asked_until_they_answer_and_forgotten_when_they_leave() {
        let addresses = Addresses::default();
        let members = || ["n2", "n3"].map(|name| Member::new(name, "a:1").unwrap());
        let asked = |members: &[Member], now| -> Vec<u32> {
            let asked = addresses.to_ask(members.to_vec(), now);
            asked.iter().map(|m| m.number.0).collect()
        };
        let (start, again) = (5, ASK_AGAIN.as_nanos() as u64);
        assert_eq!(asked(&members(), start), [2, 3]);
        let told = ClientAddresses {
            http: Some("a:9000".into()),
            pg: None,
        };
        addresses.note(&members()[0], told.clone(), start);
        assert_eq!(addresses.of(2), told);
        assert_eq!(addresses.of(3), ClientAddresses::default());
        assert_eq!(asked(&members(), start + again - 1), [3]);
        assert_eq!(asked(&members(), start + again), [2, 3]);
        assert_eq!(addresses.of(2), told);
        let mut moved = members();
        moved[0].address = "b:1".into();
        assert_eq!(asked(&moved, start + 1), [2, 3]);
        assert_eq!(addresses.of(2), ClientAddresses::default());
        addresses.note(&moved[0], told, start);
        assert_eq!(asked(&moved[1..], start + 1), [3]);
        assert_eq!(addresses.of(2), ClientAddresses::default());
    }
}
