//! Settings of the database that a node is told at its start: they become true when it leads, and
//! stay so until somebody says otherwise.
//!
//! What a node proposes without being told to by a client, and who does:
//!
//! | | who | if two do |
//! |---|---|---|
//! | these settings | who leads | the later one finds them made, or makes its own true |
//! | an index moves on, or is given up | who leads | the first word counts (`store::index::changes`) |
//! | a stretch of numbers of a sequence | any node whose sessions want some | each has its own |
//! | the table `readings` | any node with the first readings | the second one finds it |
//!
//! Flushes, compactions and what they let go of are each node's own; what is gone is decided by stamps
//! that all have applied. VACUUM and COMPACT are about the node that is told to.

use std::str::FromStr;

use chronos_model::{Catalog, Change, OptionChange, SqlState, Stamp, WriteSet, IDEMPOTENCY_TABLE};
use chronos_query::table_options;

use crate::replica::Replica;
use crate::transactions::NoteTransactions;
use crate::Error;

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Settings {
    /// Which transactions are noted; `None`: as before, in a new database the default.
    pub(crate) transactions: Option<NoteTransactions>,
    /// How long idempotency keys are remembered; `None`: as before.
    pub(crate) idempotency_keys: Option<KeepKeys>,
}

/// How long idempotency keys are remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepKeys {
    micros: i64,
}

impl FromStr for KeepKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<KeepKeys, String> {
        match table_options::duration_micros(text) {
            Ok(micros) => Ok(KeepKeys { micros }),
            Err(_) => Err("expected a duration such as 24h or 7d".to_owned()),
        }
    }
}

impl Settings {
    /// What makes them true; `None`: they are.
    fn change(self, catalog: &Catalog) -> Option<Change> {
        let noted = match self.transactions {
            None if catalog.transactions.is_none() => Some(NoteTransactions::default()),
            wanted => wanted,
        };
        let of_transactions = noted.and_then(|wanted| wanted.change(catalog));
        of_transactions.or_else(|| {
            let wanted = self.idempotency_keys.map(|keep| keep.micros);
            let is_so = wanted == catalog.idempotency.table.options.ttl_micros;
            let ttl = wanted.filter(|_| !is_so)?;
            let ttl = OptionChange::Ttl(Some(ttl));
            Some(Change::AlterOptions(IDEMPOTENCY_TABLE, vec![ttl]))
        })
    }

    /// Makes them true. A node that cannot write goes on as it is.
    pub(crate) async fn establish(self, replica: &Replica) -> Result<(), Error> {
        if replica.fault().is_some() {
            return Ok(());
        }
        while let Some(change) = self.change(&replica.store.catalog()) {
            let set = WriteSet {
                begin: Stamp::MAX,
                changes: vec![change],
            };
            match replica.propose(set, None).await {
                Ok(_) => {}
                // Somebody else changed the catalog.
                Err(e) if e.code == SqlState::SERIALIZATION_FAILURE => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asked_for_stays_but_for_a_new_database() {
        let mut catalog = Catalog::default();
        let nothing = Settings::default();
        assert!(matches!(nothing.change(&catalog), Some(Change::Catalog(_))));
        let off = Settings {
            transactions: Some(NoteTransactions::Off),
            ..nothing
        };
        assert_eq!(off.change(&catalog), None);
        let keys = Settings {
            idempotency_keys: "2d".parse().ok(),
            ..off
        };
        assert!("".parse::<KeepKeys>().is_err() && "-1d".parse::<KeepKeys>().is_err());
        let Some(Change::AlterOptions(id, changes)) = keys.change(&catalog) else {
            panic!("nothing changes");
        };
        let mut table = (**catalog.table_by_id(id).unwrap()).clone();
        table.options = table.options.changed(&changes, 0);
        catalog.replace_table(table.into());
        assert_eq!(keys.change(&catalog), None);
        assert_eq!(off.change(&catalog), None);
    }
}
