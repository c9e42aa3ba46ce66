//! Which versions of a key a reader sees, and until when each was current.
//!
//! Versions arrive by key, newest first, so one remembered key and stamp suffice:
//! the version that came before, if it has the same key, is the one that superseded
//! this one. Nothing of this is stored; a version never knows its own end.
//!
//! A truncation at `t` ends every version of its table that was recorded before `t`.

use std::sync::Arc;

use chronos_model::{Keys, Stamp, TableSchema};

use super::block::{gallop, Block};
use super::timeline::Piece;
use crate::error::StoreError;

/// Which versions are seen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Resolution {
    /// The newest of each key recorded at or before a stamp, if it is a put.
    Snapshot {
        /// The stamp.
        at: Stamp,
    },
    /// Every put that was current at some moment of a period.
    History {
        /// First moment.
        from: Stamp,
        /// Last moment.
        to: Stamp,
        /// Whether `to` belongs to the period.
        inclusive_to: bool,
    },
    /// Every version, deletes too.
    Everything,
}

impl Resolution {
    /// What was recorded before is gone for all that is seen.
    pub(crate) fn horizon(self, truncated: &[Stamp]) -> Stamp {
        match self {
            Resolution::Snapshot { at } => horizon(truncated, at),
            _ => Stamp::MIN,
        }
    }
}

impl Resolution {
    /// A read that met a cut: what it asks for ends at the horizon.
    pub(crate) fn before_horizon(self, schema: &TableSchema, horizon: Stamp) -> StoreError {
        StoreError::BeforeHorizon {
            table: schema.name.clone(),
            asked: match self {
                Resolution::Snapshot { at } => at,
                Resolution::History { from, .. } => from,
                Resolution::Everything => Stamp::MIN,
            },
            // Without a version that followed, the reader's own time is what is known.
            horizon,
        }
    }
}

/// The first truncation that ended a version recorded at `recorded`; MAX: none.
pub(crate) fn ended_by(truncated: &[Stamp], recorded: Stamp) -> Stamp {
    let i = truncated.partition_point(|t| *t <= recorded);
    truncated.get(i).copied().unwrap_or(Stamp::MAX)
}

/// Whether a reader needs what a cut stands for, which ended at `ended`. Whoever asks for
/// all there is takes what there is.
pub(crate) fn cut_is_met(resolution: Resolution, ended: Stamp) -> bool {
    match resolution {
        Resolution::Snapshot { at } => ended > at,
        Resolution::History { from, .. } => from > Stamp::MIN && ended > from,
        Resolution::Everything => false,
    }
}

/// When a version ends that no other version of its key supersedes; `None`: it is not
/// seen. What was recorded before `horizon` is gone.
pub(crate) fn end_of_only_version(
    resolution: Resolution,
    view: Stamp,
    truncated: &[Stamp],
    horizon: Stamp,
    recorded: Stamp,
    is_delete: bool,
) -> Option<Stamp> {
    let ended = ended_by(truncated, recorded);
    let seen = match resolution {
        Resolution::Snapshot { at } => recorded <= at,
        Resolution::History {
            from,
            to,
            inclusive_to,
        } => (recorded < to || (inclusive_to && recorded == to)) && ended > from,
        Resolution::Everything => true,
    };
    (seen && !is_delete && recorded <= view && recorded >= horizon).then_some(ended)
}

/// Rows that were chosen, as ranges of pinned blocks in output order.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) ranges: Vec<Selected>,
    pub(super) rows: usize,
    /// When each chosen version was superseded, if that was asked for.
    pub(super) system_to: Vec<u64>,
    /// Where pieces were chosen: each.
    pub(super) pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Selected {
    pub(super) block: usize,
    pub(super) start: usize,
    pub(super) rows: usize,
}

impl Selection {
    fn add(&mut self, block: usize, start: usize, rows: usize) {
        self.rows += rows;
        if let Some(last) = self.ranges.last_mut() {
            if last.block == block && last.start + last.rows == start {
                last.rows += rows;
                return;
            }
        }
        self.ranges.push(Selected { block, start, rows });
    }

    /// Chooses a piece of a version, which may have been chosen before for another.
    pub(super) fn add_piece(&mut self, block: usize, row: usize, piece: Piece) {
        self.add(block, row, 1);
        self.pieces.push(piece);
    }
}

#[derive(Debug)]
pub(super) struct Resolver {
    resolution: Resolution,
    /// Nothing recorded later exists for the reader.
    view: Stamp,
    truncated: Arc<[Stamp]>,
    /// Nothing recorded before is there any more.
    horizon: Stamp,
    want_system_to: bool,
    /// The key of the version before.
    last_key: Option<(Arc<Keys>, usize)>,
    last_recorded: Stamp,
    /// For a snapshot: whether the version of `last_key` was already decided.
    decided: bool,
    /// Whether what is older of `last_key` is erased.
    erased: bool,
    /// A key's history was asked for from before this stamp, and is cut there.
    pub(super) cut_met: Option<Stamp>,
}

impl Resolver {
    pub(super) fn new(
        resolution: Resolution,
        view: Stamp,
        truncated: Arc<[Stamp]>,
        floor: Stamp,
        want_system_to: bool,
    ) -> Resolver {
        let horizon = resolution.horizon(&truncated).max(floor);
        Resolver {
            resolution,
            view,
            truncated,
            horizon,
            want_system_to,
            last_key: None,
            last_recorded: Stamp::MAX,
            decided: false,
            erased: false,
            cut_met: None,
        }
    }

    /// Decides versions `start..end` of a block, which follow all decided before.
    pub(super) fn push(
        &mut self,
        block: &Block,
        pinned: usize,
        start: usize,
        end: usize,
        out: &mut Selection,
    ) {
        if self.resolution == Resolution::Everything {
            out.add(pinned, start, end - start);
            return;
        }
        if self.passes_whole(block) {
            let at = usize::from(self.decided && self.continues(block, start));
            if end > start + at {
                out.add(pinned, start + at, end - start - at);
            }
            self.last_key = Some(block.shared_key(end - 1));
            self.last_recorded = Stamp(block.recorded.get(end - 1));
            self.decided = true;
            return;
        }
        let only_newest = self.only_newest();
        let pass_over = |from: usize, decided: bool| match only_newest {
            Some(at) if !block.one_version_per_key => {
                passed_over(block, from, end, block.key(from - 1), at, decided)
            }
            _ => from,
        };
        // The last version of this block that exists for the reader.
        let mut last = None;
        let mut next = start;
        while next < end {
            let i = next;
            let recorded = Stamp(block.recorded.get(i));
            if recorded > self.view {
                next = pass_over(i + 1, false);
                continue;
            }
            let same = match last {
                None => self.continues(block, i),
                Some(_) if block.one_version_per_key => false,
                Some(last) => block.key(last) == block.key(i),
            };
            self.decide(block, pinned, i, same, recorded, out);
            next = pass_over(i + 1, self.decided);
            self.last_recorded = Stamp(block.recorded.get(next - 1));
            last = Some(next - 1);
        }
        if let Some(last) = last {
            self.last_key = Some(block.shared_key(last));
        }
    }

    /// When of each key only the newest version at or before a stamp matters: that stamp.
    fn only_newest(&self) -> Option<Stamp> {
        match self.resolution {
            Resolution::Snapshot { at } if !self.want_system_to => Some(at.min(self.view)),
            _ => None,
        }
    }

    /// Whether every version of the block is seen, but for a first one whose key was
    /// decided before.
    fn passes_whole(&self, block: &Block) -> bool {
        let Resolution::Snapshot { at } = self.resolution else {
            return false;
        };
        let (first, last) = (Stamp(block.span.0), Stamp(block.span.1));
        block.one_version_per_key
            && block.kinds.is_none()
            && !self.want_system_to
            && last <= at
            && first >= self.horizon
    }

    /// Where, from `start` on, the versions of its key end that certainly are not chosen, given
    /// that of each key only the newest at or before `at` is wanted.
    pub(super) fn passed(&self, block: &Block, start: usize, at: Stamp) -> usize {
        let decided = self.decided && self.continues(block, start);
        passed_over(block, start, block.len(), block.key(start), at, decided)
    }

    /// Takes note of a version that was passed over.
    pub(super) fn pass(&mut self, block: &Block, i: usize) {
        let continues = self.continues(block, i);
        self.decided &= continues;
        self.erased &= continues;
        self.last_key = Some(block.shared_key(i));
        self.last_recorded = Stamp(block.recorded.get(i));
    }

    fn continues(&self, block: &Block, i: usize) -> bool {
        self.last_key
            .as_ref()
            .is_some_and(|(keys, k)| keys.get(*k) == block.key(i))
    }

    fn decide(
        &mut self,
        block: &Block,
        pinned: usize,
        i: usize,
        same: bool,
        recorded: Stamp,
        out: &mut Selection,
    ) {
        if !same {
            (self.decided, self.erased) = (false, false);
        }
        if self.erased {
            return;
        }
        if block.is_erasure(i) {
            (self.decided, self.erased) = (true, true);
            return;
        }
        let superseded = if same { self.last_recorded } else { Stamp::MAX };
        if block.is_cut(i) {
            let ended = superseded.min(ended_by(&self.truncated, recorded));
            if !self.decided && ended >= self.horizon && cut_is_met(self.resolution, ended) {
                self.cut_met = Some(ended);
            }
        }
        let seen = match self.resolution {
            Resolution::Snapshot { at } => {
                let newest = !self.decided && recorded <= at;
                self.decided |= newest;
                newest && !block.is_delete(i) && recorded >= self.horizon
            }
            Resolution::History {
                from,
                to,
                inclusive_to,
            } => {
                let ended = superseded.min(ended_by(&self.truncated, recorded));
                let begins = recorded < to || (inclusive_to && recorded == to);
                !block.is_delete(i) && begins && ended > from && recorded >= self.horizon
            }
            Resolution::Everything => true,
        };
        if seen {
            out.add(pinned, i, 1);
            if self.want_system_to {
                let ended = superseded.min(ended_by(&self.truncated, recorded));
                out.system_to.push(ended.0);
            }
        }
    }
}

/// From `from` on, where the versions of a key end that are not the newest at or before `at`:
/// later ones, and after one was `decided` all. A cut is not among them: it concerns whoever
/// did not find before it what was asked for; nor is an erasure, which concerns all.
fn passed_over(
    block: &Block,
    from: usize,
    end: usize,
    key: &[u8],
    at: Stamp,
    decided: bool,
) -> usize {
    let is_passed = |i| {
        decided || (Stamp(block.recorded.get(i)) > at && !block.is_cut(i) && !block.is_erasure(i))
    };
    gallop(from, end, |i| block.key(i) == key && is_passed(i))
}

/// The last truncation at or before a stamp: what was recorded before it is gone at
/// that stamp.
pub(crate) fn horizon(truncated: &[Stamp], at: Stamp) -> Stamp {
    let i = truncated.partition_point(|t| *t <= at);
    i.checked_sub(1).map_or(Stamp::MIN, |i| truncated[i])
}
