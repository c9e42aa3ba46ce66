//! When an append is acknowledged, and how that is spelled in flags and configuration.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// When an append counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After the sync that covers it: an acknowledged entry survives a power cut.
    #[default]
    Strict,
    /// After the write; a sync follows within the interval. A power cut loses at most
    /// what was acknowledged during the last interval; a crash of the process, nothing.
    Interval(Duration),
    /// After the write; the operating system syncs when it likes. A power cut loses up
    /// to some tens of seconds; a crash of the process, nothing.
    None,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strict => f.write_str("strict"),
            Self::None => f.write_str("none"),
            Self::Interval(interval) => {
                let millis = interval.as_millis();
                if millis.is_multiple_of(1000) {
                    write!(f, "interval={}s", millis / 1000)
                } else {
                    write!(f, "interval={millis}ms")
                }
            }
        }
    }
}

/// The text is no durability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown durability {text:?}: expected strict, none, or interval= with a time \
     from 1ms to 60s, such as interval=100ms"
)]
pub struct ParseDurabilityError {
    text: String,
}

impl FromStr for Durability {
    type Err = ParseDurabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.trim() {
            "strict" => Some(Self::Strict),
            "none" => Some(Self::None),
            other => other.strip_prefix("interval=").and_then(parse_interval),
        };
        parsed.ok_or_else(|| ParseDurabilityError {
            text: text.to_owned(),
        })
    }
}

fn parse_interval(text: &str) -> Option<Durability> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => number,
        "s" => number.checked_mul(1000)?,
        _ => return None,
    };
    (1..=60_000)
        .contains(&millis)
        .then(|| Durability::Interval(Duration::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_reads_back() {
        for text in [
            "strict",
            "none",
            "interval=100ms",
            "interval=1ms",
            "interval=2s",
        ] {
            assert_eq!(text.parse::<Durability>().unwrap().to_string(), text);
        }
        assert_eq!(
            "interval=2000ms".parse::<Durability>().unwrap(),
            Durability::Interval(Duration::from_secs(2))
        );
    }

    #[test]
    fn nonsense_is_refused_with_the_choices() {
        for text in [
            "",
            "Strict",
            "interval",
            "interval=",
            "interval=5",
            "interval=0ms",
            "interval=61s",
            "interval=-1ms",
            "interval=5m",
            "interval=99999999999999999999s",
            "interval=1.5s",
        ] {
            let error = text.parse::<Durability>().unwrap_err().to_string();
            assert!(
                error.contains("interval=100ms") && error.contains(text),
                "{error}"
            );
        }
    }
}
