//! The log-in's messages, byte by byte: what breaks the protocol, who is nobody, and what may not
//! come before TLS.

use chronos_node::{AuthMode, AuthOptions, Node, NodeOptions};

use super::*;
use crate::tls::{TlsFiles, TlsPolicy, TlsServer};

const SSL_REQUEST: u32 = 80_877_103;

/// A session of a node that asks everybody, and has no users.
fn asking_session() -> Session {
    let options = NodeOptions {
        auth: AuthOptions {
            mode: AuthMode::Required,
            ..AuthOptions::default()
        },
        ..NodeOptions::new("/node")
    };
    let node = Node::open(Env::simulated(1), &options);
    node.expect("a node on a simulated machine").session()
}

/// A client that has been asked who it is.
async fn asked(server: &Server) -> Client {
    let mut client = server.connect();
    client.send(&startup_packet(3 << 16, USER)).await;
    let question = client.reply().await.expect("a question");
    assert_eq!((question.tag, question.u32_at(0)), (b'R', 10));
    assert_eq!(&question.body[4..], b"SCRAM-SHA-256\0\0");
    client
}

fn initial(mechanism: &str, data: &str) -> Vec<u8> {
    let length = (data.len() as u32).to_be_bytes();
    let body = [mechanism.as_bytes(), b"\0", &length, data.as_bytes()].concat();
    frame(b'p', &body)
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection() {
    let endless = [&b"p"[..], &100_000_u32.to_be_bytes()].concat();
    for message in [
        initial("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=x"),
        initial("PLAIN", "\0ada\0x"),
        initial("SCRAM-SHA-256", "nonsense"),
        initial("SCRAM-SHA-256", "p=tls-unique,,n=,r=x"),
        frame(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff"),
        frame(b'p', b"SCRAM-SHA-256"),
        frame(b'p', b""),
        frame(b'Q', b"SELECT 1\0"),
        endless,
    ] {
        let server = Server::of(asking_session, options());
        let mut client = asked(&server).await;
        client.send(&message).await;
        assert_eq!(client.fatal().await, "08P01", "{message:?}");
        assert_eq!(server.options.stats.logins_failed.get(), 1);
    }
}

#[tokio::test]
async fn nobody_goes_the_same_way_to_the_end() {
    let server = Server::of(asking_session, options());
    let mut salts = Vec::new();
    for _ in 0..2 {
        let mut client = asked(&server).await;
        client.send(&initial("SCRAM-SHA-256", "n,,n=,r=mine")).await;
        let challenge = client.reply().await.expect("a challenge");
        assert_eq!((challenge.tag, challenge.u32_at(0)), (b'R', 11));
        let challenge = String::from_utf8(challenge.body[4..].to_vec()).unwrap();
        let (nonce, rest) = challenge.split_once(",s=").unwrap();
        assert!(
            nonce.starts_with("r=mine") && rest.ends_with(",i=4096"),
            "{challenge}"
        );
        let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let last = format!("c=biws,{nonce},p={proof}");
        client.send(&frame(b'p', last.as_bytes())).await;
        assert_eq!(client.fatal().await, "28P01");
        salts.push(rest.len());
    }
    assert_eq!(salts[0], salts[1]);
}

fn with_tls(policy: TlsPolicy) -> Server {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        certificates: key.cert.pem().into_bytes(),
        key: key.signing_key.serialize_pem().into_bytes(),
        client_authorities: None,
        domain: None,
    };
    let tls = TlsServer::new(&files, policy).unwrap();
    Server::new(PgOptions {
        tls: Some(Arc::new(tls)),
        ..options()
    })
}

#[tokio::test]
async fn nothing_is_taken_that_was_sent_before_tls() {
    let server = with_tls(TlsPolicy::Allow);
    let mut client = server.connect();
    let request = untagged(&SSL_REQUEST.to_be_bytes());
    client
        .send(&[request, startup_packet(3 << 16, USER)].concat())
        .await;
    assert_eq!(client.fatal().await, "08P01");
}

#[tokio::test]
async fn who_must_use_tls_is_told_so() {
    let server = with_tls(TlsPolicy::Require);
    let mut client = server.connect();
    client.send(&startup_packet(3 << 16, USER)).await;
    assert_eq!(client.fatal().await, "28000");
    // These come from this machine.
    let server = with_tls(TlsPolicy::RequireRemote);
    server.session().await.closed().await;
}

#[tokio::test]
async fn a_handshake_that_fails_ends_without_a_panic() {
    let server = with_tls(TlsPolicy::Require);
    for bytes in [
        &b"\x16\x03\x01\x00\x05nonsense"[..],
        b"\x16",
        b"\x16\x03\x01\xff\xff",
    ] {
        let mut client = server.connect();
        client.send(bytes).await;
        client.closed().await;
    }
    assert_eq!(server.options.stats.panics.get(), 0);
}
