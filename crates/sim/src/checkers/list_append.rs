//! A judge of histories of lists to which transactions append unique numbers.
//!
//! A list tells in which order its elements were written, and a read of it tells what the reader had
//! seen; so what depended on what follows from the observations alone (Kingsbury, Alvaro: "Elle:
//! Inferring Isolation Anomalies from Experimental Observations", 2020):
//!
//! ```text
//!   ww   a wrote the element before b's             wr   b read a list that ends with a's element
//!   rw   a read a list to which b appended next     so   one client ran a, then b
//! ```
//!
//! Snapshot isolation holds if and only if `(so | ww | wr) ; rw?` has no cycle (Cerone, Gotsman:
//! "Analysing Snapshot Isolation", 2018, theorem 10). Cycles with two `rw` in a row, write skew among
//! them, have no such cycle and are let pass.

use std::collections::{BTreeMap, BTreeSet};

/// A list's name.
pub type Key = i64;
/// Numbers in the order in which they were appended.
pub type List = Vec<u64>;

/// What a transaction did, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// It appended a number that nobody else appends.
    Append(Key, u64),
    /// It saw this.
    Read(Key, List),
}

/// A transaction as its client saw it.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Who ran it; transactions of a client follow each other in the history.
    pub client: usize,
    /// What it did, in order.
    pub ops: Vec<Op>,
    /// Otherwise it was rolled back.
    pub is_committed: bool,
}

/// What must not be. Transactions are named by their place in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anomaly {
    /// G0: writes of these are in an order that has no beginning.
    WriteCycle(Vec<usize>),
    /// G1a: the first read what the second wrote and rolled back.
    AbortedRead(usize, usize),
    /// G1b: the first read what the second had not finished writing.
    IntermediateRead(usize, usize),
    /// G1c: these know of each other, or of themselves, in a circle.
    InformationCycle(Vec<usize>),
    /// Both read the same version of a list and appended to it.
    LostUpdate(usize, usize),
    /// A committed element is not there at the end.
    LostAppend(usize),
    /// An element is in a list twice.
    Twice(Key, u64),
    /// An element that nobody appended.
    Unwritten(Key, u64),
    /// A read that is no earlier state of the list at the end.
    Incompatible(usize, Key),
    /// It does not see its own writes, or two states of a list.
    Unrepeatable(usize, Key),
    /// Not of one snapshot: the circle has anti-dependencies, but no two in a row.
    SplitSnapshot(Vec<usize>),
    /// G2: these are in no order in which each would have seen what it saw.
    NotSerial(Vec<usize>),
}

/// What the transactions of a history were promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Snapshot isolation.
    Snapshot,
    /// Serializability.
    Serial,
}

/// Finds what is wrong, given what the lists are at the end.
pub fn anomalies(
    history: &[Transaction],
    end: &BTreeMap<Key, List>,
    promise: Promise,
) -> Vec<Anomaly> {
    let judge = Judge::new(history, end);
    let mut found = judge.found.clone();
    found.extend(judge.elements());
    let mut views = Vec::with_capacity(history.len());
    for (id, transaction) in history.iter().enumerate() {
        if !transaction.is_committed {
            views.push(View::default());
            continue;
        }
        let (view, wrong) = judge.view(id);
        views.push(view);
        found.extend(wrong);
    }
    found.extend(judge.cycles(&views, promise));
    found
}

/// Decides about transactions of which their clients do not know whether they were committed: those of
/// which an append is there at the end, or was seen by a transaction that was, have been. Nobody knows when, so none
/// of them follows what its client did before, nor comes before what it did after.
pub fn settle(
    unknown: Vec<Transaction>,
    history: &[Transaction],
    end: &BTreeMap<Key, List>,
) -> Vec<Transaction> {
    let mut seen: BTreeSet<(Key, u64)> = BTreeSet::new();
    for (key, list) in end {
        seen.extend(list.iter().map(|n| (*key, *n)));
    }
    for transaction in history.iter().filter(|t| t.is_committed) {
        for op in &transaction.ops {
            if let Op::Read(key, list) = op {
                seen.extend(list.iter().map(|n| (*key, *n)));
            }
        }
    }
    let clients = history.iter().map(|t| t.client + 1).max().unwrap_or(0);
    let settled = unknown.into_iter().enumerate().map(|(at, transaction)| {
        let is_there = |op: &Op| matches!(op, Op::Append(key, n) if seen.contains(&(*key, *n)));
        Transaction {
            client: clients + at,
            is_committed: transaction.ops.iter().any(is_there),
            ..transaction
        }
    });
    settled.collect()
}

struct Judge<'a> {
    history: &'a [Transaction],
    end: &'a BTreeMap<Key, List>,
    /// Who appended an element.
    writers: BTreeMap<(Key, u64), usize>,
    found: Vec<Anomaly>,
}

/// What a transaction saw of others: of each list, how long it was.
#[derive(Debug, Clone, Default)]
struct View {
    seen: BTreeMap<Key, usize>,
    /// Lists that it appended to.
    written: BTreeSet<Key>,
}

/// Transactions after each transaction.
type Edges = Vec<BTreeSet<usize>>;

impl<'a> Judge<'a> {
    fn new(history: &'a [Transaction], end: &'a BTreeMap<Key, List>) -> Judge<'a> {
        let mut judge = Judge {
            history,
            end,
            writers: BTreeMap::new(),
            found: Vec::new(),
        };
        for (id, transaction) in history.iter().enumerate() {
            for op in &transaction.ops {
                let Op::Append(key, n) = op else { continue };
                if judge.writers.insert((*key, *n), id).is_some() {
                    judge.found.push(Anomaly::Twice(*key, *n));
                }
            }
        }
        judge
    }

    fn list(&self, key: Key) -> &'a [u64] {
        self.end.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The elements at the end: each once, each by somebody, and all that were committed.
    fn elements(&self) -> Vec<Anomaly> {
        let mut found = Vec::new();
        let mut there = BTreeSet::new();
        for (key, list) in self.end {
            for n in list {
                if !there.insert((*key, *n)) {
                    found.push(Anomaly::Twice(*key, *n));
                }
                match self.writers.get(&(*key, *n)) {
                    None => found.push(Anomaly::Unwritten(*key, *n)),
                    Some(writer) if !self.history[*writer].is_committed => {
                        found.push(Anomaly::AbortedRead(self.history.len(), *writer));
                    }
                    Some(_) => {}
                }
            }
        }
        for (element, writer) in &self.writers {
            if self.history[*writer].is_committed && !there.contains(element) {
                found.push(Anomaly::LostAppend(*writer));
            }
        }
        found
    }

    /// What a committed transaction saw, and what is wrong with it by itself.
    fn view(&self, id: usize) -> (View, Vec<Anomaly>) {
        let mut view = View::default();
        let mut found = Vec::new();
        let mut own: BTreeMap<Key, List> = BTreeMap::new();
        for op in &self.history[id].ops {
            match op {
                Op::Append(key, n) => {
                    view.written.insert(*key);
                    own.entry(*key).or_default().push(*n);
                }
                Op::Read(key, list) => {
                    let mine = own.get(key).map_or(&[][..], Vec::as_slice);
                    let Some(others) = list.strip_suffix(mine) else {
                        found.push(Anomaly::Unrepeatable(id, *key));
                        continue;
                    };
                    found.extend(self.judge_read(id, *key, others));
                    let before = view.seen.insert(*key, others.len());
                    if before.is_some_and(|before| before != others.len()) {
                        found.push(Anomaly::Unrepeatable(id, *key));
                    }
                }
            }
        }
        (view, found)
    }

    /// A read, without what the reader had appended itself.
    fn judge_read(&self, reader: usize, key: Key, list: &[u64]) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for n in list {
            match self.writers.get(&(key, *n)) {
                None => found.push(Anomaly::Unwritten(key, *n)),
                Some(writer) if !self.history[*writer].is_committed => {
                    found.push(Anomaly::AbortedRead(reader, *writer));
                }
                Some(_) => {}
            }
        }
        if let Some(writer) = list.last().and_then(|n| self.writers.get(&(key, *n))) {
            if *writer != reader && self.last_append(*writer, key) != list.last().copied() {
                found.push(Anomaly::IntermediateRead(reader, *writer));
            }
        }
        if found.is_empty() && !self.list(key).starts_with(list) {
            found.push(Anomaly::Incompatible(reader, key));
        }
        found
    }

    fn last_append(&self, writer: usize, key: Key) -> Option<u64> {
        let ops = self.history[writer].ops.iter().rev();
        ops.filter_map(|op| match op {
            Op::Append(k, n) if *k == key => Some(*n),
            _ => None,
        })
        .next()
    }

    /// Who wrote the element at a position of the list at the end.
    fn writer_at(&self, key: Key, position: usize) -> Option<usize> {
        let n = self.list(key).get(position)?;
        self.writers.get(&(key, *n)).copied()
    }

    fn cycles(&self, views: &[View], promise: Promise) -> Vec<Anomaly> {
        let none: Edges = vec![BTreeSet::new(); self.history.len()];
        let (mut ww, mut wr, mut rw, mut so) = (none.clone(), none.clone(), none.clone(), none);
        let mut found = Vec::new();
        for key in self.end.keys() {
            for position in 1..self.list(*key).len() {
                let pair = (
                    self.writer_at(*key, position - 1),
                    self.writer_at(*key, position),
                );
                connect(&mut ww, pair);
            }
        }
        for (id, view) in views.iter().enumerate() {
            for (key, seen) in &view.seen {
                let last = seen.checked_sub(1).and_then(|at| self.writer_at(*key, at));
                connect(&mut wr, (last, Some(id)));
                let next = self.writer_at(*key, *seen);
                connect(&mut rw, (Some(id), next));
                let reads_and_writes = |other: &usize| {
                    *other != id
                        && view.written.contains(key)
                        && views[*other].seen.get(key) == Some(seen)
                };
                if let Some(other) = next.filter(reads_and_writes) {
                    found.push(Anomaly::LostUpdate(id, other));
                }
            }
        }
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        for (id, transaction) in self.history.iter().enumerate() {
            if transaction.is_committed {
                connect(&mut so, (last.insert(transaction.client, id), Some(id)));
            }
        }
        found.extend(cycle(&ww).map(Anomaly::WriteCycle));
        let known = union(&ww, &wr);
        found.extend(cycle(&known).map(Anomaly::InformationCycle));
        let ordered = union(&known, &so);
        let mut composed = ordered.clone();
        for (from, over) in ordered.iter().enumerate() {
            composed[from].extend(over.iter().flat_map(|over| &rw[*over]));
        }
        found.extend(cycle(&composed).map(Anomaly::SplitSnapshot));
        if promise == Promise::Serial {
            found.extend(cycle(&union(&ordered, &rw)).map(Anomaly::NotSerial));
        }
        found
    }
}

/// Nothing depends on itself by one step: that is its own affair.
fn connect(edges: &mut Edges, pair: (Option<usize>, Option<usize>)) {
    if let (Some(from), Some(to)) = pair {
        if from != to {
            edges[from].insert(to);
        }
    }
}

fn union(a: &Edges, b: &Edges) -> Edges {
    a.iter().zip(b).map(|(a, b)| a | b).collect()
}

/// The transactions that are on cycles, or lead from one cycle to another; `None`: there is none.
fn cycle(edges: &Edges) -> Option<Vec<usize>> {
    let mut left: BTreeSet<usize> = (0..edges.len()).collect();
    loop {
        let mut entered: BTreeSet<usize> = BTreeSet::new();
        for from in &left {
            entered.extend(edges[*from].intersection(&left));
        }
        let leaves = |id: &usize| !edges[*id].is_disjoint(&left);
        let stay: BTreeSet<usize> = entered.into_iter().filter(leaves).collect();
        if stay.len() == left.len() {
            return (!stay.is_empty()).then(|| stay.into_iter().collect());
        }
        left = stay;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Op::{Append, Read};

    /// Committed, each by a client of its own.
    fn history(transactions: &[&[Op]]) -> Vec<Transaction> {
        let committed = |(client, ops): (usize, &&[Op])| Transaction {
            client,
            ops: ops.to_vec(),
            is_committed: true,
        };
        transactions.iter().enumerate().map(committed).collect()
    }

    fn judge(transactions: &[&[Op]], end: &[&[u64]]) -> Vec<Anomaly> {
        anomalies(&history(transactions), &lists(end), Promise::Snapshot)
    }

    fn lists(end: &[&[u64]]) -> BTreeMap<Key, List> {
        (0..).zip(end.iter().map(|list| list.to_vec())).collect()
    }

    fn read(key: Key, list: &[u64]) -> Op {
        Read(key, list.to_vec())
    }

    #[test]
    fn what_is_right_is_let_pass() {
        let first = [Append(0, 1), read(0, &[1]), Append(1, 2)];
        let second = [read(0, &[1]), read(1, &[2]), Append(0, 3), read(0, &[1, 3])];
        assert_eq!(judge(&[&first, &second], &[&[1, 3], &[2]]), []);
    }

    #[test]
    fn write_skew_is_let_pass() {
        let first = [read(0, &[]), Append(1, 1)];
        let second = [read(1, &[]), Append(0, 2)];
        assert_eq!(judge(&[&first, &second], &[&[2], &[1]]), []);
        let both = history(&[&first, &second]);
        let found = anomalies(&both, &lists(&[&[2], &[1]]), Promise::Serial);
        assert_eq!(found, [Anomaly::NotSerial(vec![0, 1])]);
    }

    #[test]
    fn g0_write_cycle() {
        let first = [Append(0, 1), Append(1, 1)];
        let second = [Append(0, 2), Append(1, 2)];
        let found = judge(&[&first, &second], &[&[1, 2], &[2, 1]]);
        assert!(
            found.contains(&Anomaly::WriteCycle(vec![0, 1])),
            "{found:?}"
        );
    }

    #[test]
    fn g1a_aborted_read() {
        let mut both = history(&[&[Append(0, 1)], &[read(0, &[1])]]);
        both[0].is_committed = false;
        assert_eq!(
            anomalies(&both, &lists(&[&[]]), Promise::Snapshot),
            [Anomaly::AbortedRead(1, 0)]
        );
        // At the end, too.
        let found = anomalies(&both[..1], &lists(&[&[1]]), Promise::Snapshot);
        assert_eq!(found, [Anomaly::AbortedRead(1, 0)]);
    }

    #[test]
    fn what_is_unknown_is_settled_by_what_is_there() {
        let unknown = history(&[
            &[read(0, &[]), Append(0, 1)],
            &[Append(0, 2)],
            &[Append(1, 3)],
        ]);
        let known = history(&[&[read(1, &[3])]]);
        let settled = settle(unknown, &known, &lists(&[&[1], &[3]]));
        let committed: Vec<bool> = settled.iter().map(|t| t.is_committed).collect();
        assert_eq!(committed, [true, false, true]);
        let clients: BTreeSet<usize> = settled.iter().map(|t| t.client).collect();
        assert_eq!(clients, BTreeSet::from([1, 2, 3]));
        // Seen, and not there at the end: it was lost.
        let settled = settle(
            history(&[&[Append(0, 2)]]),
            &history(&[&[read(0, &[2])]]),
            &lists(&[&[]]),
        );
        let all: Vec<_> = history(&[&[read(0, &[2])]])
            .into_iter()
            .chain(settled)
            .collect();
        let found = anomalies(&all, &lists(&[&[]]), Promise::Snapshot);
        assert!(found.contains(&Anomaly::LostAppend(1)), "{found:?}");
    }

    #[test]
    fn g1b_intermediate_read() {
        let found = judge(
            &[&[Append(0, 1), Append(0, 2)], &[read(0, &[1])]],
            &[&[1, 2]],
        );
        assert!(
            found.contains(&Anomaly::IntermediateRead(1, 0)),
            "{found:?}"
        );
    }

    #[test]
    fn g1c_information_cycle() {
        let first = [Append(0, 1), read(1, &[2])];
        let second = [Append(1, 2), read(0, &[1])];
        let found = judge(&[&first, &second], &[&[1], &[2]]);
        assert!(
            found.contains(&Anomaly::InformationCycle(vec![0, 1])),
            "{found:?}"
        );
        assert!(!found.iter().any(|a| matches!(a, Anomaly::WriteCycle(_))));
    }

    #[test]
    fn lost_update() {
        let first = [read(0, &[]), Append(0, 1)];
        let second = [read(0, &[]), Append(0, 2)];
        let found = judge(&[&first, &second], &[&[1, 2]]);
        assert!(found.contains(&Anomaly::LostUpdate(1, 0)), "{found:?}");
        // Written over altogether.
        let found = judge(&[&first, &second], &[&[2]]);
        assert!(found.contains(&Anomaly::LostAppend(0)), "{found:?}");
    }

    #[test]
    fn reads_of_two_snapshots() {
        let writer = [Append(0, 1), Append(1, 1)];
        let found = judge(&[&writer, &[read(0, &[]), read(1, &[1])]], &[&[1], &[1]]);
        assert_eq!(found, [Anomaly::SplitSnapshot(vec![0])]);
    }

    #[test]
    fn a_long_fork() {
        let found = judge(
            &[
                &[Append(0, 1)],
                &[Append(1, 2)],
                &[read(0, &[1]), read(1, &[])],
                &[read(0, &[]), read(1, &[2])],
            ],
            &[&[1], &[2]],
        );
        assert_eq!(found, [Anomaly::SplitSnapshot(vec![0, 1])]);
    }

    #[test]
    fn a_client_sees_what_it_has_committed() {
        let mut both = history(&[&[Append(0, 1)], &[read(0, &[])]]);
        assert_eq!(anomalies(&both, &lists(&[&[1]]), Promise::Snapshot), []);
        both[1].client = both[0].client;
        let found = anomalies(&both, &lists(&[&[1]]), Promise::Snapshot);
        assert_eq!(found, [Anomaly::SplitSnapshot(vec![0])]);
    }

    #[test]
    fn a_transaction_is_at_one_with_itself() {
        let found = judge(&[&[Append(0, 1), read(0, &[])]], &[&[1]]);
        assert_eq!(found, [Anomaly::Unrepeatable(0, 0)]);
        let found = judge(&[&[Append(0, 1)], &[read(0, &[]), read(0, &[1])]], &[&[1]]);
        assert!(found.contains(&Anomaly::Unrepeatable(1, 0)), "{found:?}");
    }

    #[test]
    fn elements_out_of_nowhere_twice_or_in_another_order() {
        assert_eq!(judge(&[], &[&[9]]), [Anomaly::Unwritten(0, 9)]);
        assert_eq!(
            judge(&[&[Append(0, 1)]], &[&[1, 1]]),
            [Anomaly::Twice(0, 1)]
        );
        let found = judge(
            &[&[Append(0, 1)], &[Append(0, 2)], &[read(0, &[2])]],
            &[&[1, 2]],
        );
        assert!(found.contains(&Anomaly::Incompatible(2, 0)), "{found:?}");
    }
}
