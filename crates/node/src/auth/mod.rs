//! Who somebody is: passwords against the catalog's users, tokens against the node's options.
//!
//! ```text
//!   pgwire SASL ─► exchange ─┐
//!   HTTP Basic  ─► password ─┼─► Identity ─► Session::log_in ─► what its role may do, statement by statement
//!   HTTP Bearer ─► token    ─┘
//! ```
//!
//! Users are in the replicated catalog, so every node has them. Tokens are the node's own. What
//! comes over the network is never kept: a password that was right is remembered as a keyed hash,
//! under a key that nobody knows and that ends with the process.

mod scram;

use std::fmt;

use chronos_env::Env;
use chronos_model::{Catalog, Role, Secret, SqlState, TableId, UserSchema};
use quick_cache::sync::Cache;
use subtle::ConstantTimeEq;

pub use scram::{Binding, Exchange, ScramError, Verifier, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

use crate::{Error, Node};

/// Passwords that were right, remembered so that not each request hashes 4096 times.
const REMEMBERED_MAX: usize = 1024;
/// Random bytes of our part of a nonce, as PostgreSQL takes them.
const NONCE_BYTES: usize = 18;
/// Bytes of the salt of a new password.
const SALT_BYTES: usize = 16;
/// Longer ones nobody types, and none is hashed.
const PASSWORD_BYTES_MAX: usize = 1000;

/// Whether somebody who connects has to say who he is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AuthMode {
    /// No: everybody is an admin under the name that he gives.
    #[default]
    Trust,
    /// As soon as there is a user with a password, or a token.
    ByUsers,
    /// Yes.
    Required,
}

/// How a node finds out who somebody is.
#[derive(Clone, Debug, Default)]
pub struct AuthOptions {
    /// Whether it does.
    pub mode: AuthMode,
    /// Lets in as [`Role::Admin`].
    pub token_admin: Option<Secret>,
    /// Lets in as [`Role::ReadOnly`].
    pub token_read_only: Option<Secret>,
}

/// Somebody of whom it is known who he is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Whoever it is may do everything.
    Trusted,
    /// A user of the catalog.
    User {
        /// Its identity.
        id: TableId,
        /// Its name when it came.
        name: String,
    },
    /// The bearer of a token.
    Token(Role),
}

impl Identity {
    /// The name by which he is known; `None`: nobody asked for it.
    pub fn name(&self) -> Option<&str> {
        match self {
            Identity::Trusted => None,
            Identity::User { name, .. } => Some(name),
            Identity::Token(role) => Some(role.name()),
        }
    }
}

/// A node's memory of who was let in.
pub(crate) struct Auth {
    options: AuthOptions,
    /// The verifier's text and the password's keyed hash, by user.
    remembered: Cache<String, (String, [u8; 32])>,
    /// Known to this process only.
    key: [u8; 32],
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Auth {
    pub(crate) fn new(options: AuthOptions, env: &Env) -> Auth {
        let mut key = [0; 32];
        env.random.fill(&mut key);
        Auth {
            options,
            remembered: Cache::new(REMEMBERED_MAX),
            key,
        }
    }

    /// What is remembered of a password.
    fn hash_of(&self, name: &str, password: &str) -> [u8; 32] {
        scram::hmac(&self.key, &[name.as_bytes(), b"\0", password.as_bytes()])
    }
}

impl Node {
    /// Whether somebody who connects now has to say who he is.
    pub fn asks_who(&self) -> bool {
        let options = &self.inner.auth.options;
        match options.mode {
            AuthMode::Trust => false,
            AuthMode::Required => true,
            AuthMode::ByUsers => self.can_log_in(),
        }
    }

    /// Whether there is anybody who could say who he is: a user with a password, or a token.
    pub fn can_log_in(&self) -> bool {
        let options = &self.inner.auth.options;
        let catalog = self.inner.replica.store.catalog();
        options.token_admin.is_some()
            || options.token_read_only.is_some()
            || catalog.users.iter().any(|user| user.has_login())
    }

    /// Begins the log-in of a name by its password; it goes the same way whether there is such
    /// a user or not.
    pub fn exchange(&self, name: &str, binding: Binding) -> Exchange {
        let catalog = self.inner.replica.store.catalog();
        let (verifier, may_succeed) = self.verifier_of(name, &catalog);
        let mut nonce = [0; NONCE_BYTES];
        self.inner.env.random.fill(&mut nonce);
        Exchange::new(verifier, may_succeed, binding, &encoded(&nonce))
    }

    /// The user of a name whose password was right.
    ///
    /// Errors: it may not log in (28000).
    pub fn identity_of(&self, name: &str) -> Result<Identity, Error> {
        let catalog = self.inner.replica.store.catalog();
        match catalog.users.get(name) {
            Some(user) if user.can_login => Ok(Identity::User {
                id: user.id,
                name: user.name.clone(),
            }),
            Some(_) => Err(Error::new(
                SqlState::INVALID_AUTHORIZATION,
                format!("role \"{name}\" is not permitted to log in"),
            )),
            None => Err(wrong_password(name)),
        }
    }

    /// The user of a name and a password that were right before, and still are. Quick.
    pub fn remembered(&self, name: &str, password: &str) -> Option<Identity> {
        let auth = &self.inner.auth;
        let (of, known) = auth.remembered.get(name)?;
        let catalog = self.inner.replica.store.catalog();
        let (verifier, may_succeed) = self.verifier_of(name, &catalog);
        let is_it: bool = known.ct_eq(&auth.hash_of(name, password)).into();
        match is_it && may_succeed && of == verifier.text() {
            true => self.identity_of(name).ok(),
            false => None,
        }
    }

    /// The user of a name and a password. Hashes for some milliseconds: call it where one may
    /// block, and not too often at once.
    ///
    /// Errors: they do not go together (28P01), or the user may not log in (28000).
    pub fn check_password(&self, name: &str, password: &str) -> Result<Identity, Error> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(wrong_password(name));
        }
        let catalog = self.inner.replica.store.catalog();
        let (verifier, may_succeed) = self.verifier_of(name, &catalog);
        if !verifier.matches(password) || !may_succeed {
            return Err(wrong_password(name));
        }
        let auth = &self.inner.auth;
        let hash = auth.hash_of(name, password);
        auth.remembered
            .insert(name.to_owned(), (verifier.text(), hash));
        self.identity_of(name)
    }

    /// Whose token it is; `None`: nobody's.
    pub fn check_token(&self, token: &str) -> Option<Identity> {
        let options = &self.inner.auth.options;
        // Hashes are compared, so that not even the length of the right one can be measured.
        let given = scram::sha256(token.as_bytes());
        let is = |secret: &Option<Secret>| {
            secret.as_ref().is_some_and(|secret| {
                let own = scram::sha256(secret.reveal().as_bytes());
                bool::from(own.ct_eq(&given))
            })
        };
        if is(&options.token_admin) {
            return Some(Identity::Token(Role::Admin));
        }
        is(&options.token_read_only).then_some(Identity::Token(Role::ReadOnly))
    }

    /// What somebody may do now; `None`: ask about system tables and constants.
    ///
    /// Errors: the user has been dropped (28000).
    pub fn role_of(&self, identity: &Identity) -> Result<Option<Role>, Error> {
        match identity {
            Identity::Trusted => Ok(Some(Role::Admin)),
            Identity::Token(role) => Ok(Some(*role)),
            Identity::User { id, name } => {
                let catalog = self.inner.replica.store.catalog();
                match catalog.users.find(*id, name) {
                    Some(user) if user.can_login => Ok(user.role()),
                    Some(_) => Err(Error::new(
                        SqlState::INVALID_AUTHORIZATION,
                        format!("role \"{name}\" is not permitted to log in"),
                    )),
                    None => Err(Error::new(
                        SqlState::INVALID_AUTHORIZATION,
                        format!("role \"{name}\" was dropped"),
                    )),
                }
            }
        }
    }

    /// What a name's password is verified with, and whether that may succeed at all.
    fn verifier_of(&self, name: &str, catalog: &Catalog) -> (Verifier, bool) {
        let now_micros = self.inner.env.clock.now_micros() as i64;
        let is_good = |user: &UserSchema| user.valid_until.is_none_or(|until| until > now_micros);
        let user = catalog.users.get(name);
        let stored = user.and_then(|user| user.verifier.as_ref());
        match (user, stored.and_then(|v| Verifier::parse(v.reveal()))) {
            (Some(user), Some(verifier)) => (verifier, is_good(user)),
            _ => {
                let secret = catalog.users.decoy.as_ref();
                let secret = secret.map_or(&self.inner.auth.key[..], |s| s.reveal().as_bytes());
                (Verifier::decoy(secret, name), false)
            }
        }
    }

    /// The verifier of a password, or one that is given in its place.
    ///
    /// Errors: a password that is too long (22023), or hashed in another way (0A000).
    pub(crate) fn new_verifier(&self, password: &str) -> Result<Secret, Error> {
        if password.starts_with("SCRAM-SHA-256$") {
            let verifier = Verifier::parse(password).ok_or_else(|| {
                Error::new(
                    SqlState::INVALID_PARAMETER,
                    "the SCRAM verifier cannot be read",
                )
            })?;
            return Ok(Secret::new(verifier.text()));
        }
        let digits = password.strip_prefix("md5").unwrap_or_default();
        if digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            let message = "passwords hashed with MD5 are not supported";
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                .with_hint("Give the password itself, or a SCRAM-SHA-256 verifier."));
        }
        if password.len() > PASSWORD_BYTES_MAX {
            let message = format!("a password has {PASSWORD_BYTES_MAX} bytes at most");
            return Err(Error::new(SqlState::INVALID_PARAMETER, message));
        }
        let mut salt = [0; SALT_BYTES];
        self.inner.env.random.fill(&mut salt);
        Ok(Secret::new(Verifier::of_password(password, &salt).text()))
    }

    /// A secret for [`Catalog::users`]' decoy.
    pub(crate) fn new_decoy(&self) -> Secret {
        let mut bytes = [0; 32];
        self.inner.env.random.fill(&mut bytes);
        Secret::new(encoded(&bytes))
    }
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What who gives a wrong name or a wrong password is told.
pub fn wrong_password(name: &str) -> Error {
    Error::new(
        SqlState::INVALID_PASSWORD,
        format!("password authentication failed for user \"{name}\""),
    )
}
