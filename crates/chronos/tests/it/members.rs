//! Nodes of a cluster, as somebody runs them: started in any order, joined, looked after by HTTP and
//! command line, stopped. What becomes of the data when nodes and networks fail is tested elsewhere.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::node::{get, post};

/// How long a cluster may take to get where a test wants it.
const PATIENCE: Duration = Duration::from_secs(90);
/// HTTP is so much above gRPC.
const HTTP_ABOVE: u16 = 1000;

/// A place for a node: its name, its ports, its directory.
#[derive(Clone)]
pub(crate) struct Place {
    id: &'static str,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    dir: PathBuf,
}

impl Place {
    pub(crate) fn new(id: &'static str, root: &Path) -> Place {
        let (grpc, http) = free_ports();
        let dir = root.join(id);
        Place {
            id,
            grpc,
            http,
            dir,
        }
    }

    pub(crate) fn id(&self) -> &'static str {
        self.id
    }

    /// As `--peers` names it.
    fn named(&self) -> String {
        format!("{}={}", self.id, self.grpc)
    }

    /// Starts `chronos node` with further flags.
    pub(crate) fn start(&self, flags: &[&str]) -> Running {
        let mut child = self
            .command(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the chronos binary runs");
        let told = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("its errors are a pipe");
        let hears = Arc::clone(&told);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("{line}");
                hears.lock().expect("no panic").push(line);
            }
        });
        Running {
            place: self.clone(),
            child,
            told,
        }
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chronos"));
        command
            .args(["node", "--id", self.id, "--pg-address", "127.0.0.1:0"])
            .args(["--heartbeat-ms", "100", "--election-timeout-ms", "1000"])
            .arg("--address")
            .arg(self.grpc.to_string())
            .arg("--data-dir")
            .arg(&self.dir)
            .args(flags);
        command
    }

    fn refused(&self, flags: &[&str]) -> String {
        let output = self.command(flags).stdin(Stdio::null()).output();
        let output = output.expect("the chronos binary runs");
        assert!(!output.status.success(), "{flags:?} is refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn url(&self) -> String {
        format!("http://{}", self.http)
    }
}

/// A gRPC port that is free, and so is the HTTP port above it. Both are given back before they are
/// used, so somebody else may be faster: the start fails then.
fn free_ports() -> (SocketAddr, SocketAddr) {
    for _ in 0..1000 {
        let grpc = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let grpc_address = grpc.local_addr().expect("it has an address");
        let Some(http) = grpc_address.port().checked_add(HTTP_ABOVE) else {
            continue;
        };
        let http = SocketAddr::from(([127, 0, 0, 1], http));
        if TcpListener::bind(http).is_ok() {
            return (grpc_address, http);
        }
    }
    panic!("no two free ports in that distance");
}

/// A node that runs; killed when dropped.
pub(crate) struct Running {
    place: Place,
    child: Child,
    told: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The cluster as it sees it; `None`: it does not answer.
    pub(crate) fn cluster(&self) -> Option<Value> {
        let (status, body) = get(self.place.http, "/cluster").ok()?;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).ok()
    }

    /// SQL over HTTP, tried until it works.
    pub(crate) fn sql(&self, sql: &str) -> Value {
        let body = serde_json::json!({ "sql": sql }).to_string();
        wait_for(sql, || {
            let (status, body) = post(self.place.http, "/sql", &body).ok()?;
            (status == 200).then(|| serde_json::from_str(&body).expect("JSON"))
        })
    }

    pub(crate) fn rows(&self, sql: &str) -> Value {
        self.sql(sql)["rows"].clone()
    }

    pub(crate) fn has_told(&self, words: &str) -> bool {
        let told = self.told.lock().expect("no panic");
        told.iter().any(|line| line.contains(words))
    }

    /// SIGTERM; returns the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM");
        self.child.wait().expect("the node ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not come: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until all of these follow the same leader, and says which of them it is.
pub(crate) fn leader_of(nodes: &[&Running]) -> usize {
    wait_for("all know one leader", || {
        let seen: Option<Vec<Value>> = nodes.iter().map(|node| node.cluster()).collect();
        let seen = seen?;
        let leader = seen[0]["leader_id"].as_str()?;
        let agree = seen.iter().all(|s| s["leader_id"] == leader);
        let leads = seen.iter().position(|s| s["role"] == "leader")?;
        (agree && seen[leads]["node_id"] == leader).then_some(leads)
    })
}

/// Waits until a node knows exactly these members, each with its role.
pub(crate) fn wait_for_members(node: &Running, wanted: &[(&str, &str)]) {
    let mut wanted: Vec<(String, String)> = wanted
        .iter()
        .map(|(id, role)| ((*id).to_owned(), (*role).to_owned()))
        .collect();
    wanted.sort();
    wait_for(&format!("{wanted:?}"), || {
        let seen = node.cluster()?;
        let members = seen["members"].as_array()?;
        let text = |m: &Value, name: &str| m[name].as_str().unwrap_or_default().to_owned();
        let mut members: Vec<_> = members
            .iter()
            .map(|m| (text(m, "id"), text(m, "role")))
            .collect();
        members.sort();
        (members == wanted).then_some(())
    });
}

/// `chronos admin ..` by a node.
pub(crate) fn admin(by: &Running, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chronos"))
        .arg("admin")
        .args(arguments)
        .args(["--url", &by.place.url()])
        .stdin(Stdio::null())
        .output()
        .expect("the chronos binary runs")
}

pub(crate) fn done(by: &Running, arguments: &[&str]) -> String {
    let output = admin(by, arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn three(root: &Path) -> ([Place; 3], String) {
    let places = ["n1", "n2", "n3"].map(|id| Place::new(id, root));
    let peers: Vec<String> = places.iter().map(Place::named).collect();
    (places, peers.join(","))
}

/// Three nodes that run, where they are, and the position of the leader. All have the table `t`.
pub(crate) fn three_with_a_table(root: &Path) -> ([Place; 3], Vec<Running>, usize) {
    let (places, peers) = three(root);
    let static_start = ["--peers", peers.as_str()];
    let nodes: Vec<Running> = places.iter().map(|p| p.start(&static_start)).collect();
    let leads = leader_of(&nodes.iter().collect::<Vec<_>>());
    nodes[leads].sql("CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY)");
    (places, nodes, leads)
}

#[test]
fn nodes_that_begin_together_are_started_in_any_order() {
    let root = tempfile::tempdir().expect("a directory");
    let ([first, second, third], peers) = three(root.path());
    let static_start = ["--peers", peers.as_str()];

    let third_runs = third.start(&static_start);
    // One of three leads nobody, and says so.
    let ready = wait_for("an answer", || get(third.http, "/ready").ok());
    assert_eq!(ready.0, 503, "{}", ready.1);
    assert!(ready.1.contains("no leader is known"), "{}", ready.1);

    let first_runs = first.start(&static_start);
    let leads = leader_of(&[&first_runs, &third_runs]);
    let follower = [&first_runs, &third_runs][1 - leads];
    follower.sql("CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY)");
    follower.sql("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING");
    assert_eq!(follower.rows("SELECT id FROM t"), serde_json::json!([[1]]));

    let second_runs = second.start(&static_start);
    leader_of(&[&first_runs, &second_runs, &third_runs]);
    assert_eq!(
        second_runs.rows("SELECT id FROM t"),
        serde_json::json!([[1]])
    );
    let ids = [&first_runs, &second_runs, &third_runs].map(|node| {
        let cluster = node.cluster().expect("it answers");
        cluster["cluster_id"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    });
    assert!(ids.iter().all(|id| *id == ids[0] && !id.is_empty()));

    // Started once, a node knows the others.
    assert_eq!(second_runs.stop(), Some(0));
    let second_runs = second.start(&[]);
    leader_of(&[&first_runs, &second_runs, &third_runs]);
    second_runs.sql("INSERT INTO t VALUES (2) ON CONFLICT DO NOTHING");
    assert_eq!(
        first_runs.rows("SELECT id FROM t ORDER BY id"),
        serde_json::json!([[1], [2]])
    );
}

#[test]
fn members_join_vote_lead_and_leave() {
    let root = tempfile::tempdir().expect("a directory");
    let ([first, second, third], _) = three(root.path());
    let first_runs = first.start(&["--bootstrap"]);
    leader_of(&[&first_runs]);
    first_runs.sql("CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY)");
    first_runs.sql("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING");

    let target = first.grpc.to_string();
    let second_runs = second.start(&["--join", &target]);
    wait_for_members(&first_runs, &[("n1", "voter"), ("n2", "voter")]);
    // By another member than the first, and without a vote.
    let target = second.grpc.to_string();
    let third_runs = third.start(&["--join", &target, "--learner"]);
    wait_for_members(
        &first_runs,
        &[("n1", "voter"), ("n2", "voter"), ("n3", "learner")],
    );
    assert_eq!(
        third_runs.rows("SELECT id FROM t"),
        serde_json::json!([[1]])
    );
    // A learner that stays one when it is started again.
    assert_eq!(third_runs.stop(), Some(0));
    let third_runs = third.start(&["--join", &target, "--learner"]);
    leader_of(&[&first_runs, &second_runs, &third_runs]);

    done(&third_runs, &["promote", "n3"]);
    wait_for_members(
        &third_runs,
        &[("n1", "voter"), ("n2", "voter"), ("n3", "voter")],
    );
    done(&first_runs, &["transfer-leader", "n2"]);
    let nodes = [&first_runs, &second_runs, &third_runs];
    wait_for("n2 leads", || (leader_of(&nodes) == 1).then_some(()));

    let table = done(&first_runs, &["members"]);
    let row = |name: &str| {
        let found = table.lines().find(|l| l.trim_start().starts_with(name));
        found.unwrap_or_else(|| panic!("{name} in {table}"))
    };
    assert!(row("n2").contains("leads"), "{table}");
    assert!(!row("n3").contains("leads"), "{table}");
    assert!(table.contains("n2 leads"), "{table}");

    let refused = admin(&first_runs, &["remove", "n9"]);
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("n9") && told.contains("n1, n2, n3"), "{told}");

    let (status, body) = post(third.http, "/remove", r#"{"id": 1}"#).expect("an answer");
    assert_eq!(status, 200, "{body}");
    wait_for_members(&second_runs, &[("n2", "voter"), ("n3", "voter")]);
    second_runs.sql("INSERT INTO t VALUES (2) ON CONFLICT DO NOTHING");
    assert_eq!(
        third_runs.rows("SELECT id FROM t ORDER BY id"),
        serde_json::json!([[1], [2]])
    );
}

#[test]
fn a_leader_that_is_stopped_lets_another_lead() {
    let root = tempfile::tempdir().expect("a directory");
    let (_, mut nodes, leads) = three_with_a_table(root.path());

    let stopped = nodes.remove(leads);
    let told = Arc::clone(&stopped.told);
    assert_eq!(stopped.stop(), Some(0));
    wait_for("it says so", || {
        let told = told.lock().expect("no panic");
        let says = |line: &String| line.contains("another node leads now");
        told.iter().any(says).then_some(())
    });
    leader_of(&nodes.iter().collect::<Vec<_>>());
    nodes[0].sql("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING");
    assert_eq!(nodes[1].rows("SELECT id FROM t"), serde_json::json!([[1]]));
}

#[test]
fn the_client_finds_the_leader() {
    let root = tempfile::tempdir().expect("a directory");
    let (places, peers) = three(root.path());
    let static_start = ["--peers", peers.as_str()];
    let nodes: Vec<Running> = places.iter().map(|p| p.start(&static_start)).collect();
    let leads = leader_of(&nodes.iter().collect::<Vec<_>>());
    let (_, health) = get(places[leads].http, "/health").expect("an answer");
    let health: Value = serde_json::from_str(&health).expect("JSON");
    let pg = health["pg_address"].as_str().expect("it has one");
    for asked in &places {
        let told = connected_by(&asked.grpc, &[]);
        assert!(told.contains(pg), "{told}, not {pg}");
    }
}

/// Neither the command line nor the client goes by the distance of ports when a member says otherwise.
#[test]
fn a_member_is_found_where_it_says_that_it_answers() {
    let root = tempfile::tempdir().expect("a directory");
    let ([first, second, _], _) = three(root.path());
    let (_, elsewhere) = free_ports();
    let second = Place {
        http: elsewhere,
        ..second
    };
    let first_runs = first.start(&["--bootstrap"]);
    leader_of(&[&first_runs]);
    let (target, http) = (first.grpc.to_string(), elsewhere.to_string());
    let second_runs = second.start(&["--join", &target, "--http-address", &http]);
    wait_for_members(&first_runs, &[("n1", "voter"), ("n2", "voter")]);
    done(&first_runs, &["transfer-leader", "n2"]);
    let nodes = [&first_runs, &second_runs];
    wait_for("n2 leads", || (leader_of(&nodes) == 1).then_some(()));

    wait_for("n1 knows where n2 answers", || {
        let seen = first_runs.cluster()?;
        let mut members = seen["members"].as_array()?.iter();
        let second = members.find(|m| m["id"] == "n2")?;
        (second["http_address"] == http).then_some(())
    });

    // What only the leader knows is asked for there.
    let asked = admin(&first_runs, &["members"]);
    let told = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success() && told.is_empty(), "{told}");
    let table = String::from_utf8_lossy(&asked.stdout);
    assert!(table.contains(&http), "{table}");
    let told = done(&first_runs, &["check", "--cluster"]);
    assert!(told.starts_with("2 nodes"), "{told}");

    let (_, health) = get(second.http, "/health").expect("an answer");
    let health: Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!(health["http_address"], http);
    let pg = health["pg_address"].as_str().expect("it has one");
    let told = connected_by(&first.grpc, &[]);
    assert!(told.contains(pg), "{told}, not {pg}");
}

/// What `chronos client --leader` says of the connection that it found.
pub(crate) fn connected_by(asked: &SocketAddr, variables: &[(&str, &str)]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_chronos"))
        .args(["client", "--leader", &asked.to_string()])
        .args(["-c", "\\conninfo"])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the chronos binary runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn another_node_or_cluster_is_refused() {
    let root = tempfile::tempdir().expect("a directory");
    let ([first, second, third], peers) = three(root.path());
    let runs = first.start(&["--bootstrap", "--cluster-id", "farm"]);
    leader_of(&[&runs]);

    // A node of another cluster that calls.
    let target = first.grpc.to_string();
    let stranger = second.start(&["--join", &target, "--cluster-id", "forest"]);
    wait_for("it is refused", || {
        (stranger.has_told("farm") && stranger.has_told("forest")).then_some(())
    });
    wait_for_members(&runs, &[("n1", "voter")]);
    drop(stranger);
    assert_eq!(runs.stop(), Some(0));

    let elsewhere = Place {
        id: "n7",
        ..first.clone()
    };
    let told = elsewhere.refused(&["--bootstrap"]);
    assert!(told.contains("belongs to the node \"n1\""), "{told}");
    let told = first.refused(&["--bootstrap", "--cluster-id", "forest"]);
    assert!(told.contains("belongs to the cluster \"farm\""), "{told}");
    let told = third.refused(&[]);
    assert!(told.contains("needs one of --peers"), "{told}");

    // A member of several does not run by itself.
    let member = third.start(&["--peers", peers.as_str()]);
    wait_for("an answer", || get(third.http, "/health").ok());
    assert_eq!(member.stop(), Some(0));
    let output = Command::new(env!("CARGO_BIN_EXE_chronos"))
        .args(["start", "--pg-address", "127.0.0.1:0", "--http-address"])
        .arg("127.0.0.1:0")
        .arg("--data-dir")
        .arg(&third.dir)
        .output()
        .expect("the chronos binary runs");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("chronos node --id n3"), "{told}");
}

/// A snapshot is restored, a cluster begins with it, another node receives everything, and the two
/// hold the same; so does what is written meanwhile.
#[test]
fn a_cluster_grows_from_a_snapshot_and_its_members_hold_the_same() {
    let root = tempfile::tempdir().expect("a directory");
    let ([first, second, third], _) = three(root.path());
    let snapshot = root.path().join("all.chronos");
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new(env!("CARGO_BIN_EXE_chronos"))
            .arg("snapshot")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the chronos binary runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
    };
    let before = third.start(&["--bootstrap"]);
    leader_of(&[&before]);
    before.sql("CREATE TABLE t (id INT PRIMARY KEY, n INT)");
    before.sql("INSERT INTO t SELECT i, i % 7 FROM generate_series(1, 5000) AS g(i)");
    before.sql("CREATE INDEX by_n ON t (n)");
    before.sql("UPDATE t SET n = n + 1 WHERE id % 3 = 0");
    let url = before.place.url();
    run(&[
        "create".as_ref(),
        "--url".as_ref(),
        url.as_ref(),
        "--output".as_ref(),
        snapshot.as_os_str(),
    ]);
    drop(before);
    run(&[
        "restore".as_ref(),
        snapshot.as_os_str(),
        "--data-dir".as_ref(),
        first.dir.as_os_str(),
        "--id".as_ref(),
        "n1".as_ref(),
        "--cluster-id".as_ref(),
        "farm".as_ref(),
    ]);

    // It belongs to that node of that cluster, which begins with it.
    let elsewhere = Place {
        id: "n7",
        ..first.clone()
    };
    let told = elsewhere.refused(&["--bootstrap"]);
    assert!(told.contains("belongs to the node \"n1\""), "{told}");
    let first_runs = first.start(&[]);
    leader_of(&[&first_runs]);
    let cluster = first_runs.cluster().expect("an answer");
    assert_eq!(cluster["cluster_id"], "farm");
    let sums = "SELECT count(*), sum(n) FROM t";
    let expected = first_runs.rows(sums);
    let second_runs = second.start(&["--join", &first.grpc.to_string()]);
    wait_for_members(&first_runs, &[("n1", "voter"), ("n2", "voter")]);
    assert_eq!(second_runs.rows(sums), expected);
    second_runs.sql("INSERT INTO t VALUES (6000, 1) ON CONFLICT DO NOTHING");
    let told = done(&first_runs, &["check", "--cluster"]);
    assert!(
        told.starts_with("2 nodes") && told.contains("1 index compared: no difference"),
        "{told}"
    );
}
