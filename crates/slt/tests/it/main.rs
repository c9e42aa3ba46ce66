//! The runner itself, on directories of scripts of which it is known what must pass and what must not.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use real files"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn scripts(name: &str) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.join("tests/it/scripts").join(name)
}

fn runner() -> Command {
    Command::new(env!("CARGO_BIN_EXE_chronos-slt"))
}

/// Runs it with a summary.
fn run(name: &str, flags: &[&str]) -> (Output, Value) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let json = directory.path().join("summary.json");
    let output = runner()
        .arg(scripts(name))
        .args(flags)
        .arg("--json")
        .arg(&json)
        .output()
        .expect("the runner runs");
    let summary = std::fs::read(&json).expect("it wrote a summary");
    let summary = serde_json::from_slice(&summary).expect("the summary is JSON");
    (output, summary)
}

fn file<'a>(summary: &'a Value, name: &str) -> &'a Value {
    let files = summary["files"].as_array().expect("there are files");
    files
        .iter()
        .find(|f| f["file"].as_str().is_some_and(|f| f.ends_with(name)))
        .unwrap_or_else(|| panic!("{name} is in {summary}"))
}

fn counts(summary: &Value, name: &str) -> (u64, u64, u64) {
    let of = |what: &str| file(summary, name)[what].as_u64().expect("a number");
    (of("passed"), of("failed"), of("skipped"))
}

#[test]
fn what_is_right_passes_by_both_protocols() {
    for protocol in ["simple", "extended"] {
        let (output, summary) = run("good", &["--protocol", protocol, "--jobs", "2"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert_eq!(counts(&summary, "sqlite.test"), (15, 0, 3), "{text}");
        assert_eq!(counts(&summary, "records.slt"), (15, 0, 3), "{text}");
        assert_eq!(counts(&summary, "fresh_again.slt"), (2, 0, 0), "{text}");
        assert_eq!(summary["failed"], 0);
    }
}

#[test]
fn what_is_wrong_fails_and_the_rest_goes_on() {
    let (output, summary) = run("bad", &["--verbose"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(counts(&summary, "wrong.slt"), (2, 11, 0), "{text}");
    let failures = file(&summary, "wrong.slt")["failures"]
        .as_array()
        .expect("failures");
    let about = |line: &str| {
        let at = format!("wrong.slt:{line}");
        let found = failures
            .iter()
            .find(|f| f["at"].as_str().is_some_and(|a| a.ends_with(&at)));
        found.unwrap_or_else(|| panic!("a failure at {at} in {text}"))
    };
    assert_eq!(about("4")["actual"][0], "2");
    assert_eq!(about("4")["expected"][0], "1");
    assert!(text.contains("the result differs from that of the query labelled same"));
    assert_eq!(file(&summary, "after.slt")["passed"], 1);
    let broken = file(&summary, "no_script.slt");
    assert!(broken["error"].as_str().is_some_and(|e| e.contains("read")));
    assert_eq!(summary["broken_files"], 1);
}

#[test]
fn the_first_failure_is_shown_unless_all_are_asked_for() {
    let flags = ["--filter", "wrong"];
    let (short, summary) = run("bad", &flags);
    assert_eq!(summary["files"].as_array().map(Vec::len), Some(1));
    let (long, _) = run("bad", &["--filter", "wrong", "-v"]);
    let lines = |o: &Output| {
        String::from_utf8_lossy(&o.stdout)
            .matches("wrong.slt:")
            .count()
    };
    // One is the file's own line.
    assert_eq!(lines(&short), 2);
    assert!(lines(&long) > 10);
}

#[test]
fn arguments_that_make_no_sense_are_2() {
    for flags in [
        &["/there/is/no/such/directory"][..],
        &["--jobs", "2", "--url", "postgres://127.0.0.1:1/x", "."],
        &["--filter", "no file is called so", "."],
        &[],
    ] {
        let output = runner().args(flags).current_dir(scripts("good")).output();
        let code = output.expect("the runner runs").status.code();
        assert_eq!(code, Some(2), "{flags:?}");
    }
}

#[test]
fn a_server_that_is_not_there_fails_every_file() {
    let (output, summary) = run("good", &["--url", "postgres://chronos@127.0.0.1:1/chronos"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(summary["broken_files"], 4);
    assert_eq!(summary["passed"], 0);
}
