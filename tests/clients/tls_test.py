"""psycopg and asyncpg over TLS with SCRAM: `tls_test.py URL psycopg|asyncpg`.

The URL says sslmode=verify-full; the password is in PGPASSWORD.
"""

import asyncio
import os
import sys

URL, DRIVER = sys.argv[1], sys.argv[2]
PASSWORD = os.environ["PGPASSWORD"]


def with_psycopg():
    import psycopg

    with psycopg.connect(URL, password=PASSWORD) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("chronos",)
        assert connection.pgconn.ssl_in_use
    try:
        psycopg.connect(URL, password="wrong")
    except psycopg.OperationalError as error:
        assert "password authentication failed" in str(error), error
    else:
        raise AssertionError("a wrong password was right")


async def with_asyncpg():
    import asyncpg

    connection = await asyncpg.connect(URL, password=PASSWORD)
    assert await connection.fetchval("SELECT current_user") == "chronos"
    await connection.close()
    try:
        await asyncpg.connect(URL, password="wrong")
    except asyncpg.InvalidPasswordError:
        pass
    else:
        raise AssertionError("a wrong password was right")


if DRIVER == "psycopg":
    with_psycopg()
else:
    asyncio.run(with_asyncpg())
print(f"{DRIVER}: SCRAM over TLS, verified")
