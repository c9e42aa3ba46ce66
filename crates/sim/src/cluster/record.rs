//! What the clients of a run saw: the material of the judges.

use std::collections::BTreeMap;

use crate::checkers::ledger::Fate;
use crate::checkers::list_append::Transaction;
use crate::checkers::past::Past;
use crate::checkers::History;

/// How often a counter was raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Raises {
    /// Acknowledged ones.
    pub(super) known: u64,
    /// Those of which nobody can say.
    pub(super) unknown: u64,
}

/// What all clients saw.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Registers.
    pub(super) registers: History,
    /// Transactions on lists.
    pub(super) transactions: Vec<Transaction>,
    /// Those of which nobody can say whether they were committed.
    pub(super) unsettled: Vec<Transaction>,
    /// Rows that were inserted once each, by their table.
    pub(super) entries: BTreeMap<&'static str, BTreeMap<u64, Fate>>,
    /// Counters.
    pub(super) counters: BTreeMap<u64, Raises>,
    /// Questions about the past.
    pub(super) past: Past,
    /// Statements by what became of them.
    pub(super) tally: Tally,
    next_number: u64,
}

/// How many statements fared how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered.
    pub done: u64,
    /// Refused.
    pub refused: u64,
    /// Of unknown outcome.
    pub unknown: u64,
}

impl Record {
    /// A number that nobody else gets.
    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}
