"""asyncpg against a node: binary only, prepared statements, COPY, pools.

Usage: asyncpg_test.py URL
"""

import asyncio
import datetime as dt
import decimal
import sys
import uuid

import asyncpg

UTC = dt.timezone.utc

COLUMNS = {
    "b": ("BOOL", False),
    "i2": ("INT2", 7),
    "i4": ("INT4", -2147483648),
    "i8": ("INT8", 9223372036854775807),
    "f4": ("FLOAT4", 0.5),
    "f8": ("FLOAT8", 1e300),
    "n": ("NUMERIC(20,4)", decimal.Decimal("-0.1250")),
    "t": ("TEXT", "ünïcödé 🦀"),
    "x": ("BYTEA", bytes(range(256))),
    "u": ("UUID", uuid.UUID(int=1)),
    "d": ("DATE", dt.date(1, 1, 1)),
    "tm": ("TIME", dt.time(1, 2, 3, 4)),
    "ts": ("TIMESTAMP", dt.datetime(2024, 2, 29, 12, 0)),
    "tz": ("TIMESTAMPTZ", dt.datetime(2999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    "iv": ("INTERVAL", dt.timedelta(days=-3, seconds=5)),
    "j": ("JSONB", '{"a": [1, null]}'),
    "ai": ("INT4[]", [1, None, 3]),
    "at": ("TEXT[]", ["a b", ""]),
    "az": ("TIMESTAMPTZ[]", [dt.datetime(2024, 1, 1, tzinfo=UTC)]),
}


async def types(conn):
    definitions = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    await conn.execute(f"CREATE TABLE types (id INT8 PRIMARY KEY, {definitions})")
    marks = ", ".join(f"${i + 2}" for i in range(len(COLUMNS)))
    values = [value for _, value in COLUMNS.values()]
    # The server describes every parameter: asyncpg encodes by that alone.
    assert await conn.execute(f"INSERT INTO types VALUES ($1, {marks})", 1, *values) == "INSERT 0 1"
    await conn.execute("INSERT INTO types (id) VALUES ($1)", 2)
    row = await conn.fetchrow("SELECT * FROM types WHERE id = $1", 1)
    for name, (_, expected) in COLUMNS.items():
        assert row[name] == expected, (name, row[name], expected)
    nulls = await conn.fetchrow("SELECT * FROM types WHERE id = 2")
    assert all(nulls[name] is None for name in COLUMNS)
    ids = await conn.fetch("SELECT id FROM types WHERE id = ANY($1) ORDER BY id", [1, 2, 3])
    assert [r["id"] for r in ids] == [1, 2]


async def statements(conn):
    await conn.execute("CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT); INSERT INTO t VALUES (0, 'script')")
    await conn.executemany("INSERT INTO t VALUES ($1, $2)", [(i, f"v{i}") for i in range(1, 500)])
    statement = await conn.prepare("SELECT v FROM t WHERE id = $1")
    assert await statement.fetchval(0) == "script"
    assert [await statement.fetchval(i) for i in (1, 499)] == ["v1", "v499"]
    assert [a.type.name for a in statement.get_attributes()] == ["text"]
    assert await conn.fetchval("UPDATE t SET v = $2 WHERE id = $1 RETURNING v", 5, "five") == "five"
    assert await conn.execute("DELETE FROM t WHERE id > $1", 400) == "DELETE 99"
    assert await conn.fetchval("SELECT $1::int8 + 1", 41) == 42
    async with conn.transaction():
        seen = [r["id"] async for r in conn.cursor("SELECT id FROM t ORDER BY id", prefetch=50)]
    assert seen == list(range(401))


async def transactions(conn):
    try:
        async with conn.transaction():
            await conn.execute("DELETE FROM t")
            raise RuntimeError
    except RuntimeError:
        pass
    async with conn.transaction(isolation="repeatable_read"):
        await conn.execute("INSERT INTO t VALUES (1000, 'kept')")
        try:
            async with conn.transaction():
                await conn.execute("INSERT INTO t VALUES (1000, 'again')")
        except asyncpg.UniqueViolationError as e:
            assert e.constraint_name == "t_pkey"
    assert await conn.fetchval("SELECT count(*) FROM t") == 402
    try:
        await conn.fetch("SELECT * FROM nowhere")
        raise AssertionError("an unknown table was found")
    except asyncpg.UndefinedTableError:
        pass


async def copying(conn):
    await conn.execute("CREATE TABLE c (id INT8 PRIMARY KEY, t TEXT, f FLOAT8)")
    rows = [(i, None if i % 3 else f"t{i}", i / 8) for i in range(20000)]
    assert await conn.copy_records_to_table("c", records=rows) == "COPY 20000"
    assert await conn.fetchval("SELECT sum(f) FROM c") == sum(r[2] for r in rows)
    assert await conn.fetchval("SELECT count(t) FROM c") == 6667


async def pool(url):
    async with asyncpg.create_pool(url, min_size=4, max_size=8) as many:
        async def insert(n):
            async with many.acquire() as conn:
                await conn.execute("INSERT INTO t VALUES ($1, 'pool')", 2000 + n)

        await asyncio.gather(*(insert(n) for n in range(100)))
        assert await many.fetchval("SELECT count(*) FROM t WHERE v = 'pool'") == 100


async def main(url):
    conn = await asyncpg.connect(url)
    await types(conn)
    await statements(conn)
    await transactions(conn)
    await copying(conn)
    await conn.close()
    await pool(url)
    print("asyncpg: ok")


asyncio.run(main(sys.argv[1]))
