//! A received checkpoint takes the place of the store.
//!
//! ```text
//!   store       incoming              as it was
//!   store.old   incoming              the old store has made room
//!   store.old   store    (incoming)   the new one is in its place
//!               store                 the old one is removed
//! ```
//!
//! Each step is one rename that is made durable before the next. A cut before the first one is
//! durable leaves the old store; after it, the next open goes on from what it finds.

use std::path::Path;

use chronos_env::Env;

use super::list::LIST;
use super::{exists, remove_tree, rename, sync_parent};
use crate::error::StoreError;

const STORE: &str = "store";
const OLD: &str = "store.old";

/// The name that a received checkpoint has in the data directory, for
/// [`finish_replacement`] to find it.
pub const INCOMING: &str = "incoming";

/// Puts a complete checkpoint in the place of the store in a data directory. Whoever has that
/// store open has [retired](crate::Store::retire) it before, and opens it anew after.
///
/// Errors: the disk fails. What is there then is decided by [`finish_replacement`].
pub fn replace_store(env: &Env, data_dir: &Path) -> Result<(), StoreError> {
    let [store, old, incoming] = [STORE, OLD, INCOMING].map(|name| data_dir.join(name));
    if !exists(env, &incoming.join(LIST))? {
        return Err(StoreError::Missing {
            path: incoming,
            named_by: "a checkpoint was received",
        });
    }
    finish_replacement(env, data_dir)?;
    if exists(env, &store)? {
        rename(env, &store, &old)?;
    }
    rename(env, &incoming, &store)?;
    clean(env, data_dir)
}

/// Finishes a replacement that was cut short: to be called before the store is opened. Then there
/// is the old store or the new one, whole. A received checkpoint that was not yet put in place
/// stays.
pub fn finish_replacement(env: &Env, data_dir: &Path) -> Result<(), StoreError> {
    let [store, old, incoming] = [STORE, OLD, INCOMING].map(|name| data_dir.join(name));
    if exists(env, &old)? && !exists(env, &store)? {
        match exists(env, &incoming)? {
            true => rename(env, &incoming, &store)?,
            false => rename(env, &old, &store)?,
        }
    }
    clean(env, data_dir)
}

/// Removes what is of no use once the new store is in place.
fn clean(env: &Env, data_dir: &Path) -> Result<(), StoreError> {
    let [old, list] = [Path::new(OLD).to_owned(), Path::new(STORE).join(LIST)];
    let (old, list) = (data_dir.join(old), data_dir.join(list));
    if exists(env, &list)? {
        let removed = env.disk.remove_file(&list);
        removed.map_err(|e| StoreError::io("remove", &list, e))?;
        sync_parent(env, &list)?;
    }
    if exists(env, &old)? {
        remove_tree(&*env.disk, &old)?;
        sync_parent(env, &old)?;
    }
    Ok(())
}
