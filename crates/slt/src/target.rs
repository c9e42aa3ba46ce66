//! What a script runs against, in a fresh state: a node of its own in this process, which goes with
//! its directory, or a server with a URL, where what the script has created is dropped behind it.

use std::collections::BTreeSet;

use chronos_env::Env;
use chronos_node::{Node, NodeOptions, Spill};
use chronos_server::pgwire::{self, PgOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::Protocol;
use crate::connection::{Answer, Connection, Failure};

/// Relations that a script may have made, with what drops them; views first, because they need tables.
const RELATIONS: &str =
    "SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, \
     c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = 'public' AND c.relkind IN ('v', 'm', 'S', 'r', 'p')";
/// The order in which kinds are dropped.
const KINDS: [&str; 4] = ["VIEW", "MATERIALIZED VIEW", "TABLE", "SEQUENCE"];

/// A database in a fresh state.
pub(crate) enum Target {
    /// A node of this process, and what stops it.
    Own(Box<Own>),
    /// A server, and what was there before.
    Running(String, BTreeSet<(String, String)>),
}

/// A node of this process.
pub(crate) struct Own {
    url: String,
    node: Node,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    directory: tempfile::TempDir,
}

impl Target {
    /// A database for one script.
    pub(crate) async fn prepare(url: Option<&str>) -> Result<Target, String> {
        match url {
            None => Ok(Target::Own(Box::new(Own::start().await?))),
            Some(url) => {
                let there = relations(url).await.map_err(|e| format!("{url}: {e}"))?;
                Ok(Target::Running(url.to_owned(), there))
            }
        }
    }

    /// Where to connect.
    pub(crate) fn url(&self) -> &str {
        match self {
            Target::Own(own) => &own.url,
            Target::Running(url, _) => url,
        }
    }

    /// Stops the node, or drops what the script has created.
    pub(crate) async fn clean_up(self) -> Result<(), String> {
        match self {
            Target::Own(own) => own.stop().await,
            Target::Running(url, before) => drop_created(&url, &before)
                .await
                .map_err(|e| format!("what the file has created could not be dropped: {e}")),
        }
    }
}

impl Own {
    async fn start() -> Result<Own, String> {
        let failed = |e: &dyn std::fmt::Display| format!("the node does not start: {e}");
        let directory = tempfile::tempdir().map_err(|e| failed(&e))?;
        let mut options = NodeOptions::new(directory.path().join("data"));
        options.spill = Spill::BesideData;
        let env = Env::real();
        let opening = env.clone();
        let node = tokio::task::spawn_blocking(move || Node::open(opening, &options))
            .await
            .map_err(|e| failed(&e))?
            .map_err(|e| failed(&e))?;
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(|e| failed(&e))?;
        let address = listener.local_addr().map_err(|e| failed(&e))?;
        let stop = CancellationToken::new();
        let sessions = node.clone();
        let server = tokio::spawn(pgwire::serve(
            listener,
            move || sessions.session(),
            PgOptions::new(&env),
            stop.clone(),
        ));
        Ok(Own {
            url: format!("postgres://chronos@{address}/chronos"),
            node,
            stop,
            server,
            directory,
        })
    }

    async fn stop(self) -> Result<(), String> {
        let failed = |e: &dyn std::fmt::Display| format!("the node does not stop: {e}");
        self.stop.cancel();
        self.server
            .await
            .map_err(|e| failed(&e))?
            .map_err(|e| failed(&e))?;
        let node = self.node;
        tokio::task::spawn_blocking(move || node.close())
            .await
            .map_err(|e| failed(&e))?
            .map_err(|e| failed(&e))?;
        self.directory.close().map_err(|e| failed(&e))
    }
}

async fn relations(url: &str) -> Result<BTreeSet<(String, String)>, Failure> {
    let connection = Connection::open(url, Protocol::Simple).await?;
    let Answer::Rows(_, rows) = connection.run(RELATIONS).await? else {
        return Ok(BTreeSet::new());
    };
    let pairs = rows.into_iter().filter_map(|row| {
        let mut cells = row.into_iter().flatten();
        cells.next().zip(cells.next())
    });
    Ok(pairs.collect())
}

/// Goes on when one cannot be dropped, because another has taken it along, and then looks again.
async fn drop_created(url: &str, before: &BTreeSet<(String, String)>) -> Result<(), Failure> {
    let created: Vec<_> = relations(url).await?.difference(before).cloned().collect();
    let connection = Connection::open(url, Protocol::Simple).await?;
    let mut refused = None;
    for kind in KINDS {
        for (_, name) in created.iter().filter(|(k, _)| k == kind) {
            let name = name.replace('"', "\"\"");
            let drop = format!("DROP {kind} IF EXISTS \"{name}\" CASCADE");
            if let Err(e) = connection.run(&drop).await {
                // Chronos knows no CASCADE of sequences.
                let plain = format!("DROP {kind} IF EXISTS \"{name}\"");
                if connection.run(&plain).await.is_err() {
                    refused = Some(e);
                }
            }
        }
    }
    match refused {
        Some(e) if relations(url).await?.difference(before).next().is_some() => Err(e),
        _ => Ok(()),
    }
}
