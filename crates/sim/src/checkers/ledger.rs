//! A judge of ledgers, to which clients only ever add entries: what was acknowledged is there exactly once, what
//! was refused is not there, and what nobody can tell is there once or not at all.

use std::collections::BTreeMap;
use std::fmt;

/// What became of an entry, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It must be there.
    Acknowledged,
    /// It must not be there.
    Refused,
    /// It may be there.
    Unknown,
}

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Acknowledged, and not there.
    Lost(u64),
    /// There so many times.
    Repeated(u64, usize),
    /// Refused, and there.
    Undead(u64),
    /// There, and nobody wrote it.
    Unwritten(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Lost(id) => write!(out, "entry {id} was acknowledged and is lost"),
            Fault::Repeated(id, times) => write!(out, "entry {id} is there {times} times"),
            Fault::Undead(id) => write!(out, "entry {id} was refused and is there"),
            Fault::Unwritten(id) => write!(out, "entry {id} is there and was never written"),
        }
    }
}

/// Compares what is there with what clients were told; in ascending order of entries.
pub fn faults(fates: &BTreeMap<u64, Fate>, found: &[u64]) -> Vec<Fault> {
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for &id in found {
        *times.entry(id).or_default() += 1;
    }
    let lost = fates
        .iter()
        .filter(|&(id, fate)| *fate == Fate::Acknowledged && !times.contains_key(id))
        .map(|(&id, _)| (id, Fault::Lost(id)));
    let present = times.iter().filter_map(|(&id, &times)| {
        let fault = match fates.get(&id) {
            None => Fault::Unwritten(id),
            Some(Fate::Refused) => Fault::Undead(id),
            Some(_) if times > 1 => Fault::Repeated(id, times),
            Some(_) => return None,
        };
        Some((id, fault))
    });
    let mut all: Vec<_> = lost.chain(present).collect();
    all.sort_by_key(|(id, _)| *id);
    all.into_iter().map(|(_, fault)| fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_found_and_nothing_else() {
        let fates = BTreeMap::from([
            (1, Fate::Acknowledged),
            (2, Fate::Acknowledged),
            (3, Fate::Refused),
            (4, Fate::Refused),
            (5, Fate::Unknown),
            (6, Fate::Unknown),
            (7, Fate::Unknown),
        ]);
        assert_eq!(faults(&fates, &[1, 2, 5]), []);
        assert_eq!(
            faults(&fates, &[9, 1, 1, 4, 6, 7, 7]),
            [
                Fault::Repeated(1, 2),
                Fault::Lost(2),
                Fault::Undead(4),
                Fault::Repeated(7, 2),
                Fault::Unwritten(9),
            ]
        );
    }
}
