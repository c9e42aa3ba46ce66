//! A lean client of PostgreSQL's protocol 3: what a benchmark needs and nothing else.
//!
//! One connection is a socket and two buffers. A request is one write, a reply is scanned in
//! the read buffer without copying it, because on a small machine every microsecond spent
//! here is taken from the server, and would make all servers look alike. It refuses TLS and
//! passwords: it speaks to loopback.

mod drive;
mod message;
mod target;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::data::Chunk;
use crate::error::{Error, Result};
use message::Reply;

pub(crate) use drive::{run_load, run_load_at};
pub(crate) use target::Target;

/// Longest wait for one reply: a COPY or a scan on a slow machine.
const REPLY_WITHIN: Duration = Duration::from_secs(300);

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// One connection, ready for a statement unless a method says otherwise.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Read, not yet scanned: the first `held` bytes.
    input: Vec<u8>,
    held: usize,
    output: Vec<u8>,
}

impl Connection {
    /// Connects and waits until the server is ready.
    pub(crate) fn open(target: &Target) -> Result<Connection> {
        let stream = TcpStream::connect_timeout(&target.address, Duration::from_secs(10))
            .map_err(|error| format!("cannot connect to {}: {error}", target.address))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_WITHIN))?;
        stream.set_write_timeout(Some(REPLY_WITHIN))?;
        let mut connection = Connection {
            stream,
            input: vec![0; READ_BYTES],
            held: 0,
            output: Vec::new(),
        };
        message::startup(&mut connection.output, &target.user, &target.database);
        connection.send()?;
        connection.finish(&mut Reply::default())?;
        Ok(connection)
    }

    /// Runs a statement by the simple protocol; rows and their values are kept as text.
    pub(crate) fn query(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        let mut reply = Reply {
            rows: Some(Vec::new()),
            ..Reply::default()
        };
        message::query(&mut self.output, sql);
        self.send()?;
        self.finish(&mut reply)
            .map_err(|error| Error::from(format!("{error} (in: {sql:.120})")))?;
        Ok(reply.rows.unwrap_or_default())
    }

    /// Prepares the statement that [`message::execute`] runs.
    fn prepare(&mut self, sql: &str) -> Result<()> {
        message::prepare(&mut self.output, sql);
        self.send()?;
        self.finish(&mut Reply::default())
            .map_err(|error| Error::from(format!("{error} (preparing: {sql:.120})")))
    }

    /// Sends a chunk's rows; from the statement's sending until the server has committed.
    pub(crate) fn copy(&mut self, sql: &str, chunk: &Chunk) -> Result<Duration> {
        let start = Instant::now();
        message::query(&mut self.output, sql);
        self.send()?;
        let mut reply = Reply::default();
        while !reply.copying {
            if self.scan(&mut reply)? {
                return Err(reply
                    .error
                    .unwrap_or_else(|| "COPY was not begun".to_owned())
                    .into());
            }
            if !reply.copying {
                self.wait()?;
            }
        }
        self.stream
            .write_all(&chunk.messages)
            .map_err(|error| format!("COPY broke off: {error}"))?;
        message::copy_done(&mut self.output);
        self.send()?;
        self.finish(&mut reply)?;
        if reply.affected != chunk.rows {
            return Err(format!("COPY stored {} of {} rows", reply.affected, chunk.rows).into());
        }
        Ok(start.elapsed())
    }

    /// Writes what was put into the output buffer.
    fn send(&mut self) -> Result<()> {
        self.stream
            .write_all(&self.output)
            .map_err(|error| format!("cannot send: {error}"))?;
        self.output.clear();
        Ok(())
    }

    /// Reads until the server is ready again.
    fn finish(&mut self, reply: &mut Reply) -> Result<()> {
        while !self.scan(reply)? {
            if let Err(error) = self.wait() {
                // A server that turns somebody away says why before it hangs up.
                return Err(reply.error.take().map_or(error, Error::from));
            }
        }
        match reply.error.take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Takes whole messages out of the input buffer; true once the server is ready.
    fn scan(&mut self, reply: &mut Reply) -> Result<bool> {
        let (used, ready) = message::scan(&self.input[..self.held], reply)?;
        self.input.copy_within(used..self.held, 0);
        self.held -= used;
        Ok(ready)
    }

    /// Reads once, waiting for it.
    fn wait(&mut self) -> Result<()> {
        match self.fill()? {
            true => Ok(()),
            false => Err(format!("no reply within {REPLY_WITHIN:?}").into()),
        }
    }

    /// Reads once. False: nothing is there, or nothing came in time.
    fn fill(&mut self) -> Result<bool> {
        if self.held == self.input.len() {
            self.input.resize(2 * self.held, 0);
        }
        match self.stream.read(&mut self.input[self.held..]) {
            Ok(0) => Err("the server closed the connection".into()),
            Ok(read) => {
                self.held += read;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(format!("no reply: {error}").into()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Terminate; the server may be gone.
        let _ = self.stream.write_all(&[b'X', 0, 0, 0, 4]);
    }
}
