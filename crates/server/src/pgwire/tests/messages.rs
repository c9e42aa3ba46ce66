//! Messages after start-up that need no statement to run: errors and what follows them,
//! names that do not exist, limits.

use super::*;

const SYNC: &[u8] = b"S\0\0\0\x04";

#[tokio::test]
async fn frames_out_of_step_end_the_connection() {
    let oversized = [b"Q", &100_001_u32.to_be_bytes()[..]].concat();
    let oversized_small = [b"S", &10_001_u32.to_be_bytes()[..]].concat();
    let cases = [
        (b"Q\0\0\0\x03".to_vec(), "08P01"),
        (b"Q\xff\xff\xff\xff".to_vec(), "54000"),
        (oversized, "54000"),
        (oversized_small, "54000"),
        (b"!".to_vec(), "08P01"),
        (frame(b'p', b"secret\0"), "08P01"),
        (startup_packet(3 << 16, USER), "08P01"),
    ];
    for (bytes, code) in cases {
        let server = Server::new(options());
        let mut client = server.session().await;
        client.send(&bytes).await;
        assert_eq!(client.fatal().await, code, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_client_in_the_midst_of_sending_can_read_why_it_was_refused() {
    let server = Server::new(options());
    let mut client = server.session().await;
    client.send(b"Q\x7f\0\0\0").await;
    // More than the stream holds: the server must still read, or this fails.
    client.send(&[b'x'; 100_000]).await;
    assert_eq!(client.fatal().await, "54000");
}

#[tokio::test]
async fn bad_bodies_are_errors_of_their_batch_only() {
    let server = Server::new(options());
    let mut client = server.session().await;
    let cases: [(u8, &[u8], &str); 6] = [
        (b'B', b"\0\0\0\x01", "08P01"),
        (b'P', b"s\0SELECT", "08P01"),
        (b'E', b"\0\0\0", "08P01"),
        (b'D', b"?x\0", "08P01"),
        (b'C', b"S\xff\0", "22021"),
        (b'S', b"x", "08P01"),
    ];
    for (tag, body, code) in cases {
        let ignored = frame(b'C', b"Sx\0");
        client
            .send(&[&frame(tag, body)[..], &ignored, SYNC].concat())
            .await;
        let replies = client.cycle().await;
        assert_eq!(tags(&replies), "EZ", "{}", char::from(tag));
        assert_eq!(replies[0].error(), ("ERROR", code));
    }
}

#[tokio::test]
async fn a_bad_query_ends_its_own_cycle() {
    let server = Server::new(options());
    let mut client = server.session().await;
    client.send(&frame(b'Q', b"SELECT '\xff'\0")).await;
    let replies = client.cycle().await;
    assert_eq!(tags(&replies), "EZ");
    assert_eq!(replies[0].error(), ("ERROR", "22021"));
    client.send(&frame(b'F', b"\0\0\0\0")).await;
    let replies = client.cycle().await;
    assert_eq!(replies[0].error(), ("ERROR", "0A000"));
    // Neither left the connection skipping.
    client.send(&frame(b'C', b"Sx\0")).await;
    client.send(SYNC).await;
    assert_eq!(tags(&client.cycle().await), "3Z");
}

#[tokio::test]
async fn after_an_error_everything_is_skipped_until_sync() {
    let server = Server::new(options());
    let mut client = server.session().await;
    let batch = [
        frame(b'C', b"Snone\0"),
        frame(b'E', b"none\0\0\0\0\0"),
        frame(b'C', b"Snone\0"),
        frame(b'Q', b"SELECT 1\0"),
        frame(b'B', b"garbage"),
        SYNC.to_vec(),
        frame(b'C', b"Pnone\0"),
        SYNC.to_vec(),
    ];
    client.send(&batch.concat()).await;
    let replies = client.cycle().await;
    assert_eq!(tags(&replies), "3EZ");
    assert_eq!(replies[1].error(), ("ERROR", "34000"));
    assert_eq!(tags(&client.cycle().await), "3Z");
}

#[tokio::test]
async fn names_that_do_not_exist() {
    let server = Server::new(options());
    let mut client = server.session().await;
    let cases: [(u8, &[u8], &str); 6] = [
        (b'D', b"Sx\0", "26000"),
        (b'D', b"S\0", "26000"),
        (b'D', b"Px\0", "34000"),
        (b'E', b"\0\0\0\0\0", "34000"),
        (b'B', b"\0x\0\0\0\0\0\0\0", "26000"),
        // A parameter type that does not exist: 12345.
        (b'P', b"s\0SELECT $1\0\0\x01\0\0\x30\x39", "42704"),
    ];
    for (tag, body, code) in cases {
        client.send(&[&frame(tag, body)[..], SYNC].concat()).await;
        let replies = client.cycle().await;
        assert_eq!(tags(&replies), "EZ");
        assert_eq!(replies[0].error(), ("ERROR", code));
    }
}

#[tokio::test]
async fn stray_copy_messages_are_ignored() {
    let server = Server::new(options());
    let mut client = server.session().await;
    let stray = [
        frame(b'd', b"1\t2\n"),
        frame(b'c', b""),
        frame(b'f', b"no\0"),
        SYNC.to_vec(),
    ];
    client.send(&stray.concat()).await;
    assert_eq!(tags(&client.cycle().await), "Z");
}

#[tokio::test]
async fn a_batch_is_answered_in_one_write_and_flush_in_another() {
    let server = Server::new(options());
    let stats = &server.options.stats;
    let mut client = server.session().await;
    let before = stats.writes.get();
    let batch = [frame(b'C', b"Sx\0").repeat(100), SYNC.to_vec()].concat();
    client.send(&batch).await;
    assert_eq!(client.cycle().await.len(), 101);
    assert_eq!(stats.writes.get() - before, 1);
    // Flush brings the replies before Sync comes.
    client
        .send(&[frame(b'C', b"Sx\0"), frame(b'H', b"")].concat())
        .await;
    assert_eq!(client.reply().await.unwrap().tag, b'3');
    assert_eq!(stats.writes.get() - before, 2);
    assert_eq!(stats.other_messages.get(), 103);
}

#[tokio::test]
async fn terminate_ends_without_a_word() {
    let server = Server::new(options());
    let mut client = server.session().await;
    client.send(&frame(b'X', b"")).await;
    assert!(client.reply().await.is_none());
    in_time(client.task).await.unwrap();
}

#[tokio::test]
async fn messages_may_come_byte_by_byte() {
    let server = Server::new(options());
    let mut client = server.session().await;
    for byte in [frame(b'C', b"Sx\0"), SYNC.to_vec()].concat() {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(tags(&client.cycle().await), "3Z");
}
