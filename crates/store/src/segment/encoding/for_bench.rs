//! The float encodings by themselves, for the benchmark that sets them beside others.
//! Nothing else uses this; it may change at any time.

use super::{chimp, floats, Effort};

/// Chimp128, of any values.
pub fn encode_chimp(values: &[f64]) -> Vec<u8> {
    let mut out = Vec::new();
    chimp::encode(values, &mut out);
    out
}

/// Exactly `out.len()` values that [`encode_chimp`] encoded.
///
/// Errors: other bytes, in words.
pub fn decode_chimp(bytes: &[u8], out: &mut [f64]) -> Result<(), String> {
    chimp::decode(bytes, out).map_err(|error| error.reason)
}

/// The store's own choice without pco: decimals as integers, or bit patterns where too few of
/// the values are decimals, or raw.
pub fn encode_decimals(values: &[f64]) -> Vec<u8> {
    let mut out = Vec::new();
    floats::encode(values, Effort::Smallest, None, &mut out);
    out
}

/// Exactly `out.len()` values that [`encode_decimals`] encoded.
///
/// Errors: other bytes, in words.
pub fn decode_decimals(bytes: &[u8], out: &mut [f64]) -> Result<(), String> {
    floats::decode(bytes, out).map_err(|error| error.reason)
}
