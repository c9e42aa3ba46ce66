"""Wider types, a renamed column and a CHECK.

The way back makes a type narrower by a new column, which any database can."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade():
    op.alter_column("product", "title", existing_type=sa.String(80), type_=sa.String(200), existing_nullable=False)
    op.alter_column("line", "quantity", existing_type=sa.SmallInteger(), type_=sa.BigInteger(), existing_nullable=False)
    op.alter_column("customer", "name", new_column_name="full_name", existing_type=sa.String(80))
    op.create_check_constraint(op.f("ck_line_quantity"), "line", "quantity BETWEEN 1 AND 1000")


def downgrade():
    op.drop_constraint(op.f("ck_line_quantity"), "line", type_="check")
    op.alter_column("customer", "full_name", new_column_name="name", existing_type=sa.String(80))
    op.add_column("line", sa.Column("narrow", sa.SmallInteger()))
    op.execute("UPDATE line SET narrow = quantity")
    op.drop_column("line", "quantity")
    op.alter_column("line", "narrow", new_column_name="quantity", existing_type=sa.SmallInteger(), nullable=False)
