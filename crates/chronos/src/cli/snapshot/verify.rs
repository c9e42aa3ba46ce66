//! `chronos snapshot verify`: of an archive.
//!
//! Every record and file has its checksum; whether what they hold can be read is found by restoring
//! it and reading every page. For that the archive needs its bases; without them what is in
//! it is checked, and that is said.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use chronos_env::Env;
use chronos_model::{text, Value};
use chronos_node::{
    archived_tables, check_dir, remove_restored, restore_archive, ArchiveHeader, ArchiveReader,
    ArchivedTable, CheckEvent, CheckFinding,
};
use serde_json::json;

use super::archives::{self, Archives};
use super::{failed, SnapshotVerifyArgs};
use crate::cli::check;
use crate::cli::error::CliError;
use crate::cli::files;
use crate::cli::progress;

pub(in crate::cli) async fn verify(args: SnapshotVerifyArgs, env: Env) -> Result<(), CliError> {
    let Some(file) = args.file else {
        return check::directory(args.data_dir, args.json, env).await;
    };
    let verified = tokio::task::spawn_blocking(move || blocking(&file, args.json, &env));
    verified
        .await
        .map_err(|e| CliError::Failed(e.to_string()))?
}

/// What was found.
struct Report {
    header: ArchiveHeader,
    /// `None`: bases are missing, and only the file itself was read.
    restored: Option<Restored>,
}

struct Restored {
    findings: Vec<CheckFinding>,
    tables: Vec<ArchivedTable>,
}

fn blocking(file: &Path, json: bool, env: &Env) -> Result<(), CliError> {
    let report = verified(file, env)?;
    let mut out = io::stdout().lock();
    match json {
        true => writeln!(out, "{}", report.json())?,
        false => report.print(&mut out)?,
    }
    match report.is_whole() {
        true => Ok(()),
        false => Err(CliError::Reported(1)),
    }
}

fn verified(file: &Path, env: &Env) -> Result<Report, CliError> {
    let header = archives::header(file)?;
    let archives = match Archives::find(&[file.to_owned()]) {
        Ok(archives) => archives,
        Err(_) if header.base.is_some() => {
            read_through(file)?;
            return Ok(Report {
                header,
                restored: None,
            });
        }
        Err(error) => return Err(error),
    };
    let mut dir = file.as_os_str().to_owned();
    dir.push(".verify");
    let dir = PathBuf::from(dir);
    remove_restored(env, &dir).map_err(|e| CliError::Failed(e.to_string()))?;
    let restored = restored(&archives, &dir, env);
    let removed = remove_restored(env, &dir);
    let restored = restored?;
    removed.map_err(|e| CliError::Failed(e.to_string()))?;
    Ok(Report {
        header,
        restored: Some(restored),
    })
}

fn restored(archives: &Archives, dir: &Path, env: &Env) -> Result<Restored, CliError> {
    let bar = progress::of_bytes();
    let told = &mut |bytes, total| {
        bar.set_length(total);
        bar.set_position(bytes);
    };
    let open = |id: &str| archives.open(id);
    let restored = restore_archive(env, &archives.chain, dir, None, open, told);
    bar.finish_and_clear();
    restored.map_err(|e| failed(archives.file(), &e))?;
    let mut findings = Vec::new();
    let refused = |e: chronos_node::Error| CliError::Failed(e.to_string());
    check_dir(env, dir, &mut |event: CheckEvent| {
        if let CheckEvent::Finding(finding) = event {
            findings.push(finding);
        }
        ControlFlow::Continue(())
    })
    .map_err(refused)?;
    let tables = match findings.is_empty() {
        true => archived_tables(env, dir).map_err(refused)?,
        false => Vec::new(),
    };
    Ok(Restored { findings, tables })
}

fn read_through(file: &Path) -> Result<(), CliError> {
    let opened = files::open_archive(file).map_err(|source| CliError::File {
        action: "open",
        name: file.display().to_string(),
        source,
    })?;
    let mut reader = ArchiveReader::open(opened).map_err(|e| failed(file, &e))?;
    while reader.next_piece().map_err(|e| failed(file, &e))?.is_some() {}
    Ok(())
}

impl Report {
    fn is_whole(&self) -> bool {
        let restored = self.restored.as_ref();
        restored.is_none_or(|restored| restored.findings.is_empty())
    }

    fn json(&self) -> serde_json::Value {
        let header = &self.header;
        let (term, index) = header.list.applied();
        let tables = self.restored.iter().flat_map(|restored| &restored.tables);
        let table = |table: &ArchivedTable| {
            json!({
                "name": table.name,
                "rows": table.rows,
                "versions": table.versions,
                "hash": table.hash.map(|hash| hex(&hash)),
            })
        };
        json!({
            "ok": self.is_whole(),
            "id": header.id,
            "base": header.base,
            "bases_found": self.restored.is_some(),
            "created": text::format(&Value::TimestampTz(header.created_micros)),
            "term": term.0,
            "index": index.0,
            "last_commit": text::format(&Value::TimestampTz(header.list.stamp().micros())),
            "files": header.list.files().len(),
            "files_stored": header.stored.len(),
            "tables": tables.map(table).collect::<Vec<_>>(),
            "findings": self.restored.as_ref().map(|restored| &restored.findings),
        })
    }

    fn print(&self, out: &mut impl io::Write) -> io::Result<()> {
        let header = &self.header;
        let (term, index) = header.list.applied();
        let time = |micros| text::format(&Value::TimestampTz(micros));
        match &header.base {
            None => writeln!(out, "snapshot {}, full", header.id)?,
            Some(base) => writeln!(out, "snapshot {}, based on {base}", header.id)?,
        }
        writeln!(
            out,
            "made {}; log entry {index} of term {}, last commit {}",
            time(header.created_micros),
            term.0,
            time(header.list.stamp().micros())
        )?;
        let files = header.list.files().len();
        writeln!(out, "{} of {files} files are in it", header.stored.len())?;
        let Some(restored) = &self.restored else {
            return writeln!(
                out,
                "no damage in this file; a base was not found beside it, so it was not restored"
            );
        };
        for table in &restored.tables {
            let hash = table.hash.map(|hash| hex(&hash)).unwrap_or_default();
            writeln!(
                out,
                "table \"{}\": {} rows, {} versions, content {}",
                table.name,
                table.rows,
                table.versions,
                &hash[..hash.len().min(16)]
            )?;
        }
        for finding in &restored.findings {
            let finding = serde_json::to_value(finding).unwrap_or_default();
            writeln!(out, "{}", check::line_of(&finding))?;
        }
        match restored.findings.len() {
            0 => writeln!(out, "no damage"),
            n => writeln!(out, "findings: {n}"),
        }
    }
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
