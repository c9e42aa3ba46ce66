//! Start-up packets: what is declined, refused and agreed upon; and the server's limits.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::pgwire::serve;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

fn cancel_packet(process_id: u32, secret: u32) -> Vec<u8> {
    let words = [CANCEL_REQUEST, process_id, secret];
    untagged(&words.map(u32::to_be_bytes).concat())
}

#[tokio::test]
async fn encryption_is_declined_and_the_client_may_go_on() {
    let server = Server::new(options());
    let mut client = server.connect();
    for request in [SSL_REQUEST, GSS_REQUEST] {
        client.send(&untagged(&request.to_be_bytes())).await;
        assert_eq!(in_time(client.stream.read_u8()).await.unwrap(), b'N');
    }
    client.send(&startup_packet(3 << 16, USER)).await;
    let replies = client.cycle().await;
    assert_eq!(replies[0].tag, b'R');
    assert_eq!(replies[0].u32_at(0), 0);
    assert!(replies.iter().any(|r| r.tag == b'K'));
    assert_eq!(replies.last().unwrap().body, b"I");
    assert_eq!(server.options.stats.connections_open.get(), 1);
    client.closed().await;
    assert_eq!(server.options.stats.connections_open.get(), 0);
    assert_eq!(server.options.stats.connections_total.get(), 1);
}

#[tokio::test]
async fn newer_protocols_are_negotiated_down() {
    let server = Server::new(options());
    let mut client = server.connect();
    let settings: &[(&str, &[u8])] = &[("user", b"ada"), ("_pq_.wish", b"1")];
    client.send(&startup_packet((3 << 16) | 2, settings)).await;
    let replies = client.cycle().await;
    assert_eq!(replies[0].tag, b'v');
    assert_eq!((replies[0].u32_at(0), replies[0].u32_at(4)), (3 << 16, 1));
    assert!(replies[0].body.ends_with(b"_pq_.wish\0"));
    assert_eq!(replies[1].tag, b'R');
}

#[tokio::test]
async fn start_up_packets_that_make_no_sense_are_refused() {
    let invalid_utf8: &[(&str, &[u8])] = &[("user", b"\xff")];
    let replication: &[(&str, &[u8])] = &[("user", b"ada"), ("replication", b"true")];
    let cases = [
        (startup_packet(2 << 16, USER), "0A000"),
        (startup_packet(3 << 16, &[]), "28000"),
        (startup_packet(3 << 16, invalid_utf8), "22021"),
        (startup_packet(3 << 16, replication), "0A000"),
        (untagged(&[0, 3, 0, 0, b'u', b's']), "08P01"),
        (untagged(&[0, 3]), "08P01"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "08P01"),
        (untagged(&[4, 210, 22, 46, 1]), "08P01"),
    ];
    for (packet, code) in cases {
        let server = Server::new(options());
        let mut client = server.connect();
        client.send(&packet).await;
        assert_eq!(client.fatal().await, code, "{packet:?}");
        assert_eq!(server.options.stats.connections_refused.get(), 1);
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_dropped() {
    let server = Server::new(PgOptions {
        startup_timeout: Duration::from_millis(1),
        ..options()
    });
    let mut client = server.connect();
    assert!(client.reply().await.is_none());
    in_time(client.task).await.unwrap();
}

#[tokio::test]
async fn cancelling_needs_the_secret() {
    let server = Server::new(options());
    let client = server.session().await;
    assert_ne!(client.process_id, 0);
    let cases = [
        (client.process_id, client.secret ^ 1, 0),
        (client.process_id + 1, client.secret, 0),
        (client.process_id, client.secret, 1),
    ];
    for (process_id, secret, cancels) in cases {
        let mut other = server.connect();
        other.send(&cancel_packet(process_id, secret)).await;
        assert!(
            other.reply().await.is_none(),
            "a cancel request has no answer"
        );
        in_time(other.task).await.unwrap();
        assert_eq!(server.options.stats.cancels.get(), cancels);
    }
    let (process_id, secret) = (client.process_id, client.secret);
    client.closed().await;
    let mut late = server.connect();
    late.send(&cancel_packet(process_id, secret)).await;
    assert!(late.reply().await.is_none());
    assert_eq!(server.options.stats.cancels.get(), 1);
}

#[tokio::test]
async fn one_session_too_many_is_refused() {
    let server = Server::new(PgOptions {
        max_connections: 1,
        ..options()
    });
    let first = server.session().await;
    let mut second = server.connect();
    second.send(&startup_packet(3 << 16, USER)).await;
    assert_eq!(second.fatal().await, "53300");
    first.closed().await;
    server.session().await.closed().await;
}

#[tokio::test]
async fn a_panic_closes_its_connection_only() {
    static PANICS: AtomicBool = AtomicBool::new(false);
    fn sometimes() -> Session {
        assert!(!PANICS.load(Ordering::Relaxed), "on purpose");
        session()
    }
    let server = Server::of(sometimes, options());
    let mut bystander = server.session().await;
    PANICS.store(true, Ordering::Relaxed);
    let mut client = server.connect();
    client.send(&startup_packet(3 << 16, USER)).await;
    assert_eq!(client.fatal().await, "XX000");
    assert_eq!(server.options.stats.panics.get(), 1);
    bystander.send(&frame(b'S', b"")).await;
    assert_eq!(tags(&bystander.cycle().await), "Z");
}

#[tokio::test]
async fn shutdown_closes_idle_clients_and_refuses_new_ones() {
    let server = Server::new(options());
    let idle = server.session().await;
    let starting = server.connect();
    server.shutdown.cancel();
    assert_eq!(idle.fatal().await, "57P01");
    assert_eq!(starting.fatal().await, "57P03");
}

#[tokio::test]
async fn silence_may_be_limited() {
    let server = Server::new(PgOptions {
        idle_timeout: Some(Duration::from_millis(1)),
        ..options()
    });
    let client = server.session().await;
    assert_eq!(client.fatal().await, "57P05");
}

#[tokio::test]
async fn a_real_driver_connects_and_shutdown_ends_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, session, options(), shutdown.clone()));

    let config = format!("host=127.0.0.1 port={} user=ada", address.port());
    let connected = in_time(tokio_postgres::connect(&config, tokio_postgres::NoTls)).await;
    let (client, connection) = connected.unwrap();
    let connection = tokio::spawn(connection);
    assert!(!client.is_closed());

    shutdown.cancel();
    in_time(server).await.unwrap().unwrap();
    let error = in_time(connection).await.unwrap().unwrap_err();
    assert_eq!(error.code().map(|c| c.code()), Some("57P01"));
    assert!(TcpStream::connect(address).await.is_err());
}
