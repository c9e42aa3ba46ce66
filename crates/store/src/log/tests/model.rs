//! Any sequence of operations, against a plain vector.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Truncate(u64),
    Cut(u64),
    CutBehindEnd(u64),
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
        1 => Just(Step::Sync),
        2 => Just(Step::Reopen),
        2 => (0_u64..40).prop_map(Step::Read),
    ]
}

/// What the log has to hold. Entries before `needed` may be there or not.
#[derive(Default)]
struct Model {
    entries: Vec<LogEntry>,
    next: u64,
    needed: u64,
}

impl Model {
    fn check(&self, log: &Log) {
        let found = read_all(log);
        let known = self.entries.len() - found.len().min(self.entries.len());
        assert_eq!(found, self.entries[known..]);
        let first_needed = self.entries.iter().find(|it| it.index.0 >= self.needed);
        if let Some(first_needed) = first_needed {
            assert!(found[0].index <= first_needed.index);
        }
    }
}

fn run(steps: Vec<Step>) {
    let env = Env::simulated(7);
    let (mut log, _) = open(&env, small_files());
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
                    .map(|(len, index)| entry(index, vec![round as u8; *len]))
                    .collect();
                append(&log, new.clone()).unwrap();
                model.next += new.len() as u64;
                model.entries.extend(new);
            }
            Step::Truncate(back) => {
                let Some((first, last)) = log.bounds() else {
                    continue;
                };
                let keep = last.0.saturating_sub(back).max(first.0 - 1);
                log.truncate_after(LogIndex(keep)).unwrap();
                model.entries.retain(|it| it.index.0 <= keep);
                model.next = keep + 1;
            }
            Step::Cut(back) => {
                let index = model.next.saturating_sub(back);
                log.cut_before(LogIndex(index)).unwrap();
                model.needed = model.needed.max(index);
            }
            Step::CutBehindEnd(by) => {
                if log.next_index().is_some() {
                    model.next += by;
                    log.cut_before(LogIndex(model.next)).unwrap();
                    model.entries.clear();
                }
            }
            Step::Sync => log.sync_now().unwrap(),
            Step::Reopen => {
                let bounds = log.bounds();
                log.close().unwrap();
                let (reopened, found) = open(&env, small_files());
                log = reopened;
                assert_eq!(found.first_index.zip(found.last_index), bounds);
                assert_eq!(found.truncated_bytes, 0);
            }
            Step::Read(back) => {
                let from = LogIndex(model.next.saturating_sub(back));
                if let Ok(reader) = log.read(from) {
                    let found: Vec<_> = reader.map(|it| it.unwrap()).collect();
                    let expected: Vec<_> = model
                        .entries
                        .iter()
                        .filter(|it| it.index >= from)
                        .cloned()
                        .collect();
                    assert_eq!(found, expected);
                }
            }
        }
        model.check(&log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_log_behaves_like_a_vector(steps in prop::collection::vec(step(), 1..60)) {
        run(steps);
    }
}
