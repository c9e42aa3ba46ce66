//! What a node tells of its content, so that replicas can be compared.

use chronos_model::{shown_name, IndexState, Stamp};
use serde::{Deserialize, Serialize};

use crate::{Error, Node};

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodePosition {
    /// Term of the last applied entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// Stamp of the last applied commit.
    pub stamp: u64,
}

/// Hashes of a node's content, as `chronos_store::ContentHashes` has them; as hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeHashes {
    /// Where the node stood.
    pub position: NodePosition,
    /// As of when tables were hashed.
    pub at: u64,
    /// Of the catalog as of `position`.
    pub catalog: String,
    /// By name.
    pub tables: Vec<TableHash>,
    /// Secondary indexes that are complete, by name. Their entries outlive the versions they are of,
    /// so they are not hashed: each is compared with its own table.
    #[serde(default)]
    pub indexes: Vec<IndexCheck>,
}

/// One table of [`NodeHashes`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableHash {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Of its definition as of `position`.
    pub schema: String,
    /// Versions that were hashed.
    pub versions: u64,
    /// Null: the table can only be compared between nodes whose last commit is the one asked for.
    pub hash: Option<String>,
}

/// A secondary index, compared with its table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IndexCheck {
    /// Its name.
    pub name: String,
    /// The name of its table.
    pub table: String,
    /// Entries that the table's versions ask for.
    pub entries: u64,
    /// Of these, those that are not there: rows that it does not find.
    pub missing: u64,
}

impl Node {
    /// Where it stands.
    pub fn position(&self) -> NodePosition {
        let store = &self.inner.replica.store;
        let (term, index) = store.applied();
        NodePosition {
            term: term.0,
            index: index.0,
            stamp: store.floor().0,
        }
    }

    /// Hashes all tables as of a stamp, by default the last commit's, with retention reckoned as of
    /// `retained_at`, by default the same, and compares indexes, as they are now, with their tables.
    /// Reads everything; blocks.
    ///
    /// Errors: the stamp is later than the last commit, or `retained_at` earlier (22023).
    pub fn content_hashes(
        &self,
        at: Option<Stamp>,
        retained_at: Option<Stamp>,
    ) -> Result<NodeHashes, Error> {
        let store = &self.inner.replica.store;
        let retained_at = retained_at.unwrap_or_else(|| store.floor());
        let hashes = store.content_hashes(at, retained_at)?;
        let (term, index) = hashes.applied;
        let table = |table: chronos_store::TableContent| TableHash {
            id: table.table.0,
            name: shown_name(&table.name),
            schema: hex(&table.schema),
            versions: table.versions,
            hash: table.hash.map(|hash| hex(&hash)),
        };
        Ok(NodeHashes {
            position: NodePosition {
                term: term.0,
                index: index.0,
                stamp: hashes.last.0,
            },
            at: hashes.at.0,
            catalog: hex(&hashes.catalog),
            tables: hashes.tables.into_iter().map(table).collect(),
            indexes: self.check_indexes()?,
        })
    }

    /// Compares the indexes that are complete with their tables.
    fn check_indexes(&self) -> Result<Vec<IndexCheck>, Error> {
        let view = self.inner.replica.store.read_view();
        let catalog = view.catalog();
        let mut checked = Vec::new();
        for index in catalog.indexes.values() {
            let Some(table) = catalog.table_by_id(index.table) else {
                continue;
            };
            if index.state < IndexState::Checking {
                continue;
            }
            let found = view.check_index(index)?;
            checked.push(IndexCheck {
                name: shown_name(&index.name),
                table: shown_name(&table.name),
                entries: found.entries,
                missing: found.missing,
            });
        }
        checked.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(checked)
    }
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
