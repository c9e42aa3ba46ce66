//! Whether transactions are noted, and for how long: what a node is told at its start becomes
//! true of the database.

use std::str::FromStr;

use chronos_model::{
    Catalog, CatalogChange, CatalogEdit, Change, OptionChange, TRANSACTIONS_TABLE,
};
use chronos_query::table_options;

/// How long transactions are kept unless somebody says otherwise: 30 days.
const DEFAULT_MICROS: i64 = 30 * chronos_model::text::DAY_MICROS;

/// Which transactions `chronos.transactions` has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoteTransactions {
    /// New ones are not noted.
    Off,
    /// Those of the last so many microseconds.
    For(i64),
    /// All since they are noted.
    Forever,
}

impl Default for NoteTransactions {
    fn default() -> NoteTransactions {
        NoteTransactions::For(DEFAULT_MICROS)
    }
}

impl FromStr for NoteTransactions {
    type Err = String;

    fn from_str(text: &str) -> Result<NoteTransactions, String> {
        match text {
            "off" => Ok(NoteTransactions::Off),
            "forever" => Ok(NoteTransactions::Forever),
            other => table_options::duration_micros(other)
                .map(NoteTransactions::For)
                .map_err(|_| {
                    "expected a duration such as 30d or 12h, or forever, or off".to_owned()
                }),
        }
    }
}

impl NoteTransactions {
    fn ttl_micros(self) -> Option<i64> {
        match self {
            NoteTransactions::For(micros) => Some(micros),
            NoteTransactions::Off | NoteTransactions::Forever => None,
        }
    }

    /// What makes it true; `None`: it is.
    pub(crate) fn change(self, catalog: &Catalog) -> Option<Change> {
        let enabled = self != NoteTransactions::Off;
        let switch = |enabled, ttl| {
            Some(Change::Catalog(CatalogChange {
                base: catalog.version,
                unchanged: Vec::new(),
                edits: vec![CatalogEdit::NoteTransactions(enabled, ttl)],
            }))
        };
        match &catalog.transactions {
            None if enabled => switch(true, self.ttl_micros()),
            None => None,
            Some(log) if log.enabled != enabled => switch(enabled, None),
            Some(_) if !enabled => None,
            Some(log) if log.table.options.ttl_micros != self.ttl_micros() => {
                let ttl = OptionChange::Ttl(self.ttl_micros());
                Some(Change::AlterOptions(TRANSACTIONS_TABLE, vec![ttl]))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows from applying the changes until there is none.
    fn settled(catalog: &mut Catalog, wanted: NoteTransactions) -> Vec<&'static str> {
        let mut made = Vec::new();
        while let Some(change) = wanted.change(catalog) {
            match change {
                Change::Catalog(change) => {
                    *catalog = change.applied(catalog).unwrap();
                    made.push("switch");
                }
                Change::AlterOptions(id, changes) => {
                    let mut table = (**catalog.table_by_id(id).unwrap()).clone();
                    table.options = table.options.changed(&changes, 0);
                    catalog.replace_table(table.into());
                    made.push("ttl");
                }
                other => panic!("{other:?}"),
            }
        }
        made
    }

    #[test]
    fn texts() {
        let day = chronos_model::text::DAY_MICROS;
        assert_eq!("2d".parse(), Ok(NoteTransactions::For(2 * day)));
        assert_eq!("off".parse(), Ok(NoteTransactions::Off));
        assert_eq!("forever".parse(), Ok(NoteTransactions::Forever));
        for wrong in ["", "0d", "-1d", "on"] {
            assert!(wrong.parse::<NoteTransactions>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wanted_becomes_true_and_then_nothing_changes() {
        let mut catalog = Catalog::default();
        let mut settled = |wanted| settled(&mut catalog, wanted);
        assert!(settled(NoteTransactions::Off).is_empty());
        assert_eq!(settled(NoteTransactions::default()), ["switch"]);
        assert!(settled(NoteTransactions::default()).is_empty());
        assert_eq!(settled(NoteTransactions::For(5)), ["ttl"]);
        assert_eq!(settled(NoteTransactions::Off), ["switch"]);
        assert_eq!(settled(NoteTransactions::Forever), ["switch", "ttl"]);
        let log = catalog.transactions.unwrap();
        assert_eq!((log.enabled, log.table.options.ttl_micros), (true, None));
    }
}
