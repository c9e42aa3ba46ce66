//! COPY of (device, ts, value): the client sends bytes it has had in memory before.

use super::Bench;
use crate::data::Chunk;
use crate::load::Table;
use crate::report::{Floor, Unit};

/// One COPY per repetition and table, each of rows that come after the ones before.
pub(crate) fn run(bench: &mut Bench<'_>) {
    let rows = bench.scale.copy_rows;
    for (table, name) in [
        (Table::Series, "COPY, primary key (device, ts), rows"),
        (Table::Loose, "COPY, no primary key, rows"),
    ] {
        bench.each(name, |peer, _| peer.create(table));
        // Made when the first peer needs it, and sent to all of them.
        let mut chunk: Option<(usize, Chunk)> = None;
        bench.repeat(name, |peer, report, repetition| {
            if chunk
                .as_ref()
                .is_none_or(|(made_for, _)| *made_for != repetition)
            {
                chunk = Some((
                    repetition,
                    Chunk::new(table.shape(), repetition as u64 * rows, rows),
                ));
            }
            let Some((_, chunk)) = &chunk else {
                return Ok(());
            };
            let took = peer.copy(table, chunk)?;
            let floor = Some(Floor::AtLeast(500_000.0));
            report.add_with_floor(
                "copy",
                name,
                Unit::PerSecond,
                floor,
                peer.kind(),
                rows as f64 / took.as_secs_f64(),
            );
            peer.settle(table)
        });
        bench.forgive();
    }
}
