//! Memory of a server that has just started and has done nothing.

use std::time::Duration;

use super::Bench;
use crate::report::{Floor, Unit};

/// How long after its start a server is looked at.
const AFTER: Duration = Duration::from_secs(2);

/// Resident memory of a fresh node with one session, and how long its start takes.
pub(crate) fn run(bench: &mut Bench<'_>) {
    bench.repeat("idle", |peer, report, _| {
        if peer.kind() == crate::peer::Kind::Sqlite {
            return Ok(());
        }
        peer.fresh()?;
        std::thread::sleep(AFTER);
        if let Some(bytes) = peer.memory() {
            let mebibytes = bytes as f64 / (1u64 << 20) as f64;
            let floor = Some(Floor::AtMost(50.0));
            report.add_with_floor(
                "idle",
                "resident, fresh and idle",
                Unit::Mebibytes,
                floor,
                peer.kind(),
                mebibytes,
            );
        }
        if let Some(took) = peer
            .as_chronos()
            .map(|chronos| chronos.restart())
            .transpose()?
            .flatten()
        {
            let millis = took.as_secs_f64() * 1e3;
            report.add(
                "idle",
                "start of an empty node until connected",
                Unit::Millis,
                peer.kind(),
                millis,
            );
        }
        Ok(())
    });
}
