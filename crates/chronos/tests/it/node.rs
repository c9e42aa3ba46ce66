//! A node as a child process: started on free ports, spoken to over the network, killed at the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a node may take to start, and a request to be answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `chronos start`.
pub(crate) struct Node {
    child: Child,
    /// Where PostgreSQL clients connect.
    pub(crate) pg: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Node {
    /// Starts a node on a data directory, and returns when it has announced its addresses.
    pub(crate) fn start(data_dir: &Path) -> Node {
        Node::start_with(data_dir, &[])
    }

    /// The same with further flags.
    pub(crate) fn start_with(data_dir: &Path, flags: &[&str]) -> Node {
        Node::start_in(data_dir, flags, &[])
    }

    /// The same with further environment variables.
    pub(crate) fn start_in(data_dir: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Node {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chronos"));
        command
            .arg("start")
            .arg("--data-dir")
            .arg(data_dir)
            .args(flags)
            .envs(variables.iter().copied());
        Starting::begin(&mut command).announced()
    }

    /// A connection URL.
    pub(crate) fn url(&self) -> String {
        format!("postgres://chronos@{}/chronos", self.pg)
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// Any signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the process is there");
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and gone when this returns.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the node can be killed");
        self.child.wait().expect("the node ends");
    }

    /// SIGTERM; returns the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().expect("the node ends").code()
    }
}

/// A node that has not announced its addresses yet.
pub(crate) struct Starting {
    child: Option<Child>,
    addresses: std::sync::mpsc::Receiver<(SocketAddr, SocketAddr)>,
}

impl Starting {
    /// Starts a command that runs a node, with listeners for clients on free ports.
    pub(crate) fn begin(command: &mut Command) -> Starting {
        let mut child = command
            .args([
                "--pg-address",
                "127.0.0.1:0",
                "--http-address",
                "127.0.0.1:0",
            ])
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the chronos binary runs");
        let stdout = child.stdout.take().expect("its output is a pipe");
        let (sender, addresses) = std::sync::mpsc::channel();
        // Reads on after the addresses, so that the node never waits for a full pipe.
        std::thread::spawn(move || {
            let mut found = (None, None);
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                found.0 = found.0.or_else(|| address(&line, "postgres://"));
                let web = || address(&line, "http://").or_else(|| address(&line, "https://"));
                found.1 = found.1.or_else(web);
                if let (Some(pg), Some(http)) = found {
                    let _ = sender.send((pg, http));
                }
            }
        });
        Starting {
            child: Some(child),
            addresses,
        }
    }

    /// Waits until it has announced them.
    pub(crate) fn announced(mut self) -> Node {
        let (pg, http) = self
            .addresses
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|e| panic!("the node announced no addresses: {e}"));
        let child = self.child.take().expect("it is taken once");
        Node { child, pg, http }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in `.. scheme://[user@]host:port[/..] ..`.
fn address(line: &str, scheme: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(scheme)?;
    let rest = rest.split(['/', ' ']).next()?;
    rest.rsplit('@').next()?.parse().ok()
}

/// Posts a body; returns the status and the answer's body.
pub(crate) fn post(to: SocketAddr, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    request(to, "POST", path, body)
}

/// Gets a page; returns the status and the answer's body.
pub(crate) fn get(to: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    request(to, "GET", path, "")
}

fn request(to: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let (status, answer) = request_as(to, method, path, "", body)?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok((status, body.to_owned()))
}

/// A request with further header lines, each with its line break; returns the status and the whole answer.
pub(crate) fn request_as(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| std::io::Error::other(format!("no HTTP answer: {answer:?}")))?;
    Ok((status, answer))
}

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate is two levels below the root")
        .to_owned()
}
