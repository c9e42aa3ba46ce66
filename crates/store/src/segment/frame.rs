//! Opens a segment's file: reads and checks its frame, and that it is the table's.

use std::path::Path;

use chronos_env::{is_medium_error, DiskFile};
use chronos_model::{Stamp, TableSchema};

use super::layout::{self, Footer, HEADER_BYTES, TRAILER_BYTES};
use super::{PageMeta, SegmentError, SegmentMeta};

pub(super) fn damaged(
    path: &Path,
    page: Option<usize>,
    offset: u64,
    reason: impl Into<String>,
) -> SegmentError {
    SegmentError::Damaged {
        table: None,
        path: path.to_owned(),
        page,
        offset,
        reason: reason.into(),
    }
}

pub(super) fn read_exact(
    file: &dyn DiskFile,
    path: &Path,
    buffer: &mut [u8],
    offset: u64,
    page: Option<usize>,
) -> Result<(), SegmentError> {
    file.read_exact_at(buffer, offset)
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged(path, page, offset, "it ends too early"),
            _ if is_medium_error(&source) => {
                let reason = format!("the disk cannot read it: {source}");
                damaged(path, page, offset, reason)
            }
            _ => SegmentError::Io {
                path: path.to_owned(),
                action: "read",
                source,
            },
        })
}

/// Reads and checks header, trailer and footer; also gives the file's length.
pub(super) fn read_frame(file: &dyn DiskFile, path: &Path) -> Result<(Footer, u64), SegmentError> {
    let length = file.len().map_err(|source| SegmentError::Io {
        path: path.to_owned(),
        action: "read",
        source,
    })?;
    if length < HEADER_BYTES + TRAILER_BYTES {
        return Err(damaged(path, None, length, "it is shorter than its frame"));
    }
    let mut header = [0; HEADER_BYTES as usize];
    read_exact(file, path, &mut header, 0, None)?;
    let version = layout::read_header(&header).map_err(|e| damaged(path, None, 0, e.reason))?;
    if !(layout::FORMAT_WITHOUT_CHIMP..=layout::FORMAT_VERSION).contains(&version) {
        return Err(SegmentError::UnknownVersion {
            path: path.to_owned(),
            version,
            supported: layout::FORMAT_VERSION,
        });
    }
    let end = length - TRAILER_BYTES;
    let mut trailer = [0; TRAILER_BYTES as usize];
    read_exact(file, path, &mut trailer, end, None)?;
    let (start, crc) =
        layout::read_trailer(&trailer, length).map_err(|e| damaged(path, None, end, e.reason))?;
    let mut bytes = vec![0; (end - start) as usize];
    read_exact(file, path, &mut bytes, start, None)?;
    if crc32fast::hash(&bytes) != crc {
        let reason = "the footer's checksum does not match";
        return Err(damaged(path, None, start, reason));
    }
    let footer =
        layout::read_footer(bytes, start).map_err(|e| damaged(path, None, start, e.reason))?;
    Ok((footer, length))
}

pub(super) fn check_schema(
    footer: &Footer,
    schema: &TableSchema,
    path: &Path,
) -> Result<(), SegmentError> {
    let mismatch = |reason: String| SegmentError::SchemaMismatch {
        path: path.to_owned(),
        table: schema.name.clone(),
        reason,
    };
    if footer.table != schema.id {
        return Err(mismatch(format!(
            "it holds table {}, not {}",
            footer.table.0, schema.id.0
        )));
    }
    let key = footer.primary_key.iter().map(|c| footer.columns[*c].id);
    if !key.eq(schema.primary_key.iter().map(|c| schema.column_id(*c))) {
        return Err(mismatch("its key columns are others".into()));
    }
    let next_id = match schema.shape.next_column_id {
        0 => schema.columns.len() as u32,
        next => next,
    };
    for stored in &footer.columns {
        let Some(column) = schema.position_of(stored.id).map(|c| &schema.columns[c]) else {
            if stored.id.0 < next_id {
                // It was dropped.
                continue;
            }
            return Err(mismatch(format!(
                "it has a column {}, which the table never had",
                stored.id.0
            )));
        };
        if !stored.data_type.widens_to(&column.data_type) {
            return Err(mismatch(format!(
                "column \"{}\" was {}, but is {}",
                column.name, stored.data_type, column.data_type
            )));
        }
    }
    Ok(())
}

pub(super) fn meta_of(footer: &Footer, bytes: u64) -> SegmentMeta {
    let pages = &footer.pages;
    let continues = |pair: &[PageMeta]| pair[0].max_key == pair[1].min_key;
    SegmentMeta {
        id: footer.id,
        table: footer.table,
        rows: pages.iter().map(|p| u64::from(p.rows)).sum(),
        bytes,
        min_key: pages
            .first()
            .map(|p| p.min_key.to_vec())
            .unwrap_or_default(),
        max_key: pages.last().map(|p| p.max_key.to_vec()).unwrap_or_default(),
        min_recorded: pages
            .iter()
            .map(|p| p.min_recorded)
            .min()
            .unwrap_or(Stamp::MIN),
        max_recorded: pages
            .iter()
            .map(|p| p.max_recorded)
            .max()
            .unwrap_or(Stamp::MIN),
        one_version_per_key: pages.iter().all(|p| p.one_version_per_key)
            && !pages.windows(2).any(continues),
        has_deletes: pages.iter().any(|p| p.has_deletes),
    }
}
