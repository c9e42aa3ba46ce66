//! `chronos snapshot create`, `restore` and `verify`, and `chronos admin check --cluster`, with the real
//! program: a node under load, a chain of snapshots, damage, kill -9.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use serde_json::Value;

use crate::node::{get, post, request_as, Node};

fn chronos(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chronos"));
    command.args(arguments);
    command.output().expect("the chronos binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it prints when it succeeds.
fn done(arguments: &[&str]) -> String {
    let output = chronos(arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    out
}

/// Exit code and what it complains of when it fails.
fn failed(arguments: &[&str]) -> (Option<i32>, String) {
    let output = chronos(arguments);
    assert!(!output.status.success(), "{arguments:?} did not fail");
    (output.status.code(), text(&output.stderr))
}

fn sql(node: SocketAddr, statement: &str) -> Value {
    let body = serde_json::json!({ "sql": statement }).to_string();
    let (status, answer) = post(node, "/sql", &body).unwrap();
    assert_eq!(status, 200, "{statement}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

/// The rows of a table, as of an instant.
fn rows_as_of(node: SocketAddr, instant: &str) -> String {
    let query =
        format!("SELECT * FROM pumps FOR SYSTEM_TIME AS OF TIMESTAMPTZ '{instant}' ORDER BY id");
    sql(node, &query)["rows"].to_string()
}

fn url(node: &Node) -> String {
    format!("http://{}", node.http)
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_string_lossy().into_owned()
}

fn verified(file: &str) -> Value {
    let document = done(&["snapshot", "verify", file, "--json"]);
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["ok"], true, "{document}");
    document
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let name = |e: std::io::Result<std::fs::DirEntry>| e.unwrap().file_name();
    let mut names: Vec<_> = entries
        .map(|e| name(e).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// `(id, n)` for some ids.
fn values(ids: std::ops::Range<u32>, n: u32) -> String {
    let rows: Vec<String> = ids.map(|id| format!("({id}, {n})")).collect();
    format!(
        "INSERT INTO pumps VALUES {} ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n",
        rows.join(", ")
    )
}

#[test]
fn a_snapshot_under_load_is_the_past_of_its_last_commit() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let node = Node::start(&dir.join("node"));
    sql(node.http, "CREATE TABLE pumps (id INT PRIMARY KEY, n INT)");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, http) = (stop.clone(), node.http);
        std::thread::spawn(move || {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                sql(http, &values(n % 50..n % 50 + 200, n));
            }
        })
    };
    let mut base: Option<String> = None;
    let mut snapshots = Vec::new();
    for number in 0..3 {
        let file = path(dir, &format!("{number}.chronos"));
        let address = url(&node);
        let mut arguments = vec!["snapshot", "create", "--url", &address, "-o", &file];
        if let Some(base) = &base {
            arguments.extend(["--base", base]);
        }
        let told = done(&arguments);
        assert!(told.contains("last commit"), "{told}");
        let document = verified(&file);
        assert_eq!(document["base"].is_null(), number == 0);
        snapshots.push(document["last_commit"].as_str().unwrap().to_owned());
        base = Some(file);
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    for (number, instant) in snapshots.iter().enumerate() {
        let expected = rows_as_of(node.http, instant);
        let restored = dir.join(format!("restored{number}"));
        let file = path(dir, &format!("{number}.chronos"));
        // Its bases are found beside it.
        done(&[
            "snapshot",
            "restore",
            &file,
            "--data-dir",
            restored.to_str().unwrap(),
        ]);
        let new = Node::start(&restored);
        assert_eq!(rows_as_of(new.http, instant), expected);
        let current = sql(new.http, "SELECT * FROM pumps ORDER BY id");
        assert_eq!(current["rows"].to_string(), expected);
        // It writes on, and is found whole.
        sql(new.http, &values(0..10, 7));
        assert_eq!(new.stop(), Some(0));
        done(&["admin", "check", "--data-dir", restored.to_str().unwrap()]);
        let again = Node::start(&restored);
        assert_eq!(rows_as_of(again.http, instant), expected);
    }
    assert!(!dir.join("node/archiving").exists() || names(&dir.join("node/archiving")).is_empty());
}

/// A closed directory with a table, two snapshots of it in a chain.
struct Backups {
    dir: tempfile::TempDir,
    data: String,
    full: String,
    more: String,
}

impl Backups {
    fn new() -> Backups {
        let dir = tempfile::tempdir().unwrap();
        let data = path(dir.path(), "data");
        let fill = |statements: &[&str]| {
            let node = Node::start(Path::new(&data));
            statements
                .iter()
                .for_each(|statement| drop(sql(node.http, statement)));
            assert_eq!(node.stop(), Some(0));
        };
        fill(&[
            "CREATE TABLE pumps (id INT PRIMARY KEY, n INT)",
            &values(0..2000, 1),
        ]);
        let (full, more) = (
            path(dir.path(), "full.chronos"),
            path(dir.path(), "more.chronos"),
        );
        done(&["snapshot", "create", "--data-dir", &data, "--output", &full]);
        fill(&[&values(5000..5010, 1)]);
        done(&[
            "snapshot",
            "create",
            "--data-dir",
            &data,
            "--output",
            &more,
            "--base",
            &full,
        ]);
        Backups {
            data,
            full,
            more,
            dir,
        }
    }

    fn length(file: &str) -> u64 {
        std::fs::metadata(file).unwrap().len()
    }
}

#[test]
fn a_chain_is_restored_and_what_is_missing_is_named() {
    let backups = Backups::new();
    assert!(Backups::length(&backups.more) < Backups::length(&backups.full));
    let dir = backups.dir.path();
    let document = verified(&backups.more);
    assert_eq!(document["bases_found"], true);
    let tables = document["tables"].as_array().unwrap();
    let pumps = tables
        .iter()
        .find(|table| table["name"] == "pumps")
        .unwrap();
    assert_eq!(pumps["rows"], 2010);
    // The base is somewhere else.
    let elsewhere = dir.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let full = path(&elsewhere, "full.chronos");
    std::fs::rename(&backups.full, &full).unwrap();
    let target = path(dir, "restored");
    let (code, told) = failed(&["snapshot", "restore", &backups.more, "--data-dir", &target]);
    assert!(
        code == Some(1) && told.contains("it needs the archive"),
        "{told}"
    );
    assert!(!Path::new(&target).exists());
    assert_eq!(verified(&backups.more)["bases_found"], false);
    done(&[
        "snapshot",
        "restore",
        &backups.more,
        &full,
        "--data-dir",
        &target,
    ]);
    let node = Node::start(Path::new(&target));
    let count = sql(node.http, "SELECT count(*) FROM pumps");
    assert!(count["rows"].to_string().contains("2010"), "{count}");
    drop(node);
    let (code, told) = failed(&["snapshot", "restore", &full, "--data-dir", &target]);
    assert!(code == Some(1) && told.contains("is not empty"), "{told}");
    // Nor is a file written over, or a node's directory read beside it.
    let existing = [
        "snapshot",
        "create",
        "--data-dir",
        &target,
        "--output",
        &full,
    ];
    let (code, told) = failed(&existing);
    assert!(code == Some(1) && told.contains("exists"), "{told}");
    let node = Node::start(Path::new(&target));
    let other = path(dir, "other.chronos");
    let (code, told) = failed(&["snapshot", "create", "--data-dir", &target, "-o", &other]);
    assert!(code == Some(2) && told.contains("in use"), "{told}");
    assert!(!Path::new(&other).exists() && !Path::new(&path(dir, "other.chronos.part")).exists());
    drop(node);
}

#[test]
fn damage_is_found_and_nothing_is_restored_of_it() {
    let backups = Backups::new();
    let whole = std::fs::read(&backups.full).unwrap();
    let damaged = path(backups.dir.path(), "damaged.chronos");
    let target = path(backups.dir.path(), "restored");
    let before = names(backups.dir.path());
    let last = whole.len() - 1;
    for at in [0, 9, 30, whole.len() / 3, whole.len() / 2, last - 30, last] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&damaged, &bytes).unwrap();
        let (code, told) = failed(&["snapshot", "verify", &damaged]);
        assert!(
            code == Some(1) && told.contains("damaged.chronos"),
            "{at}: {told}"
        );
        let (code, told) = failed(&["snapshot", "restore", &damaged, "--data-dir", &target]);
        assert!(
            code == Some(1) && told.contains("damaged.chronos"),
            "{at}: {told}"
        );
    }
    std::fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
    let (_, told) = failed(&["snapshot", "verify", &damaged]);
    assert!(told.contains("before its end"), "{told}");
    std::fs::remove_file(&damaged).unwrap();
    assert_eq!(names(backups.dir.path()), before);
    assert!(Path::new(&backups.data).exists());
}

/// Whoever is killed leaves files of another name, which are in nobody's way.
#[test]
fn a_killed_create_or_restore_leaves_nothing_that_looks_complete() {
    let backups = Backups::new();
    let dir = backups.dir.path();
    let node = Node::start(Path::new(&backups.data));
    let (file, address) = (path(dir, "killed.chronos"), url(&node));
    let create = ["snapshot", "create", "--url", &address, "--output", &file];
    let target = path(dir, "restored");
    let restore = ["snapshot", "restore", &backups.more, "--data-dir", &target];
    for _ in 0..4 {
        kill_once_there_is(&create, &path(dir, "killed.chronos.part"));
        // It may have been quicker.
        if Path::new(&file).exists() {
            verified(&file);
            std::fs::remove_file(&file).unwrap();
        }
        kill_once_there_is(&restore, &path(dir, "restored.restoring"));
        if Path::new(&target).exists() {
            done(&["admin", "check", "--data-dir", &target]);
            std::fs::remove_dir_all(&target).unwrap();
        }
    }
    // The node may still be about to notice that its client is gone.
    loop {
        let output = chronos(&create);
        let told = text(&output.stderr);
        match output.status.success() {
            true => break,
            false => assert!(told.contains("is made already"), "{told}"),
        }
    }
    verified(&file);
    done(&restore);
    let is_left = |name: &String| name.ends_with(".part") || name.ends_with(".restoring");
    assert!(!names(dir).iter().any(is_left), "{:?}", names(dir));
}

/// Kills the program when a file is there, if it has not ended before.
fn kill_once_there_is(arguments: &[&str], part: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_chronos"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !Path::new(part).exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    // An error says that it has ended.
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn only_administrators_get_everything() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = [
        ("CHRONOS_AUTH_TOKEN_ADMIN", "admin-token-of-a-test"),
        ("CHRONOS_AUTH_TOKEN_READONLY", "reader-token-of-a-test"),
    ];
    let node = Node::start_in(&dir.path().join("node"), &[], &tokens);
    let ask = |method: &str, path: &str, token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        // An archive is no text.
        request_as(node.http, method, path, &header, "{\"base\": 1}").map(|(status, _)| status)
    };
    for (method, path) in [
        ("POST", "/admin/snapshot"),
        ("GET", "/admin/hashes"),
        ("GET", "/admin/position"),
    ] {
        assert_eq!(ask(method, path, tokens[1].1).unwrap(), 403, "{path}");
        assert_eq!(ask(method, path, "nobody").unwrap(), 401, "{path}");
    }
    assert_eq!(ask("POST", "/admin/snapshot", tokens[0].1).unwrap(), 400);
    assert_eq!(ask("GET", "/admin/position", tokens[0].1).unwrap(), 200);
}

#[test]
fn nodes_with_the_same_content_are_told_from_others() {
    let backups = Backups::new();
    let restore = |name: &str| -> PathBuf {
        let target = backups.dir.path().join(name);
        let target_text = target.to_string_lossy().into_owned();
        done(&[
            "snapshot",
            "restore",
            &backups.more,
            "--data-dir",
            &target_text,
        ]);
        target
    };
    let (one, other) = (Node::start(&restore("one")), Node::start(&restore("other")));
    let (first, second) = (url(&one), url(&other));
    let check = [
        "admin",
        "check",
        "--cluster",
        "--url",
        &first,
        "--url",
        &second,
    ];
    let told = done(&check);
    assert!(
        told.starts_with("2 nodes, ") && told.contains("compared: no difference"),
        "{told}"
    );
    // One has other segments.
    sql(one.http, "COMPACT");
    done(&check);
    sql(one.http, "UPDATE pumps SET n = 2 WHERE id = 77");
    sql(other.http, "UPDATE pumps SET n = 3 WHERE id = 77");
    let output = chronos(&check);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    // As of when only one of the two commits was made, or neither: the stamps differ.
    assert!(told.contains("table \"pumps\" differs"), "{told}");
    let (_, hashes) = get(one.http, "/admin/hashes?at=1&retained_at=0").unwrap();
    assert!(hashes.contains("later than it is asked for"), "{hashes}");
    let nobody = "http://127.0.0.1:1";
    let (code, told) = failed(&["admin", "check", "--cluster", "--url", nobody]);
    assert!(code == Some(2) && told.contains("any member"), "{told}");
}
