//! etcd as child processes on free ports, with the settings it comes with.

mod api;
mod client;

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use super::args::Options;
use super::gauge::Member;
use super::{free_ports, Cluster, Kind, Phase};
use crate::error::Result;
use crate::peer::server::with_log;
use crate::process::Server;
use crate::sample::Sample;
use api::{RangeRequest, RangeResponse, StatusRequest, StatusResponse, RANGE, STATUS};

/// How long a cluster may take to have a leader.
const LEADER_WITHIN: Duration = Duration::from_secs(60);

/// Puts in one transaction, at most, unless the server is told otherwise (`--max-txn-ops`).
const TXN_PUTS_MAX: u64 = 128;

/// Room for all pairs of a long run: 2 GiB, its default, is not enough.
const QUOTA_BYTES: u64 = 8 << 30;

/// The cluster.
pub(super) struct Etcd {
    // In front of the runtime, on which their connections live.
    channels: Vec<Channel>,
    runtime: Runtime,
    ports: Vec<u16>,
    members: Vec<Member>,
    version: String,
    _processes: Vec<Server>,
}

impl Etcd {
    /// Starts the members and waits for a leader.
    pub(super) fn start(options: &Options, scratch: &Path) -> Result<Etcd> {
        let ports = free_ports(2 * options.nodes)?;
        let (ports, peer_ports) = ports.split_at(options.nodes);
        let told = scratch.join("etcd.log");
        let mut processes = Vec::new();
        for index in 0..options.nodes {
            let mut command = command(&options.etcd, scratch, index, ports, peer_ports);
            let log = File::options().create(true).append(true).open(&told)?;
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log);
            processes.push(Server::start(&mut command, Signal::TERM)?);
        }
        let runtime = client::runtime()?;
        let channels = {
            let _inside = runtime.enter();
            let channels = ports.iter().map(|&port| client::channel(port));
            channels.collect::<Result<_>>()?
        };
        let members = processes
            .iter()
            .zip(peer_ports)
            .map(|(process, &peer_port)| Member {
                pid: process.pid(),
                peer_port,
            });
        let mut etcd = Etcd {
            channels,
            runtime,
            ports: ports.to_vec(),
            members: members.collect(),
            version: String::new(),
            _processes: processes,
        };
        etcd.leader().map_err(|error| with_log(&error, &told))?;
        etcd.version = etcd.status(0)?.version;
        Ok(etcd)
    }

    fn status(&self, member: usize) -> Result<StatusResponse> {
        let call = client::call(&self.channels[member], STATUS, StatusRequest {});
        self.runtime.block_on(call)
    }
}

fn command(etcd: &Path, scratch: &Path, index: usize, ports: &[u16], peers: &[u16]) -> Command {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let name = |index: usize| format!("m{}", index + 1);
    let (clients, peer) = (url(ports[index]), url(peers[index]));
    let everyone: Vec<String> = peers
        .iter()
        .enumerate()
        .map(|(index, &port)| format!("{}={}", name(index), url(port)))
        .collect();
    let mut command = Command::new(etcd);
    command.args(["--name", &name(index)]);
    command.arg("--data-dir");
    command.arg(scratch.join(format!("etcd-{}", index + 1)));
    command.args([
        "--listen-client-urls",
        &clients,
        "--advertise-client-urls",
        &clients,
    ]);
    command.args([
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
    ]);
    command.args(["--initial-cluster", &everyone.join(",")]);
    command.args(["--initial-cluster-token", "chronos-bench"]);
    command.args(["--quota-backend-bytes", &QUOTA_BYTES.to_string()]);
    command.args(["--logger", "zap", "--log-level", "error"]);
    // Whatever the system's own server was told is not meant for these.
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| name.to_string_lossy().starts_with("ETCD_")) {
        command.env_remove(name);
    }
    command
}

impl Cluster for Etcd {
    fn kind(&self) -> Kind {
        Kind::Etcd
    }

    fn describe(&self) -> String {
        let (version, members) = (&self.version, self.members.len());
        format!("etcd {version}, {members} members, defaults (fsync included), gRPC")
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    fn leader(&mut self) -> Result<usize> {
        let deadline = Instant::now() + LEADER_WITHIN;
        loop {
            let mut error = None;
            for member in 0..self.members.len() {
                match self.status(member) {
                    // A member says who it is, and whom it takes for the leader.
                    Ok(status)
                        if status
                            .header
                            .as_ref()
                            .is_some_and(|header| header.member_id == status.leader) =>
                    {
                        return Ok(member);
                    }
                    Ok(_) => {}
                    Err(failed) => error = Some(failed),
                }
            }
            if Instant::now() >= deadline {
                return Err(
                    error.unwrap_or_else(|| format!("no leader within {LEADER_WITHIN:?}").into())
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn batch_pairs(&self) -> u64 {
        TXN_PUTS_MAX
    }

    fn count(&mut self) -> Result<u64> {
        let all = RangeRequest {
            key: vec![0],
            // What etcd takes for "from the key on".
            range_end: vec![0],
            count_only: true,
        };
        let member = self.leader()?;
        let answer: RangeResponse =
            self.runtime
                .block_on(client::call(&self.channels[member], RANGE, all))?;
        Ok(answer.count as u64)
    }

    fn load(&mut self, phase: &Phase<'_>, begin: &mut dyn FnMut()) -> Result<Sample> {
        client::run_load(&self.runtime, &self.ports, phase, begin)
    }
}
