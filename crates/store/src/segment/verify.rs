//! Reads a whole segment again: every checksum, every block, the order of keys.

use super::layout::slot;
use super::{frame, Segment, SegmentError};

impl Segment {
    /// Checks everything; the first error, if there is one.
    pub fn verify(&self) -> Result<(), SegmentError> {
        self.verify_frame()?;
        (0..self.pages().len()).try_for_each(|page| self.verify_page(page))
    }

    /// Checks header, footer, trailer and key filters.
    pub(crate) fn verify_frame(&self) -> Result<(), SegmentError> {
        let frame = frame::read_frame(self.file()?, &self.path);
        frame.map_err(|error| self.found(error))?;
        let filters = self.footer.groups.iter().filter_map(|(_, filter)| *filter);
        for filter in filters {
            self.fetch(filter, None)?;
        }
        Ok(())
    }

    /// Checks one page: decodes every block, compares its keys with its bounds and the
    /// bounds with those of the page before. Panics if there is no such page.
    pub(crate) fn verify_page(&self, page: usize) -> Result<(), SegmentError> {
        self.readable()?;
        for slot in slot::RECORDED..self.footer.slots() {
            self.decode(page..page + 1, slot)?;
        }
        let keys = self.decode_keys(page)?;
        let meta = &self.pages()[page];
        let is_sorted = (1..keys.len()).all(|i| keys.get(i - 1) <= keys.get(i));
        let before = page.checked_sub(1).map(|before| &self.pages()[before]);
        let follows = before.is_none_or(|before| before.max_key <= meta.min_key);
        let is_bounded = keys.len() == meta.rows as usize
            && !keys.is_empty()
            && keys.get(0) == &*meta.min_key
            && keys.get(keys.len() - 1) == &*meta.max_key;
        match is_sorted && follows && is_bounded {
            true => Ok(()),
            false => Err(self.damaged(Some(page), 0, "keys that are not in order")),
        }
    }
}
