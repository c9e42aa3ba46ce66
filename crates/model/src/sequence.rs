//! Sequences: numbers that are given once each.
//!
//! The catalog knows up to where numbers were handed out; a node reserves a stretch of them
//! through the log and gives them to its sessions one by one. What it had not given when it
//! stopped is never given: there are gaps, and no number comes twice.

use serde::{Deserialize, Serialize};

use crate::{ColumnId, DataType, TableId};

/// A sequence.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SequenceSchema {
    /// Identity, from the same numbers as those of tables; given when the creation is applied.
    pub id: TableId,
    /// Name, already folded; tables, indexes, views and sequences share their names.
    pub name: String,
    /// INT2, INT4 or INT8.
    pub data_type: DataType,
    /// The first number.
    pub start: i64,
    /// Distance from one number to the next; not 0.
    pub increment: i64,
    /// Lowest number.
    pub min: i64,
    /// Highest number.
    pub max: i64,
    /// Whether it begins again at its end.
    pub cycle: bool,
    /// The column whose default it is, and with which it goes; table 0 in a write set: the
    /// table created just before in the same set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(TableId, ColumnId)>,
    /// The last number reserved, or the first one to be given.
    pub last: i64,
    /// Whether `last` was reserved.
    pub is_called: bool,
    /// How often it was set: numbers that a node reserved before are not to be given after.
    #[serde(default, skip_serializing_if = "is_never")]
    pub sets: u32,
}

fn is_never(sets: &u32) -> bool {
    *sets == 0
}

/// Numbers that nobody else is given: `first`, `first + increment`, .., `count` of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reserved {
    /// The first one.
    pub first: i64,
    /// Distance from one to the next.
    pub increment: i64,
    /// How many.
    pub count: u32,
    /// How often the sequence was set before.
    pub sets: u32,
}

impl SequenceSchema {
    /// Whether a number is within its bounds.
    pub fn holds(&self, value: i64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    /// Hands out at most `count` numbers, and at least one; `None`: it is at its end.
    pub fn reserve(&mut self, count: u32) -> Option<Reserved> {
        let next = match self.is_called {
            true => self.last.checked_add(self.increment),
            false => Some(self.last),
        };
        let first = match next.filter(|next| self.holds(*next)) {
            Some(next) => next,
            None if self.cycle && self.increment > 0 => self.min,
            None if self.cycle => self.max,
            None => return None,
        };
        let bound = if self.increment > 0 {
            self.max
        } else {
            self.min
        };
        let room = (i128::from(bound) - i128::from(first)) / i128::from(self.increment);
        let more = room.min(i128::from(count.max(1) - 1));
        // Both ends are within the bounds, so the last one is.
        self.last = (i128::from(first) + more * i128::from(self.increment)) as i64;
        self.is_called = true;
        Some(Reserved {
            first,
            increment: self.increment,
            count: more as u32 + 1,
            sets: self.sets,
        })
    }

    /// Goes on from a number: behind it if it counts as given, else with it.
    pub fn set(&mut self, value: i64, is_called: bool) {
        self.last = value;
        self.is_called = is_called;
        self.sets = self.sets.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(increment: i64, min: i64, max: i64, cycle: bool) -> SequenceSchema {
        SequenceSchema {
            id: TableId(1),
            name: "s".into(),
            data_type: DataType::Int8,
            start: min,
            increment,
            min,
            max,
            cycle,
            owner: None,
            last: if increment > 0 { min } else { max },
            is_called: false,
            sets: 0,
        }
    }

    fn numbers(sequence: &mut SequenceSchema, count: u32) -> Option<Vec<i64>> {
        let got = sequence.reserve(count)?;
        let nth = |i: u32| got.first + i64::from(i) * got.increment;
        Some((0..got.count).map(nth).collect())
    }

    #[test]
    fn numbers_come_once_and_end_at_the_bound() {
        let mut s = sequence(3, 1, 11, false);
        assert_eq!(numbers(&mut s, 2), Some(vec![1, 4]));
        assert_eq!(numbers(&mut s, 100), Some(vec![7, 10]));
        assert_eq!(numbers(&mut s, 1), None);
        s.set(4, true);
        assert_eq!(numbers(&mut s, 1), Some(vec![7]));
        s.set(4, false);
        assert_eq!(numbers(&mut s, 1), Some(vec![4]));
        let mut round = sequence(-1, 1, 2, true);
        assert_eq!(numbers(&mut round, 5), Some(vec![2, 1]));
        assert_eq!(numbers(&mut round, 1), Some(vec![2]));
        let mut end = sequence(1, i64::MAX - 1, i64::MAX, false);
        assert_eq!(numbers(&mut end, 9), Some(vec![i64::MAX - 1, i64::MAX]));
        assert_eq!(numbers(&mut end, 9), None);
    }
}
