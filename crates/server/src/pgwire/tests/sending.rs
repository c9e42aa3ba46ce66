//! Results on their way out, and statements whose client vanishes.

use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{Schema, SchemaRef};
use chronos_model::{DataType, SqlState, Value};
use chronos_node::{CommandTag, CopyFormat, CopyOptions, CopyOut, Error, RowData, Rows};
use futures::StreamExt;

use super::*;
use crate::pgwire::cancel::Interrupt;
use crate::pgwire::connection::Connection;
use crate::pgwire::extended::ResultFormats;
use crate::pgwire::failure::Failure;
use crate::pgwire::format::FieldFormat;
use crate::pgwire::rows::{Cursor, Progress};
use crate::pgwire::wire::Wire;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![DataType::Int8.to_field("n", false)]))
}

fn batch(rows: i64) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    RecordBatch::try_new(schema(), vec![column]).unwrap()
}

fn cursor(data: RowData) -> Cursor {
    let tag = CommandTag {
        verb: "SELECT",
        rows: None,
    };
    let rows = Rows {
        schema: schema(),
        data,
        tag,
    };
    let text = ResultFormats::All(FieldFormat::Text);
    Cursor::new(rows, None, text)
}

fn interrupt() -> Arc<Interrupt> {
    Interrupt::new(session().cancel_handle())
}

fn wire(stream: DuplexStream) -> Wire<DuplexStream> {
    Wire::new(stream, 1_000_000, Arc::default())
}

fn selected(rows: u64) -> Progress {
    Progress::Complete(CommandTag {
        verb: "SELECT",
        rows: Some(rows),
    })
}

#[tokio::test]
async fn a_portal_is_resumed_where_it_stopped() {
    let rows = |n: i64| (0..n).map(|i| vec![Value::Int8(i)]).collect();
    let values = RowData::Values(rows(5));
    let empty = batch(0);
    let batches = [Ok(empty.clone()), Ok(batch(3)), Ok(empty), Ok(batch(2))];
    let batches = RowData::Batches(futures::stream::iter(batches).boxed());
    for data in [values, batches] {
        let (mut client, theirs) = duplex(100_000);
        let mut wire = wire(theirs);
        let mut cursor = cursor(data);
        let interrupt = interrupt();
        let mut progress = Vec::new();
        for rows_max in [Some(2), Some(3), Some(2), Some(2)] {
            progress.push(cursor.send(&mut wire, &interrupt, rows_max).await.unwrap());
        }
        let expected = [
            Progress::Suspended,
            Progress::Suspended,
            selected(0),
            selected(0),
        ];
        assert_eq!(progress, expected);
        in_time(wire.close()).await.unwrap();
        let mut sent = Vec::new();
        in_time(client.read_to_end(&mut sent)).await.unwrap();
        let mut rest = &sent[..];
        let mut rows = 0;
        while let [b'D', length @ ..] = rest {
            let length = u32::from_be_bytes(*length.first_chunk().unwrap()) as usize;
            rest = &rest[1 + length..];
            rows += 1;
        }
        assert_eq!((rows, rest.len()), (5, 0));
    }
}

#[tokio::test]
async fn a_large_result_is_not_buffered() {
    const BATCHES: usize = 200;
    const BATCH_ROWS: i64 = 4_096;
    let produced = Arc::new(AtomicU64::new(0));
    let counter = produced.clone();
    let batches = futures::stream::iter(0..BATCHES)
        .map(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            batch(BATCH_ROWS)
        })
        .map(Ok);
    let (mut client, theirs) = duplex(4_096);
    let mut wire = wire(theirs);
    let sending = tokio::spawn(async move {
        let mut cursor = cursor(RowData::Batches(batches.boxed()));
        let progress = cursor.send(&mut wire, &interrupt(), None).await.unwrap();
        let capacity = wire.output.capacity();
        in_time(wire.close()).await.unwrap();
        (progress, capacity)
    });
    // A client that has read little has not made the query run far ahead.
    let mut piece = vec![0; 4_096];
    in_time(client.read_exact(&mut piece)).await.unwrap();
    assert!(produced.load(Ordering::SeqCst) <= 4);
    let mut rest = Vec::new();
    in_time(client.read_to_end(&mut rest)).await.unwrap();
    let (progress, capacity) = in_time(sending).await.unwrap();
    assert_eq!(progress, selected(BATCHES as u64 * BATCH_ROWS as u64));
    assert!(capacity <= 512 * 1024, "{capacity} bytes of output buffer");
}

#[tokio::test]
async fn an_error_between_rows_leaves_whole_messages() {
    let failure = Error::new(SqlState::DIVISION_BY_ZERO, "division by zero");
    let batches = [Ok(batch(1)), Err(failure)];
    let (_client, theirs) = duplex(4_096);
    let mut wire = wire(theirs);
    let mut cursor = cursor(RowData::Batches(futures::stream::iter(batches).boxed()));
    let failed = cursor.send(&mut wire, &interrupt(), None).await;
    let Err(Failure::Statement(error)) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(error.code, SqlState::DIVISION_BY_ZERO);
    let length = u32::from_be_bytes(*wire.output[1..].first_chunk().unwrap()) as usize;
    assert_eq!(wire.output.len(), 1 + length);
}

/// A connection past start-up whose client has nothing to say.
fn connection(wire: &mut Wire<DuplexStream>) -> Connection<'_, DuplexStream> {
    let shutdown = CancellationToken::new();
    Connection::new(wire, session(), interrupt(), shutdown, None)
}

fn copy_out(batches: Vec<Result<RecordBatch, Error>>) -> CopyOut {
    CopyOut {
        schema: schema(),
        options: CopyOptions {
            format: CopyFormat::Csv,
            delimiter: b',',
            null: String::new(),
            header: true,
            quote: b'"',
            escape: b'"',
        },
        batches: futures::stream::iter(batches).boxed(),
    }
}

#[tokio::test]
async fn copy_out_sends_data_and_counts_rows() {
    let (mut client, theirs) = duplex(100_000);
    let mut wire = wire(theirs);
    let copy = copy_out(vec![Ok(batch(1)), Ok(batch(2))]);
    connection(&mut wire).copy_out(copy).await.unwrap();
    in_time(wire.close()).await.unwrap();
    let mut sent = Vec::new();
    in_time(client.read_to_end(&mut sent)).await.unwrap();
    let expected = [
        frame(b'H', &[0, 0, 1, 0, 0]),
        frame(b'd', b"n\n"),
        frame(b'd', b"0\n"),
        frame(b'd', b"0\n"),
        frame(b'd', b"1\n"),
        frame(b'c', b""),
        frame(b'C', b"COPY 3\0"),
    ];
    assert_eq!(sent, expected.concat());
}

#[tokio::test]
async fn a_failed_copy_out_is_not_done() {
    let (_client, theirs) = duplex(100_000);
    let mut wire = wire(theirs);
    let failure = Error::new(SqlState::QUERY_CANCELED, "cancelled");
    let copy = copy_out(vec![Ok(batch(1)), Err(failure)]);
    let failed = connection(&mut wire).copy_out(copy).await;
    assert!(matches!(failed, Err(Failure::Statement(_))));
    assert!(wire.output.ends_with(&frame(b'd', b"0\n")));
}

#[tokio::test]
async fn a_statement_whose_client_vanishes_is_cancelled() {
    let (client, theirs) = duplex(4_096);
    let mut wire = wire(theirs);
    let interrupt = interrupt();
    let cancelled = interrupt.cancelled();
    drop(client);
    // Work that ends only when it is cancelled.
    in_time(wire.watch(&interrupt, cancelled)).await;
    assert!(matches!(in_time(wire.fill()).await, Err(Failure::Closed)));
}

#[tokio::test]
async fn a_client_that_said_all_it_wanted_is_not_cancelled() {
    let (mut client, theirs) = duplex(4_096);
    let mut wire = wire(theirs);
    let interrupt = interrupt();
    let mut cancelled = std::pin::pin!(interrupt.cancelled());
    client.write_all(&frame(b'X', b"")).await.unwrap();
    drop(client);
    let (finish, finished) = tokio::sync::oneshot::channel();
    let polls = AtomicU64::new(0);
    let mut finish = Some(finish);
    let mut finished = std::pin::pin!(finished);
    // Lets the watcher see the message and the end of the stream before it ends.
    let work = std::future::poll_fn(|context| {
        if polls.fetch_add(1, Ordering::SeqCst) == 4 {
            let _ = finish.take().map(|f| f.send(7));
        }
        context.waker().wake_by_ref();
        finished.as_mut().poll(context)
    });
    assert_eq!(in_time(wire.watch(&interrupt, work)).await, Ok(7));
    assert!(futures::poll!(cancelled.as_mut()).is_pending());
    assert_eq!(wire.pop().unwrap().unwrap().tag, b'X');
}

#[tokio::test]
async fn sync_is_seen_behind_what_runs_nothing() {
    let cases: [(&[&[u8]], bool); 5] = [
        (&[b"S\0\0\0\x04"], true),
        (&[b"C\0\0\0\x06S\0", b"H\0\0\0\x04", b"S\0\0\0\x04"], true),
        (&[b"E\0\0\0\x09\0\0\0\0\0", b"S\0\0\0\x04"], false),
        (&[b"C\0\0\0\x06S"], false),
        (&[b"S\0\0"], false),
    ];
    for (frames, expected) in cases {
        let (mut client, theirs) = duplex(4_096);
        let mut wire = wire(theirs);
        client.write_all(&frames.concat()).await.unwrap();
        in_time(wire.fill()).await.unwrap();
        assert_eq!(wire.sync_follows(), expected, "{frames:?}");
    }
}
