//! A member of a consensus group at work, without waiting for anything: appends, new terms that
//! truncate, votes, purges, checkpoints, notes of what is committed. The power goes
//! somewhere; what was answered is there, and nothing that was taken back is.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronos_env::{SimDisk, SimRandom};
use parking_lot::Mutex;

use super::*;
use crate::log::Durability;

/// What the member has asked for and heard.
#[derive(Default)]
struct Member {
    term: u64,
    /// Its log as it sees it: terms by index.
    line: BTreeMap<u64, u64>,
    /// The same of all that was ever committed.
    committed: BTreeMap<u64, u64>,
    committed_to: u64,
    purged_to: u64,
    votes: Vec<HardVote>,
    floors: Vec<(Term, LogIndex)>,
    /// Entries that were offered and that no answered truncation has dropped.
    offered: Vec<LogEntry>,
    /// Entries that were answered for and that no truncation was asked to drop.
    durable: BTreeMap<u64, LogEntry>,
    vote: Option<HardVote>,
    floor: Option<(Term, LogIndex)>,
}

type Shared = Arc<Mutex<Member>>;

fn last(member: &Member) -> u64 {
    member
        .line
        .last_key_value()
        .map_or(member.purged_to, |it| *it.0)
}

fn append_some(log: &Log, shared: &Shared, count: u64) {
    let entries: Vec<_> = {
        let mut member = shared.lock();
        let next = last(&member) + 1;
        let term = member.term;
        member.line.extend((next..next + count).map(|i| (i, term)));
        (next..next + count)
            .map(|index| entry_of(term, index, payload(index, term)))
            .collect()
    };
    let mut member = shared.lock();
    member.offered.extend(entries.clone());
    drop(member);
    let heard = shared.clone();
    log.append(entries.clone(), move |result| {
        if result.is_ok() {
            let mut member = heard.lock();
            for entry in entries {
                if member.line.get(&entry.index.0) == Some(&entry.term.0) {
                    member.durable.insert(entry.index.0, entry);
                }
            }
        }
    });
}

/// A new leader: what is not committed may go.
fn new_term(log: &Log, shared: &Shared, random: &SimRandom) {
    let mut member = shared.lock();
    member.term += 1;
    let term = member.term;
    let asked = vote(term, random.below(3));
    member.votes.push(asked);
    let keep = member.committed_to + random.below(last(&member) - member.committed_to + 1);
    member.line.retain(|index, _| *index <= keep);
    member.durable.retain(|index, _| *index <= keep);
    drop(member);
    let heard = shared.clone();
    log.save_vote(asked, move |result| {
        if result.is_ok() {
            heard.lock().vote = Some(asked);
        }
    });
    let heard = shared.clone();
    log.truncate_after_then(LogIndex(keep), move |result| {
        if result.is_ok() {
            let mut member = heard.lock();
            member
                .offered
                .retain(|it| it.index.0 <= keep || it.term.0 >= term);
        }
    });
}

fn commit(log: &Log, shared: &Shared, random: &SimRandom) {
    let mut member = shared.lock();
    let to = member.committed_to + random.below(last(&member) - member.committed_to + 1);
    let Some(term) = member.line.get(&to).copied() else {
        return;
    };
    let new = member
        .line
        .range(..=to)
        .map(|(i, t)| (*i, *t))
        .collect::<Vec<_>>();
    member.committed.extend(new);
    member.committed_to = to;
    drop(member);
    log.note_committed(Term(term), LogIndex(to));
}

fn purge(log: &Log, shared: &Shared, random: &SimRandom) {
    let mut member = shared.lock();
    let (term, to) = if random.below(4) == 0 {
        // A checkpoint from another member.
        (member.term, last(&member) + random.below(4))
    } else {
        let to = member.purged_to + random.below(member.committed_to - member.purged_to + 1);
        match member.line.get(&to) {
            Some(term) => (*term, to),
            None => return,
        }
    };
    if to <= member.purged_to {
        return;
    }
    let floor = (Term(term), LogIndex(to));
    member.committed.insert(to, term);
    member.committed_to = member.committed_to.max(to);
    member.purged_to = to;
    member.line.retain(|index, _| *index > to);
    member.durable.retain(|index, _| *index > to);
    member.floors.push(floor);
    drop(member);
    let heard = shared.clone();
    log.purge_then(floor.0, floor.1, move |result| {
        if result.is_ok() {
            heard.lock().floor = Some(floor);
        }
    });
}

fn options(durability: Durability) -> LogOptions {
    LogOptions {
        driver: Driver::Stepped,
        durability,
        cache_bytes: 1000,
        ..small_files()
    }
}

/// Works until the disk fails, or for a number of steps.
fn work(disk: &SimDisk, shared: &Shared, seed: u64, durability: Durability) {
    let random = SimRandom::new(seed);
    shared.lock().term = 1;
    for life in 0..2 {
        let Ok((log, _)) = Log::open(&env_on(disk, life), dir(), options(durability)) else {
            return;
        };
        for _ in 0..60 {
            match random.below(10) {
                0..=3 => append_some(&log, shared, 1 + random.below(4)),
                4 => new_term(&log, shared, &random),
                5..=6 => commit(&log, shared, &random),
                7 if random.below(2) == 0 => purge(&log, shared, &random),
                _ => {
                    log.step();
                }
            }
            if !disk.is_powered_off() {
                seen_as(&log, &shared.lock());
            }
        }
        if log.close().is_err() {
            return;
        }
    }
}

/// The log shows what was asked for, whether it is written or not.
fn seen_as(log: &Log, member: &Member) {
    let first = LogIndex(member.purged_to + 1);
    let found = log.entries(first..LogIndex(u64::MAX), u64::MAX).unwrap();
    let found: Vec<_> = found.iter().map(|it| (it.index.0, it.term.0)).collect();
    let expected: Vec<_> = member.line.iter().map(|(i, t)| (*i, *t)).collect();
    assert_eq!(found, expected);
}

/// Says whether it is known what is committed.
fn check(member: &Member, disk: &SimDisk, durability: Durability, what: &str) -> bool {
    let (log, found) = match Log::open(&env_on(disk, 9), dir(), options(durability)) {
        Ok(opened) => opened,
        Err(error) => panic!("{what}: {error}"),
    };
    assert!(found.vote >= member.vote, "{what}: a vote is lost");
    if let Some(vote) = found.vote {
        assert!(member.votes.contains(&vote), "{what}: {vote:?}");
    }
    let floor_index = |floor: Option<(Term, LogIndex)>| floor.map(|it| it.1);
    assert!(
        floor_index(found.purged) >= floor_index(member.floor),
        "{what}: the floor is lost"
    );
    if let Some(floor) = found.purged {
        assert!(member.floors.contains(&floor), "{what}: {floor:?}");
    }
    let first = found.purged.map_or(LogIndex(1), |it| it.1.next());
    let entries = log.entries(first..LogIndex(u64::MAX), u64::MAX).unwrap();
    for (entry, index) in entries.iter().zip(first.0..) {
        assert_eq!(entry.index.0, index, "{what}: a hole");
        assert!(member.offered.contains(entry), "{what}: {entry:?}");
    }
    if durability == Durability::Strict {
        for entry in member.durable.values().filter(|it| it.index >= first) {
            assert!(entries.contains(entry), "{what}: {:?}", entry.index);
        }
    }
    if let Some((term, index)) = found.committed {
        assert!(Some(index) <= log.last().map(|it| it.1), "{what}");
        let truth = member.committed.get(&index.0);
        assert_eq!(truth, Some(&term.0), "{what}: {index} is not committed");
        assert_eq!(log.term_of(index), Some(term), "{what}");
    }
    assert_eq!(log.committed(), found.committed, "{what}");
    let next = log.last().map_or(1, |it| it.1 .0 + 1);
    log.append(vec![entry_of(99, next, "more")], |result| result.unwrap());
    log.close().unwrap();
    found.committed.is_some()
}

/// Different runs are cut at different points, together at every kind of point.
fn cut_at_many_points(durability: Durability, seeds: std::ops::Range<u64>) {
    let mut noted = 0;
    for seed in seeds {
        let rehearsal = SimDisk::new(seed);
        work(&rehearsal, &Shared::default(), seed, durability);
        let points = rehearsal.write_points();
        assert!(points > 60, "only {points} write points");
        for point in (seed % 4..points).step_by(4) {
            let disk = SimDisk::new(seed);
            disk.crash_after_write_points(point);
            let shared = Shared::default();
            work(&disk, &shared, seed, durability);
            assert!(disk.is_powered_off());
            let member = shared.lock();
            for restart in 0..3 {
                let what = format!("seed {seed}, point {point}, restart {restart}");
                let disk = disk.restart(restart);
                noted += u64::from(check(&member, &disk, durability, &what));
            }
        }
    }
    assert!(noted > 100, "only {noted} starts knew what is committed");
}

#[test]
fn nothing_answered_is_lost_whenever_the_power_goes() {
    cut_at_many_points(Durability::Strict, 0..8);
}

/// Entries may be lost; votes, floors and the truth about what is committed may not.
#[test]
fn weaker_durability_of_entries_keeps_votes_and_floors() {
    cut_at_many_points(Durability::None, 10..18);
}
