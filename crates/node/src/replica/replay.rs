//! Replaying the log at a start: every entry that the store has not seen is applied
//! again, with the outcome that it had.
//!
//! An entry whose preconditions need a damaged file has no outcome that can be known here.
//! It may have been acknowledged, so it is neither skipped nor refused: nothing is applied
//! from there on, the tables that are concerned are not read, and nothing is written, until
//! the file is back (docs/decisions/0037).

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use chronos_model::{
    Author, Change, Decoder, Hlc, NodeId, SqlState, Stamp, TableId, WriteSet, IDEMPOTENCY_TABLE,
};
use chronos_store::log::{Log, LogEntry, LogError, LogIndex};
use chronos_store::{ApplyError, Store, StoreError};

use super::{describe, log_error, Fault, HEADER_BYTES, PAYLOAD_FORMAT};
use crate::Error;

/// A payload without a user.
const FIRST_FORMAT: u8 = 1;
const FIRST_HEADER_BYTES: usize = 13;

/// An entry's payload, decoded.
pub(crate) struct Content {
    pub(crate) recorded: Stamp,
    pub(crate) author: Author,
    pub(crate) set: WriteSet,
}

/// Applies every entry that the store has not seen. Gives the next index, and why nothing
/// may be written, if an entry could not be applied.
pub(super) fn replay(
    store: &Store,
    log: &Log,
    hlc: &Hlc,
) -> Result<(LogIndex, Option<Fault>), Error> {
    let first = store.applied_index().next();
    let mut next = first;
    let has_more = log.bounds().is_some_and(|(_, last)| last >= first);
    if has_more {
        let mut entries = log.read(first).map_err(log_error)?;
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(log_error)?;
            let content = decode(&entry.payload)?;
            hlc.restore(content.recorded);
            next = entry.index.next();
            if let Some(damage) = apply(store, entry.index, &content)? {
                let (last, fault) = hold_back(store, &entry, &content, entries, hlc, &damage)?;
                return Ok((last.next(), Some(fault)));
            }
        }
    } else if log.next_index().is_some_and(|n| n < first) {
        // The store is ahead of its log, whose end a power cut took under a weak durability: go
        // on after it.
        log.cut_before(first).map_err(log_error)?;
    } else if log.next_index().is_none() && store.applied_index() > LogIndex(0) {
        return Err(Error::new(
            SqlState::DATA_CORRUPTED,
            format!(
                "the log has no file, although the store contains its entries up to {}",
                store.applied_index()
            ),
        )
        .with_hint("Its files were removed, and with them acknowledged writes. Restore the data directory as a whole."));
    }
    Ok((next, None))
}

/// Applies an entry of the log again. What was refused the first time is again. Gives the
/// damage that leaves no answer, if there is such.
fn apply(store: &Store, index: LogIndex, content: &Content) -> Result<Option<StoreError>, Error> {
    match store.apply_write_set(
        index,
        content.recorded,
        content.author.clone(),
        &content.set,
    ) {
        Err(ApplyError::Storage(e)) if e.is_damage() => Ok(Some(e)),
        Err(e @ ApplyError::Storage(_)) => Err(describe(e, store)),
        _ => Ok(None),
    }
}

/// Lets nobody read the tables that an entry and those after it change.
fn hold_back(
    store: &Store,
    entry: &LogEntry,
    content: &Content,
    later: impl Iterator<Item = Result<LogEntry, LogError>>,
    hlc: &Hlc,
    damage: &StoreError,
) -> Result<(LogIndex, Fault), Error> {
    let mut tables: BTreeSet<TableId> = tables_of(&content.set).collect();
    let mut last = entry.index;
    for entry in later {
        let entry = entry.map_err(log_error)?;
        let content = decode(&entry.payload)?;
        hlc.restore(content.recorded);
        tables.extend(tables_of(&content.set));
        last = entry.index;
    }
    store.hold_back(tables.into_iter(), damage);
    let reason = format!(
        "the log's entries {} to {last} cannot be applied: {}",
        entry.index,
        chronos_store::with_causes(damage)
    );
    tracing::error!(reason, "nothing more is written");
    let fault = Fault {
        code: SqlState::DATA_CORRUPTED,
        reason,
    };
    Ok((last, fault))
}

fn tables_of(set: &WriteSet) -> impl Iterator<Item = TableId> + '_ {
    set.changes.iter().flat_map(|change| match change {
        // Indexes change no rows.
        Change::CreateTable(_)
        | Change::CreateIndex(_)
        | Change::DropIndex(_)
        | Change::GiveUpIndex(_)
        | Change::SetIndexState(..)
        | Change::CreateSequence(_)
        | Change::ReserveNumbers(..)
        | Change::ExpectReads(_)
        | Change::SetSequence(..) => vec![],
        Change::DropTable(id)
        | Change::Truncate(id)
        | Change::AlterOptions(id, _)
        | Change::ExpectShape(id, _) => vec![*id],
        Change::Once(_) => vec![IDEMPOTENCY_TABLE],
        Change::Rows(rows) => vec![rows.table],
        Change::Batch(batch) => vec![batch.table],
        Change::Catalog(change) => change.tables(),
        Change::Migrate(migration) => migration.tables(),
    })
}

/// Decodes the payload of an entry.
pub(crate) fn decode(payload: &Bytes) -> Result<Content, Error> {
    let mut d = Decoder::new("log entry", payload);
    let format = d.u8()?;
    if !matches!(format, FIRST_FORMAT | PAYLOAD_FORMAT) {
        return Err(d.damaged("an unknown format version").into());
    }
    let recorded = Stamp(d.u64()?);
    let mut author = Author::from(NodeId(d.u32()?));
    let mut header_bytes = FIRST_HEADER_BYTES;
    if format == PAYLOAD_FORMAT {
        let length = usize::from(d.u8()?);
        header_bytes = HEADER_BYTES + length;
        let name = payload.get(HEADER_BYTES..header_bytes);
        let name = name.and_then(|name| std::str::from_utf8(name).ok());
        let name = name.ok_or_else(|| d.damaged("a user's name that is none"))?;
        author.user = Some(name).filter(|name| !name.is_empty()).map(Arc::from);
    }
    Ok(Content {
        recorded,
        author,
        set: WriteSet::decode(&payload.slice(header_bytes..))?,
    })
}
