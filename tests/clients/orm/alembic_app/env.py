"""Alembic's environment: runs the migrations on the URL of the test."""

import sqlalchemy as sa
from alembic import context

from orm.alembic_app.models import Base
from orm.mode import TRANSACTIONAL_DDL

config = context.config
engine = sa.create_engine(config.get_main_option("sqlalchemy.url"), poolclass=sa.pool.NullPool)

with engine.connect() as connection:
    if not TRANSACTIONAL_DDL:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
