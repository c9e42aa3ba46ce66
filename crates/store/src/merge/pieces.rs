//! Which pieces of versions a reader sees, where versions are true for periods or the reader
//! asks for another valid time than the present.
//!
//! The counterpart of the resolver for all other reads, which need not look at valid time: a
//! version that is true from when it was recorded until changed hides all older ones.

use std::sync::Arc;

use chronos_model::{Keys, Period, Stamp};

use super::block::Block;
use super::resolve::{cut_is_met, ended_by, Selection};
use super::timeline::{PieceFilter, Timeline};

#[derive(Debug)]
pub(super) struct PieceResolver {
    filter: PieceFilter,
    /// Nothing recorded later exists for the reader.
    view: Stamp,
    truncated: Arc<[Stamp]>,
    /// Nothing recorded before is there any more.
    horizon: Stamp,
    want_system_to: bool,
    /// The key of the versions before.
    last_key: Option<(Arc<Keys>, usize)>,
    timeline: Timeline,
    /// When the version before was recorded.
    last_recorded: Stamp,
    /// Nothing older of that key is seen.
    decided: bool,
    /// A key's history was asked for from before this stamp, and is cut there.
    pub(super) cut_met: Option<Stamp>,
}

impl PieceResolver {
    pub(super) fn new(
        filter: PieceFilter,
        view: Stamp,
        truncated: Arc<[Stamp]>,
        floor: Stamp,
        want_system_to: bool,
    ) -> PieceResolver {
        let horizon = filter.system.horizon(&truncated).max(floor);
        PieceResolver {
            filter,
            view,
            truncated,
            horizon,
            want_system_to,
            last_key: None,
            timeline: Timeline::default(),
            last_recorded: Stamp::MAX,
            decided: false,
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
        for i in start..end {
            let same = match &self.last_key {
                Some((keys, k)) => keys.get(*k) == block.key(i),
                None => false,
            };
            if !same {
                self.last_key = Some(block.shared_key(i));
                self.timeline.clear();
                self.last_recorded = Stamp::MAX;
                self.decided = false;
            }
            let recorded = Stamp(block.recorded.get(i));
            self.decided |= block.is_erasure(i) && recorded <= self.view;
            if self.decided || !self.exists(recorded) {
                continue;
            }
            self.decide(block, pinned, i, recorded, out);
            self.decided = self.timeline.is_decided(&self.filter);
        }
    }

    /// Whether a version recorded then has anything to do with what is seen.
    fn exists(&self, recorded: Stamp) -> bool {
        let too_late = match self.filter.system {
            super::Resolution::Snapshot { at } => recorded > at && !self.want_system_to,
            _ => false,
        };
        recorded <= self.view && !too_late
    }

    fn decide(
        &mut self,
        block: &Block,
        pinned: usize,
        i: usize,
        recorded: Stamp,
        out: &mut Selection,
    ) {
        let is_cut = block.is_cut(i);
        // Of the versions that a cut stands for it is not known when they were true.
        let valid = match is_cut {
            true => Period::ALWAYS,
            false => block.valid(i),
        };
        let ended = ended_by(&self.truncated, recorded);
        if (is_cut || !block.is_delete(i)) && recorded >= self.horizon {
            let cut_met = &mut self.cut_met;
            let (system, superseded) = (self.filter.system, self.last_recorded);
            let takes_what_is_there = self.filter.valid.takes_what_is_there();
            self.timeline
                .pieces(valid, recorded, ended, &self.filter, |piece| {
                    if !is_cut {
                        return out.add_piece(pinned, i, piece);
                    }
                    // Of valid time as a whole what is left is taken.
                    let ended = match takes_what_is_there {
                        true => superseded.min(piece.system_to),
                        false => piece.system_to,
                    };
                    if cut_is_met(system, ended) {
                        *cut_met = Some(superseded.min(piece.system_to));
                    }
                });
        }
        self.last_recorded = recorded;
        self.timeline.cover(valid, recorded);
    }
}
