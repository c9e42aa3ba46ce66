"""Orders and their lines."""

import sqlalchemy as sa
from alembic import op

from orm.mode import FOREIGN_KEYS

revision = "0002"
down_revision = "0001"


def foreign_key(*what, **how):
    return [sa.ForeignKeyConstraint(*what, **how)] if FOREIGN_KEYS else []


def upgrade():
    op.create_table(
        "order",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(10), server_default="open", nullable=False),
        sa.Column("placed", sa.DateTime(), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        *foreign_key(["customer_id"], ["customer.id"], name=op.f("fk_order_customer_id_customer"), ondelete="CASCADE"),
    )
    op.create_index("ix_order_customer_placed", "order", ["customer_id", sa.text("placed DESC")])
    op.create_table(
        "line",
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("product_id", sa.Uuid(), nullable=False),
        sa.Column("quantity", sa.SmallInteger(), nullable=False),
        sa.Column("price", sa.Numeric(10, 2), nullable=False),
        sa.PrimaryKeyConstraint("order_id", "number"),
    )
    # As when they are added to a table that is there.
    if FOREIGN_KEYS:
        op.create_foreign_key(
            op.f("fk_line_order_id_order"), "line", "order", ["order_id"], ["id"], ondelete="CASCADE"
        )
        op.create_foreign_key(op.f("fk_line_product_id_product"), "line", "product", ["product_id"], ["id"])
    op.create_unique_constraint(op.f("uq_line_order_id_product_id"), "line", ["order_id", "product_id"])


def downgrade():
    op.drop_constraint(op.f("uq_line_order_id_product_id"), "line", type_="unique")
    if FOREIGN_KEYS:
        op.drop_constraint(op.f("fk_line_product_id_product"), "line", type_="foreignkey")
    op.drop_table("line")
    op.drop_index("ix_order_customer_placed", table_name="order")
    op.drop_table("order")
