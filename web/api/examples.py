"""Examples of response fields for the API documentation, by field name."""

from typing import Any

from pydantic.alias_generators import to_snake

MOMENT = "2026-01-01T09:00:00.123456Z"
SAGA_ID = "019b7a3c-5f80-7c11-9d52-3b1f0a6e4d21"
ORDER_ID = "019b7a3c-5f7e-7a04-8f3e-6c2d9b1a7e55"

SAMPLES: dict[str, Any] = {
    **dict.fromkeys(("started_at", "completed_at", "finished_at", "created_at", "updated_at", "deadline_at"), MOMENT),
    **dict.fromkeys(("at", "timestamp", "cancel_requested_at"), MOMENT),
    **dict.fromkeys(("order_id", "aggregate_id"), ORDER_ID),
    **dict.fromkeys(("book_id", "product_id"), "book-123"),
    **dict.fromkeys(("price", "unit_price", "amount", "total_amount"), 3500),
    **dict.fromkeys(("quantity", "reserved_stock", "attempt", "attempts"), 1),
    **dict.fromkeys(("step_id", "step_name"), "reserve_stock"),
    **dict.fromkeys(("state", "saga_state"), "STOCK_RESERVED"),
    **dict.fromkeys(("database", "broker"), "ok"),
    "available_stock": 4,
    "by": "Ann",
    "category_id": "books",
    "context": {
        "order_id": ORDER_ID,
        "customer_id": "customer-001",
        "items": [
            {
                "book_id": "book-123",
                "product_id": "book-123",
                "title": "クラウド設計パターン集",
                "quantity": 1,
                "unit_price": 3500,
                "price": 3500,
            }
        ],
        "total_amount": 3500,
    },
    "cancel_decision": "pending",
    "cancel_reason": "requested, and not decided yet",
    "current_step": "process_payment",
    "customer_id": "customer-001",
    "description": "What CloudMart sells",
    "done_by": "Ann",
    "error": "book-123: 6 wanted, 5 available",
    "event_type": "StockReserved",
    "id": "books",
    "message": "Order creation started",
    "name": "Books",
    "next_cursor": "WyJib29rLTEyMyJd",
    "note": "paid back by bank transfer",
    "payload": {"order_id": ORDER_ID, "stock": [{"book_id": "book-123", "quantity": 1}]},
    "payment_method": "credit_card",
    "reason": "there is nothing to resume: the saga is completed",
    "received_stock": 5,
    "result": {"order_id": ORDER_ID},
    "resumed": [SAGA_ID],
    "retry_attempt": 0,
    "saga_id": SAGA_ID,
    "saga_type": "order",
    "sequence": 2,
    "shipping_address": "東京都千代田区1-1",
    "status": "pending",
    "success": True,
    "task_id": "5b0c7c34-8a0e-4f0e-9d55-0c2b7a1f6f10",
    "title": "クラウド設計パターン集",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "tracking_number": "CM-7F3A91C2",
    "transaction_id": "txn_4c1d2e3f",
}


def exemplify(schema: dict[str, Any]) -> None:
    """Add examples to the fields of a response's JSON schema, except to references: models and enums have their own."""
    # `example`, not `examples`: flask-openapi3 drops keywords that OpenAPI 3.0 does not have
    for name, field in schema.get("properties", {}).items():
        known = to_snake(name)
        if known in SAMPLES and "$ref" not in str(field):
            field.setdefault("example", SAMPLES[known])
