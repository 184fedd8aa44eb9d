"""A step's reply, wherever it is written, has the form of seed 001."""

import pickle
from ast import literal_eval

from celery.utils.saferepr import saferepr
from kombu.utils import json

from app.errors import StepFailed
from app.messages import Reply

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
    assert json.loads(json.dumps(REPLY)) == FORM  # what it would store


def test_a_reply_survives_the_way_between_processes() -> None:
    assert pickle.loads(pickle.dumps(StepFailed(REPLY))).reply == REPLY
