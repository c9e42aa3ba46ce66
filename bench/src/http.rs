//! A lean HTTP/1.1 client: POST over one kept connection, replies by Content-Length.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::error::Result;

/// Longest reply that is read.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// A kept connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    request: Vec<u8>,
}

/// Reads `http://host:port`.
pub(crate) fn address(url: &str) -> Result<SocketAddr> {
    let bad = || format!("{url} is not http://host:port");
    let place = url.strip_prefix("http://").ok_or_else(bad)?;
    let place = place.split('/').next().unwrap_or(place);
    let found = place
        .to_socket_addrs()
        .map_err(|error| format!("{url}: {error}"))?
        .next();
    found.ok_or_else(|| bad().into())
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        Ok(Connection {
            stream,
            input: Vec::new(),
            request: Vec::new(),
        })
    }

    /// Posts JSON; returns the body of a reply with status 200, anything else is an error.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Result<String> {
        self.request.clear();
        write!(
            self.request,
            "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        self.request.extend_from_slice(body);
        self.answer()
    }

    /// Gets a page; returns its body.
    pub(crate) fn get(&mut self, path: &str) -> Result<String> {
        self.request.clear();
        write!(self.request, "GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        self.answer()
    }

    /// Sends the request and takes the answer.
    fn answer(&mut self) -> Result<String> {
        self.stream.write_all(&self.request)?;
        self.input.clear();
        let head_end = loop {
            if let Some(at) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head = String::from_utf8_lossy(&self.input[..head_end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = match length.map(|text| text.trim().parse()) {
            Some(Ok(length)) if length <= REPLY_BYTES_MAX => length,
            _ => {
                return Err(format!("a reply without a usable Content-Length: {:.80}", head).into())
            }
        };
        while self.input.len() < head_end + length {
            self.fill()?;
        }
        let text = String::from_utf8_lossy(&self.input[head_end..head_end + length]).into_owned();
        match head.split(' ').nth(1) {
            Some("200") => Ok(text),
            status => Err(format!("HTTP {}: {text:.200}", status.unwrap_or("?")).into()),
        }
    }

    fn fill(&mut self) -> Result<()> {
        let mut bytes = [0; 8192];
        match self.stream.read(&mut bytes)? {
            0 => Err("the server closed the HTTP connection".into()),
            read => {
                self.input.extend_from_slice(&bytes[..read]);
                Ok(())
            }
        }
    }
}
