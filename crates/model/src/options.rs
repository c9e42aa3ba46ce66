//! What `WITH (..)` says of a table: how long its rows and their history are kept, and
//! how its segments are laid out.
//!
//! Retention moves in one direction only. What an option once let expire stays expired
//! when the option is changed later: the change notes how far expiry had come (the
//! *floors*), so that no replica shows again what another has already removed.

use serde::{Deserialize, Serialize};

use crate::Stamp;

/// How FLOAT columns are encoded in segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FloatCodec {
    /// The smallest encoding of each page.
    #[default]
    Auto,
    /// Chimp128, except for pages of one value or of NULLs alone. Items of arrays follow,
    /// vectors do not.
    Chimp,
}

/// What `WITH (..)` may say of a table.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct TableOptions {
    /// How long rows are kept, in microseconds; `None`: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_micros: Option<i64>,
    /// How long superseded versions are kept, in microseconds; `None`: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_ttl_micros: Option<i64>,
    /// How many superseded versions of a row are kept at most; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_keep: Option<u32>,
    /// Position of the column that says when a row's fact was: a timestamp of the
    /// primary key. `None`: a row's time is when it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_column: Option<usize>,
    /// Width of the windows of time in which rows are stored together, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket_micros: Option<i64>,
    /// How FLOAT columns are encoded; `None`: as the node is told to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub float_codec: Option<FloatCodec>,
    /// What retention removed under earlier options.
    #[serde(default, skip_serializing_if = "Floors::is_none")]
    pub floors: Floors,
}

/// How far retention had come when it was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Floors {
    /// Rows whose time is before are gone.
    pub row_micros: i64,
    /// Versions superseded at or before may be gone.
    pub history: Stamp,
    /// Of these, too, some may be gone: of each row only so many were kept until then.
    #[serde(default = "never", skip_serializing_if = "is_never")]
    pub cut: Stamp,
}

fn never() -> Stamp {
    Stamp::MIN
}

fn is_never(stamp: &Stamp) -> bool {
    *stamp == Stamp::MIN
}

impl Default for Floors {
    fn default() -> Floors {
        Floors {
            row_micros: i64::MIN,
            history: Stamp::MIN,
            cut: Stamp::MIN,
        }
    }
}

impl Floors {
    fn is_none(&self) -> bool {
        *self == Floors::default()
    }
}

/// A change of one option of a table that exists; `None`: no longer set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionChange {
    /// `ttl`
    Ttl(Option<i64>),
    /// `history_ttl`
    HistoryTtl(Option<i64>),
    /// `history_keep`
    HistoryKeep(Option<u32>),
    /// `float_codec`
    FloatCodec(Option<FloatCodec>),
}

impl TableOptions {
    /// Rows whose time is before this are expired at `now`, both in microseconds since the
    /// epoch; `i64::MIN`: none are.
    pub fn expired_before(&self, now_micros: i64) -> i64 {
        let by_ttl = self.ttl_micros.map(|ttl| now_micros.saturating_sub(ttl));
        by_ttl.map_or(self.floors.row_micros, |t| t.max(self.floors.row_micros))
    }

    /// Versions superseded at or before this stamp need not be kept any more at `now`.
    pub fn history_horizon(&self, now_micros: i64) -> Stamp {
        let ttl = self.history_ttl_micros;
        let by_ttl = ttl.map_or(Stamp::MIN, |ttl| stamp(now_micros.saturating_sub(ttl)));
        by_ttl.max(self.floors.history)
    }

    /// The earliest stamp whose rows can be asked for at `now`: what came before may be
    /// gone, row or history.
    pub fn horizon(&self, now_micros: i64) -> Stamp {
        let rows = stamp(self.expired_before(now_micros));
        rows.max(self.history_horizon(now_micros))
    }

    /// The shorter one of `ttl` and `history_ttl`; `None`: neither is given.
    pub fn shortest_micros(&self) -> Option<i64> {
        let given = self.ttl_micros.into_iter().chain(self.history_ttl_micros);
        given.min()
    }

    /// The options after a change at `now`.
    pub fn changed(&self, changes: &[OptionChange], now_micros: i64) -> TableOptions {
        let mut next = self.clone();
        next.floors = Floors {
            row_micros: self.expired_before(now_micros),
            history: self.history_horizon(now_micros),
            cut: self.floors.cut,
        };
        for change in changes {
            match *change {
                OptionChange::Ttl(ttl) => next.ttl_micros = ttl,
                OptionChange::HistoryTtl(ttl) => next.history_ttl_micros = ttl,
                OptionChange::HistoryKeep(keep) => {
                    let keeps_more = |before| keep.is_none_or(|keep| keep > before);
                    if next.history_keep.is_some_and(keeps_more) {
                        next.floors.cut = stamp(now_micros);
                    }
                    next.history_keep = keep;
                }
                OptionChange::FloatCodec(codec) => next.float_codec = codec,
            }
        }
        next
    }
}

fn stamp(micros: i64) -> Stamp {
    u64::try_from(micros).map_or(Stamp::MIN, Stamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn plain_keeping(versions: u32) -> TableOptions {
        TableOptions {
            history_keep: Some(versions),
            ..TableOptions::default()
        }
    }

    #[test]
    fn what_expired_stays_expired() {
        let week = TableOptions {
            ttl_micros: Some(7 * DAY),
            history_ttl_micros: Some(DAY),
            ..TableOptions::default()
        };
        let now = 1000 * DAY;
        assert_eq!(week.expired_before(now), 993 * DAY);
        assert_eq!(week.history_horizon(now), stamp(999 * DAY));
        assert_eq!(week.horizon(now), stamp(999 * DAY));
        let forever = [OptionChange::Ttl(None), OptionChange::HistoryTtl(None)];
        let forever = week.changed(&forever, now);
        assert_eq!(forever.expired_before(now + 100 * DAY), 993 * DAY);
        assert_eq!(forever.horizon(now + 100 * DAY), stamp(999 * DAY));
        // What was kept of few versions is not more when more are kept.
        let keep = |keep| [OptionChange::HistoryKeep(keep)];
        let few = plain_keeping(3);
        assert_eq!(few.changed(&keep(Some(2)), now).floors.cut, Stamp::MIN);
        assert_eq!(few.changed(&keep(None), now).floors.cut, stamp(now));
        let more = few.changed(&keep(Some(4)), now).changed(&[], now + 9);
        assert_eq!(more.floors.cut, stamp(now));
        // A shorter time takes effect at once.
        let day = forever.changed(&[OptionChange::Ttl(Some(DAY))], now);
        assert_eq!(day.expired_before(now), 999 * DAY);
    }

    #[test]
    fn without_options_everything_is_kept() {
        let plain = TableOptions::default();
        assert_eq!(plain.expired_before(i64::MAX), i64::MIN);
        assert_eq!(plain.horizon(i64::MAX), Stamp::MIN);
        assert_eq!(plain, plain.changed(&[], 5));
        assert_eq!(serde_json::to_string(&plain).unwrap(), "{}");
    }
}
