//! Chronos as a child process with a data directory of its own, or a node that runs already.
//!
//! The child is started as a user starts it, `chronos start` on ports of the system's choice;
//! the addresses are read from what it prints.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::server::{with_log, Server};
use super::{Disk, Kind, Peer};
use crate::args::Options;
use crate::data::Chunk;
use crate::error::Result;
use crate::http;
use crate::load::{Load, Table};
use crate::process::{self, disk_bytes};
use crate::sample::{Bound, Sample};
use crate::wire::{self, Target};

/// How long a start may take, the log's replay included.
const START_WITHIN: Duration = Duration::from_secs(60);

/// How long flushes and compactions may go on behind a load before a phase begins anyway.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);

/// The release binary, where cargo puts it, seen from the repository's root or from `bench/`.
pub(crate) fn built() -> Option<PathBuf> {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let dirs = named
        .into_iter()
        .chain(["target".into(), "../target".into()]);
    dirs.map(|dir| dir.join("release/chronos"))
        .find(|path| path.is_file())
}

/// The node.
pub(crate) struct Chronos {
    server: Option<Server>,
    http: Option<SocketAddr>,
    // Behind the connection: it is stopped when nobody is connected.
    child: Option<Child>,
    start: Start,
}

/// How the node comes about.
enum Start {
    Here {
        binary: PathBuf,
        data: PathBuf,
        told: PathBuf,
    },
    Elsewhere {
        pg_url: String,
    },
}

/// A node's process and what it announced.
pub(crate) struct Child {
    /// The process.
    pub(crate) process: process::Server,
    /// Where PostgreSQL clients connect.
    pub(crate) pg_url: String,
    /// Its HTTP face.
    pub(crate) http_url: String,
}

impl Chronos {
    /// What the options name, or the repository's release binary; `None` if there is none.
    pub(crate) fn from_options(options: &Options, scratch: &Path) -> Result<Option<Chronos>> {
        if let Some(pg_url) = &options.pg_url {
            let http = options.http_url.as_deref().map(http::address).transpose()?;
            let server = Some(Server::connect(Target::parse(pg_url)?)?);
            let start = Start::Elsewhere {
                pg_url: pg_url.clone(),
            };
            return Ok(Some(Chronos {
                server,
                http,
                child: None,
                start,
            }));
        }
        let Some(binary) = options.chronos.clone().or_else(built) else {
            return Ok(None);
        };
        let start = Start::Here {
            binary,
            data: scratch.join("chronos"),
            told: scratch.join("chronos.log"),
        };
        let mut chronos = Chronos {
            server: None,
            http: None,
            child: None,
            start,
        };
        chronos.begin()?;
        Ok(Some(chronos))
    }

    /// Starts the child on its data directory; how long until it took a connection.
    fn begin(&mut self) -> Result<Duration> {
        let Start::Here { binary, data, told } = &self.start else {
            return Ok(Duration::ZERO);
        };
        let start = Instant::now();
        let mut child = Child::start(binary, data, told).map_err(|error| with_log(&error, told))?;
        let target = Target::parse(&child.pg_url)?;
        let server = Server::connect_within(START_WITHIN, target, &mut child.process)
            .map_err(|error| with_log(&error, told))?;
        let took = start.elapsed();
        self.http = Some(http::address(&child.http_url)?);
        (self.server, self.child) = (Some(server), Some(child));
        Ok(took)
    }

    /// Stops the child in good order; what it holds is on disk afterwards.
    fn end(&mut self) -> Result<()> {
        self.server = None;
        self.http = None;
        match self.child.take() {
            Some(mut child) => child.process.stop(),
            None => Ok(()),
        }
    }

    /// Stops and starts the child; how long the start took. `None` for a node that is not ours.
    pub(crate) fn restart(&mut self) -> Result<Option<Duration>> {
        if matches!(self.start, Start::Elsewhere { .. }) {
            return Ok(None);
        }
        self.end()?;
        self.begin().map(Some)
    }

    /// The address of its HTTP face.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The connection; an error that says what became of the process if there is none.
    fn server(&mut self) -> Result<&mut Server> {
        if let Some(ended) = self.child.as_mut().and_then(|child| child.process.ended()) {
            return Err(match &self.start {
                Start::Here { told, .. } => with_log(&ended.into(), told),
                Start::Elsewhere { .. } => ended.into(),
            });
        }
        self.server
            .as_mut()
            .ok_or_else(|| "chronos is not running".into())
    }
}

impl Child {
    fn start(binary: &Path, data: &Path, told: &Path) -> Result<Child> {
        let mut command = Command::new(binary);
        command.arg("start").arg("--data-dir").arg(data);
        Starting::begin(command, told)?.announced()
    }
}

/// A node that has not told its addresses yet.
pub(crate) struct Starting {
    process: process::Server,
    lines: Receiver<String>,
}

impl Starting {
    /// Starts a node with listeners on free ports; what it complains of goes to the file `told`.
    pub(crate) fn begin(mut command: Command, told: &Path) -> Result<Starting> {
        command.args([
            "--pg-address",
            "127.0.0.1:0",
            "--http-address",
            "127.0.0.1:0",
        ]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(told)?);
        let mut process = process::Server::start(&mut command, Signal::TERM)?;
        let stdout = process
            .child_mut()
            .stdout
            .take()
            .ok_or("no pipe from chronos")?;
        let (send, lines) = mpsc::channel();
        // Reads on for as long as the child writes, so that it never waits for us.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout)
                .lines()
                .map_while(std::result::Result::ok)
            {
                // Nobody listens any more once the addresses are known.
                let _ = send.send(line);
            }
        });
        Ok(Starting { process, lines })
    }

    /// Waits until the node has told its addresses.
    pub(crate) fn announced(self) -> Result<Child> {
        let (pg_url, http_url) = addresses(&self.lines)?;
        Ok(Child {
            process: self.process,
            pg_url,
            http_url,
        })
    }
}

/// The first two URLs the node prints.
fn addresses(lines: &Receiver<String>) -> Result<(String, String)> {
    let deadline = Instant::now() + START_WITHIN;
    let (mut pg, mut http) = (None, None);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = lines
            .recv_timeout(left)
            .map_err(|_| "chronos printed no postgres:// and http:// address")?;
        pg = pg.or_else(|| url(&line, "postgres://"));
        http = http.or_else(|| url(&line, "http://"));
        if let (Some(pg), Some(http)) = (&pg, &http) {
            return Ok((pg.clone(), http.clone()));
        }
    }
}

/// The URL of a scheme in a line of prose.
fn url(line: &str, scheme: &str) -> Option<String> {
    let from = &line[line.find(scheme)?..];
    let end = from
        .find(|c: char| c.is_whitespace() || "'\"`,;)]\u{1b}".contains(c))
        .unwrap_or(from.len());
    Some(from[..end].trim_end_matches('.').to_owned())
}

impl Peer for Chronos {
    fn kind(&self) -> Kind {
        Kind::Chronos
    }

    fn describe(&self) -> String {
        match &self.start {
            Start::Here { binary, .. } => format!(
                "{}, defaults (strict durability), over TCP",
                binary.display()
            ),
            Start::Elsewhere { pg_url } => format!("a running node at {pg_url}"),
        }
    }

    fn fresh(&mut self) -> Result<()> {
        let data = match &self.start {
            Start::Here { data, .. } => data.clone(),
            Start::Elsewhere { .. } => return Ok(()),
        };
        // One that crashed or hung in the suite before is only told about: this one is new.
        if let Err(error) = self.end() {
            println!("  chronos: {error}");
        }
        match std::fs::remove_dir_all(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.begin()?;
        Ok(())
    }

    fn create(&mut self, table: Table) -> Result<()> {
        self.server()?.create(table)
    }

    fn query(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        self.server()?.query(sql)
    }

    fn load(
        &mut self,
        load: &Load,
        clients: usize,
        warm_up: Bound,
        bound: Bound,
    ) -> Result<Sample> {
        let target = self.server()?.target.clone();
        wire::run_load(&target, load, clients, warm_up, bound)
    }

    fn copy(&mut self, table: Table, chunk: &Chunk) -> Result<Duration> {
        self.server()?.copy(table, chunk)
    }

    fn settle(&mut self, _table: Table) -> Result<()> {
        if let Some(child) = &self.child {
            let took = process::wait_until_quiet(child.process.pid(), SETTLE_WITHIN);
            if took > Duration::from_secs(1) {
                println!(
                    "  chronos: flushes and compactions went on for {:.1} s",
                    took.as_secs_f64()
                );
            }
        }
        Ok(())
    }

    fn memory(&self) -> Option<u64> {
        process::resident_bytes(self.child.as_ref()?.process.pid())
    }

    fn disk(&mut self, _table: Table) -> Result<Option<Disk>> {
        let data = match &self.start {
            Start::Here { data, .. } => data.clone(),
            Start::Elsewhere { .. } => return Ok(None),
        };
        // A stop flushes the memtables: only then is all of it in segments.
        let all = disk_bytes(&data);
        self.end()?;
        let table = disk_bytes(&data.join("store"));
        self.begin()?;
        Ok(Some(Disk { table, all }))
    }

    fn as_chronos(&mut self) -> Option<&mut Chronos> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_prose() {
        let (send, lines) = mpsc::channel();
        for line in [
            "chronos 0.1.0",
            "  SQL   psql 'postgres://127.0.0.1:4711/chronos'",
            "  HTTP  http://127.0.0.1:4712, ..",
        ] {
            send.send(line.to_owned()).unwrap();
        }
        let found = addresses(&lines).unwrap();
        assert_eq!(
            found,
            (
                "postgres://127.0.0.1:4711/chronos".into(),
                "http://127.0.0.1:4712".into()
            )
        );
    }
}
