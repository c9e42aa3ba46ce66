//! Bytes that make no sense: a connection may refuse them, but neither panic nor hang.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Sends `bytes`, leaves, and sees the connection end without a panic.
fn survives(bytes: &[u8], after_startup: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Server::new(options());
        let client = if after_startup {
            server.session().await
        } else {
            server.connect()
        };
        let (mut from_server, mut to_server) = tokio::io::split(client.stream);
        let reader = tokio::spawn(async move {
            let mut sink = Vec::new();
            let _ = from_server.read_to_end(&mut sink).await;
        });
        // The server may close before it has read everything.
        let _ = in_time(to_server.write_all(bytes)).await;
        let _ = in_time(to_server.shutdown()).await;
        in_time(client.task).await.expect("the connection panicked");
        in_time(reader).await.unwrap();
        assert_eq!(server.options.stats.panics.get(), 0, "{bytes:?}");
    });
}

/// Frames that are well formed but for their bodies.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let tag = proptest::sample::select(&b"QPBDECHSXdcfFp?"[..]);
    let body = prop_oneof![
        vec(any::<u8>(), 0..40),
        vec(0_u8..4, 0..40),
        Just(b"\0SELECT 1\0\0\0".to_vec()),
        Just(b"\0\0\0\0\0\0\0\0".to_vec()),
        Just(b"S\0".to_vec()),
    ];
    vec((tag, body), 0..20).prop_map(|frames| {
        let frames = frames.iter().map(|(tag, body)| frame(*tag, body));
        frames.collect::<Vec<_>>().concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn instead_of_a_start_up_packet(bytes in vec(any::<u8>(), 0..200)) {
        survives(&bytes, false);
    }

    #[test]
    fn within_a_start_up_packet(body in vec(any::<u8>(), 0..60)) {
        let packet = untagged(&[&[0, 3, 0, 0][..], &body].concat());
        survives(&packet, false);
    }

    #[test]
    fn instead_of_messages(bytes in vec(any::<u8>(), 0..200)) {
        survives(&bytes, true);
    }

    #[test]
    fn within_messages(bytes in frames()) {
        survives(&bytes, true);
    }
}
