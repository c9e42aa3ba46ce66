//! The oldest file ever written still reads.
//!
//! `v1.log` was written by the first version of this format: four entries, cut behind
//! the last record. It is never written anew; a change of format adds a file.

use chronos_env::{Disk, SimDisk};

use super::*;

const V1: &[u8] = include_bytes!("v1.log");
/// Made from the table in `docs/format/log.md` by other means than this program: a vote in the odd
/// slot; the same vote with a floor in the even one; one note of what is committed.
const V1_HARD_STATE: &[u8] = include_bytes!("v1.hard-state");

fn entries() -> Vec<LogEntry> {
    let entry = |group, term, index, payload: &'static [u8]| LogEntry {
        group: GroupId(group),
        term: Term(term),
        index: LogIndex(index),
        payload: Bytes::from_static(payload),
    };
    vec![
        entry(0, 1, 1, b""),
        entry(0, 1, 2, b"write set"),
        entry(7, 2, 3, b"\x00\x01\x02\x03\x04\x05\x06\x07"),
        entry(u32::MAX, u64::MAX, 4, "größer".as_bytes()),
    ]
}

#[test]
fn version_1_reads() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(dir()).unwrap();
    let file = disk.create(&dir().join("0000000000000001.log")).unwrap();
    file.write_at(V1, 0).unwrap();
    let (log, found) = open(&env_on(&disk, 1), LogOptions::default());
    assert_eq!(found.truncated_bytes, 0);
    assert_eq!(read_all(&log), entries());
    append(&log, vec![entry(5, "more")]).unwrap();
    assert_eq!(read_all(&log).len(), 5);
}

/// The same entries are written to the same bytes today, but for the file's least length, which was
/// zero then.
#[test]
fn version_1_is_what_is_written() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&env_on(&disk, 42), LogOptions::default());
    append(&log, entries()[..1].to_vec()).unwrap();
    append(&log, entries()[1..].to_vec()).unwrap();
    log.close().unwrap();
    let written = disk.read(&dir().join("0000000000000001.log")).unwrap();
    if let Some(path) = option_env!("CHRONOS_WRITE_GOLDEN") {
        let end = written.iter().rposition(|b| *b != 0).unwrap() + 1;
        #[allow(clippy::disallowed_methods, reason = "writes the golden file once")]
        std::fs::write(path, &written[..end.next_multiple_of(8)]).unwrap();
    }
    let least_length = 36..44;
    let bytes = LogOptions::default().segment_bytes as u32;
    assert_eq!(written[36..40], (bytes / 8).to_le_bytes());
    assert_eq!(written[..least_length.start], V1[..least_length.start]);
    assert_eq!(written[least_length.end..V1.len()], V1[least_length.end..]);
    assert!(written[V1.len()..].iter().all(|byte| *byte == 0));
}

const VOTE: HardVote = HardVote {
    term: 2,
    node: 7,
    committed: true,
};

#[test]
fn the_hard_state_of_version_1_reads() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(dir()).unwrap();
    let files = [("0000000000000001.log", V1), ("hard-state", V1_HARD_STATE)];
    for (name, bytes) in files {
        let file = disk.create(&dir().join(name)).unwrap();
        file.write_at(bytes, 0).unwrap();
    }
    let (log, found) = open(&env_on(&disk, 1), LogOptions::default());
    assert_eq!(found.vote, Some(VOTE));
    assert_eq!(found.purged, Some((Term(1), LogIndex(2))));
    assert_eq!(found.committed, Some((Term(2), LogIndex(3))));
    assert_eq!(found.first_index, Some(LogIndex(3)));
    assert_eq!(read_all(&log), entries()[2..]);
}

#[test]
fn the_hard_state_of_version_1_is_what_is_written() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&env_on(&disk, 42), LogOptions::default());
    append(&log, entries()).unwrap();
    save_vote(&log, VOTE).unwrap();
    log.purge(Term(1), LogIndex(2)).unwrap();
    log.note_committed(Term(2), LogIndex(3));
    log.close().unwrap();
    assert_eq!(disk.read(&dir().join("hard-state")).unwrap(), V1_HARD_STATE);
}
