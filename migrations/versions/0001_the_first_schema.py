"""The first schema

Revision: 0001, the first
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

UUID = sa.Uuid(as_uuid=False).with_variant(sa.String(length=36), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
UNFINISHED = sa.text("status IN ('pending', 'running', 'compensating')")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "carrier_ledger",
        sa.Column("idempotency_key", sa.String(length=160), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("tracking_number", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("idempotency_key", name=op.f("pk_carrier_ledger")),
    )
    op.create_index(op.f("ix_carrier_ledger_order_id"), "carrier_ledger", ["order_id"], unique=False)
    op.create_table(
        "categories",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_categories")),
    )
    op.create_table(
        "customers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customers")),
    )
    op.create_table(
        "events",
        sa.Column("id", UUID, nullable=False),
        sa.Column("event_type", sa.String(length=64), nullable=False),
        sa.Column("aggregate_id", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("aggregate_id", "sequence", name=op.f("uq_events_aggregate_id_sequence")),
    )
    op.create_table(
        "notifications",
        sa.Column("id", UUID, nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("customer_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
    )
    op.create_index(op.f("ix_notifications_order_id"), "notifications", ["order_id"], unique=False)
    op.create_table(
        "order_requests",
        sa.Column("key", sa.String(length=300), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_order_requests")),
    )
    op.create_table(
        "payment_provider_ledger",
        sa.Column("idempotency_key", sa.String(length=160), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("amount", sa.Numeric(12, 2), nullable=False),
        sa.Column("transaction_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("idempotency_key", name=op.f("pk_payment_provider_ledger")),
    )
    op.create_index(op.f("ix_payment_provider_ledger_order_id"), "payment_provider_ledger", ["order_id"], unique=False)
    op.create_table(
        "payments",
        sa.Column("id", UUID, nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("amount", sa.Numeric(12, 2), nullable=False),
        sa.Column("payment_method", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("transaction_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.UniqueConstraint("order_id", name=op.f("uq_payments_order_id")),
    )
    op.create_table(
        "saga_instances",
        sa.Column("id", UUID, nullable=False),
        sa.Column("saga_type", sa.String(length=64), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("current_step", sa.String(length=64), nullable=True),
        sa.Column("steps", JSON, nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("state_history", JSON, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("stuck_reason", sa.Text(), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("wake_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("redrives", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saga_instances")),
        sa.UniqueConstraint("order_id", name=op.f("uq_saga_instances_order_id")),
    )
    op.create_index("ix_saga_instances_saga_type_status", "saga_instances", ["saga_type", "status"], unique=False)
    op.create_index("ix_saga_instances_status", "saga_instances", ["status"], unique=False)
    op.create_index(
        "ix_saga_instances_wake_at",
        "saga_instances",
        ["wake_at"],
        unique=False,
        postgresql_where=UNFINISHED,
        sqlite_where=UNFINISHED,
    )
    op.create_table(
        "saga_steps",
        sa.Column("saga_id", UUID, nullable=False),
        sa.Column("step", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("earlier_attempts", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(length=64), nullable=True),
        sa.Column("result", JSON, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("event_id", UUID, nullable=True),
        sa.Column("failures", JSON, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("saga_id", "step", "operation", name=op.f("pk_saga_steps")),
    )
    op.create_table(
        "shipments",
        sa.Column("id", UUID, nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("shipping_address", sa.Text(), nullable=False),
        sa.Column("tracking_number", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shipments")),
        sa.UniqueConstraint("order_id", name=op.f("uq_shipments_order_id")),
    )
    op.create_table(
        "inventory",
        sa.Column("book_id", sa.String(length=64), nullable=False),
        sa.Column("title", sa.String(length=500), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("category_id", sa.String(length=64), nullable=True),
        sa.Column("price", sa.Numeric(12, 2), nullable=False),
        sa.Column("received_stock", sa.Integer(), nullable=False),
        sa.Column("available_stock", sa.Integer(), nullable=False),
        sa.Column("reserved_stock", sa.Integer(), nullable=False),
        sa.CheckConstraint("available_stock >= 0", name=op.f("ck_inventory_available_not_negative")),
        sa.CheckConstraint(
            "received_stock >= available_stock + reserved_stock", name=op.f("ck_inventory_received_covers_stock")
        ),
        sa.CheckConstraint("reserved_stock >= 0", name=op.f("ck_inventory_reserved_not_negative")),
        sa.ForeignKeyConstraint(["category_id"], ["categories.id"], name=op.f("fk_inventory_category_id")),
        sa.PrimaryKeyConstraint("book_id", name=op.f("pk_inventory")),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("customer_id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("total_amount", sa.Numeric(12, 2), nullable=False),
        sa.Column("payment_method", sa.String(length=32), nullable=False),
        sa.Column("shipping_address", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_orders_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
    )
    op.create_index("ix_orders_created_at_id", "orders", ["created_at", "id"], unique=False)
    op.create_index("ix_orders_customer_id_created_at", "orders", ["customer_id", "created_at"], unique=False)
    op.create_index("ix_orders_status_created_at", "orders", ["status", "created_at"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("event_id", UUID, nullable=False),
        sa.Column("subscriber", sa.String(length=128), nullable=False),
        sa.Column("saga_id", UUID, nullable=False),
        sa.Column("wake_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resent", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_outbox_event_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event_id", "subscriber", name=op.f("pk_outbox")),
    )
    op.create_index(op.f("ix_outbox_wake_at"), "outbox", ["wake_at"], unique=False)
    op.create_table(
        "order_items",
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("book_id", sa.String(length=64), nullable=False),
        sa.Column("title", sa.String(length=500), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_price", sa.Numeric(12, 2), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_order_items_order_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("order_id", "line", name=op.f("pk_order_items")),
    )
    op.create_table(
        "stock_reservations",
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("book_id", sa.String(length=64), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["book_id"], ["inventory.book_id"], name=op.f("fk_stock_reservations_book_id")),
        sa.PrimaryKeyConstraint("order_id", "book_id", name=op.f("pk_stock_reservations")),
    )


def downgrade() -> None:
    op.drop_table("stock_reservations")
    op.drop_table("order_items")
    op.drop_index(op.f("ix_outbox_wake_at"), table_name="outbox")
    op.drop_table("outbox")
    op.drop_index("ix_orders_status_created_at", table_name="orders")
    op.drop_index("ix_orders_customer_id_created_at", table_name="orders")
    op.drop_index("ix_orders_created_at_id", table_name="orders")
    op.drop_table("orders")
    op.drop_table("inventory")
    op.drop_table("shipments")
    op.drop_table("saga_steps")
    op.drop_index("ix_saga_instances_wake_at", table_name="saga_instances")
    op.drop_index("ix_saga_instances_status", table_name="saga_instances")
    op.drop_index("ix_saga_instances_saga_type_status", table_name="saga_instances")
    op.drop_table("saga_instances")
    op.drop_table("payments")
    op.drop_index(op.f("ix_payment_provider_ledger_order_id"), table_name="payment_provider_ledger")
    op.drop_table("payment_provider_ledger")
    op.drop_table("order_requests")
    op.drop_index(op.f("ix_notifications_order_id"), table_name="notifications")
    op.drop_table("notifications")
    op.drop_table("events")
    op.drop_table("customers")
    op.drop_table("categories")
    op.drop_index(op.f("ix_carrier_ledger_order_id"), table_name="carrier_ledger")
    op.drop_table("carrier_ledger")
