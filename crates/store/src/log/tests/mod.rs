//! Behaviour of the log as a whole, on the simulated disk unless a real one is the point.

mod behaviour;
mod damage;
mod disk_faults;
mod golden;
mod hard_state;
mod here;
mod model;
mod pipelined;
mod power_cut;
mod recent;
mod stepped;

use std::path::Path;

use bytes::Bytes;
use chronos_env::{Env, SimDisk, SimEnv};

use super::{
    Driver, GroupId, HardVote, Log, LogEntry, LogError, LogIndex, LogOptions, LogRecovery, Term,
};

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

fn entry_of(term: u64, index: u64, payload: impl Into<Bytes>) -> LogEntry {
    LogEntry {
        term: Term(term),
        ..entry(index, payload)
    }
}

fn vote(term: u64, node: u64) -> HardVote {
    HardVote {
        term,
        node,
        committed: node.is_multiple_of(2),
    }
}

/// Saves a vote and waits for the answer.
fn save_vote(log: &Log, vote: HardVote) -> Result<(), LogError> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    log.save_vote(vote, move |result| sender.send(result).unwrap());
    receiver.recv().unwrap()
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
