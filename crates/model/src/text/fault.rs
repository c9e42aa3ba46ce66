//! What readers report inside this module: a reason without text, so that a
//! reader allocates only once it is known that it failed.

use crate::DataError;

/// How many characters of bad input an error repeats.
const SHOWN_CHARS_MAX: usize = 120;

/// Why a text is no value of its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// No literal of the type.
    Syntax,
    /// A literal that does not fit the type.
    Range,
    /// A date or time that does not exist or is out of range.
    Field,
}

impl Fault {
    /// The error for `text`, which was read as a `type_name`.
    #[cold]
    pub(super) fn named(self, type_name: &str, text: &[u8]) -> DataError {
        let text = shown(text);
        match self {
            Fault::Syntax => DataError::InvalidText {
                type_name: type_name.to_owned(),
                text,
            },
            Fault::Range => DataError::OutOfRange {
                type_name: type_name.to_owned(),
                text,
            },
            Fault::Field => DataError::DateTimeOverflow { text },
        }
    }
}

/// The text as an error repeats it.
pub(super) fn shown(text: &[u8]) -> String {
    // Four bytes hold any character: enough for the limit, and never all of a huge input.
    let head = &text[..text.len().min(4 * SHOWN_CHARS_MAX + 4)];
    let head = String::from_utf8_lossy(head);
    match head.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &head[..end]),
        None => head.into_owned(),
    }
}
