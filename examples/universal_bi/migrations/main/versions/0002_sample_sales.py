"""A data source to try the service with.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROWS = [
    ("north", "tea", 120, 36000),
    ("north", "coffee", 80, 40000),
    ("south", "tea", 60, 18000),
    ("south", "coffee", 150, 75000),
    ("west", "cocoa", 40, 16000),
]


def upgrade() -> None:
    sales = op.create_table(
        "sample_sales",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("product", sa.String(64), nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("amount_cents", sa.Integer, nullable=False),
    )
    op.bulk_insert(
        sales,
        [
            {"region": region, "product": product, "quantity": quantity, "amount_cents": cents}
            for region, product, quantity, cents in ROWS
        ],
    )
    sources = sa.table("data_sources", sa.column("name"), sa.column("table_name"), sa.column("description"))
    op.bulk_insert(
        sources,
        [{"name": "sales", "table_name": "sample_sales", "description": "Sales by region and product."}],
    )


def downgrade() -> None:
    op.execute("DELETE FROM data_sources WHERE name = 'sales'")
    op.drop_table("sample_sales")
