"""What pruning needs: the copies that pruned orders shipped, and the way from an order to the keys it was asked for by

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op

INDEX = "ix_order_requests_order_id"

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    index_without_waiting()
    op.add_column("inventory", sa.Column("pruned_stock", sa.Integer(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        # the strongest lock first: a prune must not add to the column in between, nor a shop with two books in its
        # hands wait for the update while the drop waits for the shop
        op.execute("LOCK TABLE inventory IN ACCESS EXCLUSIVE MODE")
    # the older schema cannot say that they were shipped: there they are counted as never received, and it still adds up
    op.execute("UPDATE inventory SET received_stock = received_stock - pruned_stock WHERE pruned_stock > 0")
    op.drop_column("inventory", "pruned_stock")
    op.drop_index(INDEX, "order_requests")


def index_without_waiting() -> None:
    """Make the index; on PostgreSQL without holding up those who write, however many rows there are."""
    context = op.get_context()
    if context.dialect.name != "postgresql":
        op.create_index(INDEX, "order_requests", ["order_id"])
        return
    connection = op.get_bind()
    before = connection.scalar(sa.text("SHOW lock_timeout"))
    with context.autocommit_block():
        op.execute("SET lock_timeout = 0")  # it waits for those who read, but nobody waits behind it
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")  # an attempt that was broken off leaves one of no use
        op.create_index(INDEX, "order_requests", ["order_id"], postgresql_concurrently=True)
        op.execute(f"SET lock_timeout = '{before}'")
