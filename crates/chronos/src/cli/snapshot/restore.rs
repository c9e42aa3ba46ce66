//! `chronos snapshot restore`.

use std::io::{self, Write as _};

use chronos_env::Env;
use chronos_model::{text, Value};
use chronos_node::cluster::NodeIdentity;
use chronos_node::restore_archive;

use super::archives::Archives;
use super::{failed, SnapshotRestoreArgs};
use crate::cli::error::CliError;
use crate::cli::progress;

pub(in crate::cli) async fn restore(args: SnapshotRestoreArgs, env: Env) -> Result<(), CliError> {
    let restored = tokio::task::spawn_blocking(move || blocking(&args, &env));
    restored
        .await
        .map_err(|e| CliError::Failed(e.to_string()))?
}

fn blocking(args: &SnapshotRestoreArgs, env: &Env) -> Result<(), CliError> {
    let identity = identity(args, env)?;
    let archives = Archives::find(&args.files)?;
    let bar = progress::of_bytes();
    let told = &mut |bytes, total| {
        bar.set_length(total);
        bar.set_position(bytes);
    };
    let open = |id: &str| archives.open(id);
    let restored = restore_archive(
        env,
        &archives.chain,
        &args.data_dir,
        identity.as_ref(),
        open,
        told,
    );
    bar.finish_and_clear();
    restored.map_err(|e| failed(archives.file(), &e))?;
    let list = &archives.chain.headers()[0].list;
    let at = text::format(&Value::TimestampTz(list.stamp().micros()));
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}: restored as of log entry {}, last commit {at}",
        args.data_dir.display(),
        list.applied().1
    )?;
    if let Some(identity) = identity {
        writeln!(
            out,
            "It begins the cluster {} when it is started: chronos node --id {} --address HOST:PORT --data-dir {}",
            identity.cluster_id,
            identity.name,
            args.data_dir.display()
        )?;
    }
    Ok(())
}

/// Whose the directory will be; `None`: nobody's yet.
fn identity(args: &SnapshotRestoreArgs, env: &Env) -> Result<Option<NodeIdentity>, CliError> {
    let Some(name) = &args.id else {
        return Ok(None);
    };
    NodeIdentity::first_of_cluster(name, args.cluster_id.as_deref(), env)
        .map(Some)
        .map_err(|e| CliError::Usage(e.to_string()))
}
