//! The series that codecs are tried on: CSV files that someone has, and synthetic sensors.

use std::path::Path;

use crate::data::Random;
use crate::error::{failure, Result};

/// Values of each synthetic series.
const SYNTHETIC_VALUES: usize = 200_000;

/// A named column of floats.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) values: Vec<f64>,
}

/// The CSV files of a directory, by name, and the synthetic series behind them.
pub(crate) fn all_series(dir: Option<&Path>) -> Result<Vec<Series>> {
    let mut all = Vec::new();
    if let Some(dir) = dir {
        let mut paths: Vec<_> = std::fs::read_dir(dir)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|it| it == "csv"));
        paths.sort();
        if paths.is_empty() {
            return failure(format!("there is no CSV file in {}", dir.display()));
        }
        for path in paths {
            all.push(read_csv(&path)?);
        }
    }
    all.push(walk("walk, 1 decimal", 10.0));
    all.push(walk("walk, 2 decimals", 100.0));
    all.push(noise());
    all.push(steps());
    Ok(all)
}

/// The last column of a CSV file with a header line.
fn read_csv(path: &Path) -> Result<Series> {
    let text = std::fs::read_to_string(path)?;
    let values = text
        .lines()
        .skip(1)
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let last = line.rsplit(',').next().unwrap_or_default().trim();
            let number = last.parse::<f64>();
            number.or_else(|_| failure(format!("{}: {last:?} is no number", path.display())))
        })
        .collect::<Result<Vec<f64>>>()?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(Series {
        name: name.into_owned(),
        values,
    })
}

/// A random walk in units of `1 / unit`.
fn walk(name: &str, unit: f64) -> Series {
    let mut random = Random::new(unit.to_bits());
    let mut at = 2_000i64;
    let values = (0..SYNTHETIC_VALUES).map(|_| {
        at += random.below(41) as i64 - 20;
        at as f64 / unit
    });
    Series {
        name: format!("synthetic: {name}"),
        values: values.collect(),
    }
}

/// A slow wave with noise in every bit.
fn noise() -> Series {
    let mut random = Random::new(3);
    let values = (0..SYNTHETIC_VALUES).map(|i| {
        let wave = (i as f64 / 8_640.0 * std::f64::consts::TAU).sin();
        20.0 + 5.0 * wave + (random.next() >> 11) as f64 / (1u64 << 53) as f64
    });
    Series {
        name: "synthetic: noise, all bits".into(),
        values: values.collect(),
    }
}

/// A set point that changes now and then.
fn steps() -> Series {
    let mut random = Random::new(5);
    let mut at = 21.5;
    let values = (0..SYNTHETIC_VALUES).map(|_| {
        if random.below(40) == 0 {
            at = 15.0 + random.below(30) as f64 / 2.0;
        }
        at
    });
    Series {
        name: "synthetic: steps of 0.5".into(),
        values: values.collect(),
    }
}
