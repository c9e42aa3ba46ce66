//! A judge of the past: what was answered for a moment of system time is answered for it ever after, by every
//! node. Who cannot answer yet, or not any more, says so; that is no fault.

use std::collections::BTreeMap;
use std::fmt;

/// A question: which moment, and what was asked about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// System time in microseconds.
    pub at_micros: u64,
    /// The statement, without the moment.
    pub about: String,
}

/// An answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who answered; for the report only.
    pub node: u64,
    /// The rows.
    pub rows: String,
}

/// Two answers that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What was asked.
    pub question: Question,
    /// What was answered first.
    pub first: Answer,
    /// What was answered later.
    pub later: Answer,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            question,
            first,
            later,
        } = self;
        write!(
            out,
            "the past has changed: {} as of {} was {} by node {}, and is {} by node {}",
            question.about, question.at_micros, first.rows, first.node, later.rows, later.node
        )
    }
}

/// All questions that were answered.
#[derive(Debug, Default)]
pub struct Past {
    first: BTreeMap<Question, Answer>,
    faults: Vec<Fault>,
}

impl Past {
    /// Nothing was asked.
    pub fn new() -> Past {
        Past::default()
    }

    /// Takes an answer down, and compares it with the first one.
    pub fn answered(&mut self, question: Question, answer: Answer) {
        let Some(first) = self.first.get(&question) else {
            self.first.insert(question, answer);
            return;
        };
        if first.rows != answer.rows {
            self.faults.push(Fault {
                first: first.clone(),
                question,
                later: answer,
            });
        }
    }

    /// What was asked, to be asked again.
    pub fn questions(&self) -> impl Iterator<Item = &Question> {
        self.first.keys()
    }

    /// What must not be, in the order in which it was found.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(past: &mut Past, at_micros: u64, about: &str, node: u64, rows: &str) {
        let question = Question {
            at_micros,
            about: about.into(),
        };
        let rows = rows.into();
        past.answered(question, Answer { node, rows });
    }

    #[test]
    fn the_same_question_has_the_same_answer() {
        let mut past = Past::new();
        ask(&mut past, 1, "a", 1, "x");
        ask(&mut past, 2, "a", 1, "y");
        ask(&mut past, 1, "b", 1, "z");
        ask(&mut past, 1, "a", 2, "x");
        assert_eq!(past.faults(), []);
        assert_eq!(past.questions().count(), 3);
        ask(&mut past, 1, "a", 3, "y");
        let [fault] = past.faults() else {
            panic!("{:?}", past.faults());
        };
        assert_eq!((fault.first.node, fault.later.node), (1, 3));
    }
}
