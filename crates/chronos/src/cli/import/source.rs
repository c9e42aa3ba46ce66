//! The CSV file as a stream of records, decompressed, with a count of what was read.

use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use super::batch::Batch;
use super::records::{fields, ReadError, Records};
use crate::cli::error::CliError;
use crate::cli::files;

/// Bytes read from the file at once.
const READ_BYTES: usize = 256 * 1024;
/// A batch is closed at this size even if more rows would be allowed.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Counts what passes through.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(into)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The record that names the columns.
pub(super) struct Header {
    /// The names, decoded.
    pub(super) headings: Vec<String>,
    /// The record as it stands.
    pub(super) record: Vec<u8>,
}

/// The records of one file.
pub(super) struct Source {
    name: String,
    records: Records<Box<dyn BufRead + Send>>,
    delimiter: u8,
    /// Bytes read from the file so far, before decompression.
    pub(super) bytes_read: Arc<AtomicU64>,
    /// The file's size, when known.
    pub(super) size_bytes: Option<u64>,
}

impl Source {
    /// Opens the file; one that ends in `.gz` is decompressed.
    pub(super) fn open(name: &str, delimiter: u8) -> Result<Self, CliError> {
        let input = files::open(name)?;
        let bytes_read = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            inner: input.reader,
            count: bytes_read.clone(),
        };
        let buffered = BufReader::with_capacity(READ_BYTES, counted);
        let reader: Box<dyn BufRead + Send> = if name.ends_with(".gz") {
            Box::new(BufReader::with_capacity(
                READ_BYTES,
                MultiGzDecoder::new(buffered),
            ))
        } else {
            Box::new(buffered)
        };
        Ok(Self {
            name: name.to_owned(),
            records: Records::new(reader, delimiter),
            delimiter,
            bytes_read,
            size_bytes: input.size_bytes,
        })
    }

    /// The first record; `None` when the file is empty.
    pub(super) fn header(&mut self) -> Result<Option<Header>, CliError> {
        let mut record = Vec::new();
        if self.read(&mut record)?.is_none() {
            return Ok(None);
        }
        let headings = fields(&record, self.delimiter)
            .iter()
            .map(|field| String::from_utf8_lossy(&field.text).trim().to_owned())
            .collect();
        Ok(Some(Header { headings, record }))
    }

    /// The next batch, of at most `rows_max` records; `None` at the end. Blank lines are
    /// skipped unless `blank_is_row`, as in a table of one column, where one is a NULL.
    pub(super) fn batch(
        &mut self,
        rows_max: usize,
        blank_is_row: bool,
    ) -> Result<Option<Batch>, CliError> {
        let mut batch = Batch::default();
        while batch.len() < rows_max && batch.data.len() < BATCH_BYTES_MAX {
            let start = batch.data.len();
            let Some(line) = self.read(&mut batch.data)? else {
                break;
            };
            if batch.data[start..] == *b"\n" && !blank_is_row {
                batch.data.truncate(start);
            } else {
                batch.close_record(line);
            }
        }
        Ok((batch.len() > 0).then_some(batch))
    }

    fn read(&mut self, into: &mut Vec<u8>) -> Result<Option<u64>, CliError> {
        self.records.read(into).map_err(|error| match error {
            ReadError::Io(source) => CliError::File {
                action: "read",
                name: self.name.clone(),
                source,
            },
            error => CliError::Failed(format!("{}: {error}", self.name)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_compressed_file_gives_the_same_batches() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("a.csv");
        let packed = directory.path().join("a.csv.gz");
        let text = b"a,b\n1,2\n\n3,4\n5,6\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        let packed_bytes = gzip.finish().unwrap();
        let files = [(&plain, &text[..]), (&packed, &packed_bytes[..])];
        for (path, bytes) in files {
            let path = path.to_str().unwrap();
            let mut file = crate::cli::files::create(path).unwrap();
            file.write_all(bytes).unwrap();
            file.flush().unwrap();
            let mut source = Source::open(path, b',').unwrap();
            assert_eq!(source.header().unwrap().unwrap().headings, ["a", "b"]);
            let batch = source.batch(2, false).unwrap().unwrap();
            assert_eq!(batch.bytes(0..2), b"1,2\n3,4\n");
            assert_eq!((batch.line(0), batch.line(1)), (2, 4));
            assert_eq!(source.batch(2, false).unwrap().unwrap().len(), 1);
            assert!(source.batch(2, false).unwrap().is_none());
            assert_eq!(
                source.bytes_read.load(Ordering::Relaxed),
                bytes.len() as u64
            );
        }
    }
}
