//! Users and roles as `pg_roles`, `pg_user`, `pg_auth_members` show them.
//!
//! Tables belong to the role of object id 10. It has the name of whoever is connected, as long as
//! nobody has to say who he is, and is called `chronos` for users that the catalog knows. What
//! passwords are verified with is shown nowhere.

use chronos_model::{Role, UserSchema, Value};

use super::objects::{table_oid, Objects, OWNER};
use super::rows::{int, text, yes, Rows};

/// Name of the owner of all tables where users have names of their own.
const OWNER_NAME: &str = "chronos";
/// Object id of the first of the built-in roles.
const FIRST_ROLE: i64 = 15_001;
/// What stands in the place of a password.
const HIDDEN: &str = "********";

/// A role as the tables show it.
pub(crate) struct RoleRow<'a> {
    pub(crate) oid: i64,
    pub(crate) name: &'a str,
    /// What it may do.
    pub(crate) role: Option<Role>,
    can_login: bool,
    has_password: bool,
    valid_until: Option<i64>,
    user: Option<&'a UserSchema>,
}

impl<'a> Objects<'a> {
    /// Users and built-in roles; the owner is the first.
    pub(crate) fn roles(&self) -> Vec<RoleRow<'a>> {
        let users = &self.catalog.users;
        let owner = self.owner_name();
        let owner_row = match users.get(owner) {
            Some(user) => row_of(user, OWNER),
            None => RoleRow {
                oid: OWNER,
                name: owner,
                role: Some(Role::Admin),
                can_login: true,
                has_password: false,
                valid_until: None,
                user: None,
            },
        };
        let built_in = Role::ALL.into_iter().map(|role| RoleRow {
            oid: role_oid(role),
            name: role.name(),
            role: Some(role),
            can_login: false,
            has_password: false,
            valid_until: None,
            user: None,
        });
        let others = users.iter().filter(|user| user.name != owner);
        let others = others.map(|user| row_of(user, table_oid(user.id)));
        std::iter::once(owner_row)
            .chain(built_in)
            .chain(others)
            .collect()
    }

    /// The role of a name.
    pub(crate) fn role_named(&self, name: &str) -> Option<RoleRow<'a>> {
        self.roles().into_iter().find(|role| role.name == name)
    }

    /// The role of an object id.
    pub(crate) fn role_of_oid(&self, oid: i64) -> Option<RoleRow<'a>> {
        self.roles().into_iter().find(|role| role.oid == oid)
    }

    fn owner_name(&self) -> &'a str {
        let user = self.facts.user.as_str();
        let is_known = self.catalog.users.get(user).is_some() || Role::of_name(user).is_some();
        match is_known {
            true => OWNER_NAME,
            false => user,
        }
    }
}

fn row_of(user: &UserSchema, oid: i64) -> RoleRow<'_> {
    RoleRow {
        oid,
        name: &user.name,
        role: user.role(),
        can_login: user.can_login,
        has_password: user.verifier.is_some(),
        valid_until: user.valid_until,
        user: Some(user),
    }
}

fn role_oid(role: Role) -> i64 {
    FIRST_ROLE + role as i64
}

fn valid_until(row: &RoleRow<'_>) -> Value {
    row.valid_until.map_or(Value::Null, Value::TimestampTz)
}

pub(super) fn pg_roles(objects: &Objects<'_>) -> Rows {
    of_roles(objects, |_| text(HIDDEN))
}

pub(super) fn pg_authid(objects: &Objects<'_>) -> Rows {
    of_roles(objects, |row| match row.has_password {
        true => text(HIDDEN),
        false => Value::Null,
    })
}

fn of_roles(objects: &Objects<'_>, password: fn(&RoleRow<'_>) -> Value) -> Rows {
    let mut rows = Rows::of(&[
        "oid",
        "rolname",
        "rolsuper",
        "rolinherit",
        "rolcreaterole",
        "rolcreatedb",
        "rolcanlogin",
        "rolreplication",
        "rolconnlimit",
        "rolpassword",
        "rolvaliduntil",
        "rolbypassrls",
    ]);
    for row in objects.roles() {
        let is_admin = row.role == Some(Role::Admin);
        rows.push([
            int(row.oid),
            text(row.name),
            yes(is_admin),
            yes(true),
            yes(is_admin),
            yes(is_admin),
            yes(row.can_login),
            yes(false),
            int(-1),
            password(&row),
            valid_until(&row),
            yes(is_admin),
        ]);
    }
    rows
}

pub(super) fn pg_user(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "usename",
        "usesysid",
        "usecreatedb",
        "usesuper",
        "userepl",
        "usebypassrls",
        "passwd",
        "valuntil",
    ]);
    for row in objects.roles().iter().filter(|row| row.can_login) {
        let is_admin = row.role == Some(Role::Admin);
        rows.push([
            text(row.name),
            int(row.oid),
            yes(is_admin),
            yes(is_admin),
            yes(false),
            yes(is_admin),
            text(HIDDEN),
            valid_until(row),
        ]);
    }
    rows
}

pub(super) fn pg_auth_members(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["roleid", "member", "grantor", "admin_option"]);
    for row in objects.roles() {
        for role in row.user.iter().flat_map(|user| &user.roles) {
            rows.push([int(role_oid(*role)), int(row.oid), int(OWNER), yes(false)]);
        }
    }
    rows
}
