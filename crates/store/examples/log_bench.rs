//! Measures durable appends: `cargo run --release --example log_bench [dir] [seconds]`.
//!
//! Each writer appends one entry of 100 bytes, waits for its answer, and goes on; the
//! program prints appends per second and latencies at 1 and 64 writers, for a fresh log
//! (new files) and for one whose files are recycled. Beside them stands what the disk
//! alone needs for a write and a sync of the same size. It gates nothing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use bytes::Bytes;
use chronos_env::Env;
use chronos_store::log::{GroupId, Log, LogEntry, LogIndex, LogOptions, Term};

const PAYLOAD_BYTES: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().unwrap_or_else(|| "log_bench.tmp".into());
    let seconds: f64 = arguments.next().map_or(Ok(3.0), |it| it.parse())?;
    let env = Env::real();
    let dir = Path::new(&dir);
    env.disk.create_dir_all(dir)?;

    bare_disk(&env, dir, seconds)?;
    let log_dir = dir.join("log");
    let options = LogOptions {
        segment_bytes: 8 << 20,
        ..LogOptions::default()
    };
    let (log, _) = Log::open(&env, &log_dir, options)?;
    for round in ["new files", "recycled"] {
        for writers in [1, 8, 64] {
            run(&env, &log, writers, seconds, round);
        }
        if let Some(next) = log.next_index() {
            log.cut_before(next)?;
        }
    }
    log.close()?;
    for name in env.disk.read_dir(&log_dir)? {
        env.disk.remove_file(&log_dir.join(name))?;
    }
    env.disk.remove_dir(&log_dir)?;
    env.disk.remove_dir(dir)?;
    Ok(())
}

fn bare_disk(env: &Env, dir: &Path, seconds: f64) -> Result<(), Box<dyn std::error::Error>> {
    let path = dir.join("bare");
    let file = env.disk.create(&path)?;
    file.write_at(&vec![0; 8 << 20], 0)?;
    file.sync_all()?;
    let mut nanos = Vec::new();
    let started = env.clock.monotonic_nanos();
    while elapsed(env, started) < seconds {
        let before = env.clock.monotonic_nanos();
        let offset = (nanos.len() * (PAYLOAD_BYTES + 44)) % (8 << 20);
        file.write_at(&[1; PAYLOAD_BYTES + 44], offset as u64)?;
        file.sync_data()?;
        nanos.push(env.clock.monotonic_nanos() - before);
    }
    print_line("bare write + sync", 1, elapsed(env, started), nanos);
    env.disk.remove_file(&path)?;
    Ok(())
}

fn elapsed(env: &Env, since_nanos: u64) -> f64 {
    (env.clock.monotonic_nanos() - since_nanos) as f64 / 1e9
}

fn run(env: &Env, log: &Log, writers: usize, seconds: f64, round: &str) {
    let next = Mutex::new(log.next_index().unwrap_or(LogIndex(1)));
    let stop = AtomicBool::new(false);
    let all_nanos = Mutex::new(Vec::new());
    let before = log.stats();
    let started = env.clock.monotonic_nanos();
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                let nanos = write_until(env, log, &next, &stop);
                all_nanos.lock().expect("a writer panicked").extend(nanos);
            });
        }
        while elapsed(env, started) < seconds {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let took = elapsed(env, started);
    let after = log.stats();
    let nanos = all_nanos.into_inner().expect("a writer panicked");
    let per_sync = nanos.len() as f64 / (after.fsyncs - before.fsyncs).max(1) as f64;
    print_line(round, writers, took, nanos);
    let sync_micros = (after.fsync_nanos_sum - before.fsync_nanos_sum)
        / (after.fsyncs - before.fsyncs).max(1)
        / 1000;
    println!(
        "{:20} {per_sync:.1} appends per sync, {sync_micros} us per sync",
        ""
    );
}

fn write_until(env: &Env, log: &Log, next: &Mutex<LogIndex>, stop: &AtomicBool) -> Vec<u64> {
    let mut nanos = Vec::new();
    let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
    let (sender, receiver) = crossbeam_channel::bounded(1);
    while !stop.load(Ordering::Relaxed) {
        let sender = sender.clone();
        let before = env.clock.monotonic_nanos();
        {
            let mut next = next.lock().expect("a writer panicked");
            let entry = LogEntry {
                group: GroupId(0),
                term: Term(1),
                index: *next,
                payload: payload.clone(),
            };
            *next = next.next();
            log.append(vec![entry], move |result| {
                sender.send(result).expect("the writer waits");
            });
        }
        receiver
            .recv()
            .expect("the log answers")
            .expect("the disk works");
        nanos.push(env.clock.monotonic_nanos() - before);
    }
    nanos
}

fn print_line(what: &str, writers: usize, seconds: f64, mut nanos: Vec<u64>) {
    nanos.sort_unstable();
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    println!(
        "{what:20} {writers:3} writers {:9.0}/s   p50 {:7.1} us   p99 {:7.1} us   p99.9 {:7.1} us",
        nanos.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        at(0.999)
    );
}
