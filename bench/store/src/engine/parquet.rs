//! Parquet files: one, sorted by the key, written and synced once everything has arrived.
//!
//! A Parquet file takes no single commits. So `ingest` keeps the rows in memory, and `seal` sorts
//! and writes them; both count as ingesting. Reads prune row groups by their statistics and pages
//! by the page index, whose metadata were read before.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::{Engine, Range, Slice};
use crate::data::{device_name, Aggregate, Rows, Sums, DEVICES, METRIC};
use crate::error::{failure, Result};

/// How the file is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tuning {
    /// As the writer does by itself.
    Defaults,
    /// Delta for times, zstd for everything, small pages for single reads.
    BestEffort,
}

const ROW_GROUP_ROWS: usize = 1 << 20;
const PAGE_ROWS: usize = 4096;

/// Rows that are written, or read, at a time.
const BATCH_ROWS: usize = 8192;

pub(super) struct Parquet {
    path: PathBuf,
    tuning: Tuning,
    rows: Rows,
    open: Option<Open>,
}

struct Open {
    file: File,
    metadata: ArrowReaderMetadata,
}

fn schema() -> SchemaRef {
    let text = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("device", text(), false),
        Field::new("metric", text(), false),
        Field::new("ts", utc, false),
        Field::new("value", DataType::Float64, false),
        Field::new("noise", DataType::Float64, false),
    ]))
}

fn properties(tuning: Tuning) -> Result<WriterProperties> {
    let builder = WriterProperties::builder();
    let Tuning::BestEffort = tuning else {
        return Ok(builder.build());
    };
    let ts = ColumnPath::from("ts");
    Ok(builder
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_column_dictionary_enabled(ts.clone(), false)
        .set_column_encoding(ts, Encoding::DELTA_BINARY_PACKED)
        .set_column_dictionary_enabled(ColumnPath::from("noise"), false)
        .set_column_encoding(ColumnPath::from("noise"), Encoding::BYTE_STREAM_SPLIT)
        .build())
}

/// The rows at these positions.
fn batch(rows: &Rows, order: &[u32], names: &Arc<StringArray>) -> Result<RecordBatch> {
    let at = || order.iter().map(|row| *row as usize);
    let devices = Int32Array::from_iter_values(at().map(|i| rows.device[i] as i32));
    let metrics = Int32Array::from_iter_values(order.iter().map(|_| 0));
    let metric: ArrayRef = Arc::new(StringArray::from(vec![METRIC]));
    let ts = TimestampMicrosecondArray::from_iter_values(at().map(|i| rows.ts[i]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(DictionaryArray::try_new(devices, names.clone())?),
        Arc::new(DictionaryArray::try_new(metrics, metric)?),
        Arc::new(ts.with_timezone("UTC")),
        Arc::new(Float64Array::from_iter_values(at().map(|i| rows.value[i]))),
        Arc::new(Float64Array::from_iter_values(at().map(|i| rows.noise[i]))),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// Writes rows in a given order, and syncs the file.
pub(super) fn write(path: &Path, rows: &Rows, order: &[u32], tuning: Tuning) -> Result<()> {
    let names = (0..DEVICES as u32).map(device_name);
    let names = Arc::new(StringArray::from_iter_values(names));
    let file = File::create(path)?;
    let mut writer = ArrowWriter::try_new(&file, schema(), Some(properties(tuning)?))?;
    for order in order.chunks(BATCH_ROWS) {
        writer.write(&batch(rows, order, &names)?)?;
    }
    writer.close()?;
    Ok(file.sync_all()?)
}

impl Parquet {
    pub(super) fn new(dir: &Path, tuning: Tuning) -> Parquet {
        Parquet {
            path: dir.join("rows.parquet"),
            tuning,
            rows: Rows::default(),
            open: None,
        }
    }

    fn open(&self) -> Result<&Open> {
        match &self.open {
            Some(open) => Ok(open),
            None => failure("the file is not written yet"),
        }
    }

    /// A reader of some columns that is told further what to read.
    fn reader(
        &self,
        columns: &[usize],
        narrow: impl FnOnce(
            ParquetRecordBatchReaderBuilder<File>,
        ) -> ParquetRecordBatchReaderBuilder<File>,
    ) -> Result<ParquetRecordBatchReader> {
        let open = self.open()?;
        let (file, metadata) = (open.file.try_clone()?, open.metadata.clone());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
        let mask = ProjectionMask::leaves(builder.parquet_schema(), columns.iter().copied());
        let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
        Ok(narrow(builder).build()?)
    }

    /// Row groups and, within them, rows that may be in a range, judging by statistics.
    fn selection(&self, range: Range) -> Result<(Vec<usize>, RowSelection)> {
        let metadata = self.open()?.metadata.metadata().clone();
        let groups: Vec<usize> = (0..metadata.num_row_groups()).collect();
        let device = device_name(range.device);
        let kept = self.bounds(&groups, |converter, groups| {
            let of = groups.iter().map(|group| metadata.row_group(*group));
            Ok((
                converter.row_group_mins(of.clone())?,
                converter.row_group_maxes(of)?,
            ))
        })?;
        let groups: Vec<usize> = (groups.iter().zip(kept.may_hold(&device, range)))
            .filter_map(|(group, may)| may.then_some(*group))
            .collect();
        let (Some(index), Some(offsets)) = (metadata.column_index(), metadata.offset_index())
        else {
            return failure("the file has no page index");
        };
        let mut selectors = Vec::new();
        for group in &groups {
            // Pages of the two columns do not begin at the same rows: each selects by itself.
            let rows = metadata.row_group(*group).num_rows() as usize;
            let mut both: Option<RowSelection> = None;
            for (column, is_device) in [(0, true), (2, false)] {
                let converter = self.converter(column)?;
                let of = std::slice::from_ref(group);
                let (mins, maxes) = (
                    converter.data_page_mins(index, offsets, of)?,
                    converter.data_page_maxes(index, offsets, of)?,
                );
                let bounds = if is_device {
                    Bounds::of_device(mins, maxes)
                } else {
                    Bounds::of_ts(mins, maxes)
                };
                let counts = converter.data_page_row_counts(offsets, metadata.row_groups(), of)?;
                let Some(counts) = counts else {
                    return failure("pages without a count of rows");
                };
                let selection = select(&counts, &bounds.may_hold(&device, range));
                both = Some(match both {
                    None => selection,
                    Some(other) => other.intersection(&selection),
                });
            }
            let both = both.unwrap_or_else(|| vec![RowSelector::skip(rows)].into());
            selectors.extend::<Vec<RowSelector>>(both.into());
        }
        Ok((groups, selectors.into()))
    }

    fn converter(&self, column: usize) -> Result<StatisticsConverter<'_>> {
        let metadata = &self.open()?.metadata;
        let name = metadata.schema().field(column).name();
        Ok(StatisticsConverter::try_new(
            name,
            metadata.schema(),
            metadata.parquet_schema(),
        )?)
    }

    fn bounds(
        &self,
        groups: &[usize],
        of: impl Fn(&StatisticsConverter<'_>, &[usize]) -> Result<(ArrayRef, ArrayRef)>,
    ) -> Result<Bounds> {
        let (device, ts) = (self.converter(0)?, self.converter(2)?);
        let (min_device, max_device) = of(&device, groups)?;
        let (min_ts, max_ts) = of(&ts, groups)?;
        Ok(Bounds {
            device: Some((min_device, max_device)),
            ts: Some((min_ts, max_ts)),
        })
    }

    /// The rows of a range.
    fn read(&self, range: Range, mut found: impl FnMut(i64, f64, f64)) -> Result<()> {
        let (groups, selection) = self.selection(range)?;
        let reader = self.reader(&[0, 2, 3, 4], |builder| {
            builder
                .with_row_groups(groups)
                .with_row_selection(selection)
        })?;
        let name = device_name(range.device);
        for batch in reader {
            let batch = batch?;
            let devices = batch.column(0).as_dictionary::<Int32Type>();
            let names = devices.values().as_string::<i32>();
            let ts = batch
                .column(1)
                .as_primitive::<TimestampMicrosecondType>()
                .values();
            let column = |c: usize| batch.column(c).as_primitive::<Float64Type>().values();
            let (values, noise) = (column(2), column(3));
            let Some(wanted) = (0..names.len()).find(|i| names.value(*i) == name) else {
                continue;
            };
            for (row, device) in devices.keys().values().iter().enumerate() {
                if *device as usize == wanted && (range.from..range.to).contains(&ts[row]) {
                    found(ts[row], values[row], noise[row]);
                }
            }
        }
        Ok(())
    }
}

/// Lowest and highest values of row groups or pages.
struct Bounds {
    device: Option<(ArrayRef, ArrayRef)>,
    ts: Option<(ArrayRef, ArrayRef)>,
}

impl Bounds {
    fn of_device(mins: ArrayRef, maxes: ArrayRef) -> Bounds {
        Bounds {
            device: Some((mins, maxes)),
            ts: None,
        }
    }

    fn of_ts(mins: ArrayRef, maxes: ArrayRef) -> Bounds {
        Bounds {
            device: None,
            ts: Some((mins, maxes)),
        }
    }

    /// For each, whether rows of the range may be in it.
    fn may_hold(&self, device: &str, range: Range) -> Vec<bool> {
        let length = self
            .device
            .as_ref()
            .or(self.ts.as_ref())
            .map_or(0, |b| b.0.len());
        let mut may = vec![true; length];
        if let Some((mins, maxes)) = &self.device {
            for (i, may) in may.iter_mut().enumerate() {
                *may &= text(mins, i) <= device && device <= text(maxes, i);
            }
        }
        if let Some((mins, maxes)) = &self.ts {
            let column = |c: &ArrayRef, i| c.as_primitive::<TimestampMicrosecondType>().value(i);
            for (i, may) in may.iter_mut().enumerate() {
                *may &= column(mins, i) < range.to && range.from <= column(maxes, i);
            }
        }
        may
    }
}

fn text(array: &ArrayRef, i: usize) -> &str {
    match array.as_any_dictionary_opt() {
        Some(dictionary) => {
            let key = dictionary.normalized_keys()[i];
            dictionary.values().as_string::<i32>().value(key)
        }
        None => array.as_string::<i32>().value(i),
    }
}

fn select(counts: &UInt64Array, may: &[bool]) -> RowSelection {
    let selectors = counts
        .values()
        .iter()
        .zip(may)
        .map(|(rows, may)| match may {
            true => RowSelector::select(*rows as usize),
            false => RowSelector::skip(*rows as usize),
        });
    selectors.collect::<Vec<_>>().into()
}

impl Engine for Parquet {
    fn ingest(&mut self, rows: &Rows) -> Result<()> {
        self.rows.device.extend_from_slice(&rows.device);
        self.rows.ts.extend_from_slice(&rows.ts);
        self.rows.value.extend_from_slice(&rows.value);
        self.rows.noise.extend_from_slice(&rows.noise);
        Ok(())
    }

    fn seal(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_unstable_by_key(|i| (rows.device[*i as usize], rows.ts[*i as usize]));
        write(&self.path, &rows, &order, self.tuning)
    }

    fn settle(&mut self) -> Result<()> {
        let file = File::open(&self.path)?;
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let metadata = ArrowReaderMetadata::load(&file, options)?;
        self.open = Some(Open { file, metadata });
        Ok(())
    }

    fn aggregate(&mut self) -> Result<Vec<Aggregate>> {
        let mut all = std::collections::BTreeMap::<String, Sums>::new();
        for batch in self.reader(&[0, 3], |builder| builder)? {
            let batch = batch?;
            let devices = batch.column(0).as_dictionary::<Int32Type>();
            let names = devices.values().as_string::<i32>();
            let values = batch.column(1).as_primitive::<Float64Type>().values();
            let mut start = 0;
            for run in devices.keys().values().chunk_by(|a, b| a == b) {
                let end = start + run.len();
                let device = names.value(run[0] as usize);
                let sums = all.entry(device.to_owned()).or_default();
                sums.add_all(&values[start..end]);
                start = end;
            }
        }
        let all = all.into_iter();
        Ok(all.map(|(device, sums)| sums.aggregate(device)).collect())
    }

    fn range(&mut self, range: Range) -> Result<Slice> {
        let mut slice = Slice::default();
        self.read(range, |_, value, noise| slice.add(value, noise))?;
        Ok(slice)
    }

    fn point(&mut self, device: u32, ts: i64) -> Result<Option<f64>> {
        let mut found = None;
        let range = Range {
            device,
            from: ts,
            to: ts + 1,
        };
        self.read(range, |_, _, noise| found = Some(noise))?;
        Ok(found)
    }
}
