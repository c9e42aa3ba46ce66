//! The visible versions of many keys, found key by key: for keys that lie scattered, where a
//! merge of all between them would read too much.
//!
//! ```text
//!   sorted keys -> per source: versions of these keys -> per key: resolved -> values, read
//!                                                                     a page at a time
//! ```

use std::sync::Arc;

use arrow_array::ArrayRef;
use chronos_model::{Keys, Kind, Period, Stamp, TableSchema};

use crate::erase::ERASE;
use crate::error::StoreError;
use crate::memtable::{key_of, recorded_of, RowVersion};
use crate::merge::{
    cut_is_met, decode_columns, ended_by, horizon, Piece, PieceFilter, Resolution, Source,
    Timeline, Wants,
};
use crate::retention::{Retained, CUT};
use crate::scan::ValidFilter;
use crate::segment::PageColumn;

/// A version that a reader sees.
#[derive(Debug)]
pub(super) struct Seen {
    /// Position of its key among those looked up.
    pub(super) key: usize,
    pub(super) recorded: Stamp,
    /// When it was superseded; `MAX`: not yet.
    pub(super) ended: Stamp,
    /// What of it is seen, where it matters when versions are true.
    pub(super) piece: Option<Piece>,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Row(RowVersion),
    /// Source and row.
    Run(usize, u32),
    /// Source, page and row.
    Page(usize, usize, u32),
}

#[derive(Debug)]
struct Version {
    key: usize,
    recorded: Stamp,
    /// As it is stored.
    kind: u8,
    /// `None`: from when it was recorded until changed, or it does not matter.
    valid: Option<Period>,
    place: Place,
}

impl Version {
    /// A cut stands for versions of any time.
    fn valid_when_recorded(&self) -> Period {
        let open = Period {
            from: self.recorded.micros(),
            to: Period::UNTIL_CHANGED,
        };
        match self.kind {
            CUT => Period::ALWAYS,
            _ => self.valid.unwrap_or(open),
        }
    }
}

/// Values of versions as arrays, with the versions they are of.
pub(super) struct Group {
    /// As asked for.
    pub(super) columns: Vec<ArrayRef>,
    /// Positions among the versions whose values were asked for; row `i` is of `versions[i]`.
    pub(super) versions: Vec<usize>,
}

/// What a reader sees of a table.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) schema: Arc<TableSchema>,
    pub(super) sources: Vec<Source>,
    pub(super) resolution: Resolution,
    /// `None`: it does not matter when versions are true.
    pub(super) valid: Option<ValidFilter>,
    pub(super) view: Stamp,
    pub(super) truncated: Arc<[Stamp]>,
    pub(super) retained: Retained,
    pub(super) wants: Wants,
}

impl Lookup {
    /// The versions of sorted, distinct keys that are seen: by key, newest first.
    pub(super) fn seen(&self, keys: &Keys) -> Result<Vec<Seen>, StoreError> {
        let mut versions = Vec::new();
        for (number, source) in self.sources.iter().enumerate() {
            self.versions_in(number, source, keys, &mut versions)?;
        }
        versions.sort_by(|a, b| a.key.cmp(&b.key).then(b.recorded.cmp(&a.recorded)));
        let mut seen = Vec::new();
        let mut rest = versions.into_iter().peekable();
        while let Some(key) = rest.peek().map(|v| v.key) {
            let mut own = std::iter::from_fn(|| rest.next_if(|v| v.key == key));
            match self.valid {
                None => self.resolve(keys.get(key), &mut own, &mut seen)?,
                Some(valid) => self.resolve_pieces(valid, keys.get(key), &mut own, &mut seen)?,
            }
            // What is older than an erasure was not looked at.
            own.for_each(drop);
        }
        Ok(seen)
    }

    /// Decides the versions of one key, newest first, as a merge does.
    fn resolve(
        &self,
        key: &[u8],
        versions: impl Iterator<Item = Version>,
        seen: &mut Vec<Seen>,
    ) -> Result<(), StoreError> {
        let mut superseded = Stamp::MAX;
        let mut decided = false;
        for version in versions.filter(|v| v.recorded <= self.view) {
            if version.kind == ERASE {
                break;
            }
            let recorded = version.recorded;
            let ended = superseded.min(ended_by(&self.truncated, recorded));
            superseded = recorded;
            if version.kind == CUT && !decided && cut_is_met(self.resolution, ended) {
                return Err(self.resolution.before_horizon(&self.schema, ended));
            }
            let is_seen = match self.resolution {
                Resolution::Snapshot { at } => {
                    let newest = !decided && recorded <= at;
                    decided |= newest;
                    newest && recorded >= horizon(&self.truncated, at)
                }
                Resolution::History {
                    from,
                    to,
                    inclusive_to,
                } => (recorded < to || (inclusive_to && recorded == to)) && ended > from,
                Resolution::Everything => true,
            };
            let is_put = version.kind == Kind::Put as u8;
            if is_seen && is_put && !self.retained.expired(&self.schema, key, recorded)? {
                seen.push(Seen {
                    key: version.key,
                    recorded,
                    ended,
                    piece: None,
                    place: version.place,
                });
            }
        }
        Ok(())
    }

    /// The same where it matters when versions are true.
    fn resolve_pieces(
        &self,
        valid: ValidFilter,
        key: &[u8],
        versions: impl Iterator<Item = Version>,
        seen: &mut Vec<Seen>,
    ) -> Result<(), StoreError> {
        let filter = PieceFilter {
            system: self.resolution,
            valid,
        };
        let horizon = self.resolution.horizon(&self.truncated);
        let mut timeline = Timeline::default();
        let mut superseded = Stamp::MAX;
        for version in versions.filter(|v| v.recorded <= self.view) {
            if version.kind == ERASE {
                break;
            }
            let recorded = version.recorded;
            let is_cut = version.kind == CUT;
            let valid = version.valid_when_recorded();
            let ended = ended_by(&self.truncated, recorded);
            let is_there = (is_cut || version.kind == Kind::Put as u8)
                && recorded >= horizon
                && !self.retained.expired(&self.schema, key, recorded)?;
            let mut pieces = Vec::new();
            if is_there {
                timeline.pieces(valid, recorded, ended, &filter, |piece| pieces.push(piece));
            }
            for piece in pieces {
                if !is_cut {
                    seen.push(Seen {
                        key: version.key,
                        recorded,
                        ended: piece.system_to,
                        piece: Some(piece),
                        place: version.place.clone(),
                    });
                    continue;
                }
                let last = superseded.min(piece.system_to);
                // Of valid time as a whole what is left is taken.
                let ended = match filter.valid.takes_what_is_there() {
                    true => last,
                    false => piece.system_to,
                };
                if cut_is_met(self.resolution, ended) {
                    return Err(self.resolution.before_horizon(&self.schema, last));
                }
            }
            superseded = recorded;
            timeline.cover(valid, recorded);
        }
        Ok(())
    }

    /// The stamp at which the newest version of each key is all that matters.
    fn only_newest(&self) -> Option<Stamp> {
        match self.resolution {
            _ if self.valid.is_some() => None,
            Resolution::Snapshot { at } if !self.wants.system_to => Some(at.min(self.view)),
            _ => None,
        }
    }

    fn versions_in(
        &self,
        number: usize,
        source: &Source,
        keys: &Keys,
        out: &mut Vec<Version>,
    ) -> Result<(), StoreError> {
        match source {
            Source::Rows(memtable) => {
                for i in 0..keys.len() {
                    let key = keys.get(i);
                    let newest = self.only_newest();
                    if let Some(newest) = newest.filter(|_| !memtable.rows.has_erasures()) {
                        let found = memtable.rows.newest(key, newest);
                        out.extend(found.map(|(recorded, content)| Version {
                            key: i,
                            recorded,
                            kind: content.kind as u8,
                            valid: None,
                            place: Place::Row(content),
                        }));
                        continue;
                    }
                    let mut entry = memtable.rows.at_or_after(key);
                    while let Some(at) = entry.filter(|e| key_of(e.key()) == key) {
                        out.push(Version {
                            key: i,
                            recorded: recorded_of(at.key()),
                            kind: at.value().kind as u8,
                            valid: at.value().valid.as_deref().copied(),
                            place: Place::Row(at.value().clone()),
                        });
                        entry = at.next();
                    }
                }
            }
            Source::Run(run) => {
                for i in 0..keys.len() {
                    let key = keys.get(i);
                    let rows = run.keys().lower_bound(key)..run.len();
                    for row in rows.take_while(|row| run.keys().get(*row) == key) {
                        out.push(Version {
                            key: i,
                            recorded: run.recorded(row),
                            kind: Kind::Put as u8,
                            valid: None,
                            place: Place::Run(number, row as u32),
                        });
                    }
                }
            }
            Source::Segment(segment) => {
                let mut found: Vec<(usize, usize, u32)> = Vec::new();
                for i in 0..keys.len() {
                    let key = keys.get(i);
                    let pages = segment.pages_of(key);
                    if pages.is_empty() || !segment.may_contain(key) {
                        continue;
                    }
                    for page in pages {
                        let stored = segment.read_keys(page)?;
                        let rows = stored.lower_bound(key)..stored.len();
                        let rows = rows.take_while(|row| stored.get(*row) == key);
                        found.extend(rows.map(|row| (page, i, row as u32)));
                    }
                }
                found.sort_unstable();
                for own in found.chunk_by(|a, b| a.0 == b.0) {
                    let page = own[0].0;
                    let rows: Vec<u32> = own.iter().map(|(_, _, row)| *row).collect();
                    let valid = match self.valid {
                        Some(_) => segment.periods(page, &rows)?,
                        None => None,
                    };
                    segment.stamps(page, &rows, |j, recorded, kind| {
                        out.push(Version {
                            key: own[j].1,
                            recorded,
                            kind,
                            valid: valid.as_ref().map(|valid| valid[j]),
                            place: Place::Page(number, page, own[j].2),
                        });
                    })?;
                }
            }
        }
        Ok(())
    }

    /// The values of some versions that were found, in groups of those that lie together.
    pub(super) fn values(
        &self,
        seen: &[Seen],
        keys: &Keys,
        columns: &[PageColumn],
    ) -> Result<Vec<Group>, StoreError> {
        let mut order: Vec<usize> = (0..seen.len()).collect();
        order.sort_by_key(|i| seen[*i].place.together());
        let mut groups = Vec::new();
        for versions in
            order.chunk_by(|a, b| seen[*a].place.together() == seen[*b].place.together())
        {
            groups.push(Group {
                columns: self.read(seen, keys, versions, columns)?,
                versions: versions.to_vec(),
            });
        }
        Ok(groups)
    }

    /// The values of versions that lie together.
    fn read(
        &self,
        seen: &[Seen],
        keys: &Keys,
        versions: &[usize],
        columns: &[PageColumn],
    ) -> Result<Vec<ArrayRef>, StoreError> {
        let rows: Vec<u32> = versions.iter().map(|i| seen[*i].place.row()).collect();
        match &seen[versions[0]].place {
            Place::Run(source, _) => match &self.sources[*source] {
                Source::Run(run) => run.take(&rows, columns),
                _ => Err(StoreError::Columns("a run was not found again".into())),
            },
            Place::Page(source, page, _) => match &self.sources[*source] {
                Source::Segment(segment) => Ok(segment.read_rows(*page, &rows, columns)?),
                _ => Err(StoreError::Columns("a segment was not found again".into())),
            },
            Place::Row(_) => {
                let mut own = Keys::default();
                let (mut recorded, mut contents) = (Vec::new(), Vec::new());
                for version in versions.iter().map(|i| &seen[*i]) {
                    if let Place::Row(content) = &version.place {
                        own.push(keys.get(version.key));
                        recorded.push(version.recorded.0);
                        contents.push(content.clone());
                    }
                }
                decode_columns(&self.schema, columns, &own, &recorded, &contents)
            }
        }
    }
}

impl Place {
    /// What is equal for places that are read at once.
    fn together(&self) -> (usize, usize) {
        match self {
            Place::Row(_) => (usize::MAX, 0),
            Place::Run(source, _) => (*source, 0),
            Place::Page(source, page, _) => (*source, *page),
        }
    }

    fn row(&self) -> u32 {
        match self {
            Place::Row(_) => 0,
            Place::Run(_, row) | Place::Page(_, _, row) => *row,
        }
    }
}
