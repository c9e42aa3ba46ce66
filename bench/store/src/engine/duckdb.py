"""DuckDB's part of the store suite: reads a plan as JSON, prints the figures as one line of JSON."""

import json
import sys
import time

import duckdb


def median(numbers):
    numbers = sorted(numbers)
    middle = len(numbers) // 2
    if len(numbers) % 2:
        return numbers[middle]
    return (numbers[middle - 1] + numbers[middle]) / 2


def p50_micros(queries, run):
    taken = []
    for query in queries:
        start = time.perf_counter()
        run(query)
        taken.append((time.perf_counter() - start) * 1e6)
    return median(taken)


def peak_memory_mib():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


plan = json.load(open(sys.argv[1]))
db = duckdb.connect(plan["database"])
db.execute("SET threads = 1; SET TimeZone = 'UTC'")
db.execute(
    "CREATE TABLE rows (device VARCHAR NOT NULL, metric VARCHAR NOT NULL, ts TIMESTAMPTZ NOT NULL, "
    "value DOUBLE NOT NULL, noise DOUBLE NOT NULL, PRIMARY KEY (device, metric, ts))"
)

start = time.perf_counter()
for batch in plan["batches"]:
    db.execute("INSERT INTO rows SELECT * FROM read_parquet(?)", [batch])
ingest = time.perf_counter() - start

start = time.perf_counter()
db.execute("CHECKPOINT")
settle = time.perf_counter() - start


def aggregate():
    return db.execute(
        "SELECT device, avg(value), max(value) FROM rows GROUP BY device ORDER BY device"
    ).fetchall()


def slice_of(query):
    device, metric, lower, upper, _, _ = query
    return db.execute(
        "SELECT epoch_us(ts), value, noise FROM rows WHERE device = ? AND metric = ? "
        "AND ts >= to_timestamp(0) + to_microseconds(?) AND ts < to_timestamp(0) + to_microseconds(?)",
        [device, metric, lower, upper],
    ).fetchall()


def point(query):
    device, metric, ts, _ = query
    return db.execute(
        "SELECT noise FROM rows WHERE device = ? AND metric = ? AND ts = to_timestamp(0) + to_microseconds(?)",
        [device, metric, ts],
    ).fetchall()


given = aggregate()
assert len(given) == len(plan["aggregate"]), "another count of groups"
for (device, average, highest), (name, expected, top) in zip(given, plan["aggregate"]):
    assert device == name and highest == top and abs(average - expected) < 1e-6, device
for query in plan["ranges"]:
    found = slice_of(query)
    assert len(found) == query[4] and abs(sum(row[2] for row in found) - query[5]) < 1e-6, query
for query in plan["points"]:
    assert point(query) == [(query[3],)], query

aggregates = []
for _ in range(plan["reps"]):
    start = time.perf_counter()
    aggregate()
    aggregates.append(time.perf_counter() - start)
ranges = [p50_micros(plan["ranges"], slice_of) for _ in range(plan["reps"])]
points = [p50_micros(plan["points"], point) for _ in range(plan["reps"])]
rows = plan["rows"]
print(
    json.dumps(
        {
            "version": duckdb.__version__,
            "ingest": rows / ingest,
            "settle_seconds": settle,
            "aggregate": rows / median(aggregates),
            "range_micros": median(ranges),
            "point_micros": median(points),
            "peak_mib": peak_memory_mib(),
        }
    )
)
