"""Columns that come later, one with a default for the rows that are there."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0003"
down_revision = "0002"


def upgrade():
    op.add_column("customer", sa.Column("phone", sa.Text()))
    op.add_column("customer", sa.Column("tags", pg.ARRAY(sa.Text()), server_default="{}", nullable=False))
    op.add_column("product", sa.Column("stock", sa.BigInteger(), server_default="0", nullable=False))
    op.create_index(op.f("ix_line_product_id"), "line", ["product_id"])
    op.create_index("ix_order_open", "order", ["placed"], postgresql_where=sa.text("status = 'open'"))


def downgrade():
    op.drop_index("ix_order_open", table_name="order")
    op.drop_index(op.f("ix_line_product_id"), table_name="line")
    op.drop_column("product", "stock")
    op.drop_column("customer", "tags")
    op.drop_column("customer", "phone")
