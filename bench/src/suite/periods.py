"""DuckDB's part of the periods suite: reads statements as JSON, prints answers and seconds."""

import json
import sys
import time

import duckdb

plan = json.load(sys.stdin)
db = duckdb.connect()
db.execute("SET enable_progress_bar = false")
for statement in plan["setup"]:
    db.execute(statement)
results = []
for question in plan["questions"]:
    seconds = []
    for _ in range(plan["reps"]):
        start = time.perf_counter()
        answer = db.execute(question).fetchall()[0][0]
        seconds.append(time.perf_counter() - start)
    results.append({"answer": str(answer), "seconds": seconds})
print(json.dumps({"version": duckdb.__version__, "results": results}))
