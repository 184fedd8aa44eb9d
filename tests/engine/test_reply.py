"""A step's reply, wherever it is written, has the form of seed 001."""

import pickle
from ast import literal_eval

from celery.utils.saferepr import saferepr
from kombu.utils import json

from app.errors import StepFailed
from durable_sagas.messages import Reply
from tests.testkit.messages import Post
from tests.testkit.orders import order
from workflows.orders import Pattern

REPLY = Reply(success=False, saga_id="019b", step="reserve_stock", result={"amount": 12.5}, error="sold 'out'")
FORM = {
    "success": False,
    "sagaId": "019b",
    "stepId": "reserve_stock",
    "result": {"amount": 12.5},
    "error": "sold 'out'",
}


def test_a_reply_is_shown_and_stored_in_the_form_of_the_seed() -> None:
    assert literal_eval(saferepr(REPLY, 1024)) == FORM  # what Celery tells Flower
    assert json.loads(json.dumps(REPLY)) == FORM  # what it would store, which it is told not to


def test_a_reply_survives_the_way_between_the_processes_of_a_pool() -> None:
    assert pickle.loads(pickle.dumps(StepFailed(REPLY))).reply == REPLY


def test_a_listener_says_whether_it_did_something(post: Post) -> None:
    told = "notifications.notify_customer"
    placed = order(Pattern.ORCHESTRATION)
    post.deliver_until(told)
    message = post.take(told)

    said = [message.apply().result for _ in range(2)]

    assert said == [Reply(True, placed.saga_id, told, "handled"), Reply(True, placed.saga_id, told, "handled before")]
