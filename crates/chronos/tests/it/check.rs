//! `chronos admin check` and `chronos snapshot verify`, on a closed directory and on a running
//! node: every kind of file that is damaged is found, and a whole one is not.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chronos::Database;

use crate::node::{get, Node};

fn chronos(arguments: &[&str], dir: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chronos"));
    command.args(arguments);
    if let Some(dir) = dir {
        command.arg("--data-dir").arg(dir);
    }
    command.output().expect("the chronos binary runs")
}

/// Exit code and standard output.
fn check(arguments: &[&str], dir: Option<&Path>) -> (Option<i32>, String) {
    let output = chronos(arguments, dir);
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

/// A closed database: a table in segments, and writes that only the log has.
async fn database(dir: &Path) {
    let db = Database::open(dir).await.unwrap();
    db.execute("CREATE TABLE pumps (name TEXT PRIMARY KEY, v FLOAT8)", &[])
        .await
        .unwrap();
    let row = |n: u64| format!("('pump-{:x}', {}.5)", n * 2_654_435_761, n * 7);
    let rows: Vec<String> = (1..5_000).map(row).collect();
    let insert = format!("INSERT INTO pumps VALUES {}", rows.join(", "));
    db.execute(&insert, &[]).await.unwrap();
    db.close().await.unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// The table's segment, beside which there is a small one of the transactions; or the only file of another kind.
fn largest(dir: &Path, extension: &str) -> PathBuf {
    let found = files(dir);
    let of_kind = found
        .into_iter()
        .filter(|path| path.to_string_lossy().contains(extension));
    let bytes = |path: &PathBuf| std::fs::metadata(path).unwrap().len();
    of_kind.max_by_key(bytes).expect(extension)
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 0x11;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_directory_is_checked_file_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    database(dir).await;
    let before = files(dir);
    for arguments in [["admin", "check"], ["snapshot", "verify"]] {
        let (code, text) = check(&arguments, Some(dir));
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("no damage"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let segment = largest(dir, ".segment");
    let damages = [
        (segment.clone(), 100, "table \"pumps\", keys (pump-"),
        (segment.clone(), 3, "4999 versions"),
        (largest(dir, "manifest-"), 30, "the list of tables"),
        (largest(dir, ".log"), 4_096 + 60, "writes of the log"),
        (largest(dir, ".log"), 20, "writes of the log"),
    ];
    for (path, offset, words) in damages {
        flip(&path, offset);
        let (code, text) = check(&["admin", "check"], Some(dir));
        assert_eq!(code, Some(1), "{} at {offset}: {text}", path.display());
        let line = text.lines().next().unwrap();
        assert!(line.contains(path.to_str().unwrap()), "{text}");
        assert!(line.contains("offset") && line.contains(words), "{text}");
        assert!(text.contains("finding"), "{text}");
        let (code, text) = check(&["snapshot", "verify", "--json"], Some(dir));
        assert_eq!(code, Some(1));
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["ok"], false);
        assert_eq!(document["findings"][0]["file"], path.to_str().unwrap());
        flip(&path, offset);
    }
    std::fs::rename(&segment, segment.with_extension("kept")).unwrap();
    let (code, text) = check(&["admin", "check"], Some(dir));
    assert!(code == Some(1) && text.contains("missing"), "{text}");
    std::fs::rename(segment.with_extension("kept"), &segment).unwrap();
    assert_eq!(check(&["admin", "check"], Some(dir)).0, Some(0));
    assert_eq!(files(dir), before, "a check changes nothing");
}

#[test]
fn what_cannot_be_checked_is_no_finding() {
    let dir = tempfile::tempdir().unwrap();
    let output = chronos(&["snapshot", "verify"], Some(dir.path()));
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("there is no database"), "{text}");
    assert!(files(dir.path()).is_empty());
    let (code, _) = check(&["admin", "check", "--http-address", "127.0.0.1:1"], None);
    assert_eq!(code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_is_checked_and_refuses_what_was_found() {
    let dir = tempfile::tempdir().unwrap();
    database(dir.path()).await;
    let mut node = Node::start(dir.path());
    let address = node.http.to_string();
    let online = ["admin", "check", "--http-address", &address];
    let (code, text) = check(&online, None);
    assert!(code == Some(0) && text.contains("no damage"), "{text}");
    let output = chronos(&["admin", "check"], Some(dir.path()));
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("in use") && told.contains("--address"),
        "{told}"
    );

    let segment = largest(dir.path(), ".segment");
    // In place: the node has the file open.
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .unwrap();
    file.write_all_at(&[0x5a; 64], 64).unwrap();
    let (code, text) = check(&online, None);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(segment.to_str().unwrap()), "{text}");
    let (_, health) = get(node.http, "/health").unwrap();
    assert!(health.contains("\"status\":\"degraded\""), "{health}");
    assert!(health.contains("\"table\":\"pumps\""), "{health}");
    let (_, metrics) = get(node.http, "/metrics").unwrap();
    assert!(
        metrics.contains("\nchronos_damaged_segments 1\n"),
        "{metrics}"
    );
    node.kill();
}

/// A table's files are not all of one kind: those of its indexes are checked like its own.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_indexes_are_checked_too() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    database(dir).await;
    let db = Database::open(dir).await.unwrap();
    for statement in [
        "CREATE INDEX by_value ON pumps (v)",
        "UPDATE pumps SET v = v + 1 WHERE v < 1000",
        "COMPACT",
    ] {
        db.execute(statement, &[]).await.unwrap();
    }
    db.close().await.unwrap();
    let segments: Vec<PathBuf> = files(dir)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "segment"))
        .collect();
    // Rows, their history, entries, and the transactions.
    assert!(segments.len() >= 4, "{segments:?}");
    for segment in segments {
        let middle = std::fs::metadata(&segment).unwrap().len() as usize / 2;
        flip(&segment, middle);
        let (code, text) = check(&["admin", "check"], Some(dir));
        let name = segment.file_name().unwrap().to_string_lossy().into_owned();
        assert!(code == Some(1) && text.contains(&name), "{name}: {text}");
        flip(&segment, middle);
    }
    let (code, text) = check(&["admin", "check"], Some(dir));
    assert_eq!(code, Some(0), "{text}");
}
