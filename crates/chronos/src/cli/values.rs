//! Values that the command line reads: addresses, sizes, durability.
//!
//! Each is parsed once, at the edge, into a type that cannot hold nonsense.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::error::CliError;

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// After its fsync.
    Strict,
    /// Before its fsync, which follows within this time.
    Interval(Duration),
    /// Whenever the operating system writes it.
    None,
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "strict" => return Ok(Self::Strict),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let duration = text
            .strip_prefix("interval=")
            .ok_or("expected strict, none or interval=100ms")?;
        let digits = duration.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let amount: u64 = digits
            .parse()
            .map_err(|_| format!("{duration:?} is not a duration such as 100ms or 2s"))?;
        let interval = match &duration[digits.len()..] {
            "us" => Duration::from_micros(amount),
            "ms" => Duration::from_millis(amount),
            "s" => Duration::from_secs(amount),
            unit => return Err(format!("unknown unit {unit:?}: use us, ms or s")),
        };
        if interval.is_zero() {
            return Err("the interval must be longer than zero; use strict instead".to_owned());
        }
        if interval > Duration::from_secs(60) {
            return Err("the interval must be at most 60s".to_owned());
        }
        Ok(Self::Interval(interval))
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strict => f.write_str("strict"),
            Self::Interval(interval) => write!(f, "interval={interval:?}"),
            Self::None => f.write_str("none"),
        }
    }
}

/// A number of bytes, written as `4096`, `64KiB`, `512M`, `1.5GiB` (powers of 1024)
/// or `500MB` (powers of 1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let number = trimmed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = trimmed[number.len()..].to_ascii_lowercase();
        let scale: u64 = match unit.as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(format!("unknown unit {unit:?}: use KiB, MiB or GiB")),
        };
        let number = number.trim_end();
        if let Ok(whole) = number.parse::<u64>() {
            return whole
                .checked_mul(scale)
                .map(Self)
                .ok_or_else(|| format!("{text} is more than 64 bits can count"));
        }
        match number.parse::<f64>() {
            Ok(n) if n.is_finite() && n >= 0.0 && n * scale as f64 <= (1u64 << 53) as f64 => {
                Ok(Self((n * scale as f64) as u64))
            }
            _ => Err(format!("{text:?} is not a size such as 512MiB")),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (scale, unit) in [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if self.0 >= scale && self.0.is_multiple_of(scale) {
                return write!(f, "{}{unit}", self.0 / scale);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A host name or address and a port. An IPv6 address is written in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// Without brackets.
    pub(crate) host: String,
    /// 0 lets the operating system choose, where one listens.
    pub(crate) port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or("expected host:port, such as 127.0.0.1:8000")?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest
                .strip_suffix(']')
                .ok_or("missing ] after the address")?,
            None if host.contains(':') => {
                return Err(format!(
                    "write an IPv6 address in brackets: [{host}]:{port}"
                ))
            }
            None => host,
        };
        if host.is_empty() || host.contains(char::is_whitespace) || host.contains('/') {
            return Err(format!("{host:?} is not a host name"));
        }
        let port = port
            .parse()
            .map_err(|_| format!("{port:?} is not a port (0 to 65535)"))?;
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The HTTP address of a node: `http://host:port` or `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpUrl {
    scheme: Scheme,
    address: HostPort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn prefix(self) -> &'static str {
        match self {
            Scheme::Http => "http://",
            Scheme::Https => "https://",
        }
    }
}

impl HttpUrl {
    /// Of the node on this machine, where it was told nothing else.
    pub(crate) fn habitual() -> HttpUrl {
        HttpUrl::of(HostPort {
            host: "127.0.0.1".to_owned(),
            port: 9000,
        })
    }

    /// Of an address, in clear.
    pub(crate) fn of(address: HostPort) -> HttpUrl {
        let scheme = Scheme::Http;
        HttpUrl { scheme, address }
    }

    /// The same over TLS.
    pub(crate) fn with_tls(&self) -> HttpUrl {
        let scheme = Scheme::Https;
        let address = self.address.clone();
        HttpUrl { scheme, address }
    }

    /// Of another node, asked in the same way.
    pub(crate) fn at(&self, address: HostPort) -> HttpUrl {
        let scheme = self.scheme;
        HttpUrl { scheme, address }
    }

    /// Something of the node.
    pub(crate) fn path(&self, path: &str) -> Result<hyper::Uri, CliError> {
        let uri = format!("{self}{path}");
        uri.parse()
            .map_err(|_| CliError::Usage(format!("{self} is no address")))
    }

    /// It does not answer.
    pub(crate) fn unreachable(&self, reason: String) -> CliError {
        CliError::Connect {
            target: self.to_string(),
            reason,
            hint: String::new(),
        }
    }

    /// It does not answer, and any other member of its cluster would do.
    pub(crate) fn unreachable_member(&self, reason: String) -> CliError {
        CliError::Connect {
            target: self.to_string(),
            reason,
            hint: "\nGive the HTTP address of any member: --url http://host:9000".to_owned(),
        }
    }
}

impl FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, address) = match text.strip_prefix("https://") {
            Some(address) => (Scheme::Https, address),
            None => (Scheme::Http, text.strip_prefix("http://").unwrap_or(text)),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        match address.parse() {
            Ok(address) => Ok(HttpUrl { scheme, address }),
            Err(e) => Err(format!("{e}; a URL is http://127.0.0.1:9000")),
        }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scheme.prefix(), self.address)
    }
}

/// One ASCII character that can separate fields.
pub(super) fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text {
        "\\t" | "tab" => Ok(b'\t'),
        _ => match text.as_bytes() {
            [b'"' | b'\n' | b'\r'] => Err("the delimiter cannot be a quote or a line end".into()),
            [byte] if byte.is_ascii() => Ok(*byte),
            _ => Err("the delimiter is one ASCII character, or \\t".into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_sizes_and_addresses_refuse_nonsense() {
        for text in [
            "interval=",
            "interval=5",
            "interval=0ms",
            "interval=2h",
            "fast",
        ] {
            assert!(text.parse::<Durability>().is_err(), "{text}");
        }
        for text in ["", "MiB", "-1", "12XB", "99999999999999999999G", "nan"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in ["host", ":1", "::1:80", "h:99999", "a b:1", "http://h:1"] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
        assert_eq!("1.5KiB".parse(), Ok(ByteSize(1536)));
        assert_eq!("500MB".parse(), Ok(ByteSize(500_000_000)));
        assert_eq!(ByteSize(16 << 20).to_string(), "16MiB");
        for (text, shown) in [
            ("h:9000", Some("http://h:9000")),
            ("http://h:9000/", Some("http://h:9000")),
            ("https://[::1]:1", Some("https://[::1]:1")),
            ("https://h", None),
            ("ftp://h:1", None),
            ("http://h:1/sql", None),
        ] {
            let url = text.parse::<HttpUrl>().ok().map(|url| url.to_string());
            assert_eq!(url.as_deref(), shown, "{text}");
        }
        assert_eq!(parse_delimiter("\\t"), Ok(b'\t'));
        assert!(parse_delimiter("\"").is_err());
    }
}
