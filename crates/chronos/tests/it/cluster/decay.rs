//! The disk of a node decays under load: its segments are damaged while it is off, and it mends itself from another one.

use std::path::Path;

use serde_json::json;

use super::load::{Clients, Load};
use super::nodes::Cluster;
use super::{scenario, CALM_WRITES};

const ROWS: u64 = 300;
/// Before a segment's first block.
const HEADER_BYTES: usize = 16;
/// At a segment's end; it begins with the offset of the footer.
const TRAILER_BYTES: usize = 32;

#[test]
fn a_node_with_damaged_segments_mends_itself() {
    scenario(async |seed| {
        let mut cluster = Cluster::start(3, 0).await;
        let load = Load::start(&cluster, Clients::default(), seed).await;
        let rows: Vec<String> = (0..ROWS).map(row).collect();
        let insert = format!("INSERT INTO texts VALUES {}", rows.join(", "));
        for sql in [
            "CREATE TABLE texts (id TEXT PRIMARY KEY, v TEXT)",
            insert.as_str(),
        ] {
            let (status, answer) = cluster.post(0, "/sql", &json!({ "sql": sql })).await;
            assert_eq!(status, 200, "{answer}");
        }
        for node in cluster.all() {
            load.progress(&cluster, CALM_WRITES).await;
            cluster.caught_up(&cluster.all()).await;
            cluster.stop(node);
            damage_segments(&cluster.data_dir(node));
            load.progress(&cluster, CALM_WRITES).await;
            cluster.restart(node);
            cluster
                .wait("the node to mend itself", async || {
                    // Whoever reads what is damaged finds it.
                    let sql = "SELECT sum(length(v)) AS n FROM texts";
                    let (code, answer) = cluster.post(node, "/sql", &json!({ "sql": sql })).await;
                    if code == 200 {
                        assert!(answer.contains(&format!("[[{}]]", 8 * ROWS)), "{answer}");
                    }
                    let status = cluster.status(node).await?;
                    status.is_mended().then_some(())
                })
                .await;
            cluster.caught_up(&cluster.all()).await;
        }
        load.finish(&cluster).await;
    });
}

/// A row that takes bytes: keys that follow from each other would stand in the footer.
fn row(id: u64) -> String {
    let key = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("('{key:016x}', '{:08x}')", (key >> 7) as u32)
}

/// Changes every block of every segment, and nothing that is read when they are opened.
fn damage_segments(data_dir: &Path) {
    let segments = std::fs::read_dir(data_dir.join("store/segments")).unwrap();
    let mut damaged = 0;
    for segment in segments {
        let path = segment.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let trailer = &bytes[bytes.len() - TRAILER_BYTES..][..8];
        let footer = u64::from_le_bytes(trailer.try_into().unwrap()) as usize;
        for byte in &mut bytes[HEADER_BYTES..footer] {
            *byte ^= 0x20;
        }
        std::fs::write(&path, bytes).unwrap();
        damaged += 1;
    }
    assert!(damaged > 0, "a node that stops in order flushes");
}
