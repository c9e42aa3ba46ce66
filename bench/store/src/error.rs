//! The one error of the benchmark: a sentence for the person who runs it. Nothing here is
//! matched on, so there is nothing to tell apart.

use std::fmt;

/// What went wrong, as a sentence.
#[derive(Debug)]
pub(crate) struct Error(String);

/// The result of anything that can fail here.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Any error there is becomes its own sentence, its causes behind it.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Error {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            text += &format!(": {next}");
            cause = next.source();
        }
        Error(text)
    }
}

/// An error that is a sentence of ours.
pub(crate) fn failure<T>(text: impl Into<String>) -> Result<T> {
    Err(Error(text.into()))
}
