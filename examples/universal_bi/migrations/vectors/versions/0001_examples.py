"""Questions with the SQL that answers them.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "examples",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("question", sa.String(500), nullable=False),
        sa.Column("sql", sa.Text, nullable=False),
        sa.Column("embedding", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("examples")
