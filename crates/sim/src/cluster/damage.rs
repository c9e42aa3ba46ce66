//! A disk that decays under a node: bits of its segments are flipped, and the node has to mend itself from others.

use std::path::Path;
use std::time::Duration;

use chronos_env::{Disk, SimDisk, SimRandom};
use chronos_node::cluster::NodeNumber;
use tokio::time::Instant;

use super::trace::note;
use super::Cluster;

const SEGMENTS: &str = "/data/store/segments";
/// Before a segment's first block.
const HEADER_BYTES: u64 = 16;
/// At a segment's end; it begins with the offset of the footer.
const TRAILER_BYTES: usize = 32;
/// Clients write for so long before, and between one victim and the next.
const PEACE: Duration = Duration::from_secs(2);
/// A damaged node must be whole again after so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose disk decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Who leads at that moment.
    Leader,
    /// Another one, while it works.
    Follower,
    /// Another one, while it is off.
    OfflineFollower,
}

/// Damages a node, and waits until it has mended itself.
pub(super) async fn decay(
    cluster: &Cluster,
    victim: Victim,
    lot: &SimRandom,
) -> Result<(), String> {
    tokio::time::sleep(PEACE).await;
    let number = choose(cluster, victim, lot).await?;
    note!(cluster.trace(), "decay: the disk of {number}, a {victim:?}");
    let before = match victim {
        Victim::OfflineFollower => decay_while_off(cluster, number).await?,
        Victim::Leader | Victim::Follower => decay_at_work(cluster, number)?,
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let node = cluster.node(number).ok_or("the damaged node has ended")?;
        let status = node.status();
        let repair = &status.cluster.repair;
        if repair.done > before && repair.damaged_files == 0 && status.fault.is_none() {
            note!(cluster.trace(), "decay: {number} is whole again");
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{number} is not mended: {status:?}"));
        }
    }
}

async fn choose(cluster: &Cluster, victim: Victim, lot: &SimRandom) -> Result<NodeNumber, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let nodes = cluster.running();
        let leads = |number| {
            let mut seen = nodes.iter().map(|(node, _)| node.cluster().status());
            seen.any(|status| status.number == number && status.role == "leader")
        };
        let fit = nodes.iter().map(|(_, process)| process.number);
        let fit = fit.filter(|number| leads(*number) == (victim == Victim::Leader));
        let fit: Vec<NodeNumber> = fit.collect();
        if !fit.is_empty() && fit.len() < nodes.len() {
            return Ok(fit[lot.below(fit.len() as u64) as usize]);
        }
        if Instant::now() > deadline {
            return Err("nobody leads".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What is flushed at this moment was not read yet. Gives how often the node was mended before.
fn decay_at_work(cluster: &Cluster, number: NodeNumber) -> Result<u64, String> {
    let node = cluster.node(number).ok_or("the node does not run")?;
    node.flush().map_err(|e| e.to_string())?;
    flip_all(cluster, number)?;
    Ok(node.cluster().status().repair.done)
}

async fn decay_while_off(cluster: &Cluster, number: NodeNumber) -> Result<u64, String> {
    let node = cluster.node(number).ok_or("the node does not run")?;
    node.flush().map_err(|e| e.to_string())?;
    // What comes now stands in the log only, and needs what is flushed.
    tokio::time::sleep(PEACE).await;
    let network = cluster.network();
    cluster.with(number, |machine| machine.kill(network));
    flip_all(cluster, number)?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.with(number, |machine| machine.start(network, cluster.trace()));
    Ok(0)
}

fn flip_all(cluster: &Cluster, number: NodeNumber) -> Result<(), String> {
    let disk = cluster.with(number, |machine| machine.disk().clone());
    let disk = disk.ok_or("there is no such machine")?;
    let names = disk.read_dir(Path::new(SEGMENTS));
    let names = names.map_err(|e| e.to_string())?;
    if names.is_empty() {
        return Err("there are no segments to decay".into());
    }
    for name in names {
        flip_blocks(&disk, &Path::new(SEGMENTS).join(name)).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Flips bits of every block, and of nothing that is read when the segment is opened.
fn flip_blocks(disk: &SimDisk, path: &Path) -> std::io::Result<()> {
    let bytes = disk.read(path)?;
    let trailer = &bytes[bytes.len() - TRAILER_BYTES..];
    let mut footer = [0; 8];
    footer.copy_from_slice(&trailer[..8]);
    for offset in HEADER_BYTES..u64::from_le_bytes(footer) {
        disk.flip_bits(path, offset, 0x20)?;
    }
    Ok(())
}
