//! `chronos admin check` and `chronos snapshot verify --data-dir`: everything that is stored is read
//! again, and damage is told, one line each.
//!
//! Results go to stdout: the findings and a summary, or one JSON document. Progress goes to
//! stderr, if a person is there to see it. Exit code 1: there is damage.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use chronos_env::Env;
use chronos_model::SqlState;
use chronos_node::{check_dir, CheckEvent};
use indicatif::{HumanBytes, ProgressBar};
use serde_json::{json, Value};

use super::args::AdminCheckArgs;
use super::cluster_check;
use super::error::CliError;
use super::http::Client;
use super::progress;
use super::values::HttpUrl;

/// Checks a running node, or a directory.
pub(super) async fn admin_check(args: AdminCheckArgs, env: Env) -> Result<(), CliError> {
    if args.cluster {
        return cluster_check::run(&args).await;
    }
    match args.node()? {
        Some(node) => {
            let client = Client::of(&args.login)?;
            online(&client, &node, args.json).await
        }
        None => directory(args.data_dir, args.json, env).await,
    }
}

/// Checks a directory.
pub(super) async fn directory(dir: PathBuf, json: bool, env: Env) -> Result<(), CliError> {
    let mut output = Output::new(json);
    let checked = tokio::task::spawn_blocking(move || {
        let summary = check_dir(&env, &dir, &mut |event: CheckEvent| {
            let event = serde_json::to_value(&event).unwrap_or_default();
            match output.event(&event) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        let summary = summary.map_err(|e| refused(&e, &dir))?;
        let summary = serde_json::to_value(summary).unwrap_or_default();
        output.end(&summary)
    });
    checked.await.map_err(|e| CliError::Failed(e.to_string()))?
}

/// A check that could not be made is told apart from one that found something.
fn refused(error: &chronos_node::Error, dir: &Path) -> CliError {
    let hint = match error.code {
        SqlState::OBJECT_IN_USE => format!(
            "\nA node that works on {} is checked by \"chronos admin check --address HOST:PORT\".",
            dir.display()
        ),
        _ => error
            .hint
            .as_ref()
            .map(|h| format!("\n{h}"))
            .unwrap_or_default(),
    };
    CliError::Usage(format!("{error}{hint}"))
}

async fn online(client: &Client, node: &HttpUrl, json: bool) -> Result<(), CliError> {
    let uri = node.path("/admin/check")?;
    let lines = client.post_for_lines(&uri).await;
    let mut lines = lines.map_err(|reason| node.unreachable(reason))?;
    let mut output = Output::new(json);
    while let Some(line) = lines.next().await.map_err(CliError::Lost)? {
        let event: Value = serde_json::from_slice(&line)
            .map_err(|_| CliError::Lost("the answer is no list of findings".to_owned()))?;
        if let Some(error) = event.pointer("/error/message").and_then(Value::as_str) {
            return Err(CliError::Usage(error.to_owned()));
        }
        match event.get("summary") {
            Some(summary) => return output.end(summary),
            None => output.event(&event)?,
        }
    }
    Err(CliError::Lost("the check was not finished".to_owned()))
}

/// Where findings go, as they come.
struct Output {
    json: bool,
    findings: Vec<Value>,
    bar: ProgressBar,
}

impl Output {
    fn new(json: bool) -> Output {
        Output {
            json,
            findings: Vec::new(),
            bar: progress::of_bytes(),
        }
    }

    fn event(&mut self, event: &Value) -> Result<(), CliError> {
        if let Some(progress) = event.get("progress") {
            let bytes = |name: &str| progress.get(name).and_then(Value::as_u64).unwrap_or(0);
            self.bar.set_length(bytes("bytes_total"));
            self.bar.set_position(bytes("bytes"));
        }
        if let Some(finding) = event.get("finding") {
            if !self.json {
                let line = line_of(finding);
                self.bar.suspend(|| writeln!(io::stdout(), "{line}"))?;
            }
            self.findings.push(finding.clone());
        }
        Ok(())
    }

    fn end(self, summary: &Value) -> Result<(), CliError> {
        self.bar.finish_and_clear();
        let count = |name: &str| summary.get(name).and_then(Value::as_u64).unwrap_or(0);
        let ok = count("findings") == 0;
        let mut out = io::stdout().lock();
        if self.json {
            let document = json!({ "ok": ok, "summary": summary, "findings": self.findings });
            writeln!(out, "{document}")?;
        } else {
            let found = match count("findings") {
                0 => "no damage".to_owned(),
                1 => "1 finding".to_owned(),
                n => format!("{n} findings"),
            };
            let bytes = HumanBytes(count("bytes"));
            let (files, entries) = (count("files"), count("entries"));
            writeln!(
                out,
                "{files} files, {bytes}, {entries} log entries checked: {found}"
            )?;
        }
        match ok {
            true => Ok(()),
            false => Err(CliError::Reported(1)),
        }
    }
}

/// `file: offset 123: what is wrong; table "t", keys (1) to (9); lost: 16 versions`
pub(super) fn line_of(finding: &Value) -> String {
    let text = |name: &str| finding.get(name).and_then(Value::as_str);
    let offset = finding.get("offset").and_then(Value::as_u64).unwrap_or(0);
    let mut line = format!(
        "{}: offset {offset}: {}",
        text("file").unwrap_or("?"),
        text("reason").unwrap_or("damaged")
    );
    if let Some(table) = text("table") {
        line.push_str(&format!("; table \"{table}\""));
    }
    if let Some(keys) = text("keys") {
        line.push_str(&format!(", {keys}"));
    }
    if let Some(lost) = text("lost") {
        line.push_str(&format!("; lost: {lost}"));
    }
    line
}
