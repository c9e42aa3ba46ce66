//! PostgreSQL in a cluster of its own: made by `initdb` in the scratch directory, on a free
//! port of loopback, with the settings it comes with, fsync included.
//!
//! PostgreSQL does not run as root. Started as root, it runs as `postgres`, or as `nobody`.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::server::{with_log, Server};
use super::{Disk, Kind, Peer};
use crate::data::Chunk;
use crate::error::Result;
use crate::load::{Load, Table};
use crate::process::{self, disk_bytes};
use crate::sample::{Bound, Sample};
use crate::wire::{self, Target};

/// How long a start may take.
const START_WITHIN: Duration = Duration::from_secs(30);

/// The directory with `initdb` and `postgres`, newest version first, else one in PATH.
pub(crate) fn find_binaries() -> Option<PathBuf> {
    let complete = |dir: &PathBuf| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut versions: Vec<PathBuf> = versions
        .map(|entry| entry.path().join("bin"))
        .filter(complete)
        .collect();
    let number =
        |dir: &PathBuf| -> Option<u32> { dir.parent()?.file_name()?.to_str()?.parse().ok() };
    versions.sort_by_key(number);
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A link in PATH would hide where the rest of the installation is, so it is followed.
    let in_path = std::env::split_paths(&path).filter(complete);
    let in_path = in_path.filter_map(|dir| {
        dir.join("postgres")
            .canonicalize()
            .ok()?
            .parent()
            .map(Path::to_owned)
    });
    versions.pop().into_iter().chain(in_path).next()
}

/// The user to run as, when we are root: name, uid, gid.
fn unprivileged() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let ids = ["postgres", "nobody"].iter().find_map(|wanted| {
        let mut fields = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let found = fields.find(|fields| fields.first() == Some(wanted))?;
        Some((found.get(2)?.parse().ok()?, found.get(3)?.parse().ok()?))
    });
    ids.map(Some).ok_or_else(|| {
        "started as root, and there is no user postgres or nobody to run PostgreSQL as".into()
    })
}

/// The cluster.
pub(crate) struct Postgres {
    server: Server,
    data: PathBuf,
    version: String,
    // Behind the connection: it is stopped when nobody is connected.
    process: process::Server,
}

impl Postgres {
    /// Makes the cluster and waits until it answers.
    pub(crate) fn start(binaries: &Path, scratch: &Path) -> Result<Postgres> {
        let home = scratch.join("postgres");
        std::fs::create_dir(&home)?;
        let user = unprivileged()?;
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&home, Some(uid), Some(gid))?;
        }
        let command = |program: &str| {
            let mut command = Command::new(binaries.join(program));
            command
                .current_dir(&home)
                .env("LC_ALL", "C")
                .stdin(std::process::Stdio::null());
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        };
        let data = home.join("data");
        let mut initdb = command("initdb");
        initdb.args([
            "--auth",
            "trust",
            "--username",
            "bench",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--pgdata",
        ]);
        let made = initdb
            .arg(&data)
            .output()
            .map_err(|error| format!("cannot run initdb: {error}"))?;
        if !made.status.success() {
            return Err(format!(
                "initdb failed: {}",
                String::from_utf8_lossy(&made.stderr).trim()
            )
            .into());
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let log = home.join("log");
        let mut postgres = command("postgres");
        postgres
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k"])
            .arg(&home);
        postgres
            .stdout(File::create(&log)?)
            .stderr(File::create(&log)?);
        // SIGINT is its "fast" shutdown: sessions are ended, data is flushed.
        let mut process = process::Server::start(&mut postgres, Signal::INT)?;
        let target = Target::parse(&format!("postgres://bench@127.0.0.1:{port}/postgres"))?;
        let mut server = Server::connect_within(START_WITHIN, target, &mut process)
            .map_err(|error| with_log(&error, &log))?;
        let version = server.value("SHOW server_version")?;
        Ok(Postgres {
            server,
            data,
            version,
            process,
        })
    }
}

impl Peer for Postgres {
    fn kind(&self) -> Kind {
        Kind::Postgres
    }

    fn describe(&self) -> String {
        format!("{}, settings as they come (fsync, synchronous_commit on; 128 MB shared buffers), over TCP", self.version)
    }

    fn fresh(&mut self) -> Result<()> {
        for table in [Table::Rows, Table::Series, Table::Loose] {
            self.server
                .query(&format!("DROP TABLE IF EXISTS {}", table.name()))?;
        }
        self.server.query("CHECKPOINT")?;
        Ok(())
    }

    fn create(&mut self, table: Table) -> Result<()> {
        self.server.create(table)
    }

    fn query(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        self.server.query(sql)
    }

    fn load(
        &mut self,
        load: &Load,
        clients: usize,
        warm_up: Bound,
        bound: Bound,
    ) -> Result<Sample> {
        wire::run_load(&self.server.target, load, clients, warm_up, bound)
    }

    fn copy(&mut self, table: Table, chunk: &Chunk) -> Result<Duration> {
        self.server.copy(table, chunk)
    }

    fn settle(&mut self, table: Table) -> Result<()> {
        self.server
            .query(&format!("VACUUM ANALYZE {}", table.name()))?;
        self.server.query("CHECKPOINT")?;
        Ok(())
    }

    fn memory(&self) -> Option<u64> {
        process::proportional_bytes(self.process.pid())
    }

    fn disk(&mut self, table: Table) -> Result<Option<Disk>> {
        self.server.query("CHECKPOINT")?;
        let bytes = self.server.value(&format!(
            "SELECT pg_total_relation_size('{}')",
            table.name()
        ))?;
        let table = bytes
            .parse()
            .map_err(|_| format!("{bytes} is not a size"))?;
        Ok(Some(Disk {
            table,
            all: disk_bytes(&self.data),
        }))
    }
}
