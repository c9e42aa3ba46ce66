//! CREATE USER, ALTER USER, DROP USER, GRANT, REVOKE: edits of the catalog's users.

use std::sync::Arc;

use chronos_model::{CatalogEdit, Role, Secret, SqlState, TableId, UserSchema, Users};
use chronos_query::sql::{UserCommand, UserName, UserOptions};

use super::command::done;
use super::Session;
use crate::auth::Identity;
use crate::{Error, Node, Outcome, Severity};

impl Node {
    /// Makes an admin of that name and password, unless there is such a user. Whether it did.
    pub async fn ensure_admin(&self, name: &str, password: &str) -> Result<bool, Error> {
        if self.inner.replica.store.catalog().users.get(name).is_some() {
            return Ok(false);
        }
        let options = UserOptions {
            can_login: Some(true),
            password: Some(Some(Secret::new(password))),
            is_admin: Some(true),
            ..UserOptions::default()
        };
        self.session().create_user(name, &options).await?;
        Ok(true)
    }
}

impl Session {
    pub(super) async fn change_users(&mut self, command: &UserCommand) -> Result<Outcome, Error> {
        match command {
            UserCommand::Create(name, options) => self.create_user(name, options).await,
            UserCommand::Alter(name, options) => {
                let mut user = UserSchema::clone(&*self.user(name)?);
                self.describe_user(&mut user, options).await?;
                self.put_users(vec![user]).await?;
                done("ALTER ROLE")
            }
            UserCommand::Rename(name, to) => {
                let mut user = UserSchema::clone(&*self.user(name)?);
                self.refuse_own(&user, "session user cannot be renamed")?;
                self.refuse_taken(to)?;
                user.name = to.clone();
                self.put_users(vec![user]).await?;
                done("ALTER ROLE")
            }
            UserCommand::Drop(names, if_exists) => self.drop_users(names, *if_exists).await,
            UserCommand::Grant(roles, names) => {
                self.set_roles(names, |held| held.extend(roles)).await?;
                done("GRANT ROLE")
            }
            UserCommand::Revoke(roles, names) => {
                self.set_roles(names, |held| held.retain(|role| !roles.contains(role)))
                    .await?;
                done("REVOKE ROLE")
            }
        }
    }

    async fn create_user(&mut self, name: &str, options: &UserOptions) -> Result<Outcome, Error> {
        self.refuse_taken(name)?;
        let mut user = UserSchema {
            id: TableId(0),
            name: name.to_owned(),
            can_login: false,
            verifier: None,
            valid_until: None,
            roles: Vec::new(),
        };
        self.describe_user(&mut user, options).await?;
        self.put_users(vec![user]).await?;
        done("CREATE ROLE")
    }

    /// Brings what a statement says into a user.
    async fn describe_user(
        &mut self,
        user: &mut UserSchema,
        options: &UserOptions,
    ) -> Result<(), Error> {
        user.can_login = options.can_login.unwrap_or(user.can_login);
        user.valid_until = options.valid_until.unwrap_or(user.valid_until);
        user.roles.extend(&options.roles);
        match options.is_admin {
            Some(true) => user.roles.push(Role::Admin),
            Some(false) => user.roles.retain(|role| *role != Role::Admin),
            None => {}
        }
        user.roles.sort();
        user.roles.dedup();
        match &options.password {
            None => {}
            Some(None) => user.verifier = None,
            Some(Some(password)) if password.reveal().is_empty() => {
                let message = "empty string is not a valid password, clearing password";
                self.notice(Severity::Notice, SqlState::SUCCESSFUL_COMPLETION, message);
                user.verifier = None;
            }
            Some(Some(password)) => {
                // 4096 rounds of hashing are no work for a thread that others wait for.
                let (node, password) = (self.node.clone(), password.clone());
                let hashing =
                    tokio::task::spawn_blocking(move || node.new_verifier(password.reveal()));
                let verifier = hashing.await.map_err(|e| {
                    Error::new(SqlState::INTERNAL, format!("hashing ended early: {e}"))
                })?;
                user.verifier = Some(verifier?);
            }
        }
        Ok(())
    }

    async fn set_roles(
        &mut self,
        names: &[UserName],
        change: impl Fn(&mut Vec<Role>),
    ) -> Result<(), Error> {
        let mut users = Vec::with_capacity(names.len());
        for name in names {
            let mut user = UserSchema::clone(&*self.user(name)?);
            change(&mut user.roles);
            user.roles.sort();
            user.roles.dedup();
            users.push(user);
        }
        self.put_users(users).await
    }

    async fn drop_users(&mut self, names: &[UserName], if_exists: bool) -> Result<Outcome, Error> {
        let mut edits = Vec::with_capacity(names.len());
        for name in names {
            match self.user(name) {
                Ok(user) => {
                    self.refuse_own(&user, "current user cannot be dropped")?;
                    edits.push(CatalogEdit::DropUser(user.id));
                }
                Err(e) if if_exists && e.code == SqlState::UNDEFINED_OBJECT => self.notice(
                    Severity::Notice,
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("{}, skipping", e.message),
                ),
                Err(e) => return Err(e),
            }
        }
        let catalog = self.catalog();
        self.edit_catalog(&catalog, edits).await?;
        done("DROP ROLE")
    }

    async fn put_users(&mut self, users: Vec<UserSchema>) -> Result<(), Error> {
        let catalog = self.catalog();
        let before = &catalog.users;
        let mut edits = Vec::with_capacity(users.len() + 1);
        if before.decoy.is_none() {
            edits.push(CatalogEdit::Decoy(self.node.new_decoy()));
        }
        let edits_of = users.into_iter().map(|u| CatalogEdit::User(Box::new(u)));
        edits.extend(edits_of);
        self.edit_catalog(&catalog, edits).await?;
        self.warn_of_lockout(before);
        Ok(())
    }

    /// Tells the first one who makes a user what follows from it for others.
    fn warn_of_lockout(&mut self, before: &Users) {
        let has_login = |users: &Users| users.iter().any(|user| user.has_login());
        let catalog = self.node.inner.replica.store.catalog();
        if self.identity != Identity::Trusted || has_login(before) || !has_login(&catalog.users) {
            return;
        }
        let mut users = catalog.users.iter();
        let has_admin = users.any(|user| user.has_login() && user.role() == Some(Role::Admin));
        let message = match has_admin {
            true => "from now on every new connection needs a password, unless the node runs with --auth trust",
            false => "from now on every new connection needs a password, unless the node runs with --auth trust, and no user is an admin yet: GRANT chronos_admin TO one before you leave",
        };
        self.notice(Severity::Warning, SqlState::WARNING, message);
    }

    fn user(&self, name: &UserName) -> Result<Arc<UserSchema>, Error> {
        let name = match name {
            UserName::Named(name) => name,
            UserName::Current => &self.facts.user,
        };
        let catalog = self.catalog();
        if let Some(user) = catalog.users.get(name) {
            return Ok(Arc::clone(user));
        }
        if Role::of_name(name).is_some() {
            let message = format!("role name \"{name}\" is reserved");
            return Err(Error::new(SqlState("42939"), message));
        }
        let message = format!("role \"{name}\" does not exist");
        Err(Error::new(SqlState::UNDEFINED_OBJECT, message))
    }

    fn refuse_taken(&self, name: &str) -> Result<(), Error> {
        match self.catalog().users.get(name) {
            None => Ok(()),
            Some(_) => Err(Error::new(
                SqlState::DUPLICATE_OBJECT,
                format!("role \"{name}\" already exists"),
            )),
        }
    }

    fn refuse_own(&self, user: &UserSchema, message: &str) -> Result<(), Error> {
        match &self.identity {
            Identity::User { id, .. } if *id == user.id => {
                Err(Error::new(SqlState::OBJECT_IN_USE, message))
            }
            _ => Ok(()),
        }
    }
}
