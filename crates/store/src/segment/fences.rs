//! Finds the page of a key without touching the bounds of many.
//!
//! A binary search over pages follows a pointer per step, to bytes that no cache of the processor
//! holds when there are 50,000 pages. Eight bytes of each page's last key, behind what all keys of
//! the segment begin with, stand side by side here and usually decide alone.

use super::PageMeta;

/// The beginnings of pages' last keys.
#[derive(Debug, Default)]
pub(super) struct Fences {
    /// What all keys begin with.
    shared: Box<[u8]>,
    /// The next eight bytes of each page's last key, big-endian, filled with zeros.
    words: Box<[u64]>,
}

impl Fences {
    /// Of sorted pages.
    pub(super) fn new(pages: &[PageMeta]) -> Fences {
        let (Some(first), Some(last)) = (pages.first(), pages.last()) else {
            return Fences::default();
        };
        let both = first.min_key.iter().zip(&*last.max_key);
        let shared = both.take_while(|(a, b)| a == b).count();
        let words = pages.iter().map(|page| {
            // A page out of order, of a damaged file, may be shorter.
            word(page.max_key.get(shared..).unwrap_or_default())
        });
        Fences {
            shared: first.min_key[..shared].into(),
            words: words.collect(),
        }
    }

    /// The first page whose last key is not less than `key`.
    pub(super) fn first_reaching(&self, pages: &[PageMeta], key: &[u8]) -> usize {
        let (from, to) = match key.strip_prefix(&*self.shared) {
            Some(rest) => {
                let word = word(rest);
                let from = self.words.partition_point(|w| *w < word);
                let equal = self.words[from..].partition_point(|w| *w == word);
                (from, from + equal)
            }
            None => (0, pages.len()),
        };
        from + pages[from..to].partition_point(|page| *page.max_key < *key)
    }
}

fn word(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    let len = bytes.len().min(8);
    eight[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(eight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use chronos_model::Stamp;

    fn page(min_key: &[u8], max_key: &[u8]) -> PageMeta {
        PageMeta {
            rows: 1,
            min_key: min_key.into(),
            max_key: max_key.into(),
            min_recorded: Stamp::MIN,
            max_recorded: Stamp::MIN,
            one_version_per_key: true,
            has_deletes: false,
            open_valid: true,
            first_versions: false,
            columns: Box::from([]),
        }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        // Keys that share beginnings, shorter and longer than what is compared at once.
        ("(user:)?", prop::collection::vec(0u8..3, 0..12))
            .prop_map(|(start, rest)| [start.as_bytes(), rest.as_slice()].concat())
    }

    proptest! {
        #[test]
        fn the_page_is_that_of_a_plain_search(
            mut bounds in prop::collection::vec(key(), 1..40),
            wanted in prop::collection::vec(key(), 20),
        ) {
            bounds.sort();
            let pages: Vec<PageMeta> = bounds
                .chunks(2)
                .map(|pair| page(&pair[0], &pair[pair.len() - 1]))
                .collect();
            let fences = Fences::new(&pages);
            for key in wanted.iter().chain(&bounds) {
                let plain = pages.partition_point(|p| *p.max_key < **key);
                prop_assert_eq!(fences.first_reaching(&pages, key), plain);
            }
        }
    }
}
