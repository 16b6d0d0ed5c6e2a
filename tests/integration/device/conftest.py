"""A vendor's fleet."""

import pytest
from fleets import Fleet, fleet_of
from owners import Owner


@pytest.fixture
async def fleet(acme: Owner) -> Fleet:
    """The fleet of Acme, whose devices may call as often as they like."""
    await acme.pool.execute("UPDATE device_models SET rate_limit = 100000")
    return await fleet_of(acme)
