//! Writes a segment. (Skeleton: the format follows.)

use std::path::{Path, PathBuf};

use chronos_env::Env;
use chronos_model::TableSchema;

use super::{SegmentError, SegmentId, SegmentMeta, SegmentOptions};
use crate::version::VersionBatch;

/// Writes one segment file from sorted versions.
#[derive(Debug)]
pub struct SegmentWriter {
    path: PathBuf,
}

impl SegmentWriter {
    /// Creates the file at `path`, which must not exist.
    pub fn create(
        _env: &Env,
        path: &Path,
        _id: SegmentId,
        _schema: &TableSchema,
        _options: &SegmentOptions,
    ) -> Result<SegmentWriter, SegmentError> {
        Ok(SegmentWriter {
            path: path.to_owned(),
        })
    }

    /// Appends versions. All rows appended so far must be sorted by (key
    /// ascending, origin descending).
    pub fn append(&mut self, _batch: &VersionBatch) -> Result<(), SegmentError> {
        Ok(())
    }

    /// Writes what is left and makes the file's content durable. The caller
    /// publishes its name.
    pub fn finish(self) -> Result<SegmentMeta, SegmentError> {
        Err(SegmentError::InvalidInput {
            path: self.path,
            reason: "the format is not there yet".into(),
        })
    }
}
