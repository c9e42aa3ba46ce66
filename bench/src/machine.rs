//! What the figures were measured on. A figure without it means nothing.

use std::fmt;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::process::field_kib;
use crate::sample::Sample;

/// Writes by which fdatasync is measured.
const SYNCS: usize = 300;

/// Bytes of each.
const BLOCK_BYTES: usize = 4096;

/// Facts of the machine, its load included.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// Processors this process may run on.
    pub(crate) cores: usize,
    /// The processor's name, where the kernel tells it.
    pub(crate) processor: String,
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// Kernel release.
    pub(crate) kernel: String,
    /// Where the data is, and on which kind of file system.
    pub(crate) disk: String,
    /// Appending 4 KiB to a file and fdatasync: median and 99th percentile. The file system
    /// has to commit the file's new length too.
    pub(crate) append: (Duration, Duration),
    /// The same into blocks the file has already, as a preallocated log does.
    pub(crate) overwrite: (Duration, Duration),
    /// UTC date and time of the start.
    pub(crate) started: String,
    /// Load average of the last minute at start and end.
    pub(crate) load: (f64, f64),
}

impl Machine {
    /// Looks at this machine and at the disk under `scratch`.
    pub(crate) fn look(scratch: &Path) -> Result<Machine> {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let mut started = String::new();
        crate::data::write_time(&mut started, now.as_secs() as i64 * 1_000_000);
        Ok(Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: model
                .and_then(|line| line.split_once(": "))
                .map_or("?", |(_, name)| name)
                .to_owned(),
            memory: field_kib("/proc/meminfo", "MemTotal:").unwrap_or(0),
            kernel: kernel.trim().to_owned(),
            disk: file_system(scratch)?,
            append: fdatasync(scratch, 0)?,
            overwrite: fdatasync(scratch, SYNCS)?,
            started,
            load: (load_average(), 0.0),
        })
    }

    /// Takes the load again, at the end.
    pub(crate) fn finish(&mut self) {
        self.load.1 = load_average();
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "machine    {} cores ({}), {:.1} GiB RAM, Linux {}",
            self.cores,
            self.processor,
            gib(self.memory),
            self.kernel
        )?;
        let us = |(p50, p99): (Duration, Duration)| {
            format!("p50 {} us, p99 {} us", p50.as_micros(), p99.as_micros())
        };
        writeln!(out, "disk       {}", self.disk)?;
        writeln!(
            out,
            "fdatasync  of 4 KiB appended {}; in place {}",
            us(self.append),
            us(self.overwrite)
        )?;
        writeln!(
            out,
            "start      {} UTC, load {:.2}",
            self.started.trim_end_matches("+00"),
            self.load.0
        )
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.0)
}

/// The name of the file system, with a warning where fsync means nothing.
fn file_system(dir: &Path) -> Result<String> {
    let kind = rustix::fs::statfs(dir)?.f_type as u64 & 0xffff_ffff;
    let name = match kind {
        0xef53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x2fc1_2fc1 => "zfs".to_owned(),
        0xf2f5_2010 => "f2fs".to_owned(),
        0x794c_7630 => "overlayfs".to_owned(),
        0x0102_1994 => "TMPFS: nothing here is durable, give --dir".to_owned(),
        other => format!("file system {other:#x}"),
    };
    Ok(format!(
        "{} ({name})",
        dir.parent().unwrap_or(dir).display()
    ))
}

/// Median and 99th percentile of [`SYNCS`] writes of 4 KiB, each followed by fdatasync, into a
/// file that holds `blocks` such blocks already; 5 s at most.
fn fdatasync(dir: &Path, blocks: usize) -> Result<(Duration, Duration)> {
    let path = dir.join("fdatasync");
    let mut file = File::create(&path)?;
    file.write_all(&vec![1; blocks * BLOCK_BYTES])?;
    file.sync_all()?;
    file.rewind()?;
    let mut sample = Sample::default();
    let begin = Instant::now();
    while sample.count() < SYNCS as u64 && begin.elapsed() < Duration::from_secs(5) {
        let start = Instant::now();
        file.write_all(&[7; BLOCK_BYTES])?;
        file.sync_data()?;
        sample.add(start.elapsed());
    }
    drop(file);
    std::fs::remove_file(path)?;
    Ok((sample.quantile(0.5), sample.quantile(0.99)))
}
