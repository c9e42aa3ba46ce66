//! Three nodes of Chronos as child processes that are told of each other when they start.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::args::Options;
use super::gauge::Member;
use super::{free_ports, Cluster, Kind, Phase};
use crate::error::Result;
use crate::http;
use crate::peer::chronos::{built, Child, Starting};
use crate::peer::server::{with_log, Server};
use crate::sample::Sample;
use crate::wire::{self, Target};

/// How long a cluster may take to have a leader.
const LEADER_WITHIN: Duration = Duration::from_secs(60);

/// What holds the pairs.
const TABLE: &str = "CREATE TABLE kv (k BIGINT PRIMARY KEY, v TEXT NOT NULL)";

/// The cluster.
pub(super) struct Chronos {
    binary: PathBuf,
    // In front of the processes: these are stopped when nobody is connected.
    server: Server,
    targets: Vec<Target>,
    http: Vec<std::net::SocketAddr>,
    members: Vec<Member>,
    _children: Vec<Child>,
}

impl Chronos {
    /// Starts the nodes and makes the table.
    pub(super) fn start(options: &Options, scratch: &Path) -> Result<Chronos> {
        let binary = options.chronos.clone().or_else(built);
        let binary = binary.ok_or("no binary: build one with `cargo build --release`")?;
        let ports = free_ports(options.nodes)?;
        let told: Vec<PathBuf> = (1..=options.nodes)
            .map(|number| scratch.join(format!("chronos-{number}.log")))
            .collect();
        let mut starting = Vec::new();
        for (index, told) in told.iter().enumerate() {
            let data = scratch.join(format!("chronos-{}", index + 1));
            let command = command(&binary, &data, index, &ports);
            starting.push(Starting::begin(command, told)?);
        }
        // All of them run by now: none has to wait for others that are not there yet.
        let announced = starting
            .into_iter()
            .zip(&told)
            .map(|(child, told)| child.announced().map_err(|error| with_log(&error, told)));
        let mut children: Vec<Child> = announced.collect::<Result<_>>()?;
        let targets: Vec<Target> = children
            .iter()
            .map(|child| Target::parse(&child.pg_url))
            .collect::<Result<_>>()?;
        let http = children
            .iter()
            .map(|child| http::address(&child.http_url))
            .collect::<Result<_>>()?;
        let members = children
            .iter()
            .zip(&ports)
            .map(|(child, &peer_port)| Member {
                pid: child.process.pid(),
                peer_port,
            });
        let members = members.collect();
        let process = &mut children[0].process;
        let server = Server::connect_within(LEADER_WITHIN, targets[0].clone(), process)
            .map_err(|error| with_log(&error, &told[0]))?;
        let mut cluster = Chronos {
            binary,
            server,
            targets,
            http,
            members,
            _children: children,
        };
        cluster
            .leader()
            .map_err(|error| with_log(&error, &told[0]))?;
        cluster.server.query(TABLE).map(drop)?;
        Ok(cluster)
    }
}

/// A cluster of one is what `chronos start` makes.
fn command(binary: &Path, data: &Path, index: usize, ports: &[u16]) -> Command {
    let mut command = Command::new(binary);
    if let [_] = ports {
        command.arg("start");
    } else {
        let address = |port: u16| format!("127.0.0.1:{port}");
        let others = ports
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let peers: Vec<String> = others
            .map(|(other, &port)| format!("n{}={}", other + 1, address(port)))
            .collect();
        command.args(["node", "--id", &format!("n{}", index + 1)]);
        command.args(["--address", &address(ports[index])]);
        command.args(["--peers", &peers.join(",")]);
    }
    command.arg("--data-dir").arg(data);
    command
}

impl Cluster for Chronos {
    fn kind(&self) -> Kind {
        Kind::Chronos
    }

    fn describe(&self) -> String {
        let (binary, nodes) = (self.binary.display(), self.members.len());
        format!("{binary}, {nodes} nodes, defaults (strict durability), PostgreSQL protocol, prepared statements")
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    fn leader(&mut self) -> Result<usize> {
        if self.members.len() == 1 {
            return Ok(0);
        }
        let deadline = Instant::now() + LEADER_WITHIN;
        loop {
            let terms = self.http.iter().map(|&address| term_led_by(address));
            let terms = terms
                .enumerate()
                .filter_map(|(index, term)| Some((term?, index)));
            // One that does not know yet that it was followed by another is of an earlier term.
            if let Some((_, leader)) = terms.max() {
                return Ok(leader);
            }
            if Instant::now() >= deadline {
                return Err(format!("no leader within {LEADER_WITHIN:?}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn batch_pairs(&self) -> u64 {
        1000
    }

    fn count(&mut self) -> Result<u64> {
        let count = self.server.value("SELECT count(*) FROM kv")?;
        count
            .parse()
            .map_err(|_| format!("count(*) is {count}").into())
    }

    fn load(&mut self, phase: &Phase<'_>, begin: &mut dyn FnMut()) -> Result<Sample> {
        let targets: Vec<&Target> = phase
            .clients
            .iter()
            .map(|&member| &self.targets[member])
            .collect();
        wire::run_load_at(&targets, phase.load, phase.warm_up, phase.bound, begin)
    }
}

/// The term in which a node leads, if it does, from its page about the cluster.
fn term_led_by(address: std::net::SocketAddr) -> Option<u64> {
    let page = http::Connection::open(address).ok()?.get("/cluster").ok()?;
    let page: serde_json::Value = serde_json::from_str(&page).ok()?;
    let leads = page.get("role")?.as_str()? == "leader";
    page.get("term")?.as_u64().filter(|_| leads)
}
