//! A node for tests: speaks the server's side of the protocol on a loopback port, with
//! answers that a function decides.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Target;

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Request {
    /// A statement.
    Query(String),
    /// The whole data of a COPY.
    Copy(String),
    /// A COPY was withdrawn, for this reason.
    CopyFailed(String),
    /// The connection was opened to cancel a statement of this process.
    Cancel(i32),
}

/// The process id the node tells its clients.
pub(in crate::cli) const PROCESS_ID: i32 = 77;

/// A running node. It ends with the test's runtime.
pub(in crate::cli) struct FakeNode {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl FakeNode {
    /// Starts a node that answers each query and each COPY's data with what `answer`
    /// makes of it; an empty answer closes the connection.
    pub(in crate::cli) async fn start(
        answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (shared, answer) = (seen.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (seen, answer) = (shared.clone(), answer.clone());
                tokio::spawn(async move {
                    // A client that leaves is the usual end.
                    let _ = serve(socket, &seen, &*answer).await;
                });
            }
        });
        Self { address, seen }
    }

    /// How to reach it.
    pub(in crate::cli) fn target(&self) -> Target {
        Target::parse(&format!(
            "postgres://tester@{}/testdb?sslmode=disable",
            self.address
        ))
        .unwrap()
    }

    /// Everything clients sent so far.
    pub(in crate::cli) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    mut socket: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request) -> Vec<u8> + Send + Sync),
) -> io::Result<()> {
    let length = socket.read_i32().await?;
    let mut startup = vec![0; length as usize - 4];
    socket.read_exact(&mut startup).await?;
    let mut startup = &startup[..];
    if startup.get_i32() == 80_877_102 {
        seen.lock()
            .unwrap()
            .push(Request::Cancel(startup.get_i32()));
        return Ok(());
    }
    let mut hello = message(b'R', &0i32.to_be_bytes());
    hello.extend(message(b'S', b"server_version\x0015.0\0"));
    let mut key = PROCESS_ID.to_be_bytes().to_vec();
    key.extend(99i32.to_be_bytes());
    hello.extend(message(b'K', &key));
    hello.extend(ready(b'I'));
    socket.write_all(&hello).await?;
    let mut copied = String::new();
    loop {
        let tag = socket.read_u8().await?;
        let mut body = vec![0; socket.read_i32().await? as usize - 4];
        socket.read_exact(&mut body).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let request = match tag {
            b'Q' => Request::Query(text.trim_end_matches('\0').to_owned()),
            b'd' => {
                copied.push_str(&text);
                continue;
            }
            b'c' => Request::Copy(std::mem::take(&mut copied)),
            b'f' => Request::CopyFailed(text.trim_end_matches('\0').to_owned()),
            _ => return Ok(()),
        };
        seen.lock().unwrap().push(request.clone());
        let reply = answer(&request);
        if reply.is_empty() {
            return Ok(());
        }
        socket.write_all(&reply).await?;
    }
}

/// A message: tag, length, body.
pub(in crate::cli) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    bytes.put_u8(tag);
    bytes.put_i32(body.len() as i32 + 4);
    bytes.put_slice(body);
    bytes.to_vec()
}

/// ReadyForQuery in this transaction state.
pub(in crate::cli) fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

/// A command that is done.
pub(in crate::cli) fn complete(tag: &str) -> Vec<u8> {
    [message(b'C', format!("{tag}\0").as_bytes()), ready(b'I')].concat()
}

/// An error, and the session ready again.
pub(in crate::cli) fn error(severity: &str, code: &str, text: &str, context: &str) -> Vec<u8> {
    let fields = format!("V{severity}\0C{code}\0M{text}\0W{context}\0\0");
    [message(b'E', fields.as_bytes()), ready(b'I')].concat()
}

/// A result of one column of this type, not completed yet.
pub(in crate::cli) fn rows(name: &str, type_oid: i32, cells: &[&str]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_i16(1);
    body.put_slice(name.as_bytes());
    body.put_slice(&[0; 7]);
    body.put_i32(type_oid);
    body.put_slice(&[0; 8]);
    let mut bytes = message(b'T', &body);
    for cell in cells {
        let mut body = BytesMut::new();
        body.put_i16(1);
        body.put_i32(cell.len() as i32);
        body.put_slice(cell.as_bytes());
        bytes.extend(message(b'D', &body));
    }
    bytes
}

/// COPY .. FROM STDIN wants its data.
pub(in crate::cli) fn copy_in() -> Vec<u8> {
    message(b'G', &[0, 0, 0])
}
