//! Users, and the three roles that say what a user may do.
//!
//! Roles are fixed and ordered: who may write may read, and an admin may do everything.
//! A user without any may log in and ask about nothing but constants and the system tables.
//! What is kept of a password is a verifier (RFC 5802), as text that only `node` understands;
//! it is never shown, not even by `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TableId;

/// A built-in role; later ones may do all that earlier ones may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads tables.
    ReadOnly,
    /// Reads and changes rows.
    ReadWrite,
    /// Everything: tables, users, maintenance.
    Admin,
}

impl Role {
    /// All of them, from the least to the greatest.
    pub const ALL: [Role; 3] = [Role::ReadOnly, Role::ReadWrite, Role::Admin];

    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Role::ReadOnly => "chronos_read_only",
            Role::ReadWrite => "chronos_read_write",
            Role::Admin => "chronos_admin",
        }
    }

    /// The role of that folded name; PostgreSQL's name for reading everything is one, too.
    pub fn of_name(name: &str) -> Option<Role> {
        match name {
            "pg_read_all_data" => Some(Role::ReadOnly),
            name => Role::ALL.into_iter().find(|role| role.name() == name),
        }
    }
}

/// A secret as text, which shows itself to nobody.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for those who need it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Somebody who may log in, or a name that is kept for one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UserSchema {
    /// Identity, from the same numbers as those of tables; given when the creation is applied.
    pub id: TableId,
    /// Name, already folded.
    pub name: String,
    /// Whether it may log in.
    pub can_login: bool,
    /// What its password is verified with; `None`: it has none, and cannot log in by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier: Option<Secret>,
    /// When the password ceases to be good, in microseconds since 1970; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<i64>,
    /// Its roles, the least first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
}

impl UserSchema {
    /// The greatest of its roles, which includes the others.
    pub fn role(&self) -> Option<Role> {
        self.roles.iter().max().copied()
    }

    /// Whether somebody may come in by this user's password.
    pub fn has_login(&self) -> bool {
        self.can_login && self.verifier.is_some()
    }
}

/// The users of a database.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Users {
    /// By folded name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_name: BTreeMap<String, Arc<UserSchema>>,
    /// From this the answers to names that are no user's are made, so that they are the same at
    /// every try and on every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoy: Option<Secret>,
}

impl Users {
    /// Whether there never was one.
    pub fn is_empty(&self) -> bool {
        *self == Users::default()
    }

    /// A user by name.
    pub fn get(&self, name: &str) -> Option<&Arc<UserSchema>> {
        self.by_name.get(name)
    }

    /// The user of that identity, which is looked for under `name` first.
    pub fn find(&self, id: TableId, name: &str) -> Option<&Arc<UserSchema>> {
        let named = self.by_name.get(name).filter(|user| user.id == id);
        named.or_else(|| self.by_name.values().find(|user| user.id == id))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<UserSchema>> {
        self.by_name.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_stored_and_never_shown() {
        let user = UserSchema {
            id: TableId(3),
            name: "ada".into(),
            can_login: true,
            verifier: Some(Secret::new("hidden")),
            valid_until: None,
            roles: vec![Role::ReadOnly, Role::Admin],
        };
        assert!(!format!("{user:?}").contains("hidden"));
        assert_eq!(user.role(), Some(Role::Admin));
        let written = serde_json::to_string(&user).unwrap();
        assert_eq!(serde_json::from_str::<UserSchema>(&written).unwrap(), user);
        assert_eq!(Role::of_name("pg_read_all_data"), Some(Role::ReadOnly));
        assert_eq!(Role::of_name("postgres"), None);
    }
}
