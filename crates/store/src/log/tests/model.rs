//! Any sequence of operations, against a plain vector.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Truncate(u64),
    Cut(u64),
    CutBehindEnd(u64),
    Purge(u64),
    PurgeBehindEnd(u64),
    Vote(u64),
    Commit(u64),
    Sync,
    Reopen,
    Read(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(0_usize..700, 0..6).prop_map(Step::Append),
        2 => (0_u64..40).prop_map(Step::Truncate),
        2 => (0_u64..40).prop_map(Step::Cut),
        1 => (2_u64..9).prop_map(Step::CutBehindEnd),
        2 => (1_u64..40).prop_map(Step::Purge),
        1 => (0_u64..9).prop_map(Step::PurgeBehindEnd),
        1 => (0_u64..9).prop_map(Step::Vote),
        1 => (1_u64..40).prop_map(Step::Commit),
        1 => Just(Step::Sync),
        2 => Just(Step::Reopen),
        2 => (0_u64..40).prop_map(Step::Read),
    ]
}

/// What the log has to hold.
#[derive(Default)]
struct Model {
    entries: Vec<LogEntry>,
    next: u64,
    purged: Option<(Term, LogIndex)>,
    vote: Option<HardVote>,
    committed: Option<(Term, LogIndex)>,
}

impl Model {
    fn check(&self, log: &Log) {
        assert_eq!(read_all(log), self.entries);
        let last = self.entries.last().map(|it| (it.term, it.index));
        assert_eq!(log.last(), last.or(self.purged));
        assert_eq!(log.purged(), self.purged);
        assert_eq!(log.vote(), self.vote);
        assert_eq!(log.committed(), self.committed);
        let mut starts = self.entries.clone();
        starts.dedup_by_key(|it| it.term);
        let starts: Vec<_> = starts.iter().map(|it| (it.term, it.index)).collect();
        assert_eq!(log.term_starts(), starts);
        for entry in &self.entries {
            assert_eq!(log.term_of(entry.index), Some(entry.term));
        }
        assert_eq!(log.term_of(LogIndex(self.next)), None);
    }

    fn purge(&mut self, term: Term, index: u64) {
        if self.purged.is_none_or(|it| it.1 .0 < index) {
            self.purged = Some((term, LogIndex(index)));
            self.entries.retain(|it| it.index.0 > index);
            self.next = self.next.max(index + 1);
            // What the floor says is committed, whatever was noted.
        }
    }

    /// What a cut says about the term of what was there.
    fn term_before(&self, index: u64) -> Term {
        let entry = self.entries.iter().find(|it| it.index.0 == index);
        let last = self.entries.last().map(|it| it.term);
        let of_floor = self.purged.map(|it| it.0);
        entry.map(|it| it.term).or(last).or(of_floor).unwrap()
    }
}

fn run(steps: Vec<Step>, cache_bytes: u64) {
    let env = Env::simulated(7);
    let options = LogOptions {
        cache_bytes,
        ..small_files()
    };
    let (mut log, _) = open(&env, options.clone());
    let mut model = Model {
        next: 5,
        ..Model::default()
    };
    for (round, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append(lengths) => {
                let new: Vec<_> = lengths
                    .iter()
                    .zip(model.next..)
                    .map(|(len, index)| entry_of(round as u64 / 4, index, vec![round as u8; *len]))
                    .collect();
                append(&log, new.clone()).unwrap();
                if model.next == 5 && model.purged.is_none() && !new.is_empty() {
                    // What lies before the first entry counts as cut, in the only term of old.
                    model.purged = Some((Term(1), LogIndex(4)));
                }
                model.next += new.len() as u64;
                model.entries.extend(new);
            }
            Step::Truncate(back) => {
                let Some((first, last)) = log.bounds() else {
                    continue;
                };
                let keep = last.0.saturating_sub(back).max(first.0 - 1);
                let keep = keep.max(model.committed.map_or(0, |it| it.1 .0));
                log.truncate_after(LogIndex(keep)).unwrap();
                model.entries.retain(|it| it.index.0 <= keep);
                model.next = model.next.min(keep + 1);
            }
            Step::Cut(back) => {
                let index = model.next.saturating_sub(back);
                log.cut_before(LogIndex(index)).unwrap();
                if model.purged.is_some_and(|it| it.1 .0 + 1 < index) {
                    model.purge(model.term_before(index - 1), index - 1);
                }
            }
            Step::CutBehindEnd(by) => {
                if log.next_index().is_some() {
                    let before = model.next + by - 1;
                    log.cut_before(LogIndex(before + 1)).unwrap();
                    model.purge(model.term_before(before), before);
                }
            }
            Step::Purge(back) => {
                let index = model.next.saturating_sub(back);
                let Some(term) = log.term_of(LogIndex(index)) else {
                    continue;
                };
                log.purge(term, LogIndex(index)).unwrap();
                model.purge(term, index);
            }
            Step::PurgeBehindEnd(by) => {
                let index = model.next + by;
                log.purge(Term(round as u64), LogIndex(index)).unwrap();
                model.purge(Term(round as u64), index);
            }
            Step::Vote(node) => {
                save_vote(&log, vote(round as u64, node)).unwrap();
                model.vote = Some(vote(round as u64, node));
            }
            Step::Commit(back) => {
                let index = LogIndex(model.next.saturating_sub(back));
                log.note_committed(Term(1000), index);
                if let Some(term) = log.term_of(index) {
                    log.note_committed(term, index);
                    if model.committed.is_none_or(|it| it.1 < index) {
                        model.committed = Some((term, index));
                    }
                }
            }
            Step::Sync => log.sync_now().unwrap(),
            Step::Reopen => {
                let bounds = log.bounds();
                log.close().unwrap();
                let (reopened, found) = open(&env, options.clone());
                log = reopened;
                assert_eq!(found.first_index.zip(found.last_index), bounds);
                assert_eq!(found.truncated_bytes, 0);
                // What was purged is committed.
                if model
                    .committed
                    .is_some_and(|it| Some(it.1) < model.purged.map(|it| it.1))
                {
                    model.committed = model.purged;
                }
                assert_eq!(found.purged, model.purged);
                assert_eq!(found.vote, model.vote);
                assert_eq!(found.committed, model.committed);
            }
            Step::Read(back) => {
                let from = LogIndex(model.next.saturating_sub(back));
                let expected: Vec<_> = model
                    .entries
                    .iter()
                    .filter(|it| it.index >= from)
                    .cloned()
                    .collect();
                let all = from..LogIndex(u64::MAX);
                match log.read(from) {
                    Ok(reader) => {
                        let found: Vec<_> = reader.map(|it| it.unwrap()).collect();
                        assert_eq!(found, expected);
                        assert_eq!(log.entries(all, u64::MAX).unwrap(), expected);
                        let some = log.entries(from..LogIndex(from.0 + 3), 900).unwrap();
                        assert_eq!(some, first_of(&expected, 3, 900));
                    }
                    Err(LogError::BelowStart { first, .. }) => {
                        assert_eq!(Some(first), model.purged.map(|it| it.1.next()));
                        assert_eq!(
                            log.entries(all, u64::MAX).is_err(),
                            model.next > from.0,
                            "{from}"
                        );
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
        model.check(&log);
    }
}

/// At most `count` entries of at most `bytes` together, but the first one always.
fn first_of(entries: &[LogEntry], count: usize, bytes: usize) -> Vec<LogEntry> {
    let mut left = bytes;
    let mut out: Vec<LogEntry> = Vec::new();
    for entry in entries.iter().take(count) {
        if entry.payload.len() > left && !out.is_empty() {
            break;
        }
        left = left.saturating_sub(entry.payload.len());
        out.push(entry.clone());
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_log_behaves_like_a_vector(
        steps in prop::collection::vec(step(), 1..60),
        cache_bytes in prop_oneof![Just(0), 0_u64..3000, Just(1 << 20)],
    ) {
        run(steps, cache_bytes);
    }
}
