//! A row as a pair of bytes, for engines that know nothing else: the key sorts as
//! (device, metric, ts) does.

use super::Slice;
use crate::data::{device_name, Aggregate, Sums, METRIC};
use crate::error::{failure, Result};

/// Bytes of a row's value.
pub(super) const VALUE_BYTES: usize = 16;

pub(super) fn key(device: u32, ts: i64) -> Vec<u8> {
    let mut key = device_name(device).into_bytes();
    key.push(0);
    key.extend_from_slice(METRIC.as_bytes());
    key.push(0);
    key.extend_from_slice(&ts.to_be_bytes());
    key
}

pub(super) fn value(value: f64, noise: f64) -> [u8; VALUE_BYTES] {
    let mut bytes = [0; VALUE_BYTES];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    bytes[8..].copy_from_slice(&noise.to_le_bytes());
    bytes
}

/// Value and noise.
pub(super) fn read_value(bytes: &[u8]) -> Result<(f64, f64)> {
    let Some((value, noise)) = bytes.split_first_chunk() else {
        return failure("a short row");
    };
    Ok((
        f64::from_le_bytes(*value),
        f64::from_le_bytes(noise.try_into()?),
    ))
}

/// Aggregates rows that come in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct ByDevice {
    device: Vec<u8>,
    sums: Sums,
    done: Vec<Aggregate>,
}

impl ByDevice {
    #[inline]
    pub(super) fn add(&mut self, key: &[u8], bytes: &[u8]) -> Result<()> {
        let is_same = key.starts_with(&self.device) && key.get(self.device.len()) == Some(&0);
        if !is_same || self.device.is_empty() {
            self.end();
            let name = key.split(|byte| *byte == 0).next().unwrap_or_default();
            self.device = name.to_vec();
        }
        self.sums.add(read_value(bytes)?.0);
        Ok(())
    }

    fn end(&mut self) {
        let sums = std::mem::take(&mut self.sums);
        if !self.device.is_empty() {
            let name = String::from_utf8_lossy(&self.device).into_owned();
            self.done.push(sums.aggregate(name));
        }
    }

    pub(super) fn finish(mut self) -> Vec<Aggregate> {
        self.end();
        self.done
    }
}

/// Adds a row to what a range query gives.
pub(super) fn add_to(slice: &mut Slice, bytes: &[u8]) -> Result<()> {
    let (value, noise) = read_value(bytes)?;
    slice.add(value, noise);
    Ok(())
}
