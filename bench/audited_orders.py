"""A shop's whole data in a few statements: what so many orders leave behind, and how to break each invariant once."""

_KINDS = """
    CREATE TEMPORARY TABLE made AS
    SELECT i, 'order-' || lpad(i::text, 9, '0') AS order_id,
           ('01900000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid AS saga_id,
           CASE i % 3 WHEN 0 THEN 'order' WHEN 1 THEN 'order-payment-first' ELSE 'order-choreography' END AS saga_type,
           i % 10 = 9 AS undone,
           1 + i % 3 AS quantity,
           timestamptz '2026-01-01' + i * interval '1 second' AS at
    FROM generate_series(1, :orders) AS i"""

_STEPS = "unnest(ARRAY['create_order', 'reserve_stock', 'process_payment', 'arrange_shipping'%s]) WITH ORDINALITY"

_EVENTS = {
    "NOT undone": "OrderCreated, StockReserved, PaymentCompleted, ShippingArranged, StockShipped, OrderCompleted",
    "undone": "OrderCreated, StockReserved, PaymentCompleted, ShippingFailed, PaymentRefunded, StockReleased,"
    " OrderCancelled",
}

FILL = [
    _KINDS,
    """INSERT INTO inventory (book_id, title, description, price, received_stock, available_stock, reserved_stock)
       SELECT 'bench-' || b, 'Book', '', 1000, 100, 100, 0 FROM generate_series(0, 99) AS b""",
    """INSERT INTO orders SELECT order_id, 'guest', CASE WHEN undone THEN 'cancelled' ELSE 'completed' END,
              1000 * quantity, 'credit_card', 'somewhere', at, at FROM made""",
    """INSERT INTO order_items SELECT order_id, 1, 'bench-' || i % 100, 'Book', quantity, 1000 FROM made""",
    """INSERT INTO stock_reservations SELECT order_id, 'bench-' || i % 100, quantity,
              CASE WHEN undone THEN 'released' ELSE 'shipped' END FROM made""",
    """UPDATE inventory b SET received_stock = available_stock + s.shipped
       FROM (SELECT book_id, sum(quantity) AS shipped FROM stock_reservations WHERE status = 'shipped' GROUP BY 1) s
       WHERE s.book_id = b.book_id""",
    """INSERT INTO payments SELECT saga_id, order_id, 1000 * quantity, 'credit_card',
              CASE WHEN undone THEN 'refunded' ELSE 'completed' END, 'txn-' || i FROM made""",
    """INSERT INTO payment_provider_ledger SELECT saga_id || ':process_payment', order_id, 'capture', 1000 * quantity,
              'txn-' || i FROM made""",
    """INSERT INTO payment_provider_ledger SELECT saga_id || ':process_payment:refund', order_id, 'refund',
              1000 * quantity, 'ref-' || i FROM made WHERE undone""",
    """INSERT INTO shipments SELECT saga_id, order_id, 'somewhere', CASE WHEN undone THEN NULL ELSE 'CM' || i END,
              CASE WHEN undone THEN 'failed' ELSE 'arranged' END FROM made""",
    """INSERT INTO carrier_ledger SELECT saga_id || ':arrange_shipping', order_id,
              CASE WHEN undone THEN 'void' ELSE 'book' END, 'CM' || i FROM made""",
    """INSERT INTO saga_instances (id, saga_type, order_id, status, state, steps, payload, state_history, redrives,
                                   created_at, updated_at)
       SELECT saga_id, saga_type, order_id, CASE WHEN undone THEN 'compensated' ELSE 'completed' END,
              CASE WHEN undone THEN 'FAILED' ELSE 'COMPLETED' END, '[]',
              jsonb_build_object('order_id', order_id, 'shipping_address', 'somewhere'), '[]', 0, at, at
       FROM made""",
    f"""INSERT INTO saga_steps (saga_id, step, operation, status, attempts, earlier_attempts, failures, started_at,
                                finished_at)
        SELECT saga_id, step, 'action', 'completed', 1, 0, '[]', at, at + place * interval '10 ms'
        FROM made CROSS JOIN {_STEPS % ", 'ship_stock', 'complete_order'"} AS steps (step, place) WHERE NOT undone""",
    f"""INSERT INTO saga_steps (saga_id, step, operation, status, attempts, earlier_attempts, failures, started_at,
                                finished_at)
        SELECT saga_id, step, operation, CASE WHEN step <> 'arrange_shipping' THEN 'completed'
                                              WHEN operation = 'action' THEN 'failed' ELSE 'skipped' END,
               1, 0, '[]', at,
               at + CASE operation WHEN 'action' THEN place ELSE 10 - place END * interval '10 ms'
        FROM made CROSS JOIN {_STEPS % ""} AS steps (step, place)
             CROSS JOIN unnest(ARRAY['action', 'compensation']) AS operations (operation) WHERE undone""",
    *(
        f"""INSERT INTO events SELECT (lpad(to_hex(place), 8, '0') || substr(saga_id::text, 9))::uuid, event_type,
                   order_id, place, jsonb_build_object('order_id', order_id, 'shipping_address', 'somewhere'), at
            FROM made CROSS JOIN unnest(string_to_array('{types}', ', ')) WITH ORDINALITY AS types (event_type, place)
            WHERE {which}"""
        for which, types in _EVENTS.items()
    ),
]
"""Statements that write ``:orders`` orders; one in ten was undone, each of the three sagas drove a third of them."""

VIOLATIONS = {
    "completed orders are paid, shipped and handed over": """
        UPDATE shipments SET status = 'cancelled' WHERE order_id = 'order-000000010'""",
    "cancelled orders are undone": """
        UPDATE stock_reservations SET status = 'reserved' WHERE order_id = 'order-000000019'""",
    "stock adds up": "UPDATE inventory SET available_stock = available_stock - 1 WHERE book_id = 'bench-50'",
    "the provider moved no money twice": """
        INSERT INTO payment_provider_ledger VALUES ('again', 'order-000000011', 'capture', 1000, 'again')""",
    "the carrier booked nothing twice": """
        INSERT INTO carrier_ledger VALUES ('again', 'order-000000012', 'book', 'again')""",
    "compensated sagas undid all they did": """
        DELETE FROM saga_steps WHERE step = 'reserve_stock' AND operation = 'compensation'
           AND saga_id = (SELECT id FROM saga_instances WHERE order_id = 'order-000000029')""",
    "orchestrated sagas were undone in reverse": """
        UPDATE saga_steps SET finished_at = '1999-01-01' WHERE step = 'create_order' AND operation = 'compensation'
           AND saga_id = (SELECT id FROM saga_instances WHERE order_id = 'order-000000039')""",
    "orders end with their sagas": "UPDATE orders SET status = 'pending' WHERE id = 'order-000000013'",
    "sagas are where they say they are": """
        UPDATE saga_instances SET state = 'STARTED' WHERE order_id = 'order-000000014'""",
    "nothing waits longer than the sweep allows": """
        UPDATE saga_instances SET status = 'running', state = 'STARTED', wake_at = '1999-01-01'
        WHERE order_id = 'order-000000015'""",
    "sagas end with their orders": """
        UPDATE saga_instances SET status = 'running', state = 'STARTED', wake_at = now() + interval '1 day'
        WHERE order_id = 'order-000000016'""",
    "what customers are to be told is on its way": """
        INSERT INTO outbox SELECT id, 'notifications.tell', id, '1999-01-01', 0 FROM events
        WHERE aggregate_id = 'order-000000017' AND sequence = 1""",
    "nothing happened twice": """
        UPDATE events SET event_type = 'StockReserved' WHERE aggregate_id = 'order-000000018' AND sequence = 3""",
    "nothing belongs to an order that is not there": """
        INSERT INTO payment_provider_ledger VALUES ('late', 'order-no-more', 'void', 0, '')""",
    "nothing belongs to a saga that is not there": """
        INSERT INTO operator_acts VALUES ('01900000-0000-7000-8000-000000000000',
                                          '01900000-0000-7000-8000-000000000000', now(), 'cancel', 'Ann', NULL)""",
    "every order that ended says so": "DELETE FROM events WHERE aggregate_id = 'order-000000020'",
    "events are numbered without a gap and tell the order's row": """
        DELETE FROM events WHERE aggregate_id = 'order-000000021' AND sequence = 2""",
}
"""A statement for each check that breaks its invariant once; each about another order, so that none hides another."""
