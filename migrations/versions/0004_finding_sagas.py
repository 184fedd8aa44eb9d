"""Finding sagas by any filter and any id

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

CUSTOMER = sa.text("(payload ->> 'customer_id')")
AT_A_STEP = sa.text("current_step IS NOT NULL")
SOUGHT = (("saga_steps", "task_id"), ("payments", "transaction_id"), ("shipments", "tracking_number"))

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_saga_instances_saga_type_status", "saga_instances")
    op.drop_index("ix_saga_instances_status", "saga_instances")
    op.create_index("ix_saga_instances_status_saga_type_id", "saga_instances", ["status", "saga_type", "id"])
    op.create_index(
        "ix_saga_instances_current_step",
        "saga_instances",
        ["current_step", "status", "saga_type", "id", CUSTOMER],
        postgresql_where=AT_A_STEP,
        sqlite_where=AT_A_STEP,
    )
    op.create_index(
        "ix_saga_instances_customer", "saga_instances", [CUSTOMER, "status", "saga_type", "id", "current_step"]
    )
    for table, column in SOUGHT:
        op.create_index(f"ix_{table}_{column}", table, [column])


def downgrade() -> None:
    for table, column in SOUGHT:
        op.drop_index(f"ix_{table}_{column}", table)
    for name in ("status_saga_type_id", "current_step", "customer"):
        op.drop_index(f"ix_saga_instances_{name}", "saga_instances")
    op.create_index("ix_saga_instances_status", "saga_instances", ["status"])
    op.create_index("ix_saga_instances_saga_type_status", "saga_instances", ["saga_type", "status"])
