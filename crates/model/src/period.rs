//! Stretches of valid time.

/// A stretch of valid time: from a moment on, up to another that no longer belongs to it, both
/// in microseconds since the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Period {
    /// First moment; [`Period::BEGINNING`]: as far back as there is time.
    pub from: i64,
    /// First moment after; [`Period::UNTIL_CHANGED`]: none.
    pub to: i64,
}

impl Period {
    /// No beginning.
    pub const BEGINNING: i64 = i64::MIN;
    /// No end.
    pub const UNTIL_CHANGED: i64 = i64::MAX;
    /// All of time.
    pub const ALWAYS: Period = Period {
        from: Period::BEGINNING,
        to: Period::UNTIL_CHANGED,
    };

    /// Whether no moment belongs to it.
    pub fn is_empty(self) -> bool {
        self.from >= self.to
    }

    /// Whether a moment belongs to it.
    pub fn contains(self, moment: i64) -> bool {
        self.from <= moment && moment < self.to
    }

    /// Whether every moment of the other belongs to it.
    pub fn covers(self, other: Period) -> bool {
        self.from <= other.from && other.to <= self.to
    }

    /// What both have in common; may be empty.
    pub fn intersection(self, other: Period) -> Period {
        Period {
            from: self.from.max(other.from),
            to: self.to.min(other.to),
        }
    }

    /// Whether they have a moment in common.
    pub fn overlaps(self, other: Period) -> bool {
        !self.intersection(other).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_does_not_belong_to_it() {
        let period = |from, to| Period { from, to };
        assert!(period(1, 3).contains(1) && !period(1, 3).contains(3));
        assert!(!period(1, 3).overlaps(period(3, 5)) && period(1, 4).overlaps(period(3, 5)));
        assert!(Period::ALWAYS.covers(period(1, 3)) && !period(1, 3).covers(period(1, 4)));
        assert!(period(2, 2).is_empty() && period(3, 1).is_empty());
    }
}
