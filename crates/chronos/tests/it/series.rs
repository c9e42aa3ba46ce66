//! A series of measurements: loaded by COPY, averaged by hour, compared with averages computed here.
//!
//! The real one is `../shared/data/nab/machine_temperature_system_failure.csv`, relative to the
//! repository; where it is not, a generated one of the same shape takes its place.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::NoTls;

use crate::node::{repository, Node};

/// Timestamp (`YYYY-MM-DD hh:mm:ss`) and value, in the file's order.
fn rows() -> Vec<(String, f64)> {
    let file = repository().join("../shared/data/nab/machine_temperature_system_failure.csv");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("no {}: a generated series instead", file.display());
        return generated();
    };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows = reader.deserialize().map(|r| r.expect("a row of the file"));
    rows.collect()
}

/// Every five minutes for 60 days.
fn generated() -> Vec<(String, f64)> {
    (0..60 * 288)
        .map(|n| {
            let (day, minute) = (n / 288, n % 288 * 5);
            let (month, day) = (day / 30 + 1, day % 30 + 1);
            let at = format!(
                "2024-{:02}-{day:02} {:02}:{:02}:00",
                month * 2 - 1,
                minute / 60,
                minute % 60
            );
            (at, 80.0 + 15.0 * (f64::from(n) / 288.0).sin())
        })
        .collect()
}

/// Hour to (average, count). Timestamps may repeat; the last value of one counts, as in the table.
fn hourly(rows: &[(String, f64)]) -> BTreeMap<String, (f64, i64)> {
    let mut sums: BTreeMap<String, (f64, i64)> = BTreeMap::new();
    for (at, value) in rows {
        let entry = sums.entry(format!("{}:00:00", &at[..13])).or_default();
        entry.0 += value;
        entry.1 += 1;
    }
    sums.into_iter()
        .map(|(hour, (sum, n))| (hour, (sum / n as f64, n)))
        .collect()
}

#[tokio::test]
async fn hourly_averages_of_a_real_series() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    // Readings repeat where the clocks went back, so the file's line is part of the key.
    let create =
        "CREATE TABLE machine (ts TIMESTAMP, line INT8, value FLOAT8, PRIMARY KEY (ts, line))";
    client.batch_execute(create).await.expect("the table");

    let rows = rows();
    let mut csv = String::from("ts,line,value\n");
    for (line, (at, value)) in rows.iter().enumerate() {
        writeln!(csv, "{at},{line},{value}").expect("a String takes everything");
    }
    let copy = "COPY machine FROM STDIN WITH (FORMAT csv, HEADER)";
    let mut sink = Box::pin(client.copy_in::<_, Bytes>(copy).await.expect("COPY begins"));
    for piece in csv.as_bytes().chunks(10_000) {
        sink.send(Bytes::copy_from_slice(piece))
            .await
            .expect("COPY takes a piece");
    }
    assert_eq!(
        sink.as_mut().finish().await.expect("COPY ends"),
        rows.len() as u64
    );

    let sql = "SELECT date_trunc('hour', ts)::text, avg(value), count(*) FROM machine GROUP BY 1 ORDER BY 1";
    let found = client.query(sql, &[]).await.expect("the averages");
    let expected = hourly(&rows);
    assert_eq!(found.len(), expected.len(), "hours");
    for (row, (hour, (average, count))) in found.iter().zip(&expected) {
        assert_eq!(&row.get::<_, String>(0), hour);
        assert_eq!(
            row.get::<_, i64>(2),
            *count,
            "readings in the hour of {hour}"
        );
        let difference = (row.get::<_, f64>(1) - average).abs();
        assert!(
            difference < 1e-9 * average.abs().max(1.0),
            "average of {hour}: off by {difference}"
        );
    }
}
