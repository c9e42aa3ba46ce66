//! Settings of a session: what SET, SHOW and RESET speak of.
//!
//! A setting that would change meaning and is not supported is refused when set
//! to anything but what Chronos does; one that is only advice is accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chronos_model::{text, DataType, SqlState, Stamp, Value};
use chronos_query::{QueryError, TemporalDefaults};
use chronos_store::{ValidFilter, VersionFilter};

use crate::Error;

/// The PostgreSQL version whose behaviour clients may expect.
const SERVER_VERSION: &str = "15.0 (Chronos 0.1.0)";

/// Name, default, and what may be set.
struct Known {
    name: &'static str,
    default: &'static str,
    rule: Rule,
}

enum Rule {
    /// Any value; it has no effect on results.
    Advice,
    /// Only values that mean what is done anyway (compared without case).
    Only(&'static [&'static str]),
    /// One of these, as it is written.
    OneOf(&'static [&'static str]),
    /// Cannot be set.
    ReadOnly,
    /// A duration in milliseconds, or with a unit.
    Milliseconds,
    /// A moment, or `all`; nothing: the present.
    Moment,
    /// A text of so many bytes at most.
    Bytes(usize),
}

const fn known(name: &'static str, default: &'static str, rule: Rule) -> Known {
    Known {
        name,
        default,
        rule,
    }
}

const ON_OFF: Rule = Rule::Advice;

/// All settings there are, by name.
const KNOWN: &[Known] = &[
    known("application_name", "", Rule::Advice),
    known("bytea_output", "hex", Rule::Only(&["hex"])),
    known(
        READ_CONSISTENCY,
        "linearizable",
        Rule::OneOf(&["linearizable", "snapshot", "stale"]),
    ),
    known(
        IDEMPOTENCY_KEY,
        "",
        Rule::Bytes(chronos_model::IDEMPOTENCY_KEY_BYTES_MAX),
    ),
    known(SYSTEM_TIME, "", Rule::Moment),
    known(VALID_TIME, "", Rule::Moment),
    known(
        "client_encoding",
        "UTF8",
        Rule::Only(&["utf8", "utf-8", "unicode", "sql_ascii", "auto"]),
    ),
    known("client_min_messages", "notice", Rule::Advice),
    known(
        "datestyle",
        "ISO, MDY",
        Rule::Only(&["iso", "iso, mdy", "iso, ymd", "iso, dmy", "iso,mdy"]),
    ),
    known(INT_SIZE, "8", Rule::OneOf(&["4", "8"])),
    known(
        "default_text_search_config",
        "pg_catalog.english",
        Rule::Advice,
    ),
    known(
        "default_transaction_isolation",
        "repeatable read",
        Rule::Only(&["repeatable read", "read committed", "read uncommitted"]),
    ),
    known(
        "default_transaction_read_only",
        "off",
        Rule::Only(&["off", "false", "0", "no"]),
    ),
    known("extra_float_digits", "1", Rule::Advice),
    known(
        "idle_in_transaction_session_timeout",
        "0",
        Rule::Milliseconds,
    ),
    known("idle_session_timeout", "0", Rule::Milliseconds),
    known("in_hot_standby", "off", Rule::ReadOnly),
    known("integer_datetimes", "on", Rule::ReadOnly),
    known("intervalstyle", "postgres", Rule::Only(&["postgres"])),
    known("is_superuser", "on", Rule::ReadOnly),
    known("jit", "off", ON_OFF),
    known("lc_collate", "C", Rule::ReadOnly),
    known("lc_ctype", "C.UTF-8", Rule::ReadOnly),
    known("lc_messages", "C", Rule::Advice),
    known("lc_monetary", "C", Rule::Advice),
    known("lc_numeric", "C", Rule::Advice),
    known("lc_time", "C", Rule::Advice),
    known("lock_timeout", "0", Rule::Advice),
    known("max_identifier_length", "63", Rule::ReadOnly),
    known(
        "password_encryption",
        "scram-sha-256",
        Rule::Only(&["scram-sha-256"]),
    ),
    known("row_security", "on", ON_OFF),
    known("search_path", "\"$user\", public", Rule::Advice),
    known("server_encoding", "UTF8", Rule::ReadOnly),
    known("server_version", SERVER_VERSION, Rule::ReadOnly),
    known("server_version_num", "150000", Rule::ReadOnly),
    known("session_authorization", "chronos", Rule::ReadOnly),
    known(
        "standard_conforming_strings",
        "on",
        Rule::Only(&["on", "true", "1"]),
    ),
    known("statement_timeout", "0", Rule::Milliseconds),
    known("synchronous_commit", "on", Rule::Advice),
    known(
        "timezone",
        "UTC",
        Rule::Only(&[
            "utc",
            "etc/utc",
            "gmt",
            "zulu",
            "0",
            "+00:00",
            "etc/gmt",
            "universal",
        ]),
    ),
    known("transaction_isolation", "repeatable read", Rule::ReadOnly),
    known(
        "transaction_read_only",
        "off",
        Rule::Only(&["off", "false", "0", "no"]),
    ),
    known("transaction_timeout", "0", Rule::Milliseconds),
    known("work_mem", "4MB", Rule::Advice),
    known("xmloption", "content", Rule::Advice),
];

/// Settings that the protocol reports when they change, as clients spell them.
const REPORTED: &[&str] = &[
    "server_version",
    "server_encoding",
    "client_encoding",
    "application_name",
    "is_superuser",
    "session_authorization",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "integer_datetimes",
    "standard_conforming_strings",
    "default_transaction_read_only",
    "in_hot_standby",
];

/// A session's settings.
#[derive(Debug)]
pub(super) struct Settings {
    /// Shared with the statements that run, for `current_setting`.
    changed: Arc<BTreeMap<String, String>>,
    unreported: BTreeSet<&'static str>,
    /// What a transaction has changed and may take back.
    pub(super) scope: super::scope::Scope,
}

impl Settings {
    pub(super) fn new() -> Settings {
        Settings {
            changed: Arc::default(),
            unreported: REPORTED.iter().copied().collect(),
            scope: super::scope::Scope::default(),
        }
    }

    /// The value of a setting.
    pub(super) fn get(&self, name: &str) -> Result<String, Error> {
        if let Some(value) = self.changed.get(name) {
            return Ok(shown(name, value));
        }
        let known = KNOWN
            .iter()
            .find(|k| k.name == name)
            .ok_or_else(|| unknown(name))?;
        Ok(known.default.to_owned())
    }

    /// What a setting was set to; `None`: it has its default.
    pub(super) fn changed_value(&self, name: &str) -> Option<&str> {
        self.changed.get(name).map(String::as_str)
    }

    /// All settings with their values, by name.
    pub(super) fn all(&self) -> Vec<(String, String)> {
        let mut all: BTreeMap<String, String> = KNOWN
            .iter()
            .map(|k| (k.name.to_owned(), k.default.to_owned()))
            .collect();
        let changed = self.changed.iter();
        all.extend(changed.map(|(name, value)| (name.clone(), shown(name, value))));
        all.into_iter().collect()
    }

    /// Sets a setting; `None` puts its default back.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), Error> {
        let Some(known) = KNOWN.iter().find(|k| k.name == name) else {
            // As in PostgreSQL, a name with a dot belongs to some extension.
            if !name.contains('.') || name.starts_with("chronos.") {
                return Err(unknown(name));
            }
            match value {
                Some(value) => drop(self.change().insert(name.to_owned(), value.to_owned())),
                None => drop(self.change().remove(name)),
            }
            return Ok(());
        };
        match value {
            // What cannot be set has nothing to go back to.
            None if matches!(known.rule, Rule::ReadOnly) => return Ok(()),
            None => drop(self.change().remove(name)),
            Some(value) => {
                let value = check(known, value)?;
                self.change().insert(name.to_owned(), value);
            }
        }
        if let Some(reported) = REPORTED.iter().find(|r| r.eq_ignore_ascii_case(name)) {
            self.unreported.insert(reported);
        }
        Ok(())
    }

    /// Sets what a connection's start-up packet asks for. Zones and formats that
    /// drivers send by habit and that are not supported keep their default.
    pub(super) fn set_startup(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let name = name.to_ascii_lowercase();
        // asyncpg sends client_encoding in quotes.
        let value = value
            .strip_prefix('\'')
            .and_then(|v| v.strip_suffix('\''))
            .unwrap_or(value);
        match self.set(&name, Some(value)) {
            Err(_) if matches!(name.as_str(), "timezone" | "datestyle" | "intervalstyle") => Ok(()),
            other => other,
        }
    }

    pub(super) fn reset_all(&mut self) {
        let mut names: Vec<String> = self.changed.keys().cloned().collect();
        names.retain(|name| !is_fact(name));
        for name in names {
            self.change().remove(&name);
            if let Some(reported) = REPORTED.iter().find(|r| r.eq_ignore_ascii_case(&name)) {
                self.unreported.insert(reported);
            }
        }
    }

    pub(super) fn take_reported(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.unreported)
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), self.get(&name.to_ascii_lowercase()).ok()?)))
            .collect()
    }

    fn change(&mut self) -> &mut BTreeMap<String, String> {
        Arc::make_mut(&mut self.changed)
    }

    /// What differs from the defaults, as SHOW shows it.
    /// What was set, as it is kept.
    pub(super) fn raw(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.changed)
    }

    /// Puts back what was set at another time.
    pub(super) fn put_back(&mut self, changed: Arc<BTreeMap<String, String>>) {
        let differs = |name: &&&'static str| self.changed.get(**name) != changed.get(**name);
        let told: Vec<_> = REPORTED.iter().filter(differs).copied().collect();
        self.unreported.extend(told);
        self.changed = changed;
    }

    pub(super) fn changed(&self) -> Arc<BTreeMap<String, String>> {
        if !DURATIONS
            .iter()
            .any(|name| self.changed.contains_key(*name))
        {
            return Arc::clone(&self.changed);
        }
        let changed = self.changed.iter();
        Arc::new(
            changed
                .map(|(name, value)| (name.clone(), shown(name, value)))
                .collect(),
        )
    }

    /// What tables without a temporal clause are read at.
    pub(super) fn temporal_defaults(&self) -> TemporalDefaults {
        let given = |name: &str| self.changed.get(name).filter(|value| !value.is_empty());
        TemporalDefaults {
            system: given(SYSTEM_TIME).and_then(|value| match moment(value)? {
                Moment::All => Some(VersionFilter::All),
                Moment::At(micros) => Some(VersionFilter::AsOf(Stamp::last_of_micros(micros))),
            }),
            valid: given(VALID_TIME).and_then(|value| match moment(value)? {
                Moment::All => Some(ValidFilter::All),
                Moment::At(micros) => Some(ValidFilter::AsOf(micros)),
            }),
        }
    }

    /// `default_int_size = 4`: declared columns of type INT are 32 bits wide.
    pub(super) fn has_narrow_integers(&self) -> bool {
        self.changed.get(INT_SIZE).is_some_and(|size| size == "4")
    }

    /// A time limit in milliseconds; `None`: there is none.
    pub(super) fn milliseconds_of(&self, name: &str) -> Option<u64> {
        self.changed.get(name)?.parse().ok().filter(|ms| *ms > 0)
    }

    /// Notes a fact that clients read as a setting and cannot set.
    pub(super) fn tell(&mut self, name: &'static str, value: &str) {
        if self.changed.get(name).map(String::as_str) == Some(value) {
            return;
        }
        self.change().insert(name.to_owned(), value.to_owned());
        self.unreported
            .extend(REPORTED.iter().filter(|r| **r == name));
    }
}

pub(super) const IDEMPOTENCY_KEY: &str = "chronos.idempotency_key";
pub(super) const READ_CONSISTENCY: &str = "chronos.read_consistency";
const INT_SIZE: &str = "default_int_size";
const SYSTEM_TIME: &str = "chronos.system_time";
const VALID_TIME: &str = "chronos.valid_time";

/// Settings in milliseconds that are shown with a unit.
const DURATIONS: [&str; 4] = [
    "statement_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
];

fn is_fact(name: &str) -> bool {
    let known = KNOWN.iter().find(|k| k.name == name);
    known.is_some_and(|k| matches!(k.rule, Rule::ReadOnly))
}

/// A value with its unit: the largest one of which there is a whole number.
fn shown(name: &str, value: &str) -> String {
    let ms = match value.parse::<u64>() {
        Ok(ms) if ms > 0 && DURATIONS.contains(&name) => ms,
        _ => return value.to_owned(),
    };
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1_000, "s"),
    ];
    match units.iter().find(|(unit, _)| ms % unit == 0) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}

/// Whether a setting may have a value, and how it is kept.
pub(super) fn checked(name: &str, value: &str) -> Result<String, QueryError> {
    let mut settings = Settings::new();
    settings
        .set(name, Some(value))
        .and_then(|()| settings.get(name))
        .map_err(|e| QueryError::new(e.code, e.message))
}

fn unknown(name: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
}

fn check(known: &Known, value: &str) -> Result<String, Error> {
    let invalid = |why: String| Error::new(SqlState::INVALID_PARAMETER, why);
    match &known.rule {
        Rule::Advice => Ok(value.to_owned()),
        Rule::ReadOnly => Err(Error::new(
            SqlState("55P02"),
            format!("parameter \"{}\" cannot be changed", known.name),
        )),
        Rule::Only(allowed) if allowed.iter().any(|a| a.eq_ignore_ascii_case(value.trim())) => {
            Ok(known.default.to_owned())
        }
        Rule::Only(_) => Err(invalid(format!(
            "invalid value for parameter \"{}\": \"{value}\"",
            known.name
        ))
        .with_hint(format!("Chronos supports {} only.", known.default))),
        Rule::OneOf(values) => match values.iter().find(|v| **v == value.trim()) {
            Some(value) => Ok((*value).to_owned()),
            None => Err(invalid(format!(
                "invalid value for parameter \"{}\": \"{value}\"",
                known.name
            ))
            .with_hint(format!("Available values: {}.", values.join(", ")))),
        },
        Rule::Moment if is_present(value) => Ok(String::new()),
        Rule::Moment => match moment(value) {
            Some(Moment::All) => Ok("all".to_owned()),
            Some(Moment::At(micros)) => Ok(text::format(&Value::TimestampTz(micros))),
            None => Err(invalid(format!(
                "invalid value for parameter \"{}\": \"{value}\"",
                known.name
            ))
            .with_hint("Give a timestamp, 'all', or 'now' for the present.")),
        },
        Rule::Bytes(most) if value.len() <= *most => Ok(value.to_owned()),
        Rule::Bytes(most) => Err(invalid(format!(
            "invalid value for parameter \"{}\": it is longer than {most} bytes",
            known.name
        ))),
        Rule::Milliseconds => milliseconds(value).map(|ms| ms.to_string()).ok_or_else(|| {
            invalid(format!(
                "invalid value for parameter \"{}\": \"{value}\"",
                known.name
            ))
            .with_hint("Write milliseconds, or a number with ms, s or min.")
        }),
    }
}

enum Moment {
    All,
    At(i64),
}

fn is_present(value: &str) -> bool {
    let value = value.trim();
    value.is_empty() || value.eq_ignore_ascii_case("now")
}

fn moment(value: &str) -> Option<Moment> {
    if value.trim().eq_ignore_ascii_case("all") {
        return Some(Moment::All);
    }
    match text::parse(&DataType::TimestampTz, value) {
        Ok(Value::TimestampTz(micros)) => Some(Moment::At(micros)),
        _ => None,
    }
}

fn milliseconds(value: &str) -> Option<u64> {
    let value = value.trim();
    let digits = value
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let factor = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_done_is_refused() {
        let mut settings = Settings::new();
        assert_eq!(
            settings
                .set("timezone", Some("Europe/Berlin"))
                .unwrap_err()
                .code,
            SqlState::INVALID_PARAMETER
        );
        settings.set("timezone", Some("utc")).unwrap();
        assert_eq!(settings.get("timezone").unwrap(), "UTC");
        assert_eq!(
            settings.set("no_such_thing", Some("1")).unwrap_err().code,
            SqlState::UNDEFINED_OBJECT
        );
        settings.set("myapp.user", Some("7")).unwrap();
        assert_eq!(settings.get("myapp.user").unwrap(), "7");
        settings
            .set_startup("TimeZone", "America/New_York")
            .unwrap();
        assert_eq!(settings.get("timezone").unwrap(), "UTC");
    }

    #[test]
    fn timeouts_have_units() {
        let mut settings = Settings::new();
        assert!(!settings.has_narrow_integers());
        settings.set("default_int_size", Some("4")).unwrap();
        assert!(settings.has_narrow_integers());
        assert!(settings.set("default_int_size", Some("2")).is_err());
        settings.set("statement_timeout", Some("2s")).unwrap();
        assert_eq!(settings.milliseconds_of("statement_timeout"), Some(2_000));
        settings.set("statement_timeout", None).unwrap();
        assert_eq!(settings.milliseconds_of("statement_timeout"), None);
        assert!(settings.set("statement_timeout", Some("soon")).is_err());
    }

    #[test]
    fn changes_are_reported_once() {
        let mut settings = Settings::new();
        assert!(settings
            .take_reported()
            .iter()
            .any(|(n, v)| n == "TimeZone" && v == "UTC"));
        settings.set("application_name", Some("x")).unwrap();
        assert_eq!(
            settings.take_reported(),
            [("application_name".to_owned(), "x".to_owned())]
        );
        assert!(settings.take_reported().is_empty());
    }
}
