//! What clients did to registers and when, noted as it happens.
//!
//! The order of events is the order of the calls here, so a history that is shared by threads stands behind one
//! lock, and a clock that stands still (a simulated one) loses nothing.

use super::linearizable::{Action, Operation};

/// An operation under way.
#[derive(Debug)]
#[must_use = "an invocation that is not ended counts as one of unknown outcome"]
pub struct Invocation(usize);

/// The operations of all clients.
///
/// An invocation ends in one of four ways: [`done`](History::done), [`read`](History::read),
/// [`failed`](History::failed), or not at all, when nobody can say whether it had an effect.
#[derive(Debug, Default)]
pub struct History {
    /// The number of the next event.
    next: u64,
    operations: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    operation: Operation,
    /// It had no effect, and says nothing.
    is_void: bool,
}

impl History {
    /// Nothing has happened.
    pub fn new() -> History {
        History::default()
    }

    /// A client sends an operation on a register. What a read will observe is not known yet: the value in
    /// [`Action::Read`] is replaced by [`read`](History::read).
    pub fn invoke(&mut self, client: u64, key: u64, action: Action) -> Invocation {
        let invoked = self.tick();
        self.operations.push(Entry {
            operation: Operation {
                client,
                key,
                action,
                invoked,
                returned: None,
            },
            is_void: false,
        });
        Invocation(self.operations.len() - 1)
    }

    /// The write or swap was acknowledged.
    pub fn done(&mut self, invocation: Invocation) {
        let now = self.tick();
        self.operations[invocation.0].operation.returned = Some(now);
    }

    /// The read returned this value.
    pub fn read(&mut self, invocation: Invocation, value: Option<u64>) {
        let now = self.tick();
        let operation = &mut self.operations[invocation.0].operation;
        operation.returned = Some(now);
        operation.action = Action::Read(value);
    }

    /// The swap found another value than it expected, and changed nothing.
    pub fn differed(&mut self, invocation: Invocation) {
        let now = self.tick();
        let operation = &mut self.operations[invocation.0].operation;
        operation.returned = Some(now);
        if let Action::Swap { from, .. } = operation.action {
            operation.action = Action::Differs(from);
        }
    }

    /// It certainly had no effect.
    pub fn failed(&mut self, invocation: Invocation) {
        self.operations[invocation.0].is_void = true;
    }

    /// What is to be judged: everything but what failed.
    pub fn operations(&self) -> Vec<Operation> {
        let effective = self.operations.iter().filter(|entry| !entry.is_void);
        effective.map(|entry| entry.operation).collect()
    }

    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_noted_in_the_order_of_their_events() {
        let mut history = History::new();
        let write = history.invoke(1, 7, Action::Write(Some(1)));
        let read = history.invoke(2, 7, Action::Read(None));
        history.read(read, Some(1));
        history.done(write);
        let refused = history.invoke(1, 7, Action::Write(Some(2)));
        history.failed(refused);
        let swap = history.invoke(
            1,
            7,
            Action::Swap {
                from: Some(9),
                to: Some(3),
            },
        );
        history.differed(swap);
        let _unknown = history.invoke(2, 7, Action::Write(Some(4)));
        let all = history.operations();
        let times: Vec<_> = all.iter().map(|o| (o.invoked, o.returned)).collect();
        assert_eq!(times, [(1, Some(4)), (2, Some(3)), (6, Some(7)), (8, None)]);
        assert_eq!(all[1].action, Action::Read(Some(1)));
        assert_eq!(all[2].action, Action::Differs(Some(9)));
    }
}
