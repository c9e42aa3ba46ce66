//! Where a session goes: a connection URL, taken apart and completed with defaults.

use std::fmt;
use std::str::FromStr;

use tokio_postgres::config::{Config, Host};

use super::tls::TlsWish;
use crate::cli::args::{HostPort, DEFAULT_PG_PORT};
use crate::cli::cluster::Following;
use crate::cli::error::CliError;
use crate::cli::security::{from_password_file, from_pgpass, LoginArgs};

/// Database and user where a URL names none.
const DEFAULT_NAME: &str = "chronos";
/// Port where a URL names none: what every PostgreSQL client takes it to mean.
const URL_PORT: u16 = 5432;

/// One endpoint of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Host name or address, and port.
    Tcp(HostPort),
    /// Path of a Unix socket.
    Unix(std::path::PathBuf),
    /// The database opened by this process.
    Embedded(Embedded),
}

/// Hands the server's end of a new connection to the embedded database.
#[derive(Debug, Clone)]
pub(crate) struct Embedded(pub(crate) tokio::sync::mpsc::Sender<tokio::net::UnixStream>);

impl PartialEq for Embedded {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

impl Eq for Embedded {}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
            Self::Embedded(_) => f.write_str("the embedded database"),
        }
    }
}

/// Everything needed to open a session.
#[derive(Clone)]
pub(crate) struct Target {
    /// Tried in order; never empty.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Role to log in as.
    pub(crate) user: String,
    /// Only sent when the node asks for it.
    pub(crate) password: Option<Vec<u8>>,
    /// Database to use.
    pub(crate) database: String,
    /// Start-up options (`-c name=value`), as in libpq.
    pub(crate) options: Option<String>,
    /// How it is encrypted.
    pub(crate) tls: Box<TlsWish>,
    /// The cluster whose leader this is, to be followed when it is another one.
    pub(crate) following: Option<Following>,
}

impl Target {
    /// The node `chronos start` runs with its defaults.
    pub(crate) fn local() -> Result<Self, CliError> {
        Self::at(HostPort {
            host: "127.0.0.1".into(),
            port: DEFAULT_PG_PORT,
        })
    }

    /// A node by the address of its PostgreSQL port.
    pub(crate) fn at(address: HostPort) -> Result<Self, CliError> {
        Self::at_first_of(vec![address])
    }

    /// The first of some that answers.
    pub(crate) fn at_first_of(addresses: Vec<HostPort>) -> Result<Self, CliError> {
        Ok(Self {
            endpoints: addresses.into_iter().map(Endpoint::Tcp).collect(),
            user: default_user(),
            password: environment_password(),
            database: DEFAULT_NAME.into(),
            options: None,
            tls: Box::new(TlsWish::of_environment()?),
            following: None,
        })
    }

    /// The same with who logs in; a password that nothing gives is looked for in `~/.pgpass`.
    pub(crate) fn with_login(mut self, login: &LoginArgs) -> Result<Self, CliError> {
        if let Some(user) = &login.user {
            self.user.clone_from(user);
        }
        if let Some(file) = &login.password_file {
            self.password = Some(from_password_file(file)?.into_bytes());
        }
        if self.password.is_none() {
            let found = self.endpoints.iter().find_map(|endpoint| match endpoint {
                Endpoint::Tcp(at) => from_pgpass(&at.host, at.port, &self.database, &self.user),
                Endpoint::Unix(_) | Endpoint::Embedded(_) => None,
            });
            self.password = found.map(String::into_bytes);
        }
        Ok(self)
    }

    /// The database opened by this process.
    pub(crate) fn embedded(streams: tokio::sync::mpsc::Sender<tokio::net::UnixStream>) -> Self {
        Self {
            endpoints: vec![Endpoint::Embedded(Embedded(streams))],
            user: DEFAULT_NAME.into(),
            password: None,
            database: DEFAULT_NAME.into(),
            options: None,
            tls: Box::new(TlsWish::none()),
            following: None,
        }
    }

    /// Parses `postgres://user:password@host:port/database`, or `host=.. port=..` pairs.
    pub(crate) fn parse(url: &str) -> Result<Self, CliError> {
        let usage = |reason: String| CliError::Usage(format!("the connection URL: {reason}"));
        let (tls, url) = TlsWish::taken_from(url)?;
        let config = Config::from_str(&url).map_err(|error| {
            let reason = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string);
            usage(format!("{reason}; expected postgres://host:5433/chronos"))
        })?;
        let endpoints = endpoints(config.get_hosts(), config.get_ports());
        if endpoints.is_empty() {
            return Err(usage("no host is named".into()));
        }
        Ok(Self {
            endpoints,
            user: config.get_user().map_or_else(default_user, str::to_owned),
            password: config
                .get_password()
                .map(<[u8]>::to_vec)
                .or_else(environment_password),
            database: config.get_dbname().unwrap_or(DEFAULT_NAME).to_owned(),
            options: config.get_options().map(str::to_owned),
            tls: Box::new(tls),
            following: None,
        })
    }

    /// `url`, or the local node.
    pub(crate) fn from_option(url: Option<&str>) -> Result<Self, CliError> {
        url.map_or_else(Self::local, Self::parse)
    }

    /// The leader of the cluster at this moment, where one is followed; else the same.
    pub(crate) async fn of_now(&self) -> Result<Self, CliError> {
        let Some(mut following) = self.following.clone() else {
            return Ok(self.clone());
        };
        let found = following
            .find()
            .await
            .ok_or_else(|| CliError::Lost("no member of the cluster knows a leader".to_owned()))?;
        Ok(Self {
            endpoints: found.pg.into_iter().map(Endpoint::Tcp).collect(),
            following: Some(following),
            ..self.clone()
        })
    }

    /// Whether only the machine itself can be meant.
    pub(crate) fn is_local(&self) -> bool {
        self.endpoints.iter().all(|endpoint| match endpoint {
            Endpoint::Unix(_) | Endpoint::Embedded(_) => true,
            Endpoint::Tcp(address) => {
                matches!(address.host.as_str(), "127.0.0.1" | "localhost" | "::1")
            }
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, endpoint) in self.endpoints.iter().enumerate() {
            let separator = if nth == 0 { "" } else { "," };
            write!(f, "{separator}{endpoint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}@{self}/{})", self.user, self.database)
    }
}

fn endpoints(hosts: &[Host], ports: &[u16]) -> Vec<Endpoint> {
    let port_of = |nth: usize| match ports {
        [] => URL_PORT,
        [only] => *only,
        many => many.get(nth).copied().unwrap_or(URL_PORT),
    };
    if hosts.is_empty() {
        let host = "127.0.0.1".to_owned();
        let port = port_of(0);
        return vec![Endpoint::Tcp(HostPort { host, port })];
    }
    let endpoint = |(nth, host): (usize, &Host)| match host {
        Host::Tcp(host) => Endpoint::Tcp(HostPort {
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: port_of(nth),
        }),
        Host::Unix(directory) => {
            Endpoint::Unix(directory.join(format!(".s.PGSQL.{}", port_of(nth))))
        }
    };
    hosts.iter().enumerate().map(endpoint).collect()
}

fn default_user() -> String {
    ["PGUSER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| DEFAULT_NAME.to_owned())
}

fn environment_password() -> Option<Vec<u8>> {
    std::env::var("PGPASSWORD").ok().map(String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_completed_with_defaults() {
        let target = Target::parse("postgres://ada:secret@db.example").unwrap();
        assert_eq!(target.to_string(), "db.example:5432");
        assert_eq!(
            (target.user.as_str(), target.database.as_str()),
            ("ada", "chronos")
        );
        assert_eq!(target.password.as_deref(), Some(&b"secret"[..]));
        let target = Target::parse("postgresql://u@[::1]:7000/x").unwrap();
        assert_eq!(target.to_string(), "[::1]:7000");
        assert!(target.is_local());
        let target = Target::parse("host=/run/pg port=5 user=u").unwrap();
        assert_eq!(target.to_string(), "/run/pg/.s.PGSQL.5");
    }

    #[test]
    fn the_password_is_never_shown() {
        let target = Target::parse("postgres://ada:secret@h/d").unwrap();
        assert!(!format!("{target:?} {target}").contains("secret"));
    }

    #[test]
    fn nonsense_is_refused() {
        let error = Target::parse("http://h:9000").map_err(|e| e.to_string());
        assert!(error.is_err_and(|text| text.contains("expected postgres://")));
    }
}
