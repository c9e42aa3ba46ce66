//! Codecs of float columns, one face for all of them.
//!
//! Chimp128 and the decimals are the store's own (the latter with what the store takes where
//! values are no decimals, but without pco), pco is used as the store uses it, zstd and
//! lz4 get the bytes as they lie in memory, and Gorilla is only here.

mod gorilla;
mod series;

pub(crate) use series::{all_series, Series};

use chronos_store::segment::float_encodings;

use crate::error::{failure, Result};

/// Level of pco in the store.
const PCO_LEVEL: usize = 4;
/// The level that zstd calls its default.
const ZSTD_LEVEL: i32 = 3;

/// One way of encoding a block of floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Chimp128,
    Gorilla,
    Decimals,
    Pco,
    Zstd,
    Lz4,
    Raw,
}

impl Codec {
    pub(crate) const ALL: [Codec; 7] = [
        Codec::Chimp128,
        Codec::Gorilla,
        Codec::Decimals,
        Codec::Pco,
        Codec::Zstd,
        Codec::Lz4,
        Codec::Raw,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Codec::Chimp128 => "chimp128",
            Codec::Gorilla => "gorilla",
            Codec::Decimals => "decimals",
            Codec::Pco => "pco",
            Codec::Zstd => "zstd",
            Codec::Lz4 => "lz4",
            Codec::Raw => "raw",
        }
    }

    /// The encoded block.
    pub(crate) fn encode(self, values: &[f64]) -> Result<Vec<u8>> {
        Ok(match self {
            Codec::Chimp128 => float_encodings::encode_chimp(values),
            Codec::Gorilla => gorilla::encode(values),
            Codec::Decimals => float_encodings::encode_decimals(values),
            Codec::Pco => {
                let config = pco::ChunkConfig::default().with_compression_level(PCO_LEVEL);
                pco::standalone::simple_compress(values, &config)?
            }
            Codec::Zstd => zstd::bulk::compress(&bytes_of(values), ZSTD_LEVEL)?,
            Codec::Lz4 => lz4_flex::block::compress(&bytes_of(values)),
            Codec::Raw => bytes_of(values),
        })
    }

    /// Exactly `out.len()` values.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f64]) -> Result<()> {
        match self {
            Codec::Chimp128 => float_encodings::decode_chimp(bytes, out).or_else(failure),
            Codec::Gorilla => gorilla::decode(bytes, out),
            Codec::Decimals => float_encodings::decode_decimals(bytes, out).or_else(failure),
            Codec::Pco => Ok(pco::standalone::simple_decompress_into(bytes, out).map(|_| ())?),
            Codec::Zstd => {
                let plain = zstd::bulk::decompress(bytes, out.len() * 8)?;
                read_bytes(&plain, out)
            }
            Codec::Lz4 => {
                let plain = lz4_flex::block::decompress(bytes, out.len() * 8)?;
                read_bytes(&plain, out)
            }
            Codec::Raw => read_bytes(bytes, out),
        }
    }
}

fn bytes_of(values: &[f64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn read_bytes(bytes: &[u8], out: &mut [f64]) -> Result<()> {
    if bytes.len() != out.len() * 8 {
        return failure("another count of values than was encoded");
    }
    for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(8)) {
        *value = f64::from_le_bytes(bytes.try_into()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_gives_back_what_it_got() {
        let odd = [0.0, -0.0, f64::NAN, 1e300, f64::INFINITY, 5e-324];
        let mut series: Vec<Vec<f64>> = all_series(None)
            .unwrap()
            .into_iter()
            .map(|series| series.values[..3_000].to_vec())
            .collect();
        series.push(odd.iter().cycle().take(500).copied().collect());
        series.push(vec![4.5]);
        for (codec, values) in Codec::ALL
            .into_iter()
            .flat_map(|codec| series.iter().map(move |values| (codec, values)))
        {
            let bytes = codec.encode(values).unwrap();
            let mut back = vec![0.0; values.len()];
            codec.decode(&bytes, &mut back).unwrap();
            let same = values
                .iter()
                .zip(&back)
                .all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{}", codec.name());
        }
    }
}
