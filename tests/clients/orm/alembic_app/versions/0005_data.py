"""Moves data: addresses in lower case, tiers by the number of orders."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

customer = sa.table("customer", sa.column("id", sa.BigInteger), sa.column("email", sa.String), sa.column("tier", sa.String))
order = sa.table("order", sa.column("id", sa.BigInteger), sa.column("customer_id", sa.BigInteger))


def upgrade():
    bind = op.get_bind()
    bind.execute(sa.update(customer).values(email=sa.func.lower(customer.c.email)))
    many = (
        sa.select(order.c.customer_id)
        .group_by(order.c.customer_id)
        .having(sa.func.count() > 1)
    )
    for (id_,) in bind.execute(many).all():
        bind.execute(sa.update(customer).where(customer.c.id == id_).values(tier="gold"))


def downgrade():
    op.execute(sa.update(customer).values(tier="basic"))
