//! The end of a run: all faults are healed, all nodes come to the same state, and what clients saw is compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chronos_model::Value;
use chronos_node::cluster::NodeNumber;
use chronos_node::{Node, NodeHashes};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::client::{list, question_sql, KEYS};
use super::connection::{shown, Connection, Reply};
use super::nemesis::Nemesis;
use super::process::Process;
use super::record::Record;
use super::trace::note;
use super::Cluster;
use crate::checkers::list_append::{anomalies, settle, Key, List, Promise};
use crate::checkers::past::{Answer, Question};
use crate::checkers::{ledger, linearizable};

/// A cluster without faults must work again within so long.
const HEALING_PATIENCE: Duration = Duration::from_secs(60);
/// Questions about the past that every node is asked again, at most.
const QUESTIONS_MAX: usize = 4;
/// Tables, and what tells all versions of them.
const HISTORIES: [(&str, &str); 5] = [
    ("registers", "k, v"),
    ("lists", "k, v"),
    ("ledger", "id, by"),
    ("journal", "id, by"),
    ("counters", "k, v"),
];

/// What looks at the end of a run.
pub(super) struct Judge {
    cluster: Cluster,
    record: Arc<Mutex<Record>>,
}

impl Judge {
    pub(super) fn new(cluster: &Cluster, record: &Arc<Mutex<Record>>) -> Judge {
        Judge {
            cluster: cluster.clone(),
            record: Arc::clone(record),
        }
    }

    /// Heals the cluster and finds what must not be.
    pub(super) async fn judge(&self, nemesis: &Nemesis) -> Vec<String> {
        let deadline = Instant::now() + HEALING_PATIENCE;
        let members = loop {
            nemesis.heal();
            match self.converged().await {
                Ok(members) => break members,
                Err(why) if Instant::now() > deadline => {
                    let mut faults = vec![format!("the cluster does not recover: {why}")];
                    self.judge_by_anybody(&mut faults).await;
                    return faults;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        };
        let mut faults = Vec::new();
        let (node, process) = &members[0];
        match self.contents(node, process).await {
            Ok(contents) => {
                self.judge_clients(&contents, &mut faults);
                match node.content_hashes(None, None) {
                    Ok(hashes) => {
                        self.compare_nodes(&contents, &hashes, &members[1..], &mut faults)
                            .await;
                    }
                    Err(error) => faults.push(format!("{process:?} cannot be compared: {error}")),
                }
            }
            Err(why) => faults.push(why),
        }
        self.ask_again(&members, &mut faults).await;
        faults
    }

    /// The members of the cluster, once all of them run and have applied the same.
    async fn converged(&self) -> Result<Vec<(Node, Process)>, String> {
        let running = self.cluster.running();
        let seen = running.iter().map(|(node, _)| node.cluster().status());
        let led = seen
            .filter(|status| status.role == "leader")
            .max_by_key(|status| status.term);
        let Some(led) = led else {
            let seen: Vec<_> = running
                .iter()
                .map(|(node, _)| node.cluster().status())
                .collect();
            return Err(format!("nobody leads: {seen:?}"));
        };
        if led.changing {
            return Err(format!(
                "a change of voters does not end: {:?}",
                led.members
            ));
        }
        let members: BTreeSet<NodeNumber> = led.members.iter().map(|m| m.number).collect();
        let members: Vec<(Node, Process)> = running
            .into_iter()
            .filter(|(_, process)| members.contains(&process.number))
            .collect();
        if members.len() < led.members.len() {
            return Err(format!("not all of {:?} run", led.members));
        }
        for (node, process) in &members {
            let mut connection = Connection::open(node, process);
            let sql = format!("UPDATE counters SET v = v + 1 WHERE k = {KEYS}");
            if let reply @ (Reply::Refused(_) | Reply::Unknown(_)) = connection.ask(&sql).await {
                return Err(format!("{process:?} does not write: {reply:?}"));
            }
        }
        // Followers learn with the next heartbeat what is committed.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let applied: Vec<u64> = members
            .iter()
            .map(|(node, _)| node.cluster().status().applied_index)
            .collect();
        match applied.iter().all(|index| *index == applied[0]) {
            true => Ok(members),
            false => Err(format!("applied are {applied:?}")),
        }
    }

    /// All versions of all tables as a node has them.
    async fn contents(&self, node: &Node, process: &Process) -> Result<Contents, String> {
        let mut connection = Connection::open(node, process);
        let mut contents = Contents::default();
        for (table, columns) in HISTORIES {
            let current = format!("SELECT {columns} FROM {table}");
            let versions = format!(
                "SELECT {columns}, _system_from, _system_to FROM {table} FOR SYSTEM_TIME ALL"
            );
            for (sql, into) in [
                (current, &mut contents.current),
                (versions, &mut contents.versions),
            ] {
                match connection.ask(&sql).await {
                    Reply::Done { rows, .. } => into.insert(table, rows),
                    other => return Err(format!("{process:?} does not answer {sql}: {other:?}")),
                };
            }
        }
        Ok(contents)
    }

    /// Compares what clients saw with what some node answers, although not all of them do.
    async fn judge_by_anybody(&self, faults: &mut Vec<String>) {
        for (node, process) in self.cluster.running() {
            if let Ok(contents) = self.contents(&node, &process).await {
                return self.judge_clients(&contents, faults);
            }
        }
    }

    async fn compare_nodes(
        &self,
        first: &Contents,
        expected: &NodeHashes,
        others: &[(Node, Process)],
        faults: &mut Vec<String>,
    ) {
        for (node, process) in others {
            let hashes = match node.content_hashes(None, None) {
                Ok(hashes) if hashes == *expected => continue,
                Ok(hashes) => hashes,
                Err(error) => {
                    faults.push(format!("{process:?} cannot be compared: {error}"));
                    continue;
                }
            };
            faults.push(format!(
                "{process:?} has another content: {hashes:?} instead of {expected:?}"
            ));
            match self.contents(node, process).await {
                Ok(contents) => faults.extend(first.differences(&contents, process)),
                Err(why) => faults.push(why),
            }
        }
    }

    fn judge_clients(&self, contents: &Contents, faults: &mut Vec<String>) {
        let mut record = self.record.lock();
        let record = &mut *record;
        // What is there at the end is read once more.
        for (key, value) in contents.numbers("registers") {
            let read = linearizable::Action::Read(None);
            let invocation = record.registers.invoke(0, key, read);
            record.registers.read(invocation, Some(value));
        }
        if let Err(fault) = linearizable::check(&record.registers.operations()) {
            faults.push(fault.to_string());
        }
        for (table, fates) in &record.entries {
            let now = ledger::faults(fates, &Contents::ids(&contents.current, table));
            faults.extend(now.iter().map(|fault| format!("{table}: {fault}")));
            // Nobody changes them: there is one version of each.
            let ever = ledger::faults(fates, &Contents::ids(&contents.versions, table));
            faults.extend(ever.iter().map(|fault| format!("past of {table}: {fault}")));
        }
        let end = contents.lists();
        let settled = settle(
            std::mem::take(&mut record.unsettled),
            &record.transactions,
            &end,
        );
        record.transactions.extend(settled);
        let wrong = anomalies(&record.transactions, &end, Promise::Snapshot);
        faults.extend(wrong.iter().map(|anomaly| format!("lists: {anomaly:?}")));
        for (key, value) in contents.numbers("counters").filter(|(key, _)| *key < KEYS) {
            let raises = record.counters.get(&key).copied().unwrap_or_default();
            let (least, most) = (raises.known, raises.known + raises.unknown);
            if !(least..=most).contains(&value) {
                faults.push(format!(
                    "counter {key} is {value}, and was raised {least} times, perhaps {most}"
                ));
            }
        }
    }

    /// Asks every node again what was answered about the past.
    async fn ask_again(&self, members: &[(Node, Process)], faults: &mut Vec<String>) {
        let questions: Vec<Question> = {
            let record = self.record.lock();
            let all: Vec<_> = record.past.questions().cloned().collect();
            let step = all.len().div_ceil(QUESTIONS_MAX).max(1);
            all.into_iter().step_by(step).collect()
        };
        for (node, process) in members {
            let mut connection = Connection::open(node, process);
            for question in &questions {
                if let Reply::Done { rows, .. } = connection.ask(&question_sql(question)).await {
                    let answer = Answer {
                        node: connection.node(),
                        rows: shown(&rows),
                    };
                    note!(
                        self.cluster.trace(),
                        "{} as of {} at {process:?}: {}",
                        question.about,
                        question.at_micros,
                        answer.rows
                    );
                    self.record.lock().past.answered(question.clone(), answer);
                }
            }
        }
        let record = self.record.lock();
        faults.extend(record.past.faults().iter().map(ToString::to_string));
    }
}

type Tables = BTreeMap<&'static str, Vec<Vec<Value>>>;

/// What a node holds.
#[derive(Default)]
struct Contents {
    current: Tables,
    versions: Tables,
}

impl Contents {
    /// Rows of two numbers.
    fn numbers(&self, table: &str) -> impl Iterator<Item = (u64, u64)> + '_ {
        let rows = self.current.get(table).into_iter().flatten();
        rows.filter_map(|row| match row.as_slice() {
            [Value::Int8(a), Value::Int8(b)] => {
                Some((u64::try_from(*a).ok()?, u64::try_from(*b).ok()?))
            }
            _ => None,
        })
    }

    /// The first column.
    fn ids(of: &Tables, table: &str) -> Vec<u64> {
        let rows = of.get(table).into_iter().flatten();
        rows.filter_map(|row| match row.first() {
            Some(Value::Int8(id)) => u64::try_from(*id).ok(),
            _ => None,
        })
        .collect()
    }

    fn lists(&self) -> BTreeMap<Key, List> {
        let rows = self.current.get("lists").into_iter().flatten();
        rows.filter_map(|row| match row.as_slice() {
            [Value::Int8(key), value] => Some((*key, list(&[vec![value.clone()]]))),
            _ => None,
        })
        .collect()
    }

    fn differences(&self, other: &Contents, process: &Process) -> Vec<String> {
        let mut found = Vec::new();
        for (mine, theirs) in [
            (&self.current, &other.current),
            (&self.versions, &other.versions),
        ] {
            for (table, rows) in mine {
                let (mine, theirs) = (
                    shown(rows),
                    theirs.get(table).map_or("".into(), |r| shown(r)),
                );
                if mine != theirs {
                    found.push(format!(
                        "{process:?} has another {table}: {theirs} instead of {mine}"
                    ));
                }
            }
        }
        found
    }
}
