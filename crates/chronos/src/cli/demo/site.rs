//! The simulated farm: which devices there are and what they would measure.
//!
//! Values are functions of the time of day plus jitter, so that a chart of them looks
//! like a farm: it is warm in the afternoon, damp at night, the soil dries until the
//! morning's irrigation, the tank empties with it. Four things go wrong on purpose (see
//! [`Story`]). The same seed and times give the same readings.

use std::f64::consts::TAU;

use chronos_env::{Random, SimRandom};

/// Microseconds in a second.
pub(super) const SECOND: u64 = 1_000_000;
/// Microseconds in a day.
const DAY: u64 = 86_400 * SECOND;
/// How long the pump runs hot before it trips.
const FAULT_HOT: u64 = 12 * 60 * SECOND;
/// How long the pump is down after it tripped.
const FAULT_DOWN: u64 = 15 * 60 * SECOND;

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Soil,
    Greenhouse,
    Weather,
    Tank,
    Pump,
    Trough,
}

/// One of every twelve devices is …
const MIX: [Kind; 12] = [
    Kind::Soil,
    Kind::Greenhouse,
    Kind::Pump,
    Kind::Soil,
    Kind::Weather,
    Kind::Tank,
    Kind::Soil,
    Kind::Soil,
    Kind::Greenhouse,
    Kind::Soil,
    Kind::Trough,
    Kind::Soil,
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Soil => "soil",
            Self::Greenhouse => "greenhouse",
            Self::Weather => "weather",
            Self::Tank => "tank",
            Self::Pump => "pump",
            Self::Trough => "trough",
        }
    }
}

/// One message of a device: several metrics of one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    /// The device.
    pub(super) device_id: String,
    /// Microseconds since 1970.
    pub(super) ts_micros: u64,
    /// The device's own message counter.
    pub(super) seq: u64,
    /// Metric names and values.
    pub(super) metrics: Vec<(&'static str, f64)>,
}

impl Reading {
    /// The message as `/ingest` takes it.
    pub(super) fn json(&self) -> serde_json::Value {
        let metrics: serde_json::Map<String, serde_json::Value> = self
            .metrics
            .iter()
            .map(|(name, value)| ((*name).to_owned(), serde_json::json!(value)))
            .collect();
        serde_json::json!({
            "device_id": self.device_id,
            "ts": self.ts_micros,
            "seq": self.seq,
            "metrics": metrics,
        })
    }
}

/// What goes wrong, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Story {
    /// When the pump begins to run hot.
    pub(super) fault_from: u64,
    /// From this moment on the soil probe cannot reach the node.
    pub(super) offline_from: u64,
    /// The one moment at which a greenhouse reports a temperature that cannot be.
    pub(super) wrong_at: u64,
}

/// The temperature that cannot be.
pub(super) const WRONG_TEMPERATURE: f64 = 85.0;

#[derive(Debug)]
struct Device {
    id: String,
    kind: Kind,
    seq: u64,
    /// This device's difference from its kind, within -1..1.
    character: f64,
}

/// All devices.
#[derive(Debug)]
pub(super) struct Site {
    devices: Vec<Device>,
    random: SimRandom,
    story: Story,
}

impl Site {
    /// A site of `devices` devices.
    pub(super) fn new(devices: u32, seed: u64, story: Story) -> Self {
        let random = SimRandom::new(seed);
        let mut counts = [0u32; MIX.len()];
        let devices = (0..devices as usize)
            .map(|nth| {
                let kind = MIX[nth % MIX.len()];
                counts[kind as usize] += 1;
                Device {
                    id: format!("{}-{:02}", kind.name(), counts[kind as usize]),
                    kind,
                    seq: 0,
                    character: unit(&random) * 2.0 - 1.0,
                }
            })
            .collect();
        Self {
            devices,
            random,
            story,
        }
    }

    /// How many devices.
    pub(super) fn len(&self) -> usize {
        self.devices.len()
    }

    /// The id of the device that goes offline: the first soil probe.
    pub(super) fn offline_device(&self) -> Option<&str> {
        self.first(Kind::Soil)
    }

    /// The id of the pump that fails: the first one.
    pub(super) fn failing_pump(&self) -> Option<&str> {
        self.first(Kind::Pump)
    }

    /// The id of the greenhouse whose temperature is wrong once: the first one.
    pub(super) fn wrong_greenhouse(&self) -> Option<&str> {
        self.first(Kind::Greenhouse)
    }

    fn first(&self, kind: Kind) -> Option<&str> {
        let device = self.devices.iter().find(|device| device.kind == kind)?;
        Some(&device.id)
    }

    /// What device `nth` measures at this moment.
    pub(super) fn read(&mut self, nth: usize, ts_micros: u64) -> Reading {
        let device = &mut self.devices[nth];
        device.seq += 1;
        let moment = Moment {
            day: (ts_micros % DAY) as f64 / DAY as f64,
            jitter: unit(&self.random) + unit(&self.random) - 1.0,
            character: device.character,
        };
        let first_of_kind = device.id.ends_with("-01");
        let mut metrics = match device.kind {
            Kind::Soil => moment.soil(),
            Kind::Greenhouse => moment.greenhouse(),
            Kind::Weather => moment.weather(),
            Kind::Tank => moment.tank(),
            Kind::Pump => {
                let since_fault = ts_micros.checked_sub(self.story.fault_from);
                moment.pump(since_fault.filter(|_| first_of_kind))
            }
            Kind::Trough => moment.trough(),
        };
        if device.kind == Kind::Greenhouse && first_of_kind && ts_micros == self.story.wrong_at {
            metrics[0].1 = WRONG_TEMPERATURE;
        }
        for (_, value) in &mut metrics {
            *value = (*value * 100.0).round() / 100.0;
        }
        Reading {
            device_id: device.id.clone(),
            ts_micros,
            seq: device.seq,
            metrics,
        }
    }
}

/// Uniform in 0..1.
fn unit(random: &SimRandom) -> f64 {
    (random.u64() >> 11) as f64 / (1u64 << 53) as f64
}

type Metrics = Vec<(&'static str, f64)>;

/// The weather at one moment, as one device sees it.
struct Moment {
    /// Time of day, 0..1 from midnight.
    day: f64,
    /// -1..1, mostly near 0.
    jitter: f64,
    /// -1..1, fixed per device.
    character: f64,
}

impl Moment {
    /// -1 at 03:00, 1 at 15:00.
    fn warmth(&self) -> f64 {
        (TAU * (self.day - 0.375)).sin()
    }

    /// 0 at night, 1 at noon.
    fn sun(&self) -> f64 {
        (TAU * (self.day - 0.25)).sin().max(0.0)
    }

    /// Since the end of the last irrigation (07:00), as a part of a day.
    fn since_irrigation(&self) -> f64 {
        (self.day - 7.0 / 24.0).rem_euclid(1.0)
    }

    /// Irrigation runs from 05:30 to 07:00 and from 19:00 to 20:00.
    fn irrigating(&self) -> bool {
        let hour = self.day * 24.0;
        (5.5..7.0).contains(&hour) || (19.0..20.0).contains(&hour)
    }

    fn soil(&self) -> Metrics {
        vec![
            (
                "soil_moisture",
                38.0 - 13.0 * self.since_irrigation() + 3.0 * self.character + 0.3 * self.jitter,
            ),
            (
                "soil_temperature",
                15.5 + 2.5 * self.warmth() + self.character + 0.1 * self.jitter,
            ),
            (
                "battery",
                3.62 + 0.08 * self.sun() + 0.05 * self.character + 0.01 * self.jitter,
            ),
        ]
    }

    fn greenhouse(&self) -> Metrics {
        vec![
            (
                "temperature",
                22.0 + 5.0 * self.warmth() + self.character + 0.3 * self.jitter,
            ),
            (
                "humidity",
                72.0 - 12.0 * self.warmth() + 3.0 * self.character + self.jitter,
            ),
            (
                "co2",
                620.0 - 180.0 * self.sun() + 20.0 * self.character + 8.0 * self.jitter,
            ),
        ]
    }

    fn weather(&self) -> Metrics {
        vec![
            (
                "temperature",
                16.0 + 7.0 * self.warmth() + 0.5 * self.character + 0.2 * self.jitter,
            ),
            (
                "humidity",
                (68.0 - 20.0 * self.warmth() + 2.0 * self.jitter).clamp(15.0, 100.0),
            ),
            (
                "wind_speed",
                (2.6 + 1.6 * self.sun() + 1.4 * self.jitter).max(0.0),
            ),
            (
                "solar",
                (860.0 * self.sun() * (1.0 + 0.05 * self.jitter)).max(0.0),
            ),
        ]
    }

    fn tank(&self) -> Metrics {
        // The well refills what irrigation took.
        vec![
            (
                "tank_level",
                62.0 + 28.0 * self.since_irrigation() + 4.0 * self.character + 0.2 * self.jitter,
            ),
            (
                "water_temperature",
                12.5 + 1.2 * self.warmth() + 0.1 * self.jitter,
            ),
        ]
    }

    /// `since_fault` is the time since the fault began, for the pump that has one.
    fn pump(&self, since_fault: Option<u64>) -> Metrics {
        let (current, pressure) = match since_fault {
            Some(since) if since < FAULT_HOT => {
                let part = since as f64 / FAULT_HOT as f64;
                (9.0 + 7.0 * part + 0.4 * self.jitter, 3.4 - 2.2 * part)
            }
            Some(since) if since < FAULT_HOT + FAULT_DOWN => (0.0, 0.0),
            _ if self.irrigating() => (6.5 + 0.3 * self.character + 0.2 * self.jitter, 3.4),
            _ => (0.0, 1.9),
        };
        vec![
            ("pump_current", current.max(0.0)),
            ("pressure", (pressure + 0.05 * self.jitter).max(0.0)),
        ]
    }

    fn trough(&self) -> Metrics {
        vec![
            (
                "water_level",
                81.0 + 6.0 * self.character + 2.0 * self.jitter,
            ),
            (
                "battery",
                3.55 + 0.1 * self.sun() + 0.05 * self.character + 0.01 * self.jitter,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const NOON: u64 = 20_000 * DAY + DAY / 2;

    fn story() -> Story {
        Story {
            fault_from: NOON,
            offline_from: NOON,
            wrong_at: NOON,
        }
    }

    fn site(devices: u32) -> Site {
        Site::new(devices, 7, story())
    }

    fn metric(reading: &Reading, name: &str) -> f64 {
        let found = reading.metrics.iter().find(|(metric, _)| *metric == name);
        found.map(|(_, value)| *value).unwrap()
    }

    fn read(site: &mut Site, id: &str, at: u64) -> Reading {
        let nth = site.devices.iter().position(|d| d.id == id).unwrap();
        site.read(nth, at)
    }

    #[test]
    fn ids_are_unique_and_the_story_has_its_actors() {
        let site = site(200);
        let ids: BTreeSet<&str> = site.devices.iter().map(|d| d.id.as_str()).collect();
        assert_eq!(ids.len(), 200);
        assert_eq!(site.offline_device(), Some("soil-01"));
        assert_eq!(site.failing_pump(), Some("pump-01"));
        assert_eq!(site.wrong_greenhouse(), Some("greenhouse-01"));
    }

    #[test]
    fn the_same_seed_gives_the_same_readings() {
        let (mut one, mut other) = (site(36), site(36));
        for nth in 0..36 {
            assert_eq!(one.read(nth, NOON), other.read(nth, NOON));
        }
        assert_ne!(
            site(36).read(0, NOON),
            Site::new(36, 8, story()).read(0, NOON)
        );
    }

    #[test]
    fn values_are_plausible_all_day() {
        let mut site = site(36);
        for minute in 0..24 * 60 {
            for nth in 0..36 {
                let reading = site.read(nth, NOON - DAY + minute * 60 * SECOND);
                assert_eq!(reading.seq, minute + 1);
                for (name, value) in reading.metrics {
                    let range = match name {
                        "temperature" | "soil_temperature" | "water_temperature" => 0.0..40.0,
                        "battery" => 3.0..4.3,
                        "co2" => 300.0..900.0,
                        "solar" => 0.0..1000.0,
                        "wind_speed" => 0.0..15.0,
                        "pump_current" => 0.0..8.0,
                        "pressure" => 0.0..5.0,
                        _ => 0.0..100.01,
                    };
                    assert!(range.contains(&value), "{name} = {value}");
                }
            }
        }
    }

    #[test]
    fn afternoons_are_warmer_than_nights() {
        let mut site = site(12);
        let night = read(&mut site, "weather-01", NOON - 9 * 3600 * SECOND);
        let afternoon = read(&mut site, "weather-01", NOON + 3 * 3600 * SECOND);
        assert!(metric(&afternoon, "temperature") > metric(&night, "temperature") + 10.0);
        assert_eq!(metric(&night, "solar"), 0.0);
    }

    #[test]
    fn the_pump_runs_hot_trips_and_recovers() {
        let mut site = site(36);
        let at = |minutes: u64| NOON + minutes * 60 * SECOND;
        assert!(metric(&read(&mut site, "pump-01", at(11)), "pump_current") > 12.0);
        assert_eq!(
            metric(&read(&mut site, "pump-01", at(20)), "pressure").round(),
            0.0
        );
        assert!(metric(&read(&mut site, "pump-01", at(40)), "pressure") > 1.5);
        assert_eq!(
            metric(&read(&mut site, "pump-02", at(11)), "pump_current"),
            0.0
        );
    }

    #[test]
    fn one_temperature_is_wrong_once() {
        let mut site = site(36);
        let wrong = read(&mut site, "greenhouse-01", NOON);
        assert_eq!(metric(&wrong, "temperature"), WRONG_TEMPERATURE);
        let next = read(&mut site, "greenhouse-01", NOON + 1);
        assert!(metric(&next, "temperature") < 40.0);
        let json = wrong.json();
        assert_eq!(json["metrics"]["temperature"], WRONG_TEMPERATURE);
        assert_eq!(json["ts"], NOON);
    }
}
