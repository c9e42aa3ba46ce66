//! The suite `codecs`: bytes per value, and how fast a block of values is encoded and decoded.
//!
//! Values are encoded in blocks of the size of a page, as a column store has to. Every block is
//! decoded and compared with what was encoded.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::args::Options;
use crate::codec::{all_series, Codec, Series};
use crate::error::{failure, Result};
use crate::report::Table;
use crate::suite::repeated;

/// A measurement goes through the series so often that it takes this long.
const MEASURE: Duration = Duration::from_millis(40);

pub(super) fn run(options: &Options) -> Result<()> {
    let all = all_series(options.series.as_deref())?;
    let mut sums = [Sum::default(); Codec::ALL.len()];
    for series in &all {
        let head = format!("{} ({} values)", series.name, series.values.len());
        let mut table = Table::new([head.as_str(), "bytes/value", "encode MB/s", "decode MB/s"]);
        for (codec, sum) in Codec::ALL.into_iter().zip(&mut sums) {
            let figures = measure(codec, series, options)?;
            sum.add(&figures);
            table.row(codec.name(), figures.cells());
        }
        println!("{table}");
    }
    let head = format!("mean of {} series", all.len());
    let mut table = Table::new([head.as_str(), "bytes/value", "encode MB/s", "decode MB/s"]);
    for (codec, sum) in Codec::ALL.into_iter().zip(&sums) {
        table.row(codec.name(), sum.mean().cells());
    }
    println!("{table}");
    println!(
        "MB/s are of floats in memory, 8 bytes each. Blocks of {} values.",
        options.block
    );
    Ok(())
}

#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    bytes_per_value: f64,
    encode_mb: f64,
    decode_mb: f64,
}

impl Figures {
    fn cells(&self) -> Vec<String> {
        vec![
            format!("{:.2}", self.bytes_per_value),
            format!("{:.0}", self.encode_mb),
            format!("{:.0}", self.decode_mb),
        ]
    }
}

/// For means over series: of sizes, and of times per byte.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    series: f64,
    bytes_per_value: f64,
    encode: f64,
    decode: f64,
}

impl Sum {
    fn add(&mut self, figures: &Figures) {
        self.series += 1.0;
        self.bytes_per_value += figures.bytes_per_value;
        self.encode += 1.0 / figures.encode_mb;
        self.decode += 1.0 / figures.decode_mb;
    }

    fn mean(&self) -> Figures {
        Figures {
            bytes_per_value: self.bytes_per_value / self.series,
            encode_mb: self.series / self.encode,
            decode_mb: self.series / self.decode,
        }
    }
}

fn measure(codec: Codec, series: &Series, options: &Options) -> Result<Figures> {
    let blocks: Vec<&[f64]> = series.values.chunks(options.block).collect();
    let encoded = blocks
        .iter()
        .map(|block| codec.encode(block))
        .collect::<Result<Vec<_>>>()?;
    let mut out = vec![0.0; options.block];
    for (block, bytes) in blocks.iter().zip(&encoded) {
        let out = &mut out[..block.len()];
        codec.decode(bytes, out)?;
        if block
            .iter()
            .zip(&*out)
            .any(|(a, b)| a.to_bits() != b.to_bits())
        {
            return failure(format!("{} gives back other values", codec.name()));
        }
    }
    let raw_bytes = series.values.len() * 8;
    let total: usize = encoded.iter().map(Vec::len).sum();
    Ok(Figures {
        bytes_per_value: total as f64 / series.values.len() as f64,
        encode_mb: rate(options.reps, raw_bytes, || {
            for block in &blocks {
                black_box(codec.encode(block)?);
            }
            Ok(())
        })?,
        decode_mb: rate(options.reps, raw_bytes, || {
            for (block, bytes) in blocks.iter().zip(&encoded) {
                codec.decode(bytes, black_box(&mut out[..block.len()]))?;
            }
            Ok(())
        })?,
    })
}

/// Megabytes per second, the median of some measurements.
fn rate(reps: usize, bytes: usize, mut pass: impl FnMut() -> Result<()>) -> Result<f64> {
    repeated(reps, || {
        let start = Instant::now();
        let mut passes = 0;
        while passes == 0 || start.elapsed() < MEASURE {
            pass()?;
            passes += 1;
        }
        Ok((passes * bytes) as f64 / start.elapsed().as_secs_f64() / 1e6)
    })
}
