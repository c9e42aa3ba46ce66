# `just` lists what there is. Everything is a plain cargo command: `just` itself is a convenience.

set shell := ["bash", "-euo", "pipefail", "-c"]

_list:
    @just --list --unsorted

# What CI runs: format, clippy, documentation, dependencies, tests
check:
    .ci/run

# All tests
test *args:
    cargo test --workspace --locked {{args}}

# Format the code
fmt:
    cargo fmt --all

# Clippy, warnings are errors
clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# API documentation
doc *args:
    cargo doc --workspace --no-deps --locked {{args}}

# Licences, advisories, duplicates and sources of dependencies (needs cargo-deny)
deny:
    cargo deny --locked check

# One node with every listener on loopback
run *args:
    cargo run --release --locked -- start {{args}}

# Simulated sensors and the queries of the README, on a running node
demo *args:
    cargo run --release --locked -- demo {{args}}

# Fuzzing: sql_front, sql_parse, ingest, segment, manifest or log (needs nightly and cargo-fuzz; see fuzz/README.md)
fuzz target *args:
    cd fuzz && cargo +nightly fuzz run --sanitizer none {{ if target == "sql_front" { "" } else if target =~ "segment|manifest|log" { "--features store" } else { "--features engine" } }} {{target}} -- {{args}}

# Chronos beside SQLite and PostgreSQL (`just bench --quick`), three nodes beside etcd: `just bench cluster`, or the store by itself: `just bench codecs`, `store`, `hot-key`, `growth`; see docs/benchmarks.md
bench *args:
    #!/usr/bin/env bash
    set -euo pipefail
    set -- {{args}}
    case "${1:-}" in
    codecs | store | hot-key | growth)
        exec cargo run --release --locked --manifest-path bench/Cargo.toml -p store-bench -- "$@"
        ;;
    cluster)
        if ! command -v etcd > /dev/null; then
            # Debian's package, unpacked and not installed: no service is started.
            etcd="$(realpath -m "${CARGO_TARGET_DIR:-target}")/etcd"
            if [ ! -x "$etcd/usr/bin/etcd" ]; then
                mkdir -p "$etcd"
                (cd "$etcd" && apt-get download etcd-server && dpkg -x etcd-server_*.deb .)
            fi
            PATH="$PATH:$etcd/usr/bin"
        fi
        ;;
    esac
    cargo build --release --locked
    cargo run --release --locked --manifest-path bench/Cargo.toml -- "$@"

# The log on this disk, and segments, without a server
bench-store:
    cargo run --release --locked -p chronos-store --example log_bench
    cargo run --release --locked -p chronos-store --example segment_bench

# sqllogictest scripts, of whatever origin, against a node for each file: `just slt DIR`, or `--url postgres://..`; see docs/testing.md
slt *args:
    cargo run --release --locked -p chronos-slt -- {{args}}
