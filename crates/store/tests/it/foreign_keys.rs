//! Foreign keys against the naive model: a write set is applied if, and only if, every child that
//! it would leave has its parents, whatever was flushed, compacted and replayed.

use std::collections::BTreeMap;
use std::path::Path;

use chronos_env::SimEnv;
use chronos_model::{
    Change, ColumnId, ColumnSchema, DataType, Expect, ForeignKey, IndexColumn, IndexSchema,
    IndexState, NodeId, Stamp, TableId, TableSchema, Uniqueness, Value, WriteSet,
};
use chronos_store::{ApplyError, LogIndex, ScanColumn, ScanRequest, Store};
use proptest::prelude::*;

use crate::fixture::{batch, change, key_of, options, rows, stamp};

const PARENT: TableId = TableId(1);
const CHILD: TableId = TableId(3);

/// Two numbers beside the key, NULL perhaps.
type Row = (Option<i64>, Option<i64>);

#[derive(Clone, Debug)]
enum Op {
    /// Parents, then children: key and row, `None`: it goes. In this order or the other.
    Set(Vec<(i64, Option<Row>)>, Vec<(i64, Option<Row>)>, bool),
    /// So many children of one parent, as a batch.
    Batch(i64, i64),
    Truncate(bool),
    Flush,
    Compact,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let row = (prop::option::of(0i64..6), prop::option::of(0i64..6));
    let one = (0i64..6, prop::option::weighted(0.6, row));
    let some = prop::collection::vec(one, 0..3);
    prop_oneof![
        16 => (some.clone(), some, any::<bool>()).prop_map(|(p, c, first)| Op::Set(p, c, first)),
        1 => (0i64..6, 60i64..80).prop_map(|(p, n)| Op::Batch(p, n)),
        1 => any::<bool>().prop_map(Op::Truncate),
        2 => Just(Op::Flush),
        1 => Just(Op::Compact),
        1 => Just(Op::Reopen),
    ]
}

fn table(name: &str, id: TableId) -> TableSchema {
    let column = |name: &str| ColumnSchema {
        name: name.into(),
        data_type: DataType::Int8,
        nullable: name != "id",
        default: None,
        attributes: Default::default(),
    };
    TableSchema {
        id,
        name: name.into(),
        columns: ["id", "a", "b"].map(column).into(),
        shape: Default::default(),
        rules: Default::default(),
        primary_key: vec![0],
        options: Default::default(),
    }
}

fn index(name: &str, column: usize, unique: Uniqueness) -> Change {
    Change::CreateIndex(IndexSchema {
        id: TableId(0),
        name: name.into(),
        table: TableId(0),
        columns: vec![IndexColumn {
            column,
            descending: column == 2,
            nulls_first: false,
        }],
        included: vec![],
        unique,
        conditions: vec![],
        state: IndexState::Building,
        created: 0,
        for_foreign_key: false,
    })
}

/// `a` refers to a parent's key, `b` to its `b`.
fn child() -> TableSchema {
    let key = |name: &str, column: u32, referenced: u32| ForeignKey {
        name: name.into(),
        columns: vec![ColumnId(column)],
        table: PARENT,
        referenced: vec![ColumnId(referenced)],
        on_update: Default::default(),
        on_delete: Default::default(),
        deferral: Default::default(),
    };
    let mut child = table("c", CHILD);
    child.rules.foreign_keys = vec![key("a_fkey", 1, 0), key("b_fkey", 2, 2)];
    child
}

fn values(key: i64, row: Row) -> Vec<Value> {
    let number = |n: Option<i64>| n.map_or(Value::Null, Value::Int8);
    vec![Value::Int8(key), number(row.0), number(row.1)]
}

#[derive(Clone, Default, PartialEq, Debug)]
struct Naive {
    parents: BTreeMap<i64, Row>,
    children: BTreeMap<i64, Row>,
}

impl Naive {
    fn holds(&self) -> bool {
        let mut given: Vec<i64> = self.parents.values().filter_map(|row| row.1).collect();
        given.sort_unstable();
        let is_unique = given.windows(2).all(|pair| pair[0] != pair[1]);
        let has_parents = |row: &Row| {
            row.0.is_none_or(|key| self.parents.contains_key(&key))
                && row.1.is_none_or(|b| given.contains(&b))
        };
        is_unique && self.children.values().all(has_parents)
    }
}

struct Run {
    sim: SimEnv,
    store: Option<Store>,
    log: Vec<(LogIndex, Stamp, WriteSet)>,
    naive: Naive,
}

impl Run {
    fn new() -> Run {
        let sim = SimEnv::new(1);
        let store = Store::open(&sim.env(), Path::new("/store"), options()).unwrap();
        let mut run = Run {
            sim,
            store: Some(store),
            log: Vec::new(),
            naive: Naive::default(),
        };
        let mut parent = table("p", TableId(0));
        parent.id = TableId(0);
        run.apply(vec![
            Change::CreateTable(parent),
            index("p_b", 2, Uniqueness::Constraint),
        ])
        .unwrap();
        let mut child = child();
        child.id = TableId(0);
        run.apply(vec![
            Change::CreateTable(child),
            index("c_a", 1, Uniqueness::No),
            index("c_b", 2, Uniqueness::No),
        ])
        .unwrap();
        run
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), ApplyError> {
        let index = LogIndex(self.log.len() as u64 + 1);
        let recorded = stamp(index.0);
        let set = WriteSet {
            begin: Stamp::MAX,
            changes,
        };
        let applied = self
            .store()
            .apply_write_set(index, recorded, NodeId(7), &set);
        self.log.push((index, recorded, set));
        applied.map(drop)
    }

    fn run(&mut self, op: &Op) {
        let mut next = self.naive.clone();
        let changes = match op {
            Op::Set(parents, children, parents_first) => {
                let mut sets = vec![
                    changes(&table("p", PARENT), parents, &mut next.parents),
                    changes(&child(), children, &mut next.children),
                ];
                if !parents_first {
                    sets.reverse();
                }
                sets
            }
            Op::Batch(parent, count) => {
                let all: Vec<_> = (0..*count)
                    .map(|n| values(1000 + n, (Some(*parent), None)))
                    .collect();
                let keys = (1000..1000 + *count).map(|n| (n, (Some(*parent), None)));
                next.children.extend(keys);
                vec![batch(&child(), Expect::Any, &all)]
            }
            Op::Truncate(both) => {
                if *both {
                    next = Naive::default();
                    vec![Change::Truncate(PARENT), Change::Truncate(CHILD)]
                } else {
                    let refused = self.apply(vec![Change::Truncate(PARENT)]).unwrap_err();
                    assert!(matches!(refused, ApplyError::TruncatesReferenced { .. }));
                    return;
                }
            }
            Op::Flush => return self.store().flush_now().unwrap(),
            Op::Compact => {
                self.store().flush_now().unwrap();
                return self.store().compact_now().map(drop).unwrap();
            }
            Op::Reopen => return self.reopen(),
        };
        let applied = self.apply(changes);
        match applied {
            Ok(()) => {
                assert!(next.holds(), "{op:?} must be refused of {:?}", self.naive);
                self.naive = next;
            }
            Err(ApplyError::ForeignKey(_) | ApplyError::UniqueViolation { .. }) => {
                assert!(!next.holds(), "{op:?} must be applied to {:?}", self.naive);
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Closes the store, opens it again, and replays what it has not kept: each entry has the
    /// outcome that it had.
    fn reopen(&mut self) {
        drop(self.store.take());
        let store = Store::open(&self.sim.env(), Path::new("/store"), options()).unwrap();
        let first = store.applied_index().next();
        for (index, recorded, set) in self.log.iter().filter(|(index, ..)| *index >= first) {
            let _ = store.apply_write_set(*index, *recorded, NodeId(7), set);
        }
        self.store = Some(store);
    }

    fn check(&self) {
        let stored = Naive {
            parents: self.stored("p"),
            children: self.stored("c"),
        };
        assert_eq!(stored, self.naive);
        assert!(stored.holds());
    }

    fn stored(&self, name: &str) -> BTreeMap<i64, Row> {
        let view = self.store().read_view();
        let table = view.catalog().table(name).unwrap().clone();
        let request = ScanRequest {
            columns: (0..3).map(ScanColumn::Column).collect(),
            ..ScanRequest::default()
        };
        let mut rows = BTreeMap::new();
        for partition in view.scan(&table, request).unwrap() {
            for batch in partition {
                let batch = batch.unwrap();
                for row in 0..batch.num_rows() {
                    let value = |c: usize| {
                        let column = batch.column(c);
                        match chronos_model::value_at(column, row, &DataType::Int8).unwrap() {
                            Value::Int8(v) => Some(v),
                            _ => None,
                        }
                    };
                    rows.insert(value(0).unwrap(), (value(1), value(2)));
                }
            }
        }
        rows
    }
}

fn changes(
    table: &TableSchema,
    written: &[(i64, Option<Row>)],
    naive: &mut BTreeMap<i64, Row>,
) -> Change {
    let mut changes = Vec::new();
    for (key, row) in written {
        match row {
            Some(row) => drop(naive.insert(*key, *row)),
            None => drop(naive.remove(key)),
        }
        let row = row.map(|row| values(*key, row));
        let key = key_of(table, &values(*key, (None, None)));
        changes.push(change(&key, Expect::Any, row.as_deref()));
    }
    rows(table.id, changes)
}

#[test]
fn children_have_their_parents() {
    let ops = || prop::collection::vec(op(), 1..40);
    crate::cases::run_cases(120, ops, |ops| {
        let mut run = Run::new();
        for op in &ops {
            run.run(op);
        }
        run.check();
        run.reopen();
        run.check();
    });
}

#[test]
fn what_a_foreign_key_needs_stays() {
    let mut run = Run::new();
    let parent = run.store().catalog().table("p").unwrap().id;
    let indexes: Vec<TableId> = run
        .store()
        .catalog()
        .indexes
        .values()
        .map(|i| i.id)
        .collect();
    for needed in indexes {
        let refused = run.apply(vec![Change::DropIndex(needed)]).unwrap_err();
        assert!(matches!(refused, ApplyError::CatalogConflict));
    }
    let refused = run.apply(vec![Change::DropTable(parent)]).unwrap_err();
    assert!(matches!(refused, ApplyError::CatalogConflict));
    let ttl = chronos_model::OptionChange::Ttl(Some(5));
    let refused = run.apply(vec![Change::AlterOptions(parent, vec![ttl])]);
    assert!(matches!(refused, Err(ApplyError::CatalogConflict)));
    run.apply(vec![Change::DropTable(CHILD)]).unwrap();
    run.apply(vec![Change::DropTable(parent)]).unwrap();
}
