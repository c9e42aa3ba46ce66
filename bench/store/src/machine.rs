//! What the figures were measured on. A figure without it means nothing.

use std::fmt;

/// Facts of the machine, its load included.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    memory_kib: u64,
    kernel: String,
    load: f64,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn look() -> Machine {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: model
                .and_then(|line| line.split_once(": "))
                .map_or("?", |(_, name)| name)
                .to_owned(),
            memory_kib: field_kib("/proc/meminfo", "MemTotal:"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load_average(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "machine: {} cores ({}), {:.1} GiB RAM, Linux {}; load {:.2} at the start",
            self.cores,
            self.processor,
            self.memory_kib as f64 / (1 << 20) as f64,
            self.kernel,
            self.load
        )
    }
}

/// Processes that ran or wanted to, on average over the last minute.
pub(crate) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next().and_then(|text| text.parse().ok());
    first.unwrap_or(0.0)
}

/// The most memory this process ever had resident, in MiB.
pub(crate) fn peak_memory_mib() -> f64 {
    field_kib("/proc/self/status", "VmHWM:") as f64 / 1024.0
}

fn field_kib(path: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
