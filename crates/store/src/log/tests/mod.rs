//! Behaviour of the log as a whole, on the simulated disk unless a real one is the point.

mod behaviour;
mod damage;
mod disk_faults;
mod golden;
mod model;
mod power_cut;

use std::path::Path;

use bytes::Bytes;
use chronos_env::{Env, SimDisk, SimEnv};

use super::{GroupId, Log, LogEntry, LogError, LogIndex, LogOptions, LogRecovery, Term};

const DIR: &str = "/data/log";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn env_on(disk: &SimDisk, seed: u64) -> Env {
    SimEnv::with_disk(disk.clone(), seed).env()
}

/// Small files, so that a test meets many of them.
fn small_files() -> LogOptions {
    LogOptions {
        segment_bytes: 4096 + 600,
        ..LogOptions::default()
    }
}

fn open(env: &Env, options: LogOptions) -> (Log, LogRecovery) {
    Log::open(env, dir(), options).unwrap()
}

fn entry(index: u64, payload: impl Into<Bytes>) -> LogEntry {
    LogEntry {
        group: GroupId(1),
        term: Term(1 + index / 10),
        index: LogIndex(index),
        payload: payload.into(),
    }
}

/// A payload that can be told from others, of a length that varies.
fn payload(index: u64, round: u64) -> Vec<u8> {
    let len = (index * 37 + round * 11) % 300;
    let mut out = format!("{round}/{index}:").into_bytes();
    out.resize(out.len() + len as usize, index as u8);
    out
}

/// Appends and waits for the answer.
fn append(log: &Log, entries: Vec<LogEntry>) -> Result<(), LogError> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    log.append(entries, move |result| sender.send(result).unwrap());
    receiver.recv().unwrap()
}

fn read_all(log: &Log) -> Vec<LogEntry> {
    match log.bounds() {
        None => Vec::new(),
        Some((first, _)) => log.read(first).unwrap().collect::<Result<_, _>>().unwrap(),
    }
}
