//! The body of `POST /ingest` becomes rows.
//!
//! Owns the grammar of a body. It walks over the bytes once, builds no tree, and keeps
//! of a reading only where its metrics' names stand until the reading is complete, since
//! its members may come in any order:
//!
//! ```text
//!     body    = reading* | "[" reading ("," reading)* "]"
//!     reading = { "device_id": text, "ts": time, "seq"?: integer, "metrics": { name: number, .. } }
//! ```
//!
//! Refuses, naming the field and its position, everything that would otherwise be lost
//! silently: unknown members, members given twice, empty metrics, values that are no
//! numbers. After an error the rows pushed so far are worthless; the caller drops them.

mod strings;

use std::collections::HashSet;

use chronos_node::Readings;

use super::number::Number;
use super::time::{micros_of_iso, micros_of_number};

/// Longest `device_id` and longest name of a metric.
pub const NAME_MAX_BYTES: usize = 512;

/// Readings with more metrics than this look for repeated names with a hash set.
const LINEAR_SEARCH_MAX: usize = 16;

/// What is wrong with a body, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct IngestError {
    /// One sentence.
    pub message: String,
    /// The member at fault, as `metrics.temp`; `None` where the text is no JSON.
    pub field: Option<String>,
    /// Number of the reading in the body, from 0.
    pub index: u64,
    /// Line in the body, from 1.
    pub line: u64,
    /// Offset in the (decompressed) body, from 0.
    pub byte: u64,
}

/// Reads a body into `readings`. `content_type` decides only whether the body must be
/// one reading after the other (`application/x-ndjson`) or may also be an array.
///
/// Errors: the first fault. `readings` then holds rows of a refused body.
pub fn parse_body(
    content_type: Option<&str>,
    body: &[u8],
    readings: &mut Readings,
) -> Result<(), IngestError> {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(e) => {
            let fault = Fault::syntax(e.valid_up_to(), "the body is not UTF-8");
            return Err(located(*fault, body, 0));
        }
    };
    let mut parser = Parser {
        text,
        bytes: body,
        at: 0,
        index: 0,
        metrics: Vec::new(),
        scratch: String::new(),
    };
    let only_lines = content_type.is_some_and(is_ndjson);
    match parser.body(only_lines, readings) {
        Ok(()) => Ok(()),
        Err(fault) => Err(located(*fault, body, parser.index)),
    }
}

/// Whether a media type means newline-delimited JSON.
fn is_ndjson(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    [
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
    ]
    .iter()
    .any(|name| media_type.eq_ignore_ascii_case(name))
}

fn located(fault: Fault, body: &[u8], index: u64) -> IngestError {
    let before = &body[..fault.at.min(body.len())];
    IngestError {
        message: fault.message,
        field: fault.field,
        index,
        line: 1 + memchr::memchr_iter(b'\n', before).count() as u64,
        byte: fault.at as u64,
    }
}

/// An error before its line and reading are known.
struct Fault {
    at: usize,
    message: String,
    field: Option<String>,
}

impl Fault {
    fn syntax(at: usize, message: impl Into<String>) -> Box<Fault> {
        Box::new(Fault {
            at,
            message: message.into(),
            field: None,
        })
    }

    fn field(at: usize, field: impl Into<String>, message: impl Into<String>) -> Box<Fault> {
        Box::new(Fault {
            at,
            message: message.into(),
            field: Some(field.into()),
        })
    }
}

type Parsed<T> = Result<T, Box<Fault>>;

/// A string: a part of the body, or of the scratch space where escapes were resolved.
#[derive(Clone, Copy)]
enum Text {
    Body(usize, usize),
    Scratch(usize, usize),
}

/// A member of `metrics`.
#[derive(Clone, Copy)]
struct Metric {
    name: Text,
    value: f64,
    /// Where its name stands.
    at: usize,
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Number of the current reading.
    index: u64,
    /// Of the current reading.
    metrics: Vec<Metric>,
    /// Unescaped strings of the current reading.
    scratch: String,
}

impl Parser<'_> {
    fn body(&mut self, only_lines: bool, readings: &mut Readings) -> Parsed<()> {
        if self.bytes.starts_with(b"\xef\xbb\xbf") {
            self.at = 3;
        }
        match self.next_byte() {
            None => Err(Fault::syntax(self.at, "the body holds no reading")),
            Some(b'[') if !only_lines => self.array(readings),
            Some(_) => self.lines(readings),
        }
    }

    fn lines(&mut self, readings: &mut Readings) -> Parsed<()> {
        while self.next_byte().is_some() {
            self.reading(readings)?;
            self.index += 1;
        }
        Ok(())
    }

    fn array(&mut self, readings: &mut Readings) -> Parsed<()> {
        self.at += 1;
        if self.next_byte() != Some(b']') {
            loop {
                self.next_byte();
                self.reading(readings)?;
                self.index += 1;
                match self.next_byte() {
                    Some(b',') => self.at += 1,
                    Some(b']') => break,
                    _ => return Err(self.expected("',' or ']' after a reading")),
                }
            }
        }
        self.at += 1;
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(self.expected("nothing after the array of readings")),
        }
    }

    /// Skips blanks and gives the byte that follows, without taking it.
    #[inline]
    fn next_byte(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// The error that something else stands here.
    #[cold]
    fn expected(&self, what: &str) -> Box<Fault> {
        let found = match self.text.get(self.at..).and_then(|t| t.chars().next()) {
            Some(c) => format!("{c:?}"),
            None => "the end of the body".to_owned(),
        };
        Fault::syntax(self.at, format!("expected {what}, found {found}"))
    }

    fn reading(&mut self, readings: &mut Readings) -> Parsed<()> {
        let start = self.at;
        if self.bytes.get(start) != Some(&b'{') {
            return Err(
                self.expected("a reading, as {\"device_id\": .., \"ts\": .., \"metrics\": {..}}")
            );
        }
        self.scratch.clear();
        self.metrics.clear();
        let (mut device, mut ts, mut seq, mut has_metrics) = (None, None, None, false);
        let mut first = true;
        self.at += 1;
        while self.member(&mut first)? {
            let at = self.at;
            let name = self.string()?;
            self.colon()?;
            let twice = match self.resolve(name).as_bytes() {
                b"device_id" => device.replace(self.device_id()?).is_some(),
                b"ts" => ts.replace(self.ts()?).is_some(),
                b"seq" => seq.replace(self.seq()?).is_some(),
                b"metrics" => {
                    let twice = has_metrics;
                    if !twice {
                        self.metrics()?;
                    }
                    has_metrics = true;
                    twice
                }
                _ => {
                    let name = self.resolve(name).to_owned();
                    let message = format!(
                        "unknown field {name:?}; a reading has device_id, ts, seq and metrics"
                    );
                    return Err(Fault::field(at, name, message));
                }
            };
            if twice {
                let name = self.resolve(name).to_owned();
                let message = format!("{name} is given twice");
                return Err(Fault::field(at, name, message));
            }
        }
        let missing = |field: &str| Fault::field(start, field, format!("{field} is missing"));
        let device = device.ok_or_else(|| missing("device_id"))?;
        let ts = ts.ok_or_else(|| missing("ts"))?;
        if !has_metrics {
            return Err(missing("metrics"));
        }
        let device = self.resolve(device);
        for metric in &self.metrics {
            let name = self.resolve(metric.name);
            readings.push(device, name, ts, seq.unwrap_or(0), metric.value);
        }
        Ok(())
    }

    /// Goes to the next member of an object; `false`: the object ended.
    #[inline]
    fn member(&mut self, first: &mut bool) -> Parsed<bool> {
        match self.next_byte() {
            Some(b'}') => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if !*first => {
                self.at += 1;
                self.next_byte();
            }
            _ if *first => {}
            _ => return Err(self.expected("',' or '}'")),
        }
        *first = false;
        if self.bytes.get(self.at) != Some(&b'"') {
            return Err(self.expected("a field's name in double quotes"));
        }
        Ok(true)
    }

    #[inline]
    fn colon(&mut self) -> Parsed<()> {
        if self.next_byte() != Some(b':') {
            return Err(self.expected("':'"));
        }
        self.at += 1;
        self.next_byte();
        Ok(())
    }

    fn resolve(&self, text: Text) -> &str {
        match text {
            Text::Body(from, to) => self.text.get(from..to),
            Text::Scratch(from, to) => self.scratch.get(from..to),
        }
        .unwrap_or_default()
    }

    fn device_id(&mut self) -> Parsed<Text> {
        let at = self.at;
        if self.bytes.get(at) != Some(&b'"') {
            let message = format!("device_id must be a string, not {}", self.kind_here());
            return Err(Fault::field(at, "device_id", message));
        }
        let text = self.string()?;
        let message = match self.resolve(text).len() {
            0 => "device_id is empty".to_owned(),
            1..=NAME_MAX_BYTES => return Ok(text),
            _ => format!("device_id is longer than {NAME_MAX_BYTES} bytes"),
        };
        Err(Fault::field(at, "device_id", message))
    }

    fn ts(&mut self) -> Parsed<i64> {
        let at = self.at;
        match self.bytes.get(at) {
            Some(b'"') => {
                let text = self.string()?;
                let text = self.resolve(text);
                micros_of_iso(text).ok_or_else(|| {
                    let shown: String = text.chars().take(40).collect();
                    Fault::field(
                        at,
                        "ts",
                        format!("ts {shown:?} is no ISO 8601 time, as 2024-01-01T00:00:00Z"),
                    )
                })
            }
            Some(b'-' | b'0'..=b'9') => {
                let number = self.number("ts")?.0;
                micros_of_number(number).ok_or_else(|| Fault::field(at, "ts", "ts is out of range"))
            }
            _ => {
                let message = format!("ts must be a number or a string, not {}", self.kind_here());
                Err(Fault::field(at, "ts", message))
            }
        }
    }

    fn seq(&mut self) -> Parsed<i64> {
        let at = self.at;
        if !matches!(self.bytes.get(at), Some(b'-' | b'0'..=b'9')) {
            let message = format!("seq must be an integer, not {}", self.kind_here());
            return Err(Fault::field(at, "seq", message));
        }
        let number = self.number("seq")?.0;
        number.to_i64().ok_or_else(|| {
            Fault::field(
                at,
                "seq",
                "seq must be an integer of 64 bits, without point or exponent",
            )
        })
    }

    /// Takes a number; gives where it ended.
    #[inline]
    fn number(&mut self, field: &str) -> Parsed<(Number, usize)> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match Number::read(rest) {
            Ok((number, length)) => {
                self.at += length;
                Ok((number, self.at))
            }
            Err((message, offset)) => Err(Fault::field(self.at + offset, field, message)),
        }
    }

    fn metrics(&mut self) -> Parsed<()> {
        let at = self.at;
        if self.bytes.get(at) != Some(&b'{') {
            let message = format!(
                "metrics must be an object of numbers, not {}",
                self.kind_here()
            );
            return Err(Fault::field(at, "metrics", message));
        }
        self.at += 1;
        let mut first = true;
        while self.member(&mut first)? {
            let at = self.at;
            let name = self.string()?;
            if !(1..=NAME_MAX_BYTES).contains(&self.resolve(name).len()) {
                let message = format!("the name of a metric has 1 to {NAME_MAX_BYTES} bytes");
                return Err(Fault::field(at, "metrics", message));
            }
            self.colon()?;
            let value = self.metric_value(name)?;
            self.metrics.push(Metric { name, value, at });
        }
        if self.metrics.is_empty() {
            return Err(Fault::field(at, "metrics", "metrics is empty"));
        }
        match self.repeated_metric() {
            None => Ok(()),
            Some(metric) => {
                let name = self.resolve(metric.name);
                Err(Fault::field(
                    metric.at,
                    format!("metrics.{name}"),
                    format!("metric {name:?} is given twice"),
                ))
            }
        }
    }

    #[inline]
    fn metric_value(&mut self, name: Text) -> Parsed<f64> {
        let at = self.at;
        let rest = self.bytes.get(at..).unwrap_or_default();
        match rest.first() {
            Some(b'-' | b'0'..=b'9') => match Number::read(rest) {
                Ok((number, length)) => {
                    self.at += length;
                    let text = self.text.get(at..self.at).unwrap_or_default();
                    number.to_f64(text).ok_or_else(|| {
                        self.metric_fault(at, name, "is out of the range of double precision")
                    })
                }
                Err((message, offset)) => {
                    Err(self.metric_fault(at + offset, name, &format!("is no number: {message}")))
                }
            },
            Some(b't') if rest.starts_with(b"true") => {
                self.at += 4;
                Ok(1.0)
            }
            Some(b'f') if rest.starts_with(b"false") => {
                self.at += 5;
                Ok(0.0)
            }
            _ => {
                let problem = format!("must be a number or a boolean, not {}", self.kind_here());
                Err(self.metric_fault(at, name, &problem))
            }
        }
    }

    #[cold]
    fn metric_fault(&self, at: usize, name: Text, problem: &str) -> Box<Fault> {
        let name = self.resolve(name);
        Fault::field(
            at,
            format!("metrics.{name}"),
            format!("metric {name:?} {problem}"),
        )
    }

    /// A metric whose name another one before it has.
    fn repeated_metric(&self) -> Option<Metric> {
        if self.metrics.len() <= LINEAR_SEARCH_MAX {
            for (i, metric) in self.metrics.iter().enumerate() {
                let name = self.resolve(metric.name);
                if self.metrics[..i]
                    .iter()
                    .any(|m| self.resolve(m.name) == name)
                {
                    return Some(*metric);
                }
            }
            return None;
        }
        let mut names = HashSet::with_capacity(self.metrics.len());
        let repeated = self
            .metrics
            .iter()
            .find(|m| !names.insert(self.resolve(m.name)));
        repeated.copied()
    }

    /// What kind of value stands here, for messages.
    #[cold]
    fn kind_here(&self) -> &'static str {
        match self.bytes.get(self.at) {
            Some(b'"') => "a string",
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            Some(b'-' | b'0'..=b'9') => "a number",
            Some(_) => "something that is no JSON",
            None => "the end of the body",
        }
    }
}

#[cfg(test)]
mod tests;
