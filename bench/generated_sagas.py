"""So many orders with all that their sagas leave behind, on PostgreSQL or SQLite: most done, some undone, few not yet.

Of a thousand, a hundred were undone; two are stuck, four are running, one is being undone.
"""

from sqlalchemy import text
from sqlalchemy.engine import Connection

from app.runtime import Runtime

CUSTOMERS = 1000

_DIALECTS = {
    "sqlite": {
        "ID": "printf('%08x-0000-7000-8000-%012x', {0}, n)",
        "AT": "strftime('%Y-%m-%d %H:%M:%f000', 1767225600 + n + {0} / 100.0, 'unixepoch')",
        "OBJECT": "json_object",
    },
    "postgresql": {
        "ID": "(lpad(to_hex({0}), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid",
        "AT": "(timestamptz '2026-01-01' + (n + {0} / 100.0) * interval '1 second')",
        "OBJECT": "jsonb_build_object",
    },
}

_MADE = f"""
    WITH RECURSIVE numbers(n) AS (SELECT {{first}} UNION ALL SELECT n + 1 FROM numbers WHERE n < {{last}}),
    made AS (
        SELECT n, 'order-' || n AS order_id, {{ID_1}} AS saga_id, 'buyer-' || (n % {CUSTOMERS}) AS customer_id,
               CASE n % 3 WHEN 0 THEN 'order' WHEN 1 THEN 'order-choreography' ELSE 'order-payment-first'
               END AS saga_type,
               CASE WHEN n % 500 = 1 THEN 'stuck' WHEN n % 250 = 3 THEN 'running' WHEN n % 1000 = 4 THEN 'compensating'
                    WHEN n % 10 = 9 THEN 'compensated' ELSE 'completed' END AS status
        FROM numbers
    )"""

_STEPS = """(SELECT 1 AS place, 'create_order' AS step UNION ALL SELECT 2, 'reserve_stock'
             UNION ALL SELECT 3, 'process_payment' UNION ALL SELECT 4, 'arrange_shipping'
             UNION ALL SELECT 5, 'ship_stock' UNION ALL SELECT 6, 'complete_order') AS steps"""
_NAMES = '["create_order", "reserve_stock", "process_payment", "arrange_shipping", "ship_stock", "complete_order"]'
_EVENTS = """(SELECT 1 AS place, 'OrderCreated' AS event_type UNION ALL SELECT 2, 'StockReserved'
              UNION ALL SELECT 3, 'PaymentCompleted' UNION ALL SELECT 4, 'ShippingArranged'
              UNION ALL SELECT 5, 'StockShipped' UNION ALL SELECT 6, 'OrderCompleted') AS types"""

_FILL = (
    """INSERT INTO orders (id, customer_id, status, total_amount, payment_method, shipping_address, created_at,
                           updated_at)
       {MADE} SELECT order_id, customer_id, CASE status WHEN 'completed' THEN 'completed'
                     WHEN 'compensated' THEN 'cancelled' ELSE 'pending' END,
              1000, 'credit_card', 'somewhere', {AT_0}, {AT_9} FROM made""",
    """INSERT INTO order_items (order_id, line, book_id, title, quantity, unit_price)
       {MADE} SELECT order_id, 1, 'item-001', 'Book', 1, 1000 FROM made""",
    """INSERT INTO stock_reservations (order_id, book_id, quantity, status)
       {MADE} SELECT order_id, 'item-001', 1,
              CASE status WHEN 'completed' THEN 'shipped' ELSE 'released' END FROM made""",
    """INSERT INTO payments (id, order_id, amount, payment_method, status, transaction_id)
       {MADE} SELECT saga_id, order_id, 1000, 'credit_card', CASE status WHEN 'completed' THEN 'completed'
                     ELSE 'refunded' END, 'txn-' || n FROM made""",
    """INSERT INTO payment_provider_ledger (idempotency_key, order_id, kind, amount, transaction_id)
       {MADE} SELECT saga_id || ':process_payment', order_id, 'capture', 1000, 'txn-' || n FROM made""",
    """INSERT INTO shipments (id, order_id, shipping_address, tracking_number, status)
       {MADE} SELECT saga_id, order_id, 'somewhere', 'CM' || n, 'arranged'
       FROM made WHERE status = 'completed'""",
    """INSERT INTO carrier_ledger (idempotency_key, order_id, kind, tracking_number)
       {MADE} SELECT saga_id || ':arrange_shipping', order_id, 'book', 'CM' || n
       FROM made WHERE status = 'completed'""",
    """INSERT INTO saga_instances (id, saga_type, order_id, status, state, current_step, steps, payload, state_history,
                                   error, stuck_reason, wake_at, redrives, created_at, updated_at)
       {MADE} SELECT saga_id, saga_type, order_id, status,
              CASE status WHEN 'completed' THEN 'COMPLETED' WHEN 'compensated' THEN 'FAILED'
                          WHEN 'running' THEN 'STOCK_RESERVED' ELSE 'COMPENSATION_STARTED' END,
              CASE WHEN status IN ('completed', 'compensated') THEN NULL WHEN n % 7 < 5 THEN 'process_payment'
                   ELSE 'reserve_stock' END,
              CASE saga_type WHEN 'order-choreography' THEN {EMPTY} ELSE {NAMES} END,
              {OBJECT}('order_id', order_id, 'customer_id', customer_id, 'shipping_address', 'somewhere',
                       'payment_method', 'credit_card', 'total_amount', 1000),
              {STATES},
              CASE WHEN status IN ('compensated', 'compensating', 'stuck') THEN 'process_payment: declined' END,
              CASE status WHEN 'stuck' THEN 'payments.refund_payment: no answer from provider ' || (n % 7) END,
              CASE WHEN status IN ('running', 'compensating') THEN {AT_9} END, 0, {AT_0}, {AT_9}
       FROM made""",
    """INSERT INTO saga_steps (saga_id, step, operation, status, attempts, earlier_attempts, failures, task_id,
                               started_at, finished_at)
       {MADE} SELECT saga_id, step, 'action',
              CASE WHEN status = 'completed' OR place < 3 THEN 'completed' ELSE 'failed' END,
              1, 0, {EMPTY}, saga_id || ':' || place, {AT_place},
              {AT_place}
       FROM made CROSS JOIN {STEPS} WHERE status = 'completed' OR place < 4""",
    """INSERT INTO saga_steps (saga_id, step, operation, status, attempts, earlier_attempts, failures, task_id,
                               started_at, finished_at)
       {MADE} SELECT saga_id, step, 'compensation', 'completed', 1, 0, {EMPTY}, saga_id || ':u' || place, {AT_place},
              {AT_place}
       FROM made CROSS JOIN {STEPS} WHERE status = 'compensated' AND place < 4""",
    """INSERT INTO events (id, event_type, aggregate_id, sequence, payload, timestamp)
       {MADE} SELECT {ID_place}, event_type, order_id, place, {OBJECT}('order_id', order_id, 'saga_id', saga_id),
              {AT_place}
       FROM made CROSS JOIN {EVENTS} WHERE status = 'completed' OR place < 4""",
)


def saga_id(number: int) -> str:
    """Return the id of the saga of the order with this number; they grow with it."""
    return f"00000001-0000-7000-8000-{number:012x}"


def generate(here: Runtime, first: int, last: int, *, only: str = "", analyze: bool = True) -> None:
    """Write the orders numbered ``first`` to ``last`` into a database that has the first data; ``only`` one table's."""
    with here.database.transaction() as session:
        connection = session.connection()
        if first == 1 and not only:
            customers = [{"id": f"buyer-{number}"} for number in range(CUSTOMERS)]
            connection.execute(
                text("INSERT INTO customers VALUES (:id, 'Somebody', 'somebody@example.com')"), customers
            )
        for statement in _FILL:
            if statement.startswith(f"INSERT INTO {only}"):
                _execute(connection, statement, first, last)
    if analyze and here.database.engine.dialect.name == "postgresql":
        with here.database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))


def _execute(connection: Connection, statement: str, first: int, last: int) -> None:
    dialect = connection.dialect.name
    words = _DIALECTS[dialect]
    json = "'{}'::jsonb" if dialect == "postgresql" else "'{}'"
    values = {
        **{f"ID_{place}": words["ID"].format(place) for place in (1, "place")},
        **{f"AT_{place}": words["AT"].format(place) for place in (0, 9, "place")},
        "OBJECT": words["OBJECT"],
        "EMPTY": json.format("[]"),
        "NAMES": json.format(_NAMES),
        "STATES": json.format('[{"state": "STARTED", "at": "2026-01-01T00:00:00+00:00"}]'),
        "STEPS": _STEPS,
        "EVENTS": _EVENTS,
    }
    made = _MADE.format(first=first, last=last, ID_1=values["ID_1"])
    sql = statement.format(**values, MADE=made)
    connection.exec_driver_sql(sql.replace("%", "%%") if dialect == "postgresql" else sql)
