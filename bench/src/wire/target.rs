//! Where a server is, and as whom to connect.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::Result;

/// A server's address and the names of the startup message.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Resolved.
    pub(crate) address: SocketAddr,
    /// User name.
    pub(crate) user: String,
    /// Database name.
    pub(crate) database: String,
}

impl Target {
    /// Reads `postgres://[user@]host:port[/database]`.
    pub(crate) fn parse(url: &str) -> Result<Target> {
        let bad = || format!("{url} is not postgres://[user@]host:port[/database]");
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or_else(bad)?;
        let rest = rest.split('?').next().unwrap_or(rest);
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = place.rsplit_once('@').unwrap_or(("bench", place));
        let user = user.split(':').next().unwrap_or(user);
        let host = if host.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:5432")
        };
        let address = host
            .to_socket_addrs()
            .map_err(|error| format!("{host}: {error}"))?
            .next()
            .ok_or_else(bad)?;
        let database = if database.is_empty() {
            "chronos"
        } else {
            database
        };
        Ok(Target {
            address,
            user: user.to_owned(),
            database: database.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let target = Target::parse("postgres://127.0.0.1:5433/chronos").unwrap();
        assert_eq!(
            (target.address.port(), target.database.as_str()),
            (5433, "chronos")
        );
        let target = Target::parse("postgresql://ada:secret@127.0.0.1:99?sslmode=disable").unwrap();
        assert_eq!((target.address.port(), target.user.as_str()), (99, "ada"));
        assert!(Target::parse("http://127.0.0.1:1").is_err());
    }
}
