//! How far the log is applied: index and term of the last entry, and the membership that the
//! log last told of.
//!
//! The store does not vote and knows no members: what it is given of them it keeps, and gives
//! back as of the entry that it stands at, from memory, after a restart, and of a checkpoint.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::log::{LogIndex, Term};
use crate::manifest::ManifestState;
use crate::store::Store;

/// Who belongs to the cluster, in the words of whoever replicates.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Membership {
    /// Term of the entry that said so.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// What it said. The store does not look inside.
    pub bytes: Vec<u8>,
}

/// Up to where the log is applied.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    index: LogIndex,
    term: Term,
    /// Of the entries to come.
    entered: Term,
    membership: Option<Arc<Membership>>,
}

impl Progress {
    /// Where a manifest says that the store stands.
    pub(crate) fn of(known: &ManifestState) -> Progress {
        let term = match known.flushed_index {
            0 => Term::default(),
            _ => Term(known.flushed_term),
        };
        Progress {
            index: LogIndex(known.flushed_index),
            term,
            entered: term.max(Term::FIRST),
            membership: known.membership.clone().map(Arc::new),
        }
    }

    /// The last entry that was applied; 0: none.
    pub(crate) fn index(&self) -> LogIndex {
        self.index
    }

    /// Its term; 0: there is none.
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    pub(crate) fn membership(&self) -> Option<&Arc<Membership>> {
        self.membership.as_ref()
    }

    /// An entry of the term that was entered last is applied.
    pub(crate) fn advance(&mut self, index: LogIndex) {
        self.index = index;
        self.term = self.entered;
    }
}

impl Store {
    /// Term and index of the last log entry whose effects the store contains; both are 0 of a
    /// store to which none was applied. What an older version wrote is of term 1.
    pub fn applied(&self) -> (Term, LogIndex) {
        let shared = self.shared();
        let published = shared.published.read();
        (published.progress.term(), published.progress.index())
    }

    /// Who belongs to the cluster as of the last applied entry, if that was ever noted.
    pub fn membership(&self) -> Option<Arc<Membership>> {
        self.shared().published.read().progress.membership.clone()
    }

    /// Term and index of the last log entry that is durable in segments, and who belonged to the
    /// cluster as of then; both are 0 if nothing is.
    pub fn flushed(&self) -> (Term, LogIndex, Option<Membership>) {
        let shared = self.shared();
        let manifest = shared.manifest.lock();
        let known = manifest.state();
        let term = match known.flushed_index {
            0 => Term::default(),
            _ => Term(known.flushed_term),
        };
        (
            term,
            LogIndex(known.flushed_index),
            known.membership.clone(),
        )
    }

    /// The entries applied from now on are of this term. Whoever applies says so before the first
    /// entry of each term, and after opening if that is not [`Term::FIRST`] or the term of
    /// [`applied`](Self::applied).
    ///
    /// Errors: a later term was entered before.
    pub fn enter_term(&self, term: Term) -> Result<(), StoreError> {
        let shared = self.shared();
        let _apply = shared.apply.lock();
        let mut published = shared.published.write();
        let progress = &mut published.progress;
        if term < progress.entered {
            return Err(StoreError::TermOrder {
                given: term,
                entered: progress.entered,
            });
        }
        progress.entered = term;
        Ok(())
    }

    /// Applies a log entry that says who belongs to the cluster from now on.
    pub fn note_membership(&self, index: LogIndex, bytes: Vec<u8>) -> Result<(), StoreError> {
        let shared = self.shared();
        let _apply = shared.apply.lock();
        shared.check_usable()?;
        shared.check_order(index, None)?;
        let mut published = shared.published.write();
        let progress = &mut published.progress;
        progress.advance(index);
        progress.membership = Some(Arc::new(Membership {
            term: progress.term.0,
            index: index.0,
            bytes,
        }));
        Ok(())
    }
}
