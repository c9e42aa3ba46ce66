//! A judge of linearizability: did each register behave as if every operation had taken effect at one moment
//! between its invocation and its return? (Herlihy, Wing: "Linearizability: A Correctness Condition for
//! Concurrent Objects", 1990)
//!
//! Registers are judged one by one, since a history is linearizable if its parts by object are. The search is the
//! "just in time" one of Lowe ("Testing for linearizability", 2017): events are taken in order, with all states
//! that are possible so far; an operation is given its moment no sooner than some return demands it.
//!
//! ```text
//!   events     invoke a    invoke b      return b          return a
//!   possible   {v}         {v}           {v b}, {v a b}    {v b a}, {v a b}
//! ```
//!
//! A state is the register's value and which of the operations under way have had their moment. When none is
//! left, the operation that returned cannot be explained, and it is the one that is named. What an operation of
//! unknown outcome means is bounded first, or each would double the states for good:
//!
//! - a read of unknown outcome says nothing, and is left out;
//! - a write of a value that nobody else writes and nobody saw need not have happened, and is left out;
//! - one whose value was seen had its moment before the first that saw it returned.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

/// States that are held at once, at most; a history that needs more is not judged.
const STATES_MAX: usize = 1 << 18;

/// What an operation did to its register. `None` is the absence of a value, with which every register begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It read this.
    Read(Option<u64>),
    /// It wrote this, whatever was there.
    Write(Option<u64>),
    /// It found `from` there, and put `to` in its place.
    Swap {
        /// What was there.
        from: Option<u64>,
        /// What is there now.
        to: Option<u64>,
    },
    /// It found something else than this there.
    Differs(Option<u64>),
}

impl Action {
    /// The value after it, if the value before it is one that it can have met.
    fn apply(self, value: Option<u64>) -> Option<Option<u64>> {
        match self {
            Action::Read(seen) => (seen == value).then_some(value),
            Action::Write(new) => Some(new),
            Action::Swap { from, to } => (from == value).then_some(to),
            Action::Differs(not) => (not != value).then_some(value),
        }
    }

    fn observes_only(self) -> bool {
        matches!(self, Action::Read(_) | Action::Differs(_))
    }

    fn written(self) -> Option<Option<u64>> {
        match self {
            Action::Write(value) | Action::Swap { to: value, .. } => Some(value),
            Action::Read(_) | Action::Differs(_) => None,
        }
    }

    fn seen(self) -> Option<Option<u64>> {
        match self {
            Action::Read(value) | Action::Swap { from: value, .. } => Some(value),
            Action::Write(_) | Action::Differs(_) => None,
        }
    }
}

/// An operation as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Who; for the report only.
    pub client: u64,
    /// Which register.
    pub key: u64,
    /// What it did; for one of unknown outcome, what it would have done.
    pub action: Action,
    /// When it was sent. Any numbers that grow as time passes will do; where two are equal, the operations overlap.
    pub invoked: u64,
    /// When its outcome was known; `None` if it never was.
    pub returned: Option<u64>,
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (client, invoked, action) = (self.client, self.invoked, self.action);
        match self.returned {
            Some(returned) => write!(out, "client {client} [{invoked}, {returned}] {action:?}"),
            None => write!(out, "client {client} [{invoked}, ?] {action:?}"),
        }
    }
}

/// Why a history is not linearizable, or was not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// No order explains this operation.
    Unexplained {
        /// The first, by return, that has no place.
        operation: Operation,
        /// What the register may have held when it returned, but for what was under way.
        possible: Vec<Option<u64>>,
        /// What else was under way when it returned.
        beside: Vec<Operation>,
    },
    /// Too many operations overlap for this search.
    TooManyStates {
        /// The register.
        key: u64,
        /// How many states may be held.
        limit: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unexplained {
                operation,
                possible,
                beside,
            } => {
                write!(
                    out,
                    "register {} is not linearizable: {operation} has no place; possible values {possible:?}",
                    operation.key
                )?;
                for other in beside {
                    write!(out, "\n  beside {other}")?;
                }
                Ok(())
            }
            Fault::TooManyStates { key, limit } => write!(
                out,
                "register {key} was not judged: more than {limit} states are possible at once"
            ),
        }
    }
}

impl std::error::Error for Fault {}

/// Judges a history of registers, all of them absent at first.
pub fn check(history: &[Operation]) -> Result<(), Fault> {
    check_within(STATES_MAX, history)
}

fn check_within(states_max: usize, history: &[Operation]) -> Result<(), Fault> {
    let mut registers: BTreeMap<u64, Vec<Operation>> = BTreeMap::new();
    for operation in history {
        registers.entry(operation.key).or_default().push(*operation);
    }
    for (key, operations) in registers {
        Search::new(bounded(operations), states_max).run(key)?;
    }
    Ok(())
}

/// Leaves out operations of unknown outcome that need not have happened, and says of the others by when they had.
fn bounded(operations: Vec<Operation>) -> Vec<Operation> {
    let mut writers: HashMap<Option<u64>, usize> = HashMap::new();
    let mut first_seen: HashMap<Option<u64>, u64> = HashMap::new();
    for operation in &operations {
        if let Some(value) = operation.action.written() {
            *writers.entry(value).or_default() += 1;
        }
        // A swap of unknown outcome may not have seen anything; what it may have seen counts at no time.
        if let Some(value) = operation.action.seen() {
            let at = operation.returned.unwrap_or(u64::MAX);
            let first = first_seen.entry(value).or_insert(at);
            *first = at.min(*first);
        }
    }
    let all_tell_what_they_saw = !operations
        .iter()
        .any(|operation| matches!(operation.action, Action::Differs(_)));
    let bound = |mut operation: Operation| {
        if operation.returned.is_some() {
            return Some(operation);
        }
        let value = operation.action.written()?;
        // The absence of a value was there before anybody wrote it.
        if value.is_none() || writers.get(&value) != Some(&1) {
            return Some(operation);
        }
        match first_seen.get(&value) {
            None if all_tell_what_they_saw => None,
            Some(&at) if at != u64::MAX && at > operation.invoked => {
                operation.returned = Some(at);
                Some(operation)
            }
            _ => Some(operation),
        }
    };
    operations.into_iter().filter_map(bound).collect()
}

/// What may be: a value, and which of the operations under way have had their moment, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    value: Option<u64>,
    done: Vec<usize>,
}

impl State {
    fn has_done(&self, operation: usize) -> bool {
        self.done.binary_search(&operation).is_ok()
    }

    fn mark(&mut self, operation: usize) {
        if let Err(at) = self.done.binary_search(&operation) {
            self.done.insert(at, operation);
        }
    }

    fn forget(&mut self, operation: usize) {
        if let Ok(at) = self.done.binary_search(&operation) {
            self.done.remove(at);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Invoke(usize),
    Return(usize),
}

/// The search on one register.
struct Search {
    operations: Vec<Operation>,
    under_way: BTreeSet<usize>,
    possible: HashSet<State>,
    states_max: usize,
}

impl Search {
    fn new(operations: Vec<Operation>, states_max: usize) -> Search {
        let beginning = State {
            value: None,
            done: Vec::new(),
        };
        Search {
            operations,
            under_way: BTreeSet::new(),
            possible: HashSet::from([beginning]),
            states_max,
        }
    }

    fn run(mut self, key: u64) -> Result<(), Fault> {
        let mut events: Vec<(u64, Event)> = Vec::new();
        for (id, operation) in self.operations.iter().enumerate() {
            events.push((operation.invoked, Event::Invoke(id)));
            events.extend(operation.returned.map(|at| (at, Event::Return(id))));
        }
        // At one time, invocations come first: these operations overlap.
        events.sort_unstable();
        for (_, event) in events {
            match event {
                Event::Invoke(id) => self.invoke(id),
                Event::Return(id) => self.finish(id, key)?,
            }
        }
        Ok(())
    }

    fn invoke(&mut self, id: usize) {
        self.under_way.insert(id);
        if self.operations[id].action.observes_only() {
            let states = std::mem::take(&mut self.possible);
            self.possible = states.into_iter().map(|state| self.settle(state)).collect();
        }
    }

    /// Gives all operations their moment that fit the value as it is and do not change it: later is never better.
    fn settle(&self, mut state: State) -> State {
        for &id in &self.under_way {
            let action = self.operations[id].action;
            if action.observes_only() && action.apply(state.value).is_some() {
                state.mark(id);
            }
        }
        state
    }

    /// Keeps the states in which the operation has had its moment, giving it and others theirs where needed.
    fn finish(&mut self, id: usize, key: u64) -> Result<(), Fault> {
        let before: Vec<State> = self.possible.drain().collect();
        let mut met: HashSet<State> = before.iter().cloned().collect();
        let mut open = before.clone();
        let mut after = HashSet::new();
        while let Some(mut state) = open.pop() {
            if state.has_done(id) {
                state.forget(id);
                after.insert(state);
                continue;
            }
            for next in self.steps(&state) {
                if met.len() >= self.states_max {
                    let limit = self.states_max;
                    return Err(Fault::TooManyStates { key, limit });
                }
                if met.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        self.under_way.remove(&id);
        if after.is_empty() {
            return Err(self.unexplained(id, &before));
        }
        self.possible = after;
        Ok(())
    }

    /// The states after one more operation that changes the value.
    fn steps<'a>(&'a self, state: &'a State) -> impl Iterator<Item = State> + 'a {
        let candidates = self.under_way.iter().filter(move |&&other| {
            !self.operations[other].action.observes_only() && !state.has_done(other)
        });
        candidates.filter_map(move |&other| {
            let value = self.operations[other].action.apply(state.value)?;
            let mut next = State {
                value,
                done: state.done.clone(),
            };
            next.mark(other);
            Some(self.settle(next))
        })
    }

    fn unexplained(&self, id: usize, before: &[State]) -> Fault {
        let mut possible: Vec<_> = before.iter().map(|state| state.value).collect();
        possible.sort_unstable();
        possible.dedup();
        let beside = self.under_way.iter().map(|&other| self.operations[other]);
        Fault::Unexplained {
            operation: self.operations[id],
            possible,
            beside: beside.collect(),
        }
    }
}

#[cfg(test)]
#[path = "linearizable_tests.rs"]
mod tests;
