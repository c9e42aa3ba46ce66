"""Customers and products, and a table that does not last."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "customer",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("email", sa.String(120), nullable=False),
        sa.Column("domain", sa.Text(), sa.Computed("split_part(email, '@', 2)", persisted=True)),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("tier", sa.String(10), server_default="basic", nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("profile", pg.JSONB()),
        sa.CheckConstraint("tier IN ('basic', 'gold')", name=op.f("ck_customer_tier")),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email", name=op.f("uq_customer_email")),
        comment="who buys",
    )
    op.create_table(
        "product",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("sku", sa.String(20), nullable=False),
        sa.Column("title", sa.String(80), nullable=False),
        sa.Column("price", sa.Numeric(10, 2), nullable=False),
        sa.Column("facts", sa.JSON()),
        sa.Column("released", sa.Date()),
        sa.Column("weight", sa.Double()),
        sa.CheckConstraint("price > 0", name=op.f("ck_product_price")),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sku", name=op.f("uq_product_sku")),
    )
    op.create_table("scratch", sa.Column("id", sa.BigInteger(), primary_key=True), sa.Column("what", sa.Text()))
    op.create_index("ix_scratch_what", "scratch", ["what"])


def downgrade():
    op.drop_index("ix_scratch_what", table_name="scratch")
    op.drop_table("scratch")
    op.drop_table("product")
    op.drop_table("customer")
