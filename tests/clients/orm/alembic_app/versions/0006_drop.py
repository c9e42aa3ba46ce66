"""What is no longer needed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade():
    op.drop_column("product", "weight")
    op.drop_index("ix_scratch_what", table_name="scratch")
    op.drop_table("scratch")


def downgrade():
    op.create_table("scratch", sa.Column("id", sa.BigInteger(), primary_key=True), sa.Column("what", sa.Text()))
    op.create_index("ix_scratch_what", "scratch", ["what"])
    op.add_column("product", sa.Column("weight", sa.Double()))
