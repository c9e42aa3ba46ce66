//! Builds secondary indexes beside running writers, takes them through the log to the state in
//! which queries use them, and does what else a leader does by itself.
//!
//! ```text
//!   CREATE INDEX -> log -> apply: building, on every node
//!                                            v
//!      index thread: build, on every node
//!              leader: [unique: log: checking -> look for duplicates] -> log: valid
//!                                                             `- found -> log: give up
//! ```
//!
//! What is to be done stands in the catalog: [`Builder::work_off`] looks there and does all of it, as
//! often as it is called. So an index that a crash, a close or the loss of a leader left on its way
//! is taken up again by whoever opens the node, or leads next; and of two who believe to lead, the
//! log takes the first one's word. A client that waits for its CREATE INDEX and goes away does not
//! stop the build.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use chronos_model::{
    Change, IndexSchema, IndexState, SqlState, Stamp, TableId, TableSchema, Uniqueness, Value,
    WriteSet,
};
use chronos_store::Store;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::replica::{block_on, Replica};
use crate::settled::Settings;
use crate::Error;

/// Failures that nobody has asked for yet, at most.
const FAILURES_MAX: usize = 64;
/// When the thread looks again for what could not be done, or is another node's to do.
const AGAIN: Duration = Duration::from_secs(1);

/// The thread that builds indexes, as the replica holds it.
pub(crate) struct Indexes {
    requests: Mutex<Option<Sender<TableId>>>,
    builder: Arc<Builder>,
    /// Counts what came to an end.
    ended: watch::Receiver<u64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Where requests to build come from and go to, until the thread is started.
pub(crate) fn requests() -> (Sender<TableId>, Receiver<TableId>) {
    crossbeam_channel::unbounded()
}

impl Indexes {
    pub(crate) fn new(requests: Sender<TableId>) -> (Indexes, Arc<Builder>) {
        let (ending, ended) = watch::channel(0);
        let builder = Arc::new(Builder {
            ending,
            failures: Mutex::default(),
            wanted: Mutex::default(),
        });
        let indexes = Indexes {
            requests: Mutex::new(Some(requests)),
            builder: Arc::clone(&builder),
            ended,
            thread: Mutex::new(None),
        };
        (indexes, builder)
    }

    /// Starts the thread, which begins with what is on its way.
    pub(crate) fn start(
        &self,
        builder: Arc<Builder>,
        replica: &Arc<Replica>,
        requests: Receiver<TableId>,
    ) -> Result<(), Error> {
        if replica.is_stepped() {
            return Ok(());
        }
        for index in replica.store.catalog().indexes.values() {
            if index.state != IndexState::Valid {
                tracing::info!(
                    index = index.name,
                    "an index is not complete; going on with it"
                );
            }
        }
        let replica = Arc::downgrade(replica);
        let thread = std::thread::Builder::new()
            .name("index".into())
            .spawn(move || builder.run(&replica, &requests))
            .map_err(|e| {
                Error::new(
                    SqlState::INTERNAL,
                    format!("cannot start the index thread: {e}"),
                )
            })?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// What the thread does, for who has none: see [`Builder::work_off`].
    pub(crate) fn builder(&self) -> &Arc<Builder> {
        &self.builder
    }

    /// Has the thread look for what is to be done, because this node leads now, or has another
    /// store.
    pub(crate) fn look_again(&self) {
        if let Some(requests) = &*self.requests.lock() {
            // Without a thread nobody takes it.
            let _ = requests.send(TableId::default());
        }
    }

    /// Waits until an index can be used.
    ///
    /// Errors: it has duplicates (23505), was dropped, or the node closes.
    pub(crate) async fn wait(&self, store: &Store, id: TableId, name: &str) -> Result<(), Error> {
        let mut ended = self.ended.clone();
        let mut known = None;
        loop {
            ended.borrow_and_update();
            match store.catalog().index_by_id(id) {
                Some(index) if index.state == IndexState::Valid => return Ok(()),
                found => {
                    if let Some(failure) = self.builder.failures.lock().remove(&id) {
                        return Err(failure);
                    }
                    match found {
                        Some(index) => known = Some(Arc::clone(index)),
                        None => return Err(gone(store, known.as_deref(), name)),
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
    failures: Mutex<HashMap<TableId, Error>>,
    /// Settings of the database that are to be as this node was told, when it leads.
    wanted: Mutex<Option<Settings>>,
}

/// What there is to be done after all was done that could be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Left {
    Nothing,
    /// It is another node's, or waits for what may pass.
    Something,
    /// The node closes, or can write no more; its next start goes on.
    Stopped,
}

impl Builder {
    fn run(&self, replica: &Weak<Replica>, requests: &Receiver<TableId>) {
        loop {
            let Some(alive) = replica.upgrade() else {
                return;
            };
            let left = block_on(self.work_off(&alive));
            drop(alive);
            let request = match left {
                Left::Nothing => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Left::Something => requests.recv_timeout(AGAIN),
                Left::Stopped => return,
            };
            if request == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            // One look serves all that came meanwhile.
            while requests.try_recv().is_ok() {}
        }
    }

    /// Has settings of the database become as this node was told, once it leads.
    pub(crate) fn want(&self, settings: Settings) {
        *self.wanted.lock() = Some(settings);
    }

    /// Whether they have not become so yet, and this node would see to it.
    pub(crate) fn wants_settings(&self) -> bool {
        self.wanted.lock().is_some()
    }

    /// Does all that is to be done now: builds what is to be built on each node, and, if this one
    /// leads, moves on what is built and settles what was asked for. Can be called at any time,
    /// and again.
    pub(crate) async fn work_off(&self, replica: &Arc<Replica>) -> Left {
        let mut left = self.settle(replica).await;
        let on_their_way: Vec<Arc<IndexSchema>> = {
            let catalog = replica.store.catalog();
            let indexes = catalog.indexes.values().cloned();
            indexes.filter(|i| i.state != IndexState::Valid).collect()
        };
        for index in on_their_way {
            let of_index = match bring_on(replica, &index).await {
                Ok(left) => left,
                Err(error) => match after(&error, replica) {
                    Left::Nothing => self.give_up(replica, &index, error).await,
                    other => other,
                },
            };
            left = left.max(of_index);
            if left == Left::Stopped {
                break;
            }
        }
        self.ending.send_modify(|n| *n += 1);
        left
    }

    async fn settle(&self, replica: &Arc<Replica>) -> Left {
        let Some(wanted) = *self.wanted.lock() else {
            return Left::Nothing;
        };
        if !replica.leads() {
            return Left::Something;
        }
        match wanted.establish(replica).await {
            Ok(()) => {
                *self.wanted.lock() = None;
                Left::Nothing
            }
            Err(error) => {
                let left = after(&error, replica);
                if left == Left::Nothing {
                    tracing::warn!(error = error.message, "a setting could not be made");
                    *self.wanted.lock() = None;
                }
                left
            }
        }
    }

    /// Removes an index that cannot be completed, if that is this node's to say.
    async fn give_up(&self, replica: &Arc<Replica>, index: &IndexSchema, error: Error) -> Left {
        let is_gone = replica.store.catalog().index_by_id(index.id).is_none();
        if is_gone {
            return Left::Nothing;
        }
        tracing::warn!(
            index = index.name,
            error = error.message,
            "an index could not be built"
        );
        if !replica.leads() {
            return Left::Something;
        }
        {
            let mut failures = self.failures.lock();
            if failures.len() >= FAILURES_MAX {
                failures.clear();
            }
            failures.insert(index.id, error);
        }
        match propose(replica, Change::GiveUpIndex(index.id)).await {
            Ok(()) => Left::Nothing,
            Err(error) => {
                self.failures.lock().remove(&index.id);
                after(&error, replica)
            }
        }
    }
}

/// What an error that is not about what was to be done leaves to do.
fn after(error: &Error, replica: &Replica) -> Left {
    match error.code {
        SqlState::ADMIN_SHUTDOWN => Left::Stopped,
        // It was not done, or nobody knows: what is to be done then will be seen.
        SqlState::CANNOT_CONNECT_NOW | SqlState::TRANSACTION_RESOLUTION_UNKNOWN => {
            match replica.fault() {
                Some(_) => Left::Stopped,
                None => Left::Something,
            }
        }
        _ => Left::Nothing,
    }
}

/// Why an index is no more that somebody waits for. The node that leads knows; on another one
/// only this is known, that a unique index goes when there are duplicates.
fn gone(store: &Store, known: Option<&IndexSchema>, name: &str) -> Error {
    let catalog = store.catalog();
    let unique = known.filter(|index| {
        index.unique != Uniqueness::No && catalog.table_by_id(index.table).is_some()
    });
    match unique {
        None => dropped(name),
        Some(index) => {
            let message = format!("could not create unique index \"{name}\"");
            let mut error = Error::new(SqlState::UNIQUE_VIOLATION, message)
                .with_detail("Rows have the same values in it, or it was dropped meanwhile.");
            error.constraint = Some(index.name.clone());
            error
        }
    }
}

fn dropped(name: &str) -> Error {
    let message = format!("index \"{name}\" was dropped while it was built");
    Error::new(SqlState::UNDEFINED_OBJECT, message)
}

/// Takes an index from where it stands to the state in which queries use it, as far as that is
/// this node's to do.
async fn bring_on(replica: &Arc<Replica>, index: &IndexSchema) -> Result<Left, Error> {
    let (id, store) = (index.id, replica.store.clone());
    if index.state == IndexState::Building {
        store.build_index(id)?;
    }
    if !replica.leads() {
        return Ok(Left::Something);
    }
    if index.unique != Uniqueness::No {
        // From here on no new duplicates come; those that are there are found at leisure.
        propose(replica, Change::SetIndexState(id, IndexState::Checking)).await?;
        if let Some(found) = store.find_duplicate(id)? {
            return Err(not_unique(&store, index, &found.values));
        }
    }
    propose(replica, Change::SetIndexState(id, IndexState::Valid)).await?;
    tracing::info!(index = index.name, "an index is complete");
    Ok(Left::Nothing)
}

async fn propose(replica: &Replica, change: Change) -> Result<(), Error> {
    let set = WriteSet {
        begin: Stamp::MAX,
        changes: vec![change],
    };
    replica.propose(set, None).await.map(drop)
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
