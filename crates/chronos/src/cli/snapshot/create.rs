//! `chronos snapshot create`.
//!
//! Whatever comes, from a node or from a directory, is read as an archive while it is written, so
//! that nothing gets the file's name that could not be restored.

use std::io::{self, Read, Write};
use std::path::Path;

use bytes::Bytes;
use chronos_env::Env;
use chronos_model::{text, SqlState, Value};
use chronos_node::{ArchiveBase, ArchiveHeader, ArchiveReader, Node, NodeOptions};
use indicatif::HumanBytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::{archives, failed, SnapshotCreateArgs};
use crate::cli::error::CliError;
use crate::cli::files::NewFile;
use crate::cli::http::Client;
use crate::cli::progress;
use crate::cli::values::HttpUrl;

/// Pieces of the node's answer that wait to be written.
const PIECES_WAITING: usize = 16;

pub(in crate::cli) async fn create(args: SnapshotCreateArgs, env: Env) -> Result<(), CliError> {
    let base = match &args.base {
        Some(file) => Some(archives::header(file)?.as_base()),
        None => None,
    };
    let file = NewFile::begin(&args.output)?;
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    let output = args.output.clone();
    let written = tokio::task::spawn_blocking(move || {
        let stream = Stream {
            pieces: receiver,
            current: Bytes::new(),
        };
        write(stream, file, &output)
    });
    let sent = match args.data_dir.clone() {
        Some(dir) => tokio::task::spawn_blocking(move || offline(env, &dir, base, sender))
            .await
            .map_err(|e| CliError::Failed(e.to_string()))?,
        None => {
            let client = Client::of(&args.login)?;
            online(&client, &args.url, base, sender).await
        }
    };
    let written = written.await.map_err(|e| CliError::Failed(e.to_string()))?;
    // Why nothing more came explains best why there is no archive.
    sent?;
    let (header, bytes) = written?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", summary(&args.output, &header, bytes))?;
    Ok(())
}

/// `monday.chronos: log entry 17, last commit 2026-03-01 12:00:00+00; 12 of 14 files, 3.1 MiB in 2.9 MiB`
fn summary(file: &Path, header: &ArchiveHeader, bytes: u64) -> String {
    let list = &header.list;
    let at = text::format(&Value::TimestampTz(list.stamp().micros()));
    format!(
        "{}: log entry {}, last commit {at}; {} of {} files, {} in {}",
        file.display(),
        list.applied().1,
        header.stored.len(),
        list.files().len(),
        HumanBytes(header.stored_bytes()),
        HumanBytes(bytes)
    )
}

/// Asks a node for an archive and hands on what comes.
async fn online(
    client: &Client,
    url: &HttpUrl,
    base: Option<ArchiveBase>,
    sender: mpsc::Sender<Bytes>,
) -> Result<(), CliError> {
    let body = match base {
        Some(base) => Bytes::from(json!({ "base": base }).to_string()),
        None => Bytes::new(),
    };
    let uri = url.path("/admin/snapshot")?;
    let stream = client.post_for_stream(&uri, body).await;
    let mut stream = stream.map_err(|reason| url.unreachable(reason))?;
    if let Some(error) = stream.error().await.map_err(CliError::Lost)? {
        return Err(CliError::Usage(format!("{url} makes no snapshot: {error}")));
    }
    while let Some(piece) = stream.next().await.map_err(CliError::Lost)? {
        if sender.send(piece).await.is_err() {
            // The writer knows why.
            return Ok(());
        }
    }
    Ok(())
}

/// Opens a directory as a node does, which brings what is in its log to its segments.
fn offline(
    env: Env,
    dir: &Path,
    base: Option<ArchiveBase>,
    sender: mpsc::Sender<Bytes>,
) -> Result<(), CliError> {
    if !env.disk.exists(&dir.join("store")).unwrap_or(false) {
        let text = format!("there is no database in {}", dir.display());
        return Err(CliError::Usage(text));
    }
    let refused = |e: chronos_node::Error| match e.code {
        SqlState::OBJECT_IN_USE => {
            CliError::Usage(format!("{e}\nA node that works on it is asked by --url."))
        }
        _ => CliError::Failed(e.to_string()),
    };
    let node = Node::open(env, &NodeOptions::new(dir)).map_err(refused)?;
    let archived = (|| {
        let archiving = node.begin_archive(base.as_ref())?;
        let mut out = io::BufWriter::with_capacity(1 << 20, Records(sender));
        archiving.write_to(&mut out)?;
        Ok::<_, chronos_node::Error>(())
    })();
    let closed = node.close();
    archived.and(closed).map_err(refused)
}

/// Hands records on to whoever writes the file.
struct Records(mpsc::Sender<Bytes>);

impl Write for Records {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(record));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What comes, as it comes.
struct Stream {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// Writes what is read, and remembers why it could not.
struct Tee<'a> {
    from: Stream,
    to: &'a mut NewFile,
    failure: &'a mut Option<io::Error>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        if let Err(error) = self.to.write_all(&buffer[..count]) {
            let kind = error.kind();
            *self.failure = Some(error);
            return Err(kind.into());
        }
        Ok(count)
    }
}

/// Checks an archive while it is written; gives its header and its length.
fn write(
    stream: Stream,
    mut file: NewFile,
    output: &Path,
) -> Result<(ArchiveHeader, u64), CliError> {
    let mut failure = None;
    let read = read(Tee {
        from: stream,
        to: &mut file,
        failure: &mut failure,
    });
    if let Some(source) = failure {
        return Err(CliError::File {
            action: "write",
            name: output.display().to_string(),
            source,
        });
    }
    let read = read.map_err(|e| failed(output, &e))?;
    file.publish()?;
    Ok(read)
}

fn read(from: Tee<'_>) -> Result<(ArchiveHeader, u64), chronos_node::ArchiveError> {
    let bar = progress::of_bytes();
    let mut reader = ArchiveReader::open(from)?;
    bar.set_length(reader.header().stored_bytes());
    while let Some(piece) = reader.next_piece()? {
        bar.inc(piece.bytes.len() as u64);
    }
    bar.finish_and_clear();
    Ok((reader.header().clone(), reader.offset()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_read_in_any_pieces() {
        let (sender, pieces) = mpsc::channel(8);
        for piece in ["a", "", "bcd", "ef"] {
            sender.blocking_send(Bytes::from(piece)).unwrap();
        }
        drop(sender);
        let mut stream = Stream {
            pieces,
            current: Bytes::new(),
        };
        let mut two = [0; 2];
        stream.read_exact(&mut two).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!((&two, &*rest), (b"ab", "cdef"));
    }
}
