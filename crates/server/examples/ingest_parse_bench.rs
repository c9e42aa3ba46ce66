//! Measures how fast a body of `POST /ingest` becomes columns, on one core.
//!
//! Prints; judges nothing. `cargo run --release -p chronos-server --example ingest_parse_bench`

use chronos_env::Env;
use chronos_node::Readings;
use chronos_server::http::ingest::parse_body;

const READINGS: usize = 20_000;
const ROUNDS: u64 = 30;

fn body(metrics: usize) -> Vec<u8> {
    let mut body = String::new();
    for i in 0..READINGS {
        let ts = 1_704_067_200_000 + i as u64 * 250;
        let device = i % 40;
        body.push_str(&format!(
            "{{\"device_id\":\"farm-7/barn-{device:02}\",\"ts\":{ts},\"seq\":{i},\"metrics\":{{"
        ));
        for m in 0..metrics {
            let comma = if m == 0 { "" } else { "," };
            let value = 20.0 + ((i * 7 + m * 13) % 1000) as f64 / 97.0;
            body.push_str(&format!("{comma}\"temperature_{m}\":{value:.4}"));
        }
        body.push_str("}}\n");
    }
    body.into_bytes()
}

fn main() {
    let clock = Env::real().clock;
    for metrics in [1, 5, 20] {
        let body = body(metrics);
        let mut readings = Readings::new();
        let started = clock.monotonic_nanos();
        for _ in 0..ROUNDS {
            readings.clear();
            if let Err(e) = parse_body(None, &body, &mut readings) {
                println!("{e} at byte {}", e.byte);
                return;
            }
        }
        let seconds = (clock.monotonic_nanos() - started) as f64 / 1e9;
        let rows = readings.len() as f64 * ROUNDS as f64;
        let megabytes = body.len() as f64 * ROUNDS as f64 / 1e6;
        println!(
            "{metrics:2} metrics per reading: {:6.2} M metrics/s, {:5.0} MB/s",
            rows / seconds / 1e6,
            megabytes / seconds
        );
    }
}
