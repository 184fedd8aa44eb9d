"""``BROKER_URL=rediss://…``: Redis with TLS is read by our own transport too, and its certificate is checked."""

import ssl
from typing import Any

import pytest
from celery import Celery

from app.celery import configuration
from app.settings import Settings
from durable_sagas.messaging.transports import redis


@pytest.mark.parametrize(
    ("options", "checks"),
    [
        ("", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        ("?ssl_ca_certs=/ca.pem", {"ssl_ca_certs": "/ca.pem"}),
        ("?ssl_cert_reqs=none", {"ssl_cert_reqs": ssl.CERT_NONE}),
    ],
)
def test_redis_with_tls_has_our_transport_and_a_certificate_that_is_checked(
    options: str, checks: dict[str, Any]
) -> None:
    celery = Celery(set_as_current=False)
    celery.conf.update(configuration(Settings(broker_url=f"rediss://127.0.0.1:1/0{options}")))

    with celery.connection_for_write() as connection:
        assert connection.get_transport_cls() is redis.Transport
        assert connection.ssl == checks
