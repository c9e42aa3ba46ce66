"""What the applications of these tests may rely on, one constant each.

With all of them True the tests are what Django and Alembic do by default, and so they pass against
PostgreSQL. False is for what Chronos does not have yet: the tests then do the same without it.
`CHRONOS_ORM_MODE=foreign_keys,transactional_ddl,cursors` (or `all`) in the environment turns them
on for a run.
"""

import os

_asked = os.environ.get("CHRONOS_ORM_MODE", "").split(",")


def _is(name, default):
    return default or name in _asked or "all" in _asked


# FOREIGN KEY in CREATE TABLE and ALTER TABLE, enforced, DEFERRABLE INITIALLY DEFERRED included.
FOREIGN_KEYS = _is("foreign_keys", True)
# DDL inside of transactions, beside writes, undone by ROLLBACK.
TRANSACTIONAL_DDL = _is("transactional_ddl", True)
# DECLARE .. CURSOR, FETCH, CLOSE.
CURSORS = _is("cursors", True)
# ALTER COLUMN .. TYPE to a narrower type.
NARROWER_TYPES = _is("narrower_types", False)
