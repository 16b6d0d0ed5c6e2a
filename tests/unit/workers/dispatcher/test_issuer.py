"""Receivers find the keys of asymmetric signatures where the signatures say."""

import pytest
from prometheus_client import CollectorRegistry

from gateway.v2.well_known import PREFIX
from schemas.metrics import Metrics
from schemas.settings import EdgeSettings, WorkerSettings
from workers.dispatcher.dispatcher import Dispatcher

STORES = {"postgres_dsn": "postgresql://x", "redis_url": "redis://x", "master_key": "00" * 32}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bind": "10.0.0.1:9000"},
        {"bind": "10.0.0.1:9000", "tls_certificate": "x"},
        {"public_url": "https://g.example"},
    ],
    ids=str,
)
def test_the_issuer_of_a_token_is_that_of_the_discovery_document(settings: dict[str, str]) -> None:
    """Also where no public URL is set: edges and workers make the same of the same settings."""
    made = Dispatcher(WorkerSettings(**STORES, **settings), Metrics(CollectorRegistry()))
    assert made.configurations.issuer == EdgeSettings(**STORES, **settings).url + PREFIX
