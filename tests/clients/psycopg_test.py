"""psycopg 3 against a node: text and binary, all types, COPY, pipelines, server-side names.

Usage: psycopg_test.py URL
"""

import datetime as dt
import decimal
import sys
import uuid

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

UTC = dt.timezone.utc

COLUMNS = {
    "b": ("BOOL", True),
    "i2": ("INT2", -32768),
    "i4": ("INT4", 2147483647),
    "i8": ("INT8", -9223372036854775808),
    "f4": ("FLOAT4", 1.5),
    "f8": ("FLOAT8", 0.1),
    "n": ("NUMERIC(20,4)", decimal.Decimal("1234567890.1250")),
    "t": ("TEXT", "it's \"ünïcödé\" 漢字 \\ 🦀"),
    "v": ("VARCHAR(10)", "varchar"),
    "x": ("BYTEA", b"\x00\xff\\"),
    "u": ("UUID", uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
    "d": ("DATE", dt.date(2024, 2, 29)),
    "tm": ("TIME", dt.time(23, 59, 59, 999999)),
    "ts": ("TIMESTAMP", dt.datetime(1969, 12, 31, 23, 59, 59, 999999)),
    "tz": ("TIMESTAMPTZ", dt.datetime(2024, 2, 29, 12, 34, 56, 789000, tzinfo=UTC)),
    "iv": ("INTERVAL", dt.timedelta(days=3, hours=4, seconds=5, microseconds=6)),
    "j": ("JSONB", {"a": [1, 2.5, None, "x"]}),
    "ai": ("INT8[]", [1, None, -3]),
    "at": ("TEXT[]", ["a b", "", 'q"', None]),
}


def parameter(name, value):
    return Jsonb(value) if name == "j" else value


def types(conn, binary):
    names = list(COLUMNS)
    table = "types_binary" if binary else "types_text"
    definitions = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    conn.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, {definitions})")
    mark = "%b" if binary else "%s"
    marks = ", ".join(f"{mark}::{kind}" for kind, _ in COLUMNS.values())
    with conn.cursor(binary=binary) as cur:
        values = [parameter(name, value) for name, (_, value) in COLUMNS.items()]
        cur.execute(f"INSERT INTO {table} VALUES (1, {marks})", values)
        assert cur.rowcount == 1
        cur.execute(f"INSERT INTO {table} (id) VALUES ({mark})", (2,))
        cur.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY id")
        row, nulls = cur.fetchall()
    for name, got in zip(names, row):
        expected = COLUMNS[name][1]
        assert got == expected and type(got) is type(expected), (name, got, expected)
    assert all(value is None for value in nulls), nulls
    # Without casts: the server says what the parameters are.
    with conn.cursor(binary=binary) as cur:
        cur.execute(f"SELECT id FROM {table} WHERE i8 = {mark} AND t = {mark} AND tz = {mark} AND n = {mark}",
                    [COLUMNS[k][1] for k in ("i8", "t", "tz", "n")])
        assert cur.fetchall() == [(1,)]
        cur.execute(f"SELECT id FROM {table} WHERE id = ANY({mark}) ORDER BY 1", ([1, 2, 3],))
        assert cur.fetchall() == [(1,), (2,)]


def prepared(conn):
    conn.execute("CREATE TABLE p (id INT PRIMARY KEY, v TEXT)")
    for i in range(20):
        conn.execute("INSERT INTO p VALUES (%s, %s)", (i, f"v{i}"), prepare=True)
    for i in range(20):
        got = conn.execute("SELECT v FROM p WHERE id = %s", (i,), prepare=True).fetchone()
        assert got == (f"v{i}",), got
    with conn.cursor() as cur:
        cur.executemany("INSERT INTO p VALUES (%s, %s)", [(100 + i, None) for i in range(50)])
        assert cur.rowcount == 50
        cur.executemany("INSERT INTO p VALUES (%s, 'r') RETURNING id", [(200,), (201,)], returning=True)
        assert cur.fetchone() == (200,)
        assert cur.nextset() and cur.fetchone() == (201,)
    with conn.pipeline():
        cursors = [conn.execute("SELECT count(*) FROM p WHERE id < %s", (n,)) for n in (1, 5, 20)]
    assert [c.fetchone()[0] for c in cursors] == [1, 5, 20]


def errors(conn):
    try:
        conn.execute("INSERT INTO p VALUES (1, 'again')")
        raise AssertionError("a duplicate was stored")
    except psycopg.errors.UniqueViolation as e:
        assert e.diag.table_name == "p" and e.diag.constraint_name == "p_pkey", vars(e.diag)
    for wrong, sql in [
        (psycopg.errors.UndefinedTable, "SELECT * FROM nowhere"),
        (psycopg.errors.UndefinedColumn, "SELECT nope FROM p"),
        (psycopg.errors.SyntaxError, "SELEC 1"),
        (psycopg.errors.DivisionByZero, "SELECT 1 / 0"),
        (psycopg.errors.NotNullViolation, "INSERT INTO p VALUES (NULL, 'x')"),
    ]:
        try:
            conn.execute(sql)
            raise AssertionError(f"{sql} is no error")
        except wrong:
            pass


def transactions(url):
    with psycopg.connect(url) as conn:
        with conn.transaction():
            conn.execute("INSERT INTO p VALUES (300, 'kept')")
            try:
                with conn.transaction():
                    conn.execute("INSERT INTO p VALUES (301, 'lost')")
                    raise RuntimeError
            except RuntimeError:
                pass
        assert conn.execute("SELECT array_agg(id) FROM p WHERE id >= 300").fetchone() == ([300],)
    with psycopg.connect(url) as a, psycopg.connect(url) as b:
        assert a.execute("SELECT v FROM p WHERE id = 1").fetchone() == ("v1",)
        b.execute("UPDATE p SET v = 'b' WHERE id = 1")
        b.commit()
        assert a.execute("SELECT v FROM p WHERE id = 1").fetchone() == ("v1",)
        try:
            a.execute("UPDATE p SET v = 'a' WHERE id = 1")
            a.commit()
            raise AssertionError("a lost update")
        except psycopg.errors.SerializationFailure:
            a.rollback()


def copying(conn):
    conn.execute("CREATE TABLE c (id INT8 PRIMARY KEY, t TEXT, f FLOAT8, tz TIMESTAMPTZ)")
    at = dt.datetime(2024, 1, 1, tzinfo=UTC)
    with conn.cursor() as cur:
        with cur.copy("COPY c FROM STDIN") as copy:
            for i in range(5000):
                copy.write_row((i, f"tab\t{i}\\", i / 4, at + dt.timedelta(seconds=i)))
        with cur.copy("COPY c FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int8", "text", "float8", "timestamptz"])
            for i in range(5000, 10000):
                copy.write_row((i, None, i / 4, at))
    assert conn.execute("SELECT count(*), sum(f), count(t) FROM c").fetchone() == (10000, 12498750.0, 5000)
    for form in ("text", "binary"):
        with conn.cursor().copy(f"COPY (SELECT id, t, f, tz FROM c WHERE id < 3 ORDER BY id) TO STDOUT (FORMAT {form})") as copy:
            copy.set_types(["int8", "text", "float8", "timestamptz"])
            rows = list(copy.rows())
        assert rows[2] == (2, "tab\t2\\", 0.5, at + dt.timedelta(seconds=2)), rows


def cursors(conn):
    with conn.cursor(row_factory=dict_row) as cur:
        got = cur.execute("SELECT id, t FROM c WHERE id = 1").fetchone()
        assert got == {"id": 1, "t": "tab\t1\\"}, got
    with conn.cursor() as cur:
        total = sum(1 for _ in cur.stream("SELECT id FROM c WHERE id < %s", (2500,)))
        assert total == 2500
    assert conn.info.parameter_status("server_encoding") == "UTF8"
    assert conn.info.parameter_status("TimeZone") == "UTC"


def main(url):
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("SET default_transaction_isolation = 'repeatable read'")
        types(conn, binary=False)
        types(conn, binary=True)
        prepared(conn)
        errors(conn)
        copying(conn)
        cursors(conn)
    transactions(url)
    print("psycopg: ok")


main(sys.argv[1])
