"""How long a conversion took. Only adds a nullable column: the release before it works on this schema.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("conversions", sa.Column("duration_ms", sa.Integer, nullable=True))


def downgrade() -> None:
    op.drop_column("conversions", "duration_ms")
