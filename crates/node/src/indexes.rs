//! Builds secondary indexes beside running writers, and takes them through the log to the
//! state in which queries use them.
//!
//! ```text
//!   CREATE INDEX -> log -> apply: building --+
//!                                            v
//!      index thread: build -> [unique: log: checking -> look for duplicates] -> log: valid
//!                                                             `- found -> log: drop
//! ```
//!
//! An index that a crash or a close left on its way is taken up again when the node opens. A
//! client that waits for its CREATE INDEX and goes away does not stop the build.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use chronos_model::{
    Change, IndexSchema, IndexState, SqlState, Stamp, TableId, TableSchema, Uniqueness, Value,
    WriteSet,
};
use chronos_store::Store;
use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::replica::Replica;
use crate::Error;

/// Failures that nobody has asked for yet, at most.
const FAILURES_MAX: usize = 64;

/// The thread that builds indexes, as the replica holds it.
pub(crate) struct Indexes {
    requests: Mutex<Option<Sender<TableId>>>,
    /// Counts what came to an end.
    ended: watch::Receiver<u64>,
    failures: Arc<Mutex<HashMap<TableId, Error>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Where requests to build come from and go to, until the thread is started.
pub(crate) fn requests() -> (Sender<TableId>, Receiver<TableId>) {
    crossbeam_channel::unbounded()
}

impl Indexes {
    pub(crate) fn new(requests: Sender<TableId>) -> (Indexes, Builder) {
        let (ending, ended) = watch::channel(0);
        let failures = Arc::new(Mutex::new(HashMap::new()));
        let builder = Builder {
            ending,
            failures: Arc::clone(&failures),
        };
        let indexes = Indexes {
            requests: Mutex::new(Some(requests)),
            ended,
            failures,
            thread: Mutex::new(None),
        };
        (indexes, builder)
    }

    /// Starts the thread, which begins with what is on its way.
    pub(crate) fn start(
        &self,
        builder: Builder,
        replica: &Arc<Replica>,
        requests: Receiver<TableId>,
    ) -> Result<(), Error> {
        if replica.is_stepped() {
            return Ok(());
        }
        let store = replica.store.clone();
        for index in store.catalog().indexes.values() {
            if index.state != IndexState::Valid {
                tracing::info!(
                    index = index.name,
                    "an index is not complete; going on with it"
                );
                if let Some(requests) = &*self.requests.lock() {
                    let _ = requests.send(index.id);
                }
            }
        }
        let replica = Arc::downgrade(replica);
        let thread = std::thread::Builder::new()
            .name("index".into())
            .spawn(move || builder.run(&store, &replica, &requests))
            .map_err(|e| {
                Error::new(
                    SqlState::INTERNAL,
                    format!("cannot start the index thread: {e}"),
                )
            })?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// Waits until an index can be used.
    ///
    /// Errors: it has duplicates (23505), was dropped, or the node closes.
    pub(crate) async fn wait(&self, store: &Store, id: TableId, name: &str) -> Result<(), Error> {
        let mut ended = self.ended.clone();
        loop {
            ended.borrow_and_update();
            match store.catalog().index_by_id(id) {
                Some(index) if index.state == IndexState::Valid => return Ok(()),
                found => {
                    if let Some(failure) = self.failures.lock().remove(&id) {
                        return Err(failure);
                    }
                    if found.is_none() {
                        return Err(dropped(name));
                    }
                }
            }
            if ended.changed().await.is_err() {
                return Err(Error::new(
                    SqlState::ADMIN_SHUTDOWN,
                    "the node is shutting down; the index will be completed when it starts again",
                ));
            }
        }
    }

    /// Takes no more requests.
    pub(crate) fn stop(&self) {
        drop(self.requests.lock().take());
    }

    /// Waits for the end of the thread, after the store was closed.
    pub(crate) fn join(&self) {
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
pub(crate) struct Builder {
    ending: watch::Sender<u64>,
    failures: Arc<Mutex<HashMap<TableId, Error>>>,
}

impl Builder {
    fn run(&self, store: &Store, replica: &Weak<Replica>, requests: &Receiver<TableId>) {
        while let Ok(id) = requests.recv() {
            let Some(index) = store.catalog().index_by_id(id).cloned() else {
                self.ending.send_modify(|n| *n += 1);
                continue;
            };
            match bring_on(store, replica, &index) {
                Ok(()) => {}
                // The node closes, or can write no more; its next start goes on.
                Err(error)
                    if matches!(
                        error.code,
                        SqlState::ADMIN_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW
                    ) =>
                {
                    return;
                }
                Err(error) => self.give_up(replica, &index, error),
            }
            self.ending.send_modify(|n| *n += 1);
        }
    }

    fn give_up(&self, replica: &Weak<Replica>, index: &IndexSchema, error: Error) {
        tracing::warn!(
            index = index.name,
            error = error.message,
            "an index could not be built and is removed"
        );
        {
            let mut failures = self.failures.lock();
            if failures.len() >= FAILURES_MAX {
                failures.clear();
            }
            failures.insert(index.id, error);
        }
        if let Err(error) = propose(replica, Change::DropIndex(index.id)) {
            tracing::debug!(
                index = index.name,
                error = error.message,
                "it is gone already"
            );
        }
    }
}

fn dropped(name: &str) -> Error {
    let message = format!("index \"{name}\" was dropped while it was built");
    Error::new(SqlState::UNDEFINED_OBJECT, message)
}

/// Takes an index from where it stands to the state in which queries use it.
fn bring_on(store: &Store, replica: &Weak<Replica>, index: &IndexSchema) -> Result<(), Error> {
    let id = index.id;
    if index.state == IndexState::Building {
        store.build_index(id)?;
    }
    if index.unique != Uniqueness::No {
        // From here on no new duplicates come; those that are there are found at leisure.
        propose(replica, Change::SetIndexState(id, IndexState::Checking))?;
        if let Some(found) = store.find_duplicate(id)? {
            return Err(not_unique(store, index, &found.values));
        }
    }
    propose(replica, Change::SetIndexState(id, IndexState::Valid))?;
    tracing::info!(index = index.name, "an index is complete");
    Ok(())
}

fn propose(replica: &Weak<Replica>, change: Change) -> Result<(), Error> {
    let replica = replica
        .upgrade()
        .ok_or_else(|| Error::new(SqlState::ADMIN_SHUTDOWN, "the node is shutting down"))?;
    let set = WriteSet {
        begin: Stamp::MAX,
        changes: vec![change],
    };
    futures::executor::block_on(replica.propose(set, None)).map(drop)
}

fn not_unique(store: &Store, index: &IndexSchema, values: &[Value]) -> Error {
    let catalog = store.catalog();
    duplicated(
        index,
        catalog.table_by_id(index.table).map(|t| &**t),
        values,
    )
}

/// 23505: rows of a table are there that a new index does not allow.
pub(crate) fn duplicated(
    index: &IndexSchema,
    table: Option<&TableSchema>,
    values: &[Value],
) -> Error {
    let name = &index.name;
    let mut error = Error::new(
        SqlState::UNIQUE_VIOLATION,
        format!("could not create unique index \"{name}\""),
    );
    if let Some(table) = table {
        let columns: Vec<usize> = index.columns.iter().map(|c| c.column).collect();
        error.detail = Some(format!(
            "{} is duplicated.",
            shown_key(table, &columns, values)
        ));
        error.table = Some(table.name.clone());
    }
    error.constraint = Some(name.clone());
    error
}

/// `Key (a, b)=(1, 2)`.
pub(crate) fn shown_key(table: &TableSchema, columns: &[usize], values: &[Value]) -> String {
    let names: Vec<&str> = columns
        .iter()
        .map(|c| table.columns[*c].name.as_str())
        .collect();
    let values: Vec<String> = values.iter().map(chronos_model::text::format).collect();
    format!("Key ({})=({})", names.join(", "), values.join(", "))
}
