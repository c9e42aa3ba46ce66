//! The demo's nodes: this program again, as child processes on free ports of loopback, with their data in a directory
//! that is removed at the end.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chronos_env::Env;

use crate::cli::error::CliError;
use crate::cli::http::Client;
use crate::cli::values::HttpUrl;

/// How long nodes may take to start, and to elect a leader.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Lines of a node's complaints that are kept.
const COMPLAINTS: usize = 5;

/// A running node.
struct Process {
    child: Child,
    pg_url: String,
    http_url: HttpUrl,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who leads.
pub(super) struct Leader {
    pub(super) name: String,
    pub(super) election_timeout_ms: u64,
}

/// All nodes. Ended, and their data removed, when this is dropped.
pub(super) struct Nodes {
    processes: Vec<Option<Process>>,
    ports: Vec<u16>,
    directory: PathBuf,
    client: Client,
    env: Env,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.processes.clear();
        // Files of a demo that cannot be removed are no reason to fail.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn name(position: usize) -> String {
    format!("n{}", position + 1)
}

impl Nodes {
    /// Starts them, each told of the others.
    pub(super) fn start(count: usize, env: &Env) -> Result<Nodes, CliError> {
        let directory = format!("chronos-demo-{:016x}", env.random.u64());
        let mut nodes = Nodes {
            processes: (0..count).map(|_| None).collect(),
            ports: free_ports(count)?,
            directory: std::env::temp_dir().join(directory),
            client: Client::new(),
            env: env.clone(),
        };
        let starting: Vec<Starting> = (0..count)
            .map(|position| nodes.begin(position))
            .collect::<Result<_, _>>()?;
        for (position, starting) in starting.into_iter().enumerate() {
            nodes.processes[position] = Some(starting.announced(&name(position))?);
        }
        Ok(nodes)
    }

    fn begin(&self, position: usize) -> Result<Starting, CliError> {
        let address = |position: usize| format!("127.0.0.1:{}", self.ports[position]);
        let others = (0..self.ports.len()).filter(|&other| other != position);
        let peers: Vec<String> = others
            .map(|other| format!("{}={}", name(other), address(other)))
            .collect();
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command
            .args(["node", "--id", &name(position)])
            .args(["--address", &address(position)])
            .args(["--peers", &peers.join(",")])
            .args(["--pg-address", "127.0.0.1:0"])
            .args(["--http-address", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(self.directory.join(name(position)));
        // What is meant for a node of the person's own is not meant for these.
        let variables = std::env::vars_os().map(|(name, _)| name);
        for name in variables.filter(|name| name.to_string_lossy().starts_with("CHRONOS_")) {
            command.env_remove(name);
        }
        Starting::begin(&mut command)
    }

    fn position(&self, wanted: &str) -> Result<usize, CliError> {
        let mut positions = 0..self.processes.len();
        positions
            .find(|&position| name(position) == wanted)
            .ok_or_else(|| CliError::Failed(format!("{wanted} is no node of the demo")))
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, node: &str) -> Result<(), CliError> {
        let position = self.position(node)?;
        self.processes[position] = None;
        Ok(())
    }

    /// Starts a node that was killed, on its data.
    pub(super) fn restart(&mut self, node: &str) -> Result<(), CliError> {
        let position = self.position(node)?;
        self.processes[position] = Some(self.begin(position)?.announced(node)?);
        Ok(())
    }

    /// Where readings are posted: a node that is killed comes back elsewhere, and is not missed.
    pub(super) fn urls(&self) -> Vec<HttpUrl> {
        let running = self.processes.iter().flatten();
        running.map(|process| process.http_url.clone()).collect()
    }

    /// Name and connection URL of each node.
    pub(super) fn pg_urls(&self) -> Vec<(String, String)> {
        let named = self.processes.iter().enumerate();
        named
            .filter_map(|(position, process)| {
                Some((name(position), process.as_ref()?.pg_url.clone()))
            })
            .collect()
    }

    /// Waits until a node leads, another than `but`.
    pub(super) async fn leader(&self, but: Option<&str>) -> Result<Leader, CliError> {
        let begun = self.env.clock.monotonic_nanos();
        loop {
            let mut leaders = Vec::new();
            for process in self.processes.iter().flatten() {
                leaders.extend(self.leads(process).await);
            }
            // One that does not know yet that another follows it is of an earlier term.
            let newest = leaders.into_iter().max_by_key(|(term, _)| *term);
            if let Some((_, leader)) = newest.filter(|(_, leader)| Some(&*leader.name) != but) {
                return Ok(leader);
            }
            let waited = self.env.clock.monotonic_nanos().saturating_sub(begun);
            if u128::from(waited) > PATIENCE.as_nanos() {
                return Err(CliError::Failed(format!(
                    "no node leads after {PATIENCE:?}"
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The term in which a node leads, if it does.
    async fn leads(&self, process: &Process) -> Option<(u64, Leader)> {
        let page = process.http_url.path("/cluster").ok()?;
        let answer = self.client.get(&page).await.ok()?;
        let page: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        let leader = Leader {
            name: page.get("node_id")?.as_str()?.to_owned(),
            election_timeout_ms: page.get("election_timeout_ms")?.as_u64()?,
        };
        let term = page.get("term")?.as_u64()?;
        (page.get("role")? == "leader").then_some((term, leader))
    }
}

/// Ports of loopback that nobody listens on at this moment.
fn free_ports(count: usize) -> Result<Vec<u16>, CliError> {
    // All are held before the first is let go, so that none comes twice.
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<Result<_, _>>()?;
    let ports = listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()));
    Ok(ports.collect::<Result<_, _>>()?)
}

/// A node that has not said yet where it listens.
struct Starting {
    child: Child,
    lines: mpsc::Receiver<String>,
    complaints: Arc<Mutex<VecDeque<String>>>,
}

impl Starting {
    fn begin(command: &mut Command) -> Result<Starting, CliError> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| CliError::Failed(format!("cannot start a node: {error}")))?;
        let (sender, lines) = mpsc::channel();
        // Both read on for as long as the node writes, so that it never waits for us.
        read_lines(child.stdout.take(), move |line| {
            // Nobody listens any more once the addresses are known.
            let _ = sender.send(line);
        })?;
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&complaints);
        read_lines(child.stderr.take(), move |line| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(line);
            if kept.len() > COMPLAINTS {
                kept.pop_front();
            }
        })?;
        Ok(Starting {
            child,
            lines,
            complaints,
        })
    }

    fn announced(mut self, name: &str) -> Result<Process, CliError> {
        let (mut pg_url, mut http_url) = (None, None);
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            pg_url = pg_url.or_else(|| url(&line, "postgres://"));
            let announced = || url(&line, "http://")?.parse::<HttpUrl>().ok();
            http_url = http_url.or_else(announced);
            if let (Some(pg_url), Some(http_url)) = (&pg_url, &http_url) {
                return Ok(Process {
                    pg_url: pg_url.clone(),
                    http_url: http_url.clone(),
                    child: self.child,
                });
            }
        }
        // Dead already, or to be given up.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let complaints: Vec<&str> = complaints.iter().map(String::as_str).collect();
        let complaints = complaints.join("\n");
        Err(CliError::Failed(format!(
            "{name} does not start\n{complaints}"
        )))
    }
}

fn read_lines(
    pipe: Option<impl Read + Send + 'static>,
    mut line: impl FnMut(String) + Send + 'static,
) -> Result<(), CliError> {
    let Some(pipe) = pipe else { return Ok(()) };
    std::thread::Builder::new()
        .name("demo".into())
        .spawn(move || {
            for text in BufReader::new(pipe).lines().map_while(Result::ok) {
                line(text);
            }
        })
        .map_err(|error| CliError::Failed(format!("cannot start a thread: {error}")))?;
    Ok(())
}

/// The URL of a scheme in a line of prose.
fn url(line: &str, scheme: &str) -> Option<String> {
    let from = &line[line.find(scheme)?..];
    let end = from.find(char::is_whitespace).unwrap_or(from.len());
    Some(from[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_prose() {
        assert_eq!(
            url(
                "  PostgreSQL  postgres://chronos@127.0.0.1:1/chronos",
                "postgres://"
            )
            .as_deref(),
            Some("postgres://chronos@127.0.0.1:1/chronos")
        );
        assert_eq!(
            url("  HTTP        http://127.0.0.1:2", "http://").as_deref(),
            Some("http://127.0.0.1:2")
        );
        assert_eq!(url("Chronos is ready.", "http://"), None);
    }

    #[test]
    fn ports_differ() {
        let mut ports = free_ports(5).unwrap();
        ports.dedup();
        assert_eq!(ports.len(), 5);
    }
}
