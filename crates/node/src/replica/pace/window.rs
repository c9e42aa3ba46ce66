//! How long something took in the last minute.

use std::collections::VecDeque;
use std::time::Duration;

/// What took long is looked at in parts of this length.
const PART: Duration = Duration::from_millis(500);
/// So many of them are remembered: a minute.
const PARTS: u64 = 120;
/// Of these, so many do not count: a link that was cut and is back, or a process that was
/// stopped, says nothing of how long things take.
const EXCEPTIONS: usize = 2;

/// Durations of the last minute. Takes no more memory the more there are.
#[derive(Debug, Default)]
pub(super) struct Window {
    parts: VecDeque<Part>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    number: u64,
    count: u32,
    sum: Duration,
    longest: Duration,
}

/// How long something takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// On average.
    pub(super) mean: Duration,
    /// In a bad half-second.
    pub(super) longest: Duration,
}

impl Window {
    /// `now` is since any moment, always the same.
    pub(super) fn note(&mut self, now: Duration, took: Duration) {
        self.forget(now);
        let number = number(now);
        match self.parts.back_mut() {
            Some(part) if part.number >= number => {
                part.count = part.count.saturating_add(1);
                part.sum = part.sum.saturating_add(took);
                part.longest = part.longest.max(took);
            }
            _ => self.parts.push_back(Part {
                number,
                count: 1,
                sum: took,
                longest: took,
            }),
        }
    }

    /// Nothing is known as long as there is no more than could be an exception.
    pub(super) fn measured(&mut self, now: Duration) -> Option<Measured> {
        self.forget(now);
        let mut parts: Vec<Part> = self.parts.iter().copied().collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.longest));
        let counting = parts.get(EXCEPTIONS..)?;
        let longest = counting.first()?.longest;
        let count: u32 = counting.iter().map(|part| part.count).sum();
        let sum: Duration = counting.iter().map(|part| part.sum).sum();
        Some(Measured {
            mean: sum / count.max(1),
            longest,
        })
    }

    fn forget(&mut self, now: Duration) {
        let oldest = number(now).saturating_sub(PARTS - 1);
        while self.parts.front().is_some_and(|part| part.number < oldest) {
            self.parts.pop_front();
        }
    }
}

fn number(now: Duration) -> u64 {
    (now.as_millis() / PART.as_millis()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn two_bad_moments_are_exceptions_and_the_third_is_not() {
        let mut window = Window::default();
        for at in 0..20 {
            window.note(ms(at * 500), ms(4));
        }
        window.note(ms(10_000), ms(20_000));
        window.note(ms(10_400), ms(19_000));
        window.note(ms(12_000), ms(900));
        let calm = Measured {
            mean: ms(4),
            longest: ms(4),
        };
        assert_eq!(window.measured(ms(12_000)), Some(calm));
        window.note(ms(15_000), ms(800));
        let measured = window.measured(ms(15_000)).unwrap();
        assert_eq!(measured.longest, ms(800));
        assert_eq!(measured.mean, ms(20 * 4 + 800) / 21);
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let mut window = Window::default();
        assert_eq!(window.measured(ms(0)), None);
        for at in 0..3 {
            assert_eq!(window.measured(ms(at * 500)), None);
            window.note(ms(at * 500), ms(100));
        }
        assert!(window.measured(ms(59_999)).is_some());
        assert_eq!(window.measured(ms(60_000)), None);
        assert_eq!(window.measured(ms(600_000)), None);
        for at in 0..10_000 {
            window.note(ms(600_000 + at * 37), ms(1));
        }
        assert!(window.parts.len() <= PARTS as usize);
    }
}
